"""Removal of private information before anything is published: credentials, paths and user names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from hf_distill.text.credentials import REMOVED, hides_value, names_credential, without_credentials

# A path that begins at a root, at a home folder, above the working folder, or at a Windows drive; not that of a URL.
# After a colon or a bracket, as in a ratio or a formula, only the path of a home folder.
_PATHS = re.compile(
    r"""(?:(?<![\w.:/\\~)\]<-])(?:file://)?(?:~[A-Za-z]*/|(?:\.\./)+|/(?=[^\s/'"])|[A-Za-z]:[\\/]|\\\\)"""
    r"""|(?<=[:)\]<-])(?:~[A-Za-z]*/|/+(?i:home/|users/|root\b)|[A-Za-z]:[\\/]+(?i:users)[\\/]))"""
    r"""[^\s'",;:=\[\](){}]*"""
)


def public(value: Any) -> Any:
    """A JSON value without credentials, and with only the last part of absolute and other local paths.

    Keys of mappings are kept; a string under a key such as "api_key" is removed completely.

    Args:
        value: A JSON value: mappings, lists, strings, numbers.

    Returns:
        A copy with every string cleaned.
    """
    if isinstance(value, dict):
        return {key: REMOVED if names_credential(str(key), each) else public(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(each) for each in value]
    if not isinstance(value, str):
        return value
    if _is_path(value):  # completely, because the names of folders may have spaces
        value = _last_part(value)
    return _PATHS.sub(lambda match: _last_part(match.group()), without_credentials(value))


def public_name(name: str | Path) -> str:
    """The name of a model or data set for publishing: a Hub id unchanged, and only the last part of a local path."""
    path = Path(name)
    return path.name if path.is_absolute() or path.exists() or str(name).startswith(".") else public(str(name))


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments without the values of flags and variables for tokens, passwords and keys."""
    cleaned, flag = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if flag and not argument.startswith("-") and hides_value(flag, argument):
            argument = REMOVED
        elif equals and re.fullmatch(r"[\w.+-]+", name) and hides_value(name, value):
            argument = f"{name}={REMOVED}"
        flag = name if name.startswith("-") and not equals else ""
        cleaned.append(argument)
    return cleaned


def _is_path(text: str) -> bool:
    return _PATHS.match(text) is not None and "\n" not in text and ": " not in text and " --" not in text


def _last_part(path: str) -> str:
    """The last part of a path; "[removed]" for the root or a home folder, which is named after its user."""
    is_windows = "\\" in path or path[1:2] == ":"
    _, *inside = (PureWindowsPath if is_windows else PurePosixPath)(path.removeprefix("file://")).parts or ("",)
    inside = [part for part in inside if part != ".."]
    is_home = inside[-2:-1] and inside[-2].casefold() in ("home", "users")
    is_parent = len(inside) == 1 and inside[0].casefold() in ("home", "users", "root")
    return inside[-1] if inside and not is_home and not is_parent else REMOVED
