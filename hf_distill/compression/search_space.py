"""The candidates of a search, and the limits that the best of them must meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from hf_distill.compression.candidate import OF_TEXTS, Candidate
from hf_distill.evaluation.formats import Format
from hf_distill.students.create import Initialization, fitting_initialization
from hf_distill.students.initialization import can_be_narrowed, can_give_embeddings
from hf_distill.students.miniatures import MINIATURES

_SHARES = (1 / 6, 1 / 3, 1 / 2)  # of the teacher's layers


@dataclass(frozen=True)
class Limits:
    """What the best student must meet.

    Attributes:
        max_latency_ms: The largest median latency of one text in milliseconds. None: any.
        max_parameters: The largest number of parameters. None: any.
        min_accuracy: The smallest accuracy, or other main metric, on validation, in (0, 1]; the fastest student that reaches
            it is the best. None: the most accurate student is the best.
    """

    max_latency_ms: float | None = None
    max_parameters: int | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            ValueError: There is no limit, or one is out of range.
        """
        if (self.max_latency_ms, self.max_parameters, self.min_accuracy) == (None, None, None):
            raise ValueError("pass at least one of --max-latency-ms, --max-parameters and --min-accuracy, got none")
        for name in ("max_latency_ms", "max_parameters"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.min_accuracy is not None and not 0 < self.min_accuracy <= 1:
            raise ValueError(f"min_accuracy must be above 0 and at most 1 (0.8 is 80 %), got {self.min_accuracy}")

    def are_met(self, row: Mapping[str, Any], metric: str, latency_ms: float | None) -> bool:
        """Whether a student meets the limits.

        Args:
            row: The student's row of a comparison.
            metric: The key of the metric.
            latency_ms: The student's latency in milliseconds; None if it was not measured.

        Returns:
            Whether it does.
        """
        is_fast = self.max_latency_ms is None or (latency_ms is not None and latency_ms <= self.max_latency_ms)
        is_small = self.max_parameters is None or row["parameters"] <= self.max_parameters
        return is_fast and is_small and self.is_reached(row["metrics"][metric])

    def is_reached(self, accuracy: float) -> bool:
        """Whether an accuracy is high enough."""
        return self.min_accuracy is None or accuracy >= self.min_accuracy


@dataclass(frozen=True)
class SearchSpace:
    """The values that candidates are made of.

    Attributes:
        layers: The numbers of layers. None: a sixth, a third and half of the teacher's.
        hidden_sizes: The hidden sizes. None: the teacher's, and smaller ones of the miniatures.
        vocabularies: The vocabularies, see `Candidate`.
        initializations: The sources of initial weights, of which those that fit a shape are tried. None: the first that fits.
        formats: The formats of the file.
        selection: The layers of the teacher that students start from.
    """

    layers: Sequence[int] | None = None
    hidden_sizes: Sequence[int] | None = None
    vocabularies: Sequence[str] = (OF_TEXTS,)
    initializations: Sequence[str] | None = None
    formats: Sequence[str] = (Format.ONNX.value, Format.ONNX_INT8.value)
    selection: str = "bottom"

    def candidates(self, source: Callable[[str], PreTrainedModel]) -> list[Candidate]:
        """All candidates.

        Args:
            source: The teacher with a vocabulary.

        Returns:
            The candidates.

        Raises:
            ValueError: A number of layers is more than the teacher's, a hidden size is more, or nothing fits.
        """
        found = list(dict.fromkeys(self._candidates(source)))
        if not found:
            raise ValueError(f"none of the initializations {list(self.initializations or ())} fits any of the shapes")
        return found

    def _candidates(self, source: Callable[[str], PreTrainedModel]) -> Iterator[Candidate]:
        for vocabulary in self.vocabularies:
            teacher = source(vocabulary)
            for shape in self._shapes(teacher):
                for initialization in self._initializations(shape, teacher):
                    for each in self.formats:
                        yield Candidate(*shape, initialization, self.selection, vocabulary, each)

    def _shapes(self, teacher: PreTrainedModel) -> list[tuple[int, int]]:
        depth, width = teacher.config.num_hidden_layers, teacher.config.hidden_size
        layers = self.layers or sorted({max(1, round(share * depth)) for share in _SHARES})
        narrower = {each.hidden_size for each in MINIATURES.values() if each.hidden_size < width}
        sizes = self.hidden_sizes or [*sorted(narrower), width]
        for name, values, most in (("layers", layers, depth), ("hidden sizes", sizes, width)):
            if wrong := [value for value in values if not 1 <= value <= most]:
                raise ValueError(f"{name} of students must be from 1 to the teacher's {most}, got {wrong[0]}")
        return [(each, size) for size in sizes for each in layers]

    def _initializations(self, shape: tuple[int, int], teacher: PreTrainedModel) -> list[str]:
        if self.initializations is None:
            return [fitting_initialization(shape, teacher)[0].value]
        return [each for each in self.initializations if _fits(each, shape, teacher)]


def _fits(initialization: str, shape: tuple[int, int], teacher: PreTrainedModel) -> bool:
    is_as_wide = shape[1] == teacher.config.hidden_size
    return {
        Initialization.TRUNCATED.value: is_as_wide,
        Initialization.WIDTH.value: not is_as_wide and can_be_narrowed(teacher, shape[1]),
        Initialization.EMBEDDINGS.value: can_give_embeddings(teacher, shape[1]),
        Initialization.RANDOM.value: True,
    }[initialization]
