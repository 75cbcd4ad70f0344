"""What README.md says has to be changed in a script of the kind transformers ships, done to one."""

from __future__ import annotations

from pathlib import Path

STOCK_SCRIPT = Path(__file__).with_name("stock_script.py")
TWO_LINES = {
    "from transformers import (\n": "from hf_distill import DistillationTrainer, DistillationTrainingArguments\nfrom transformers import (\n",
    "HfArgumentParser((ModelArguments, TrainingArguments))": "HfArgumentParser((ModelArguments, DistillationTrainingArguments))",
    "trainer = Trainer(model, args,": "trainer = DistillationTrainer(model, args, teacher_model={teacher!r},",
}


def changed_script(teacher: str) -> str:
    """The stock script with two of its lines changed, and what they need imported."""
    text = STOCK_SCRIPT.read_text(encoding="utf-8")
    for stock, ours in TWO_LINES.items():
        assert text.count(stock) == 1
        text = text.replace(stock, ours.format(teacher=teacher))
    return text
