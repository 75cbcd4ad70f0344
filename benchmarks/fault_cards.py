"""Run records with hostile values in them, and whether anything of these is live in the cards."""

from __future__ import annotations

import ast
import copy
import functools
import json
import random
import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from hf_distill.publishing.model_card import render_model_card
from hf_distill.publishing.run_record import RUN_RECORD_NAME, RunRecord

PRODUCT = str(7919 * 7927)
HARMLESS = "a word"  # no name on the Hub, which a card would link
PIECES = [
    "---", "\n", "\r\n", "\n\n", "...", ": ", "# ", "- ", "1. ", "    ", "{", "}", "[", "]", "'", '"', "|", "> ", "&", "*",
    "!", "%", "@", "`", "```", "~~~", "\n```\n", "\n---\n", "=", "<<", "~", "$x$", "\\", "\t", "| a | b |", "\n|---|---|\n",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "<iframe src=//evil.example>", "<style>*{}</style>", "<!--", "-->",
    "</details>", "</p>", "<svg onload=x>", "&lt;script&gt;", "&amp;", "&#60;img src=x&#62;",
    "![x](http://evil.example)", "[a](javascript:b)", "[a](https://evil.example 'b')", "[x]: http://evil.example\n",
    "<https://evil.example>", "https://evil.example/", "www.evil.example", "http://evil.example", "**b**", "_c_", "__d__",
    "{{ 7919 * 7927 }}", "{% if 7919 %}", "{% raw %}", "{# x #}", "{% include 'x' %}",
    "\x00", "\x07", "\x1b[31m", "\x85", "\u2028", "\u200f", "\u202e", "\u2066", "\ufeff", "\ud800",
    "null", "true", "1e3", "0x1F", "yes", "!!python/object/apply:os.system ['x']", "&anchor ", "*anchor", "? ", "%TAG ",
    "ä", "東京", "🙂", " ", "7", '")\nimport os\nstudent("', "');os.system('x');('", "text-generation", "[bold red]", "$(x)",
]  # fmt: skip
_RESTRICTED = ("weights_sha256", "commit", "role", "pipeline_tag")
_CONTROL = ("Cc", "Cf", "Cs")
_ADDRESSES = re.compile(r"(?:://|www\.)evil")
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _model(name: str, size: int) -> dict[str, Any]:
    return {
        "name": name, "architecture": "BertForSequenceClassification", "parameters": size, "weights_sha256": "ab" * 32,
        "model_type": "bert", "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 30522,
        "intermediate_size": 512, "labels": ["negative", "positive"], "dtype": "torch.bfloat16", "revision": None,
        "initialization": "embeddings", "saved_as": name, "lineage": {"from": "start", "teacher": "big", "steps": 5},
    }  # fmt: skip


def _row(name: str, role: str) -> dict[str, Any]:
    timed = {"format": "fp32", "batch_size": 1, "sequence_length": 32, "median_ms": 2.0, "p95_ms": 3.0}
    return {
        "name": name, "role": role, "parameters": 4_000_000, "weights_sha256": "cd" * 32,
        "metrics": {"accuracy": 0.85, "expected_calibration_error": 0.02},
        "metrics_by_format": {"int8": {"accuracy": 0.84}}, "latency": [timed | {"sequences_per_second": 400.0}],
        "fidelity": {"teacher_agreement": 0.91, "teacher_kl": 0.12},
        "against_teacher": {"difference": -0.05, "low": -0.07, "high": -0.03, "mcnemar_p": 0.004},
    }  # fmt: skip


def whole_record() -> dict[str, Any]:
    """A record with something in every part that a card shows."""
    objective = [
        {"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0},
        {"name": "hidden_states", "weight": 0.5, "layer_map": "uniform", "normalized": "none"},
    ]
    training = {"steps": 100, "epochs": 1.5, "seconds": 12.3, "seed": 7, "hardware": "a CPU", "processes": 2}
    arguments = {"learning_rate": 0.001, "recipe": "vanilla_kd", "lr_scheduler_type": "linear", "optim": "adamw"}
    data = dict.fromkeys(("name", "description", "data_license", "citation", "train_text"), "some text")
    data |= {"language": "en", "license": "mit", "train_examples": 1234}
    stage = {
        "name": "general_stage",
        "objective": objective,
        "arguments": arguments,
        "data": data,
        "training": training,
    }
    about = {"name": "reviews", "split": "test", "examples": 1000, "fingerprint": "f" * 64}
    content = {
        "schema_version": 2, "trainer": "DistillationTrainer", "student": _model("small", 4_000_000), "data": data,
        "teacher": _model("big", 40_000_000), "objective": objective, "arguments": arguments, "training": training,
        "command": "python train.py --a 'b c'", "git": {"commit": "0123456789" * 4, "changed": True},
        "metrics": {"eval_accuracy": 0.81, "test_accuracy": 0.8}, "versions": {"hf_distill": "1", "torch": "2"},
        "evaluation": {"task": "sequence_classification", "metric": "accuracy", "this": 1, "data": about,
                       "conditions": {"hardware": "a CPU"}, "rows": [_row("big", "teacher"), _row("small", "distilled")]},
        "card": {"language": "en", "license": "mit", "model_name": "A name", "base_model": "org/base", "tags": ["a tag"],
                 "datasets": ["org/data"], "pipeline_tag": "text-classification"},
        "stages": [stage, stage], "progress": [{"step": 1, "loss": 1.0, "hidden_size": 8, "step_ms": 1.0}],
    }  # fmt: skip
    return json.loads(json.dumps(content))  # no part is the same object as another


def poisoned(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record with hostile values in some of its places, and one with a harmless word in the same places.

    Args:
        number: Which; the same number, the same record.
    """
    generator = random.Random(number)
    clean = whole_record()
    for part in generator.sample(["evaluation", "stages", "progress", "command", "teacher"], generator.randint(0, 2)):
        clean[part] = [] if part in ("stages", "progress") else None
    places = list(_places(clean))
    if number % 10:  # else also numbers and what the schema restricts, which is refused
        places = [each for each in places if isinstance(_at(clean, each), str) and each[-1] not in _RESTRICTED]
    chosen = places if number % 10 and number % 2 else generator.sample(places, generator.randint(1, 3))
    evil = "".join(generator.choices(PIECES, k=generator.randint(1, 6))) + HARMLESS
    evil = generator.choice(["", HARMLESS]) + evil
    found = []
    for value in (evil, HARMLESS):
        content = copy.deepcopy(clean)
        for place in chosen:
            _at(content, place[:-1])[place[-1]] = value
        evaluation = content["evaluation"]
        if isinstance(evaluation, dict) and evaluation["metric"] == value:
            for row in evaluation["rows"]:
                row["metrics"][value] = row["metrics_by_format"]["int8"][value] = 0.85
        if number % 3 == 0:
            content["arguments"][value] = value
            content["objective"][1][value] = value
            content["versions"][value] = value
            content["metrics"][f"eval_{value}"] = 0.5
        found.append(content)
    return found[0], found[1]


def _places(value: Any, at: tuple = ()) -> Any:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        if isinstance(part, (dict, list)):
            yield from _places(part, (*at, name))
        else:
            yield (*at, name)


def _at(value: Any, place: tuple) -> Any:
    return functools.reduce(lambda part, name: part[name], place, value)


def outcome(number: int, folder: Path) -> tuple[str, list[str]]:
    """What becomes of a poisoned record: "harmless", "refused", "unclear" with an error of another kind, or "live" with what is.

    Args:
        number: Which, see `poisoned`.
        folder: To read the records from.
    """
    evil, harmless = poisoned(number)
    try:
        card = _card_of(evil, folder)
    except ValueError:
        return "refused", []
    except Exception as error:
        return "unclear", [f"{type(error).__name__}: {error}"]
    try:
        expected = _card_of(harmless, folder)
    except ValueError:
        return "refused", []
    found = live_in(card, expected)
    return ("live", found) if found else ("harmless", [])


def _card_of(content: dict[str, Any], folder: Path) -> str:
    text = json.dumps(content, ensure_ascii=True)
    (folder / RUN_RECORD_NAME).write_text(text)
    return str(render_model_card(RunRecord.load(folder)))


def live_in(card: str, expected: str) -> list[str]:
    """What a card does that it would not do with a harmless word in place of each hostile value.

    Args:
        card: Its text.
        expected: That of the card with the harmless word.
    """
    try:
        metadata, text = _parts(card)
    except (ValueError, yaml.YAMLError) as error:
        return [f"the metadata is no YAML: {error}"]
    expected_metadata, expected_text = _parts(expected)
    found = [] if _shape(metadata) == _shape(expected_metadata) else ["the metadata has other fields"]
    tags, addresses = _markup(text)
    expected_tags, expected_addresses = _markup(expected_text)
    if tags != expected_tags:
        found.append(f"other markup: {(Counter(tags) - Counter(expected_tags)).most_common(3)} or in another order")
    if more := addresses - expected_addresses:
        found.append(f"addresses: {[*more]}")
    if any(unicodedata.category(each) in _CONTROL for each in text.replace("\n", "")):
        found.append("control characters")
    if PRODUCT in card:
        found.append("a template in a value was rendered")
    tokens = _MARKDOWN.parse(text)
    in_code = "".join(
        token.content for each in tokens for token in [each, *(each.children or ())] if "code" in token.tag
    )
    if len(_ADDRESSES.findall(text)) > len(_ADDRESSES.findall(in_code)):
        found.append("an address outside of code")
    if _programs(tokens) != _programs(_MARKDOWN.parse(expected_text)):
        found.append("another program in the example")
    return found


def _parts(card: str) -> tuple[Any, str]:
    ModelCard(card, ignore_metadata_errors=True)
    _, metadata, text = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(metadata), text


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _shape(each) for key, each in value.items()}
    return [_shape(each) for each in value] if isinstance(value, list) else type(value).__name__


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.addresses: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if address := given.get("href") or given.get("src"):
            self.addresses[f"{urlsplit(address).scheme}://{urlsplit(address).netloc}"] += 1
        self.found.append((tag, " ".join(sorted(given))))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ""))


def _markup(text: str) -> tuple[list[tuple[str, str]], Counter[str]]:
    reader = _Tags()
    reader.feed(_MARKDOWN.render(text))
    return reader.found, reader.addresses


def _programs(tokens: list[Any]) -> list[str]:
    """The Python blocks without the text in them; those that are none as they are."""
    found = []
    for token in tokens:
        if token.type == "fence" and token.info == "python":
            try:
                tree = ast.parse(token.content)
            except SyntaxError:
                found.append(token.content)
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant):
                    node.value = type(node.value).__name__
            found.append(ast.dump(tree))
    return found
