"""Ways of training at one budget, on real text: python benchmarks/quality_budget.py {2/128,4/256} {flops,seconds}

Runs examples/compare_under_budget.py twice, side by side with a thread each: limited (a quarter of the texts of four
domains, movie reviews among them, read again and again) and unlimited (manuals and a book, meant to be read once). Then
every student is fine-tuned on the movie reviews. The teacher of the masked words is all-MiniLM-L6-v2, whose release has no
head for them: all its weights are first trained on both corpora for a quarter of an hour. A cell that is done is not run
again. Writes results/budget_*.json and .png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))

from compare_under_budget import show  # noqa: E402
from datasets import concatenate_datasets  # noqa: E402
from pretrained_distillation import ALL_DOMAINS, PROSE, unlabeled_texts  # noqa: E402
from transformers import AutoModelForMaskedLM, AutoTokenizer, DataCollatorForLanguageModeling  # noqa: E402
from transformers.trainer_utils import set_seed  # noqa: E402

from hf_distill import DistillationTrainer, DistillationTrainingArguments  # noqa: E402
from hf_distill.data.corpus import packed  # noqa: E402
from hf_distill.resources.minilm import minilm_path  # noqa: E402

RESULTS = Path(__file__).with_name("results")
TEACHER_SECONDS = 900
CORPORA = {"limited": ALL_DOMAINS, "unlimited": PROSE}
BUDGETS = {("2/128", "flops"): 3.5e12, ("4/256", "flops"): 4e12, ("2/128", "seconds"): 22, ("4/256", "seconds"): 24}
OF_STUDENT = {  # four layers need a gentler start, and smaller batches for as many steps
    "2/128": {"per_device_train_batch_size": 32, "learning_rates": 1e-3, "warmup_steps": 0.06,
              "fine_tuning_steps": 600, "fine_tuning_learning_rate": 5e-4},
    "4/256": {"per_device_train_batch_size": 16, "learning_rates": 5e-4, "warmup_steps": 0.1,
              "fine_tuning_steps": 350, "fine_tuning_learning_rate": 3e-4},
}  # fmt: skip
ARMS = {"flops": "no_kd vanilla_kd tinybert minilmv2 untrained", "seconds": "no_kd vanilla_kd tinybert minilmv2"}
ARGUMENTS = {
    "max_seq_length": 32, "weight_decay": 0.01, "adam_beta2": 0.98, "limited_fraction": 0.25,
    "dataset_name": "movie_reviews", "save_strategy": "no", "logging_steps": 50, "report_to": "none",
    "disable_tqdm": True,
}  # fmt: skip


def trained_teacher(folder: Path) -> Path:
    """A masked-word model of the whole text; what it scores on held-out text is in `teacher.json` beside it."""
    if not (folder / "teacher.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(minilm_path())
        texts = concatenate_datasets([unlabeled_texts(source).select_columns("text") for source in CORPORA.values()])
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


def compared(student: str, limit: str, budget: float, teacher: Path, folder: Path) -> dict[str, dict]:
    """What came out, by regime; both run at the same time, so that seconds mean the same for both."""
    points = 2 if (student, limit) == ("2/128", "flops") else 1  # judging a student costs as much as training it
    given = ARGUMENTS | OF_STUDENT[student] | {"student": student, "points": points, "arms": ARMS[limit]}
    given |= {f"max_{limit}": budget, "teacher_model_name_or_path": teacher}
    folders = {regime: folder / f"{student}_{limit}_{regime}".replace("/", "-") for regime in CORPORA}
    running = []
    for regime, corpus in CORPORA.items():
        own = given | {"regimes": regime, "corpus": corpus, "output_dir": folders[regime]}
        options = [part for name, value in own.items() for part in (f"--{name}", *str(value).split())]
        command = [sys.executable, EXAMPLES / "compare_under_budget.py", *options]
        running.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    if any([process.wait() for process in running]):
        raise SystemExit(f"a comparison failed; what is done is kept in {folder}")
    return {regime: json.loads((each / "results.json").read_text()) for regime, each in folders.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("student", choices=sorted({student for student, _ in BUDGETS}))
    parser.add_argument("limit", choices=sorted({limit for _, limit in BUDGETS}))
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/budget"))
    args = parser.parse_args()
    teacher = trained_teacher(args.output_dir / "teacher")
    budget = BUDGETS[args.student, args.limit]
    found = compared(args.student, args.limit, budget, teacher, args.output_dir)
    arms = [arm for each in found.values() for arm in each["arms"]]
    RESULTS.mkdir(exist_ok=True)
    name = f"budget_{args.student.replace('/', '_')}_{args.limit}"
    show(arms, args.limit, "test", RESULTS / f"{name}.png")
    conditions = {regime: each["conditions"] for regime, each in found.items()}
    verdict = list(dict.fromkeys(line for each in found.values() for line in each["verdict"]))
    results = {"teacher": json.loads((teacher / "teacher.json").read_text()), "conditions": conditions, "arms": arms}
    (RESULTS / f"{name}.json").write_text(json.dumps(results | {"verdict": verdict}, indent=2) + "\n")
    print("\n".join(verdict))


if __name__ == "__main__":
    main()
