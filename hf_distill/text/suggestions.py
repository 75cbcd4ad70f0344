"""What may have been meant by a name that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

_SIMILAR = 0.7  # of difflib's ratio: two letters of six may be others
Choice = TypeVar("Choice", bound=Enum)


def suggestion(name: Any, known: Iterable[str], wanted: str = "{}") -> str:
    """A question to append to a refusal, such as ". Did you mean 'tiny'?"; "" where nothing is similar.

    Args:
        name: What was given.
        known: What is allowed.
        wanted: How the name is shown, such as "--{}".
    """
    by_lower_case = {str(each).casefold(): str(each) for each in known}
    similar = get_close_matches(str(name).casefold(), by_lower_case, n=1, cutoff=_SIMILAR)
    return f". Did you mean {wanted.format(by_lower_case[similar[0]])!r}?" if similar else ""


def choice(choices: type[Choice], value: Any, name: str) -> Choice:
    """The choice that a value names.

    Args:
        choices: What there is.
        value: One of them, or its value.
        name: What the choice is called, for the refusal.

    Raises:
        ValueError: There is no such choice.
    """
    try:
        return choices(value)
    except ValueError:
        allowed = [each.value for each in choices]
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}{suggestion(value, allowed)}") from None
