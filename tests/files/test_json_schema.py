"""Validation finds what the jsonschema package finds, in records that are broken in every place there is."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_distill.files.json_schema import ANNOTATIONS, KEYWORDS, first_violation
from hf_distill.publishing.run_record import schema

CARDS = Path(__file__).parents[2] / "model_cards"


def shortened(value: Any) -> Any:
    """With one item in every list."""
    if isinstance(value, list):
        return [shortened(each) for each in value[:1]]
    return {key: shortened(each) for key, each in value.items()} if isinstance(value, dict) else value


RECORD = shortened(json.loads((CARDS / "bert-tiny-movie-reviews" / "run.json").read_text(encoding="utf-8")))
STRANGERS = (None, True, -1, 2.0, 2.5, float("nan"), "text", [1], {"key": "value"})


def places(content: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values inside a value."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def broken_records() -> Iterator[Any]:
    """The record with each of its values gone, with a stranger beside it, or replaced by each of the strangers."""
    for *above, key in places(RECORD):
        for stranger in (..., "beside", *STRANGERS):
            found = copy.deepcopy(RECORD)
            parent = found
            for each in above:
                parent = parent[each]
            if stranger is ...:
                del parent[key]
            elif stranger == "beside" and isinstance(parent, dict):
                parent["a stranger"] = 1
            else:
                parent[key] = stranger
            yield found


def test_the_record_is_valid():
    assert first_violation(RECORD, schema()) is None


def test_it_finds_what_jsonschema_finds():
    jsonschema = pytest.importorskip("jsonschema")
    rules, count = schema(), 0
    theirs = jsonschema.Draft202012Validator(rules)
    for content in broken_records():
        found, others = first_violation(content, rules), list(theirs.iter_errors(content))
        assert (found is None) == (not others)
        if found is not None:
            count += 1
            nearest = min(len(each.absolute_path) for each in others)
            alternatives = [each for each in others if each.validator == "anyOf"]
            assert len(found.path) == nearest or alternatives
            told = {(tuple(each.absolute_path), each.validator) for each in all_errors(others)}
            assert (found.path, found.keyword) in told
    assert count > 1000


def all_errors(errors: list) -> Iterator:
    """Errors, and those of the alternatives behind them."""
    for error in errors:
        yield error
        yield from all_errors(error.context)


@pytest.mark.parametrize(
    ("rules", "content", "path", "message"),
    [
        ({"type": "integer"}, True, "$", "True is not of type 'integer'"),
        ({"type": ["object", "null"]}, 1, "$", "1 is not of type 'object', 'null'"),
        ({"const": 2}, 1, "$", "2 was expected"),
        ({"const": 1}, True, "$", "1 was expected"),
        ({"enum": ["a", None]}, 0, "$", "0 is not one of ['a', None]"),
        ({"pattern": "^[0-9a-f]{2}$"}, "main", "$", "'main' does not match '^[0-9a-f]{2}$'"),
        ({"minimum": 0}, -1, "$", "-1 is less than the minimum of 0"),
        ({"minItems": 1}, [], "$", "[] has fewer than 1 items"),
        ({"required": ["a", "b"]}, {"b": 1}, "$", "'a' is a required property"),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"a": 1, "b": 2, "c": 3},
            "$",
            "Additional properties are not allowed ('b', 'c' were unexpected)",
        ),
        ({"items": {"properties": {"it's": {"type": "null"}}}}, [{}, {"it's": 1}], r"$[1]['it\'s']", "1 is not of type 'null'"),
        ({"anyOf": [{"type": "string"}, {"items": {"type": "string"}, "type": "array"}]}, ["a", 1], "$[1]", "1 is not of type 'string'"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, 1, "$", "1 is not valid under any of the given schemas"),
        ({"$defs": {"a": {"type": "null"}}, "properties": {"b": {"$ref": "#/$defs/a"}}}, {"b": 1}, "$.b", "1 is not of type 'null'"),
    ],
)  # fmt: skip
def test_a_violation_says_where_and_what(rules, content, path, message):
    found = first_violation(content, rules)
    assert (found.json_path, found.message) == (path, message)


def test_the_schema_has_no_keyword_that_is_not_validated():
    def keywords(rules: Any) -> Iterator[str]:
        yield from rules
        for name in ("properties", "$defs"):
            for each in rules.get(name, {}).values():
                yield from keywords(each)
        for each in (rules.get("items"), rules.get("additionalProperties"), *rules.get("anyOf", ())):
            yield from keywords(each) if isinstance(each, dict) else ()

    assert set(keywords(schema())) <= {*KEYWORDS, *ANNOTATIONS}
