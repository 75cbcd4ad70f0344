"""The cost of a run in FLOPs, tokens and seconds, teacher included, and the budget that ends it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

# Dense bfloat16 FLOPs per second of one GPU, accumulated in single precision, as its maker says. From the data sheets
# of NVIDIA, half of what is given "with sparsity": A100 (2021), A10, A30, A40, L4, L40S, H100, H200, B200 (HGX B200); of
# the GeForce cards from the white papers of GA102 and AD102.
GPU_PEAKS = {
    "A10": 125e12,
    "A30": 165e12,
    "A40": 149.7e12,
    "A100": 312e12,
    "L4": 121e12,
    "L40S": 362e12,
    "H100-PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "RTX3090": 71e12,
    "RTX4090": 165.2e12,
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
_DEVICE_TIME = re.compile(r"(?:(\d+)x)?(.+?)x(\d+(?:\.\d+)?)(s|min|h|d)")
_TIME = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d)")


@dataclass
class RunCost:
    """The cost of a run so far, over all processes.

    Attributes:
        student_flops: FLOPs of the student's forward and backward passes.
        teacher_flops: FLOPs of the teachers' forward passes during training.
        labeling_flops: FLOPs of precomputing teacher outputs, as far as they are charged to this run.
        pruning_flops: FLOPs of computing the importance of a shrinking student's units.
        padding_flops: FLOPs of student and teachers that were computed for padding, included in `student_flops` and
            `teacher_flops`.
        tokens: Tokens the student has read (for images patches and class tokens), without padding.
        padding_tokens: Padding tokens the student has read.
        seconds: Seconds of training without evaluations, and of precomputing teacher outputs, as far as they are charged to
            this run.
    """

    student_flops: float = 0.0
    teacher_flops: float = 0.0
    labeling_flops: float = 0.0
    pruning_flops: float = 0.0
    padding_flops: float = 0.0
    tokens: float = 0.0
    padding_tokens: float = 0.0
    seconds: float = 0.0

    @property
    def flops(self) -> float:
        """The sum of all FLOPs."""
        return self.student_flops + self.teacher_flops + self.labeling_flops + self.pruning_flops

    def values(self) -> list[float]:
        """The values of the attributes, in their order."""
        return [getattr(self, each) for each in _NAMES]

    def __add__(self, other: RunCost) -> RunCost:
        return RunCost(*map(sum, zip(self.values(), other.values(), strict=True)))

    def as_dict(self) -> dict[str, float]:
        """The attributes and `flops` by name, for a run record; tokens as integers."""
        content = dict(zip(_NAMES, self.values(), strict=True))
        return content | {
            "tokens": round(self.tokens),
            "padding_tokens": round(self.padding_tokens),
            "flops": self.flops,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, float]) -> RunCost:
        """The cost that `as_dict` returned."""
        return cls(**{name: content[name] for name in _NAMES})


_NAMES = tuple(each.name for each in fields(RunCost))


@dataclass(frozen=True)
class ComputeBudget:
    """Limits of the cost of a run, which ends when the first of them is reached.

    Attributes:
        max_flops: Maximum FLOPs of all models together. None: no limit.
        max_seconds: Maximum seconds of training. None: no limit.
        max_tokens: Maximum tokens that the student reads, without padding. None: no limit.

    Raises:
        ValueError: A limit is not a finite number above 0.
    """

    max_flops: float | None = None
    max_seconds: float | None = None
    max_tokens: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be None or a finite number above 0, got {value}")

    def __bool__(self) -> bool:
        return any(limit is not None for limit in vars(self).values())

    def __mul__(self, share: float) -> ComputeBudget:
        return ComputeBudget(*(None if limit is None else share * limit for limit in vars(self).values()))

    def share_spent(self, spent: RunCost, begun: RunCost) -> float:
        """The share of the budget that is used, by the limit that is nearest to be reached.

        Args:
            spent: The cost so far.
            begun: The cost when the training, or its stage, started.

        Returns:
            The share, at least 0; 1 or more: the training must stop.
        """
        pairs = ((self.max_flops, "flops"), (self.max_seconds, "seconds"), (self.max_tokens, "tokens"))
        shares = [0.0]
        for limit, name in pairs:
            if limit is not None:
                before = getattr(begun, name)
                shares.append((getattr(spent, name) - before) / (limit - before) if limit > before else 1.0)
        return max(shares)


@dataclass(frozen=True)
class BudgetSpec:
    """A compute budget as it is granted: devices and time, FLOPs, or time.

    Attributes:
        flops: Number of FLOPs. None: as many as the time allows.
        seconds: Seconds of wall-clock time. None: as many as the FLOPs take.
        devices: Number of devices.
        gpu: The kind of GPU, a key of `GPU_PEAKS`. None: the device at hand.
    """

    flops: float | None = None
    seconds: float | None = None
    devices: int = 1
    gpu: str | None = None


def parse_budget_spec(text: str) -> BudgetSpec:
    """Parse "8xH200x13h" (devices and time), "3e18" (FLOPs) or "2h" (time on the device at hand).

    Args:
        text: The budget; times are in s, min, h or d.

    Returns:
        The budget's FLOPs or seconds, and its devices.

    Raises:
        ValueError: The text is none of these, an amount is not positive and finite, or the GPU's peak is not known.
    """
    refusal = ValueError(f"a budget is written like 8xH200x13h, 3e18 (FLOPs) or 2h (s, min, h, d), got {text!r}")
    if time := _TIME.fullmatch(text):
        found = BudgetSpec(seconds=float(time[1]) * _SECONDS[time[2]])
    elif granted := _DEVICE_TIME.fullmatch(text):
        by_name = {name.lower(): name for name in GPU_PEAKS}
        if granted[2].lower() not in by_name:
            raise ValueError(f"no peak is known for a {granted[2]!r}; known are {', '.join(GPU_PEAKS)}")
        seconds = float(granted[3]) * _SECONDS[granted[4]]
        found = BudgetSpec(None, seconds, int(granted[1] or 1), by_name[granted[2].lower()])
    else:
        try:
            found = BudgetSpec(flops=float(text))
        except ValueError:
            raise refusal from None
    amounts: list[Any] = [amount for amount in (found.flops, found.seconds, found.devices) if amount is not None]
    if not all(math.isfinite(amount) and amount > 0 for amount in amounts):
        raise refusal
    return found
