"""Students' folders as a run leaves them, small."""

from __future__ import annotations

from pathlib import Path

import torch

from hf_distill.publishing.run_record import RunRecord, describe_model
from tests.publishing.test_run_record import TRAINING
from tests.tiny_models import tiny_bert, tiny_tokenizer

CARD = """---
library_name: transformers
pipeline_tag: text-classification
tags:
- hf_distill
---

# {name}

A student of {layers} layers.

## Limitations

It is tiny.
"""
JUNK = [
    "optimizer.pt",
    "training_args.bin",
    "trainer_state.json",
    "events.out.tfevents.1",
    "result.json",
    "finished.json",
]


def make_student(folder: Path, layers: int = 1, hidden_size: int = 16, seed: int = 0) -> Path:
    """A student with its tokenizer, record and card, among things that nobody else should get."""
    model = tiny_bert(hidden_size, layers, seed)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    record = RunRecord(
        trainer="DistillationTrainer",
        student=describe_model(model) | {"name": folder.name},
        teacher=None,
        objective=[],
        arguments={},
        data={},
        training=TRAINING,
        metrics={"eval_accuracy": 0.7 + layers / 100, "eval_runtime": 3.0},
    )
    record.save(folder)
    (folder / "README.md").write_text(CARD.format(name=folder.name, layers=layers), encoding="utf-8")
    for name in JUNK:
        (folder / name).write_bytes(b"not for others")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "model.safetensors").write_bytes(b"unfinished")
    return folder


def logits_of(model) -> list[float]:
    """Its answer to one text; another process may round it otherwise."""
    with torch.no_grad():
        logits = model.eval()(torch.arange(5, 15).reshape(1, 10)).logits
    return logits.flatten().tolist()


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What a stranger does, in a process of its own: prints the logits of each repository named.
LOAD = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from tests.hub.students import logits_of
for name in sys.argv[1:]:
    model, unused = AutoModelForSequenceClassification.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    print("logits", json.dumps([name, logits_of(model)]))
"""
