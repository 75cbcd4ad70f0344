"""Untrusted JSON: content of the expected types, or one clear error."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import stat
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_BYTES = 64 << 20
MAX_DEPTH = 100

Value = TypeVar("Value")
Record = TypeVar("Record", bound="DataclassInstance")


class FileFormatError(ValueError):
    """A file does not have the expected content; the message names the file and the problem."""


def read_json(
    path: str | os.PathLike[str], keys: Mapping[str, Any] | None = None, *, kind: Any = dict, finite: bool = True
) -> Any:
    """The content of an untrusted JSON file.

    Args:
        path: The path of the file; a link is followed.
        keys: The keys that the object must have, with the type of each value, such as {"weight_map": dict[str, str]}.
            None: any keys.
        kind: The type of the content; `Any` allows every type.
        finite: Refuse numbers that are not finite.

    Returns:
        The content, of type `kind`.

    Raises:
        FileFormatError: The file is too large or nested too deeply, is not JSON in UTF-8, has a repeated key, invalid
            Unicode or a number beyond the range of a float, or its content has other types.
        OSError: The file does not exist, or is not a regular file.
    """
    return parse_json(_content_of(Path(path)), str(path), keys, kind=kind, finite=finite)


def parse_json(
    text: str | bytes, name: str, keys: Mapping[str, Any] | None = None, *, kind: Any = dict, finite: bool = True
) -> Any:
    """The content of untrusted JSON text, checked as by `read_json`.

    Args:
        text: JSON text; bytes are decoded as UTF-8.
        name: The origin of the text, for error messages.
        keys: The keys that the object must have, with the type of each value. None: any keys.
        kind: The type of the content; `Any` allows every type.
        finite: Refuse numbers that are not finite.

    Returns:
        The content, of type `kind`.

    Raises:
        FileFormatError: The text is not JSON as `read_json` accepts it, or its content has other types.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        content = json.loads(text, object_pairs_hook=_without_repetition)
        _require_plain(content, finite)
    except (ValueError, RecursionError) as error:
        reason = f"more than {MAX_DEPTH} levels deep" if isinstance(error, RecursionError) else error
        raise FileFormatError(f"{name} is no JSON that can be read: {reason}") from None
    checked(content, kind, name)
    for key, hint in (keys or {}).items():
        if key not in content:
            raise FileFormatError(f"{name} lacks {key!r}")
        checked(content[key], hint, f"{key!r} of {name}")
    return content


def checked(value: Value, hint: Any, name: str) -> Value:
    """Check that a value from a JSON file has the expected type.

    Args:
        value: The value as the JSON parser returns it.
        hint: The expected type, such as int, list[str] or dict[str, float] | None.
        name: The name of the value, for error messages.

    Returns:
        The value itself.

    Raises:
        FileFormatError: The value has another type.
    """
    if not _fits(value, hint):
        expected = str(hint) if typing.get_args(hint) else hint.__name__
        raise FileFormatError(f"{name} must be {expected}, got {repr(value)[:80]}")
    return value


def as_dataclass(kind: type[Record], content: Any, name: str) -> Record:
    """An instance of a dataclass from a JSON object, the inverse of `dataclasses.asdict`.

    Args:
        kind: The dataclass, whose fields have types that JSON can represent.
        content: The JSON object with the values of the fields; fields with a default may be missing.
        name: The name of the content, for error messages.

    Returns:
        The instance.

    Raises:
        FileFormatError: Fields are missing, unknown or of other types.
    """
    checked(content, dict, name)
    hints = typing.get_type_hints(kind)
    needed = {
        each.name for each in dataclasses.fields(kind) if each.default is each.default_factory is dataclasses.MISSING
    }
    if missing := sorted(needed - content.keys()):
        raise FileFormatError(f"{name} lacks {missing}")
    if unknown := sorted(content.keys() - hints.keys()):
        raise FileFormatError(f"{name} has {unknown}, which it should not")
    return kind(**{key: checked(value, hints[key], f"{key!r} of {name}") for key, value in content.items()})


def _content_of(path: Path) -> bytes:
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{path} must be a regular file")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FileFormatError(f"{path} is no JSON that can be read: it has more than {MAX_BYTES:,} bytes")
    return content


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has the key {max(names, key=names.count)!r} twice")
    return content


def _require_plain(content: Any, finite: bool) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        for value in level:
            _require_plain_value(value, finite)
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    raise RecursionError


def _parts(value: Any) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


def _require_plain_value(value: Any, finite: bool) -> None:
    if isinstance(value, str):
        value.encode()  # half of a surrogate pair is a ValueError
    elif isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError("it has a number beyond those that a float can be")
    elif isinstance(value, float) and finite and not math.isfinite(value):
        raise ValueError(f"it has a number that is {value}")


def _fits(value: Any, hint: Any) -> bool:
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if hint is Any:
        return True
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if isinstance(value, bool) and kind is not bool:
        return False
    if not isinstance(value, (int, float) if kind is float else kind):
        return False
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not parts or all(_fits(each, parts[-1]) for each in values)
