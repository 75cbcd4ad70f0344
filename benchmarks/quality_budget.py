"""Ways of training at one budget, on real text: python benchmarks/quality_budget.py {2/128,4/256} {flops,seconds}

Runs examples/compare_under_budget.py, with one thread:

--task reviews      twice, side by side: limited (a quarter of the texts of four domains, movie reviews among them, read
                    again and again) and unlimited (manuals and a book, meant to be read once). Then every student is
                    fine-tuned on the movie reviews. The teacher of the masked words is all-MiniLM-L6-v2, whose release
                    has no head for them: all its weights are first trained on both corpora for a quarter of an hour.
--task definitions  on 22 million tokens of prose and definitions, with the teacher of prose_teacher.py, whose vocabulary is
                    a third of the other's. Then every student is fine-tuned on 3,000 of WordNet's definitions. Larger
                    budgets are the point of it (--budgets).

Options of compare_under_budget.py may follow, such as --seeds or --learning_rates. A cell that is done is not run again.
Writes results/budget_*.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

import prose_teacher  # noqa: E402
from compare_under_budget import show  # noqa: E402
from datasets import concatenate_datasets  # noqa: E402
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling  # noqa: E402
from transformers.trainer_utils import set_seed  # noqa: E402

from hf_distill import DistillationTrainer, DistillationTrainingArguments  # noqa: E402
from hf_distill.data.corpus import packed  # noqa: E402
from hf_distill.files import atomic_write  # noqa: E402
from hf_distill.resources.built_in import ALL_DOMAINS, PROSE, load_unlabeled  # noqa: E402
from hf_distill.resources.minilm import minilm_path  # noqa: E402
from hf_distill.resources.wordnet import load_wordnet  # noqa: E402

RESULTS = Path(__file__).with_name("results")
TEACHER_SECONDS = 900
CORPORA = {"limited": ALL_DOMAINS, "unlimited": PROSE}
REVIEWS, DEFINITIONS = "reviews", "definitions"
BUDGETS = {
    REVIEWS: {
        ("2/128", "flops"): 3.5e12, ("4/256", "flops"): 4e12, ("2/128", "seconds"): 22, ("4/256", "seconds"): 24,
    },
    DEFINITIONS: {
        ("2/128", "flops"): 2e13, ("4/256", "flops"): 2e13, ("2/128", "seconds"): 120, ("4/256", "seconds"): 120,
    },
}  # fmt: skip
LABELED = {"train": 3000, "validation": 2000, "test": 5000}
OF_STUDENT = {  # four layers need a gentler start, and smaller batches for as many steps
    "2/128": {"per_device_train_batch_size": 32, "learning_rates": 1e-3, "warmup_steps": 0.06,
              "fine_tuning_steps": 600, "fine_tuning_learning_rate": 5e-4},
    "4/256": {"per_device_train_batch_size": 16, "learning_rates": 5e-4, "warmup_steps": 0.1,
              "fine_tuning_steps": 350, "fine_tuning_learning_rate": 3e-4},
}  # fmt: skip
ARMS = {"flops": "no_kd vanilla_kd tinybert minilmv2 untrained", "seconds": "no_kd vanilla_kd tinybert minilmv2"}
ARGUMENTS = {
    "weight_decay": 0.01, "adam_beta2": 0.98, "limited_fraction": 0.25, "save_strategy": "no", "logging_steps": 50,
    "report_to": "none", "disable_tqdm": True,
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """What is compared on: a teacher, a corpus for each regime, and arguments of the task."""

    teacher: Path
    corpora: dict[str, str]
    task: dict[str, Any]


def of_reviews(folder: Path) -> Setting:
    """Short texts or manuals, then movie reviews."""
    return Setting(
        trained_teacher(folder / "teacher"), CORPORA, {"dataset_name": "movie_reviews", "max_seq_length": 32}
    )


def of_definitions(folder: Path, teacher_folder: Path, teacher_steps: int) -> Setting:
    """Prose and definitions, then a few labeled definitions."""
    teacher = prose_teacher.trained_teacher(teacher_folder, teacher_steps)
    corpora = {"unlimited": str(prose_teacher.written_texts(teacher_folder))}
    files = {f"{split}_file": path for split, path in labeled_definitions(folder / "definitions").items()}
    # Long enough for `untrained`: it has 28 % of the validation definitions right after 600 steps, 40 % after 1,500.
    length = {"max_seq_length": prose_teacher.LENGTH, "fine_tuning_steps": 2000, "points": 1}
    return Setting(teacher, corpora, files | length)


def labeled_definitions(folder: Path) -> dict[str, Path]:
    """Files of definitions with the names of their classes, of which every one is in the training file."""
    paths = {split: folder / f"{split}.json" for split in LABELED}
    if not all(path.exists() for path in paths.values()):
        rows = load_wordnet()
        few = rows["train"].train_test_split(train_size=LABELED["train"], stratify_by_column="label", seed=0)
        rows["train"] = few["train"]
        folder.mkdir(parents=True, exist_ok=True)
        for split, path in paths.items():
            names, part = rows[split].features["label"].names, rows[split].take(LABELED[split])
            found = ({"text": row["text"], "label": names[row["label"]]} for row in part)
            atomic_write(path, "".join(json.dumps(row) + "\n" for row in found))
    return paths


def trained_teacher(folder: Path) -> Path:
    """A masked-word model of the whole text; what it scores on held-out text is in `teacher.json` beside it."""
    if not (folder / "teacher.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        texts = concatenate_datasets([load_unlabeled(source).select_columns("text") for source in CORPORA.values()])
        sequences = packed(texts, tokenizer, 64).train_test_split(test_size=500, seed=0)
        set_seed(0)
        own = {"max_seconds": TEACHER_SECONDS, "learning_rate": 3e-4, "warmup_steps": 0.06, "weight_decay": 0.01}
        own |= {"per_device_train_batch_size": 32, "logging_steps": 50, "save_strategy": "no", "report_to": "none"}
        trainer = DistillationTrainer(
            AutoModelForMaskedLM.from_pretrained(minilm_path()),
            DistillationTrainingArguments(str(folder), recipe=None, disable_tqdm=True, seed=0, **own),
            DataCollatorForLanguageModeling(tokenizer),
            train_dataset=sequences["train"],
            eval_dataset=sequences["test"],
            processing_class=tokenizer,
        )
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        trainer.save_model()
        measured = {"loss_before": before, "loss": trainer.evaluate()["eval_loss"], "spent": trainer.cost()}
        (folder / "teacher.json").write_text(json.dumps(measured))
    return folder


def compared(
    student: str, limit: str, budget: float, setting: Setting, folder: Path, others: list[str]
) -> dict[str, dict]:
    """What came out, by regime; all run at the same time, so that seconds mean the same for them."""
    points = 2 if (student, limit) == ("2/128", "flops") else 1  # judging a student costs as much as training it
    given = ARGUMENTS | OF_STUDENT[student] | {"student": student, "points": points, "arms": ARMS[limit]}
    given |= setting.task | {f"max_{limit}": budget, "teacher_model_name_or_path": setting.teacher}
    folders = {regime: folder / f"{student}_{limit}_{regime}".replace("/", "-") for regime in setting.corpora}
    running = []
    for regime, corpus in setting.corpora.items():
        own = given | {"regimes": regime, "corpus": corpus, "output_dir": folders[regime]}
        options = [part for name, value in own.items() for part in (f"--{name}", *str(value).split())]
        command = [sys.executable, EXAMPLES / "compare_under_budget.py", *options, *others]
        running.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    if any([process.wait() for process in running]):
        raise SystemExit(f"a comparison failed; what is done is kept in {folder}")
    return {regime: json.loads((each / "results.json").read_text()) for regime, each in folders.items()}


def write(found: dict[str, dict], limit: str, teacher: Path, path: Path) -> None:
    """Write the results of all regimes and their plot."""
    arms = [arm for each in found.values() for arm in each["arms"]]
    path.parent.mkdir(parents=True, exist_ok=True)
    show(arms, limit, "test", path.with_name(f"{path.name}.png"))
    conditions = {regime: each["conditions"] for regime, each in found.items()}
    verdict = list(dict.fromkeys(line for each in found.values() for line in each["verdict"]))
    results = {"teacher": json.loads((teacher / "teacher.json").read_text()), "conditions": conditions, "arms": arms}
    content = json.dumps(results | {"verdict": verdict}, indent=2) + "\n"
    atomic_write(path.with_name(f"{path.name}.json"), content)
    print("\n".join(verdict))


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    parser.add_argument("student", choices=sorted(OF_STUDENT))
    parser.add_argument("limit", choices=sorted(ARMS))
    parser.add_argument("--task", choices=sorted(BUDGETS), default=REVIEWS, help="corpus and fine-tuning task")
    parser.add_argument("--budgets", type=float, nargs="+", help="FLOPs or seconds in place of the task's own, in turn")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/budget"), help="where cells are kept")
    parser.add_argument("--teacher_folder", type=Path, default=prose_teacher.FOLDER, help="teacher of the definitions")
    parser.add_argument("--teacher_steps", type=int, default=prose_teacher.STEPS, help="steps of that teacher")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for results")
    args, others = parser.parse_known_args()  # others are those of compare_under_budget.py
    if args.task == REVIEWS:
        setting = of_reviews(args.output_dir)
    else:
        setting = of_definitions(args.output_dir, args.teacher_folder, args.teacher_steps)
    for budget in args.budgets or [BUDGETS[args.task][args.student, args.limit]]:
        own = "" if args.task == REVIEWS and not args.budgets else f"_{args.task}_{budget:g}"
        found = compared(args.student, args.limit, budget, setting, Path(f"{args.output_dir}{own}"), others)
        name = f"budget_{args.student.replace('/', '_')}_{args.limit}{own}"
        write(found, args.limit, setting.teacher, args.results / name)


if __name__ == "__main__":
    main()
