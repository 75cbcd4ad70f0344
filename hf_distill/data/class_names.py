"""Matching of classes by name: between two models, and between the labels of a data set and a model.

Names match if they are equal, or equal but for case where case does not distinguish two names of either side.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from transformers import PretrainedConfig

from hf_distill.objectives.reduction import IGNORE_INDEX

MISSING = (None, -1, IGNORE_INDEX)  # values that mark a missing label


def label_names(config: PretrainedConfig) -> list[str]:
    """The class names of a configuration, in the order of the model's outputs."""
    id2label = cast("dict[int, str]", config.id2label)
    return [str(id2label[index]) for index in sorted(id2label)]


def positions(wanted: Sequence[str], given: Sequence[str]) -> list[int] | None:
    """The position of each name in another list of the same names.

    Args:
        wanted: Class names in the wanted order.
        given: Class names in the given order.

    Returns:
        The position in `given` of each wanted name, 0, 1, ... where the orders agree; None where the lists have
        different names.

    Raises:
        ValueError: Several classes have the same name, and the orders differ.
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
    """The names that more than one class has."""
    return [name for name, count in Counter(names).items() if count > 1]


def _comparable(*sides: Sequence[str]) -> list[list[str]]:
    """The names with case folded, except those that would then equal another name of the same side."""
    merged = {folded for names in sides for folded in shared_names([name.casefold() for name in set(names)])}
    return [[name if (folded := name.casefold()) in merged else folded for name in names] for names in sides]


@dataclass(frozen=True)
class ClassIds:
    """The class of each label of a data set; empty, and then false, for regression, whose labels are numbers.

    Attributes:
        exact: Class indices by name, or by number as a string; None for a name that several classes have.
        folded: Class indices by name with case folded; None for a name that several classes have.
    """

    exact: dict[str, int | None] = field(default_factory=dict)
    folded: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Sequence[str], numbers: Sequence[int] | None = None) -> ClassIds:
        """The class indices of named classes.

        Args:
            names: The class names, in the order of the model's outputs.
            numbers: The class index for each number 0, 1, ... that is a label. None: the number itself. Where a class
                name is a whole number, numbers are taken for names.

        Returns:
            The class indices by name and number.
        """
        are_names = any(re.fullmatch(r"-?\d+", name) for name in names)
        numbers = () if are_names else range(len(names)) if numbers is None else numbers
        by_number: dict[str, int | None] = {str(number): index for number, index in enumerate(numbers)}
        return cls(by_number | _by_name(names), _by_name([name.casefold() for name in names]))

    def __bool__(self) -> bool:
        return bool(self.exact)

    def get(self, label: Any) -> int | None:
        """The class index of a label, a name (in any case if unambiguous) or a number; None for an unknown label."""
        key = str(label)
        if key not in self.exact and isinstance(label, float) and label.is_integer():
            key = str(int(label))  # whole numbers of a column with missing values are read as floats
        return self.exact[key] if key in self.exact else self.folded.get(key.casefold())

    def require(self, labels: Sequence[Any]) -> None:
        """Refuse labels that belong to no class, or to several.

        Args:
            labels: Labels of a data set.

        Raises:
            ValueError: There is such a label; the message names it, and the labels that are allowed.
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
