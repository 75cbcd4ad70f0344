"""A process in which packages are as if they were not installed: it trains, records and writes model cards.

Arguments: the modules of these packages. Prints the trainings that are done.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path


class WithoutPackages(PathFinder):
    """Finds modules as ever, but those that the command line names."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname.partition(".")[0] in sys.argv[1:] else super().find_spec(fullname, path, target)


def train(name: str, kind: type, args: object, **options: object) -> None:
    """Two steps, an evaluation, the saved student, its record and its card."""
    from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

    trainer = kind(
        tiny_bert(hidden_size=32, layers=1), args, train_dataset=encoded_sentences(29), eval_dataset=encoded_sentences(9),
        processing_class=tiny_tokenizer(), **options,
    )  # fmt: skip
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card()
    left = {path.name for path in Path(name).iterdir()}
    assert {"run.json", "README.md", "model.safetensors"} <= left, left
    print(f"done: {name}")


def main() -> None:
    import hf_distill
    from tests.tiny_models import tiny_bert

    teacher = tiny_bert(hidden_size=32, layers=2, seed=1)
    for step in (1, 2):
        teacher.save_pretrained(f"teacher/checkpoint-{step}")
    options = dict(
        max_steps=2, report_to="none", use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no", logging_steps=1
    )
    args = hf_distill.DistillationTrainingArguments("plain", **options)
    train("plain", hf_distill.DistillationTrainer, args, teacher_model=teacher)
    args = hf_distill.ProgressiveTrainingArguments(
        "progressive", teacher_checkpoints=["teacher"], final_stage_steps=1, **options
    )
    train("progressive", hf_distill.ProgressiveTrainer, args)
    args = hf_distill.PruningDistillTrainingArguments("shrinking", target_hidden_size=16, pruning_events=1, **options)
    train("shrinking", hf_distill.PruningDistillTrainer, args, teacher_model=teacher)


if __name__ == "__main__":
    sys.meta_path = [WithoutPackages if finder is PathFinder else finder for finder in sys.meta_path]
    main()
