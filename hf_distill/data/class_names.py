"""Classes by name: which class of one model is which of another's, and which one the label of a row means.

Names are compared as they are spelled; case is folded where on neither side two names differ by case alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PretrainedConfig

from hf_distill.objectives.reduction import IGNORE_INDEX

MISSING = (None, -1, IGNORE_INDEX)  # numbers of classes that stand for no class, and do not count


def label_names(config: PretrainedConfig) -> list[str]:
    """The names of a configuration's labels, in their order."""
    return [str(config.id2label[index]) for index in sorted(config.id2label)]


def positions(wanted: Sequence[str], given: Sequence[str]) -> list[int] | None:
    """Where each name stands in another list of the same names.

    Args:
        wanted: Names of classes, in the order asked for.
        given: Names of classes, in the order they are in.

    Returns:
        Of each name wanted its position in the other list, 0, 1, ... where the orders agree; None where the two are not
        the same names.

    Raises:
        ValueError: Classes share a name, and the orders differ.
    """
    own, others = _comparable(wanted, given)
    if own == others:
        return list(range(len(own)))
    if sorted(own) != sorted(others):
        return None
    if shared := shared_names(own):
        raise ValueError(
            f"several classes are called {shared}, and they stand in another order in {list(wanted)} than in "
            f"{list(given)}: which is which cannot be told. Give each class a name of its own in id2label and label2id."
        )
    return [others.index(name) for name in own]


def in_same_order(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether two lists name the same classes in the same order."""
    own, theirs = _comparable(names, others)
    return own == theirs


def shared_names(names: Sequence[str]) -> list[str]:
    """Those that more than one class has."""
    return [name for name, count in Counter(names).items() if count > 1]


def _comparable(*sides: Sequence[str]) -> list[list[str]]:
    """With case folded where that keeps all different names of a side apart."""
    merged = {folded for names in sides for folded in shared_names([name.casefold() for name in set(names)])}
    return [[name if (folded := name.casefold()) in merged else folded for name in names] for names in sides]


@dataclass(frozen=True)
class ClassIds:
    """Which class each label of a data set stands for; false where there are none, because labels are numbers to learn.

    Attributes:
        exact: By name as it is spelled, or by number as a string; None for a name that several classes have.
        folded: By name in lower case, likewise.
    """

    exact: dict[str, int | None] = field(default_factory=dict)
    folded: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int] | None = None) -> ClassIds:
        """Of named classes.

        Args:
            names: In the order of the outputs.
            numbers: The class that each number in the data stands for. None: that of this number. Where a name is a whole
                number itself, numbers are names.
        """
        are_names = any(re.fullmatch(r"-?\d+", name) for name in names)
        numbers = () if are_names else range(len(names)) if numbers is None else numbers
        return cls(
            {str(number): index for number, index in enumerate(numbers)} | _by_name(names),
            _by_name([name.casefold() for name in names]),
        )

    def __bool__(self) -> bool:
        return bool(self.exact)

    def get(self, label: Any) -> int | None:
        """The class of a label: a name, in any case where that is clear, or a number; None where there is no such one."""
        key = str(label)
        if key not in self.exact and isinstance(label, float) and label.is_integer():
            key = str(int(label))  # as whole numbers are read from a column that has gaps
        return self.exact[key] if key in self.exact else self.folded.get(key.casefold())

    def require(self, labels: Sequence[Any]) -> None:
        """Refuse labels that stand for no class, or for more than one.

        Raises:
            ValueError: Names them, and what is allowed.
        """
        unknown = [label for label in dict.fromkeys(labels) if self.get(label) is None]
        if not unknown:
            return
        unclear = [label for label in unknown if str(label).casefold() in self.folded]
        hint = f"; {unclear} may be any of several classes, whose names are equal or equal but for case"
        allowed = [name for name, index in self.exact.items() if index is not None]
        which = f"the label {unknown[0]!r}" if len(unknown) == 1 else f"the labels {unknown}"
        way_out = (
            "give the classes the names of your labels in id2label and label2id of config.json, or rename the labels"
        )
        raise ValueError(f"the data have {which}; allowed are {allowed}{hint if unclear else ''}: {way_out}")


def _by_name(names: Sequence[str]) -> dict[str, int | None]:
    shared = set(shared_names(names))
    return {name: None if name in shared else index for index, name in enumerate(names)}
