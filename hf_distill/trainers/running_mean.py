"""Running means of the values that a trainer logs, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class RunningMean:
    """Weighted means of named values since the last `read`, over batches and processes.

    In training the sum of a term is its contribution to the optimizer step and the weight its share of the step's items;
    the shares of a step add up to 1, so the mean is over steps. In evaluation they are the sum over items and their number.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Add one batch.

        Args:
            sums: The sum and its weight, (2,), by name.
        """
        for name, both in sums.items():
            self._sums[name] = self._sums[name] + both if name in self._sums else both

    def clear(self) -> None:
        """Discard what was added."""
        self._sums = {}

    def read(self, sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Compute the means by name and clear them; values without weight are left out."""
        sums, self._sums = self._sums, {}
        if not sums:
            return {}
        totals = sum_over_processes(torch.stack(list(sums.values()))).tolist()
        return {name: total / weight for name, (total, weight) in zip(sums, totals, strict=True) if weight > 0}
