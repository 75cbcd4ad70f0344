"""Running means of what a trainer reports, kept on the device until they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class TermMeter:
    """Mean of each loss term over the optimizer steps since the last reading.

    Every micro-batch adds its contribution and its share of the step; over a whole step the shares of all
    micro-batches and processes add up to 1, so contributions over shares are the mean per step.
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, contributions: Tensor, shares: Tensor) -> None:
        """Both (terms,), on one device."""
        both = torch.stack([contributions, shares])
        self._sums = both if self._sums is None else self._sums + both

    def read(self, names: Sequence[str], sum_over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """The means as `<term>_loss`, and a fresh start; terms that saw no item are left out."""
        if self._sums is None:
            return {}
        (contributions, shares), self._sums = sum_over_processes(self._sums).tolist(), None
        return {
            f"{name}_loss": contribution / share
            for name, contribution, share in zip(names, contributions, shares, strict=True)
            if share > 0
        }

    def reset(self) -> None:
        """Forget what was added."""
        self._sums = None


class ExampleMeter:
    """Mean of named per-example values over a data set; an example without a value (NaN) does not count for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Each (batch,)."""
        for name, value in values.items():
            known = ~value.isnan()
            both = torch.stack([torch.where(known, value, 0).sum(), known.sum()])
            self._sums[name] = self._sums[name] + both if name in self._sums else both

    def read(self) -> dict[str, float]:
        """The means, and a fresh start."""
        sums, self._sums = self._sums, {}
        return {name: total / count for name, (total, count) in ((n, s.tolist()) for n, s in sums.items()) if count > 0}
