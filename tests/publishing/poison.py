"""Run records whose texts are markup, code and worse, and a look at their cards through a reader's eyes."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from hf_distill.publishing.model_card import render_model_card
from hf_distill.publishing.run_record import RunRecord

PIECES = [
    "---", "\n", "\r\n", "...", ": ", "#", "- ", "{", "}", "[", "]", "'", '"', "|", ">", "&", "*", "!", "%", "@", "`",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "![x](http://evil)", "[a](javascript:b)", "**b**", "_c_",
    "{{ 7 * 7 }}", "{% raw %}", "{# x #}", "\x00", "\x07", "\x1b[31m", "\x85", "\u2028", "\u200f", "\u202e", "\ufeff",
    "null", "true", "1e3", "0x1F", "~", "=", "<<", "yes", "!!python/object", "ä", "東京", "🙂", "\\", "\t", "| a | b |",
    "```", "~~~", "$x$", "www.evil", "https://evil", "</details>", "&amp;", "-->", "<!--", "name: x", "word", " ", "7",
    "\\|", "`|`", "admin@evil.test", "<https://evil>", "mailto:a@b.c", "\n\n# Owned\n\n", "\n    ", "[x]: http://evil",
    '")\n```\n\n# Owned\n\n', '", trust_remote_code=True)  #', "&#106;avascript:", "WWW.EVIL", "\x9b31m", "1. ",
]  # fmt: skip
_OTHERS: list[Any] = [None, True, -1, 0, 10**15, 1e300, -0.0, [], {}, [[]], ["x"], {"x": "y"}]
_MODEL = {
    "name": "small", "revision": "c0ffee", "initialization": "embeddings", "saved_as": "small", "model_type": "bert",
    "architecture": "BertForSequenceClassification", "parameters": 4_000_000, "weights_sha256": "ab" * 32,
    "num_hidden_layers": 2, "hidden_size": 128, "labels": ["negative", "positive"], "dtype": "torch.float32",
    "lineage": {"from": "base", "teacher": "larger", "trainer": "Trainer", "steps": 5}, "mask_token": "[MASK]",
}  # fmt: skip
_LATENCY = {"format": "fp32", "batch_size": 1, "sequence_length": 32, "median_ms": 2.0, "p95_ms": 3.0,
            "sequences_per_second": 400.0}  # fmt: skip
_ROW = {"name": "big", "role": "teacher", "parameters": 40_000_000, "weights_sha256": "cd" * 32,
        "metrics": {"accuracy": 0.9}, "latency": [_LATENCY, _LATENCY | {"format": "int8"}],
        "metrics_by_format": {"int8": {"accuracy": 0.88}}}  # fmt: skip
_TRAINING = {"steps": 100, "epochs": 1.5, "seconds": 12.3, "seed": 7, "hardware": "a CPU", "processes": 2,
             "co2_eq_grams": 1.2, "spent": {"student_flops": 1e9, "teacher_flops": 1e10, "tokens": 1e5},
             "settings": {"learning_rate": 0.1, "optimizer": "AdamW", "lr_scheduler_type": "linear"},
             "log": [{"step": 50, "loss": 1.0, "eval_loss": 0.9, "eval_accuracy": 0.7}]}  # fmt: skip
_OBJECTIVE = [{"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0},
              {"name": "hidden_states", "weight": 0.5, "layer_map": "uniform"}]  # fmt: skip
_DATA = {"name": "reviews", "language": "en", "license": "mit", "description": "Rated by people.", "data_license": "cc0",
         "citation": "Somebody 2014", "train_examples": 1234, "train_text": "half of it", "eval_examples": 10}  # fmt: skip
WHOLE = {
    "schema_version": 2,
    "trainer": "DistillationTrainer",
    "command": "python train.py --a b",
    "git": {"commit": "0123456789" * 4, "changed": True},
    "student": _MODEL | {"adapter": {"type": "LORA", "base": "base"}},
    "teacher": _MODEL | {"name": "big", "parameters": 40_000_000},
    "objective": _OBJECTIVE,
    "arguments": {"learning_rate": 0.001, "recipe": "vanilla_kd", "optim": "sgd", "group": "x"},
    "data": _DATA,
    "training": _TRAINING,
    "metrics": {"eval_accuracy": 0.8, "test_accuracy": 0.7},
    "evaluation": {
        "task": "sequence_classification",
        "metric": "accuracy",
        "this": 1,
        "data": {"name": "reviews", "split": "test", "examples": 1000, "fingerprint": "f"},
        "conditions": {"hardware": "a CPU"},
        "rows": [
            _ROW,
            _ROW
            | {
                "name": "small",
                "role": "distilled",
                "fidelity": {"teacher_agreement": 0.9, "teacher_kl": 0.1},
                "against_teacher": {"difference": -0.05, "low": -0.07, "high": -0.03},
            },
        ],
    },
    "card": {"language": ["en"], "license": "mit", "tags": ["mine"], "datasets": ["org/data"], "model_name": "Small",
             "base_model": "org/base", "pipeline_tag": "text-classification"},
    "versions": {"hf_distill": "0.1.0", "python": "3.11"},
    "stages": [
        {"name": "general", "objective": _OBJECTIVE, "arguments": {}, "data": _DATA, "training": _TRAINING, "metrics": {}}
    ],
    "progress": [{"step": 1, "loss": 1.0, "hidden_size": 64, "step_ms": 3.0}],
}  # fmt: skip
_TYPED = {"weights_sha256", "commit", "role", "pipeline_tag"}  # which the schema knows
_FREE = {"arguments", "versions", "metrics_by_format"}  # mappings with names of anybody's choice
_OURS = re.compile(r"https://(arxiv\.org/abs/[\d.]+|huggingface\.co/(datasets/)?[\w./-]+)")
_ADDRESS = re.compile(r"://|www\.\w|\w@\w+\.\w|mailto:\w", re.IGNORECASE)
_PIPE = re.compile(r"(?<!\\)(?:\\\\)*\|")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\ufeff\ud800-\udfff]")


def hostile_strings(number: int, seed: int = 0) -> list[str]:
    """Texts that try to be markup, metadata, code or control codes."""
    generator = random.Random(seed)
    return ["".join(generator.choices(PIECES, k=generator.randint(1, 8))) for _ in range(number)]


def poisoned_records(number: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Contents of run.json with hostile texts as values and as names, and values of other kinds, in some places or in all."""
    generator = random.Random(seed)
    for index, evil in enumerate(hostile_strings(number, seed)):
        share = 1.0 if index % 5 == 0 else 0.05
        content = _poisoned(copy.deepcopy(WHOLE), generator, evil, share, with_others=index % 5 == 1)
        for row in content["evaluation"]["rows"]:
            row["metrics"][str(content["evaluation"]["metric"])] = 0.5  # else the record contradicts itself
        yield content


def _poisoned(value: Any, generator: random.Random, evil: str, share: float, with_others: bool) -> Any:
    options = generator, evil, share, with_others
    if isinstance(value, dict):
        names = [name for name in value if name not in _TYPED or with_others]
        content = value | {name: _poisoned(value[name], *options) for name in names}
        free = [name for name in content if name in _FREE]
        for name in free:
            content[name] = {**content[name], evil: next(iter(content[name].values()))} if content[name] else {}
        return content
    if isinstance(value, list):
        return [_poisoned(each, *options) for each in value]
    if generator.random() >= share or not (isinstance(value, str) or with_others):
        return value
    return generator.choice(_OTHERS) if with_others and generator.random() < 0.5 else evil


def card_of(content: Any, folder: Path) -> str | None:
    """The card of a record as a command makes it; None where the record is refused."""
    path = folder / "run.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        record = RunRecord.load(folder)
    except ValueError:
        return None
    return str(render_model_card(record))


def live_parts(card: str, plots: tuple[str, ...] = ("comparison.png", "shrinking.png")) -> list[str]:
    """What of a card a reader's browser, or the Hub, would act on, and what is broken; empty where all is text.

    Args:
        card: With its metadata.
        plots: Images that belong in it.
    """
    _, metadata, text = re.split(r"^---$\n?", card, maxsplit=2, flags=re.MULTILINE)
    found = [f"a control code {match.group()!r}" for match in _UNSEEN.finditer(text)]
    if not isinstance(yaml.safe_load(metadata), dict):
        found.append("metadata that are no mapping")
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.validateLink = lambda address: True  # whether it is one is judged here
    tokens = parser.parse(text)
    for token in tokens:
        if token.type == "html_block":
            found.append(f"HTML {token.content!r}")
        if token.type == "table_open":
            found += _broken_rows(text.splitlines()[slice(*token.map)])
        for child in token.children or ():
            found += _live_child(child, plots)
    headings = [tokens[index + 1].content for index, token in enumerate(tokens) if token.type == "heading_open"]
    return found + [f"the heading {each!r}" for each in headings[1:] if each not in HEADINGS]


HEADINGS = {
    "Use", "Results", "How it was trained", "Settings", "Training log", "Reproduce", "Speed", "Data",
    "Limitations and biases", "Sources",
}  # fmt: skip


def _live_child(child: Token, plots: tuple[str, ...]) -> list[str]:
    if child.type == "html_inline":
        return [f"HTML {child.content!r}"]
    if child.type == "link_open" and not _OURS.fullmatch(str(child.attrGet("href"))):
        return [f"a link to {child.attrGet('href')!r}"]
    if child.type == "image" and child.attrGet("src") not in plots:
        return [f"an image {child.attrGet('src')!r}"]
    if child.type == "text" and _ADDRESS.search(child.content):
        return [f"an address {child.content!r}"]
    return []


def _broken_rows(lines: list[str]) -> list[str]:
    cells = len(_PIPE.findall(lines[0]))
    return [f"a row of other cells {line!r}" for line in lines if len(_PIPE.findall(line)) != cells]
