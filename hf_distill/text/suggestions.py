"""Suggestions for misspelled names."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from enum import Enum
from typing import Any, TypeVar

_SIMILAR = 0.7  # the smallest ratio of difflib: two letters of six may differ
Choice = TypeVar("Choice", bound=Enum)


def suggestion(name: Any, known: Iterable[str], wanted: str = "{}") -> str:
    """A suggestion to append to an error message, such as ". Did you mean 'tiny'?".

    Args:
        name: The unknown name.
        known: The valid names.
        wanted: The format in which a name is shown, such as "--{}".

    Returns:
        The suggestion, "" if no valid name is similar.
    """
    by_lower_case = {str(each).casefold(): str(each) for each in known}
    similar = get_close_matches(str(name).casefold(), by_lower_case, n=1, cutoff=_SIMILAR)
    return f". Did you mean {wanted.format(by_lower_case[similar[0]])!r}?" if similar else ""


def choice(choices: type[Choice], value: Any, name: str) -> Choice:
    """The member of an enumeration with a certain value.

    Args:
        choices: The enumeration.
        value: A member, or the value of one.
        name: The name of the argument, for the error message.

    Returns:
        The member.

    Raises:
        ValueError: No member has this value; the message lists the valid ones.
    """
    try:
        return choices(value)
    except ValueError:
        allowed = [each.value for each in choices]
        raise ValueError(f"{name} must be one of {allowed}, got {value!r}{suggestion(value, allowed)}") from None
