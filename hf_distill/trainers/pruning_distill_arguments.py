"""Arguments of `PruningDistillTrainer`."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_distill.pruning.importance import Criterion
from hf_distill.pruning.schedule import Shrinking
from hf_distill.pruning.shrinking import ShrinkingPlan
from hf_distill.text.suggestions import choice
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments


@dataclass
class PruningDistillTrainingArguments(DistillationTrainingArguments):
    """`DistillationTrainingArguments` plus the sizes a student shrinks to, and when.

    Raises:
        ValueError: A value is impossible.
    """

    target_hidden_size: int | None = field(
        default=None, metadata={"help": "Width to shrink to, a multiple of the heads. None: as it is."}
    )
    target_intermediate_size: int | None = field(
        default=None,
        metadata={"help": "Feed-forward neurons per layer to shrink to. None: in proportion to the width."},
    )
    target_num_attention_heads: int | None = field(
        default=None, metadata={"help": "Attention heads per layer to shrink to. None: as it is; heads get narrower."}
    )
    target_parameters: int | None = field(
        default=None,
        metadata={
            "help": "Parameters to shrink to, in place of a width: the width nearest to it is taken, and said, with "
            "neurons in proportion."
        },
    )
    shrinking: Shrinking = field(
        default=Shrinking.CUBIC, metadata={"help": "How sizes fall: cubic (fast at first), linear, or one_shot."}
    )
    pruning_start: float = field(
        default=0.1,
        metadata={
            "help": "Share of the training after which the student first shrinks, 0 to below 1. Until then it moves away from "
            "its teacher, so that gradients tell what its units are worth; 0: after the first step."
        },
    )
    pruning_end: float = field(
        default=0.75,
        metadata={"help": "Share of the training at which it has its last size, above pruning_start to 1."},
    )
    pruning_events: int = field(default=10, metadata={"help": "How many times it shrinks; with one_shot once."})
    importance: Criterion = field(
        default=Criterion.SENSITIVITY,
        metadata={"help": "What a unit is worth: sensitivity (Σ|θ ∂L/∂θ|), taylor (|Σ θ ∂L/∂θ|), magnitude, random."},
    )
    importance_smoothing: float = field(
        default=0.9,
        metadata={
            "help": "Weight of the steps before in the moving average of importance, 0 to below 1; 0: the last step."
        },
    )

    def __post_init__(self) -> None:
        self.shrinking = choice(Shrinking, self.shrinking, "shrinking")
        self.importance = choice(Criterion, self.importance, "importance")
        super().__post_init__()
        if not 0 <= self.pruning_start < self.pruning_end <= 1:
            raise ValueError(
                f"0 <= pruning_start < pruning_end <= 1 must hold, got {self.pruning_start} and {self.pruning_end}"
            )
        if self.pruning_events < 1:
            raise ValueError(f"pruning_events must be at least 1, got {self.pruning_events}")
        if not 0 <= self.importance_smoothing < 1:
            raise ValueError(f"importance_smoothing must be at least 0 and below 1, got {self.importance_smoothing}")
        sizes = ("target_hidden_size", "target_intermediate_size")
        given = {name: getattr(self, name) for name in sizes if getattr(self, name) is not None}
        if self.target_parameters is not None and given:
            raise ValueError(f"target_parameters decides the width, so {' and '.join(sizes)} must be None, got {given}")
        for name in (*sizes, "target_num_attention_heads", "target_parameters"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    @property
    def has_target(self) -> bool:
        """Whether a size to shrink to is given."""
        sizes = self.target_hidden_size, self.target_intermediate_size, self.target_num_attention_heads
        return any(size is not None for size in (*sizes, self.target_parameters))

    def shrinking_plan(self) -> ShrinkingPlan:
        """The sizes to shrink to, the schedule and the importance, as `ShrinkingStudent` takes them."""
        return ShrinkingPlan(
            self.target_hidden_size,
            self.target_intermediate_size,
            self.target_num_attention_heads,
            self.target_parameters,
            self.shrinking,
            self.pruning_start,
            self.pruning_end,
            1 if self.shrinking is Shrinking.ONE_SHOT else self.pruning_events,
            self.importance,
            self.importance_smoothing,
        )
