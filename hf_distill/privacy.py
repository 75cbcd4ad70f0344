"""What must not get out with a record or a card: secrets, and where and as whom somebody works."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

REMOVED = "[removed]"
# Access tokens as the Hub, GitHub, OpenAI, Weights & Biases and cloud providers write them, and keys in addresses.
_SECRETS = re.compile(
    r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{20,}|\bsk-[\w-]{16,}"
    r"|\bAKIA[0-9A-Z]{16}\b|(?i:\bbearer\s+\S+)|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
_SECRET_FLAGS = re.compile(r"(?i)(token|password|secret|api[_-]?key)")
# A path that begins at a root, at home, above the folder of the run, or at a Windows drive; not an address's path.
_PATHS = re.compile(
    r"""(?<![\w.:/\\~)\]-])(?:file://)?(?:~[A-Za-z]*/|(?:\.\./)+|/(?=[^\s/'"])|[A-Za-z]:[\\/]|\\\\)[^\s'",;:=\[\](){}]*"""
)


def public(value: Any) -> Any:
    """A JSON value with every string in it cleaned: of a path that tells about the machine the last part stays.

    Keys of mappings are kept as they are.
    """
    if isinstance(value, dict):
        return {key: public(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [public(each) for each in value]
    if not isinstance(value, str):
        return value
    if _is_path(value):  # as a whole, because folders may have spaces in their names
        value = _last_part(value)
    return _PATHS.sub(lambda match: _last_part(match.group()), _SECRETS.sub(REMOVED, value))


def public_name(name: str | Path) -> str:
    """A Hub id as it is; of a local folder the last part alone."""
    path = Path(name)
    return path.name if path.is_absolute() or path.exists() or str(name).startswith(".") else public(str(name))


def without_secrets(arguments: Sequence[str]) -> list[str]:
    """Command line arguments without the values of flags for tokens, passwords and keys."""
    cleaned, is_secret = [], False
    for argument in arguments:
        flag, equals, _ = argument.partition("=")
        hides = flag.startswith("-") and bool(_SECRET_FLAGS.search(flag)) and "tokenizer" not in flag
        if is_secret and not argument.startswith("-"):
            argument = REMOVED
        elif hides and equals:
            argument = f"{flag}={REMOVED}"
        is_secret = hides and not equals
        cleaned.append(argument)
    return cleaned


def _is_path(text: str) -> bool:
    return _PATHS.match(text) is not None and "\n" not in text and ": " not in text and " --" not in text


def _last_part(path: str) -> str:
    """Without the folders; nothing of the root itself or of a home folder, whose name is the user's."""
    is_windows = "\\" in path or path[1:2] == ":"
    _, *inside = (PureWindowsPath if is_windows else PurePosixPath)(path.removeprefix("file://")).parts or ("",)
    inside = [part for part in inside if part != ".."]
    is_home = len(inside) < 3 and inside[:1] and inside[0].casefold() in ("home", "users")
    return inside[-1] if inside and not is_home else REMOVED
