"""Running means of what a trainer reports, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class RunningMean:
    """Means of named values since the last reading: sums over weights, added up over batches and processes.

    In training the value of a term is its contribution to the optimizer step and the weight its share of it; over a
    whole step the shares add up to 1, so the mean is that over steps. In evaluation they are sum and number of items.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Add one batch.

        Args:
            sums: By name the sum and its weight, (2,).
        """
        for name, both in sums.items():
            self._sums[name] = self._sums[name] + both if name in self._sums else both

    def clear(self) -> None:
        """Forget what was added."""
        self._sums = {}

    def read(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means, and a fresh start; what has no weight is left out."""
        sums, self._sums = self._sums, {}
        if not sums:
            return {}
        totals = sum_over_processes(torch.stack(list(sums.values()))).tolist()
        return {name: total / weight for name, (total, weight) in zip(sums, totals, strict=True) if weight > 0}
