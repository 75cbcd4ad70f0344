"""Validation against a JSON Schema, for the part of draft 2020-12 that the schemas of this package use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

KEYWORDS = (
    *("$ref", "additionalProperties", "anyOf", "const", "enum", "items", "minItems", "minimum", "pattern"),
    *("properties", "required", "type"),
)
ANNOTATIONS = ("$defs", "$schema", "description", "title")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "null": type(None),
}
_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Violation:
    """A place where a value breaks its schema.

    Attributes:
        path: Keys and indices that lead to the place.
        keyword: The keyword of the schema that is broken, such as "type".
        instance: The value at the place.
        expected: The keyword's value in the schema; the names of the properties that are missing or not allowed.
    """

    path: tuple[str | int, ...]
    keyword: str
    instance: Any
    expected: Any

    @property
    def json_path(self) -> str:
        """The path in JSONPath notation, such as "$.rows[0].name"."""
        return "$" + "".join(map(_step, self.path))

    @property
    def message(self) -> str:
        """What is wrong with the value, in one line."""
        got, expected = repr(self.instance), self.expected
        if self.keyword == "required":
            return f"{expected!r} is a required property"
        if self.keyword == "additionalProperties":
            names, verb = ", ".join(map(repr, expected)), "was" if len(expected) == 1 else "were"
            return f"Additional properties are not allowed ({names} {verb} unexpected)"
        if self.keyword == "type":
            return f"{got} is not of type {', '.join(map(repr, _listed(expected)))}"
        return {
            "anyOf": f"{got} is not valid under any of the given schemas",
            "const": f"{expected!r} was expected",
            "enum": f"{got} is not one of {expected!r}",
            "minItems": f"{got} has fewer than {expected} items",
            "minimum": f"{got} is less than the minimum of {expected!r}",
            "pattern": f"{got} does not match {expected!r}",
        }[self.keyword]


def first_violation(content: Any, schema: dict[str, Any]) -> Violation | None:
    """The violation that is nearest to the root, the first of several.

    Args:
        content: A value as `json.loads` returns it.
        schema: A schema of `KEYWORDS` and `ANNOTATIONS` alone, whose references are to "#/$defs/...".

    Returns:
        None if the value is valid.
    """
    return min(_violations(content, schema, schema, ()), key=lambda each: len(each.path), default=None)


def _violations(value: Any, schema: Any, root: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    if "$ref" in schema:
        yield from _violations(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, path)
    if "anyOf" in schema:
        yield from _violations_of_any(value, schema["anyOf"], root, path)
    checks = {
        "type": lambda names: any(_has_type(value, name) for name in _listed(names)),
        "const": lambda constant: _equal(value, constant),
        "enum": lambda constants: any(_equal(value, each) for each in constants),
        "pattern": lambda pattern: not isinstance(value, str) or re.search(pattern, value) is not None,
        "minimum": lambda least: not _has_type(value, "number") or not value < least,
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
    }
    for keyword, is_valid in checks.items():
        if keyword in schema and not is_valid(schema[keyword]):
            yield Violation(path, keyword, value, schema[keyword])
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _violations(each, schema["items"], root, (*path, index))
    if isinstance(value, dict):
        yield from _violations_of_object(value, schema, root, path)


def _violations_of_object(
    value: dict[str, Any], schema: Any, root: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[Violation]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield Violation(path, "required", value, name)
    for name, rule in known.items():
        if name in value:
            yield from _violations(value[name], rule, root, (*path, name))
    others, rule = [name for name in value if name not in known], schema.get("additionalProperties", {})
    if rule is False and others:
        yield Violation(path, "additionalProperties", value, others)
    for name in others if rule else ():
        yield from _violations(value[name], rule, root, (*path, name))


def _violations_of_any(
    value: Any, schemas: list[Any], root: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[Violation]:
    """Those of the only alternative for the value's type, else one that names no alternative."""
    found = [list(_violations(value, each, root, path)) for each in schemas]
    if all(found):
        of_type = [each for each in found if not any(one.keyword == "type" and one.path == path for one in each)]
        yield from of_type[0] if len(of_type) == 1 else [Violation(path, "anyOf", value, schemas)]


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _has_type(value: Any, name: str) -> bool:
    if name == "boolean" or isinstance(value, bool):
        return name == "boolean" and isinstance(value, bool)
    if name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _TYPES[name])


def _equal(value: Any, constant: Any) -> bool:
    """Equality of JSON values, in which 1 is not true."""
    return value == constant and isinstance(value, bool) == isinstance(constant, bool)


def _step(key: str | int) -> str:
    if isinstance(key, int):
        return f"[{key}]"
    if _PLAIN_KEY.fullmatch(key):
        return f".{key}"
    return "['" + key.replace("\\", "\\\\").replace("'", "\\'") + "']"
