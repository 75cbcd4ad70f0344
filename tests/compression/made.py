"""A tiny teacher of texts with data, as the tests of compression need them."""

from __future__ import annotations

from pathlib import Path

import datasets

from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.run import ScriptTrainingArguments
from tests.tiny_models import tiny_bert, tiny_tokenizer

QUICK = ["--use_cpu", "--report_to", "none", "--disable_tqdm", "true", "--bf16", "false"]
WORDS = 40  # of the 100 that the teacher knows


def save_teacher(folder: Path, hidden_size: int = 128, layers: int = 4) -> str:
    tiny_bert(hidden_size, layers).save_pretrained(folder / "teacher")
    tiny_tokenizer().save_pretrained(folder / "teacher")
    return str(folder / "teacher")


def save_data(folder: Path, splits: tuple[str, ...] = ("train", "validation", "test"), rows: int = 48) -> str:
    """Splits with different texts, all of the first words of the teacher's vocabulary."""
    made = {}
    for number, split in enumerate(splits):
        texts = [f"w{4 + (row + 7 * number) % WORDS} w{4 + (3 * row + number) % WORDS}" for row in range(rows)]
        made[split] = datasets.Dataset.from_dict({"text": texts, "label": [row % 2 for row in range(rows)]})
    datasets.DatasetDict(made).save_to_disk(folder / "data")
    return str(folder / "data")


def arguments(folder: Path, steps: int = 4) -> ScriptTrainingArguments:
    words = ["--do_train", "true", "--output_dir", str(folder), "--max_steps", str(steps), *QUICK]
    (parsed,) = ScriptParser((ScriptTrainingArguments,)).parse_args_into_dataclasses(words)
    return parsed
