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
    """`DistillationTrainingArguments` and the arguments of pruning: final sizes, schedule, importance.

    Raises:
        ValueError: A value is outside of its range, or two of them contradict each other.
    """

    target_hidden_size: int | None = field(
        default=None, metadata={"help": "Final hidden size, a multiple of the number of heads. None: unchanged."}
    )
    target_intermediate_size: int | None = field(
        default=None,
        metadata={"help": "Final feed-forward size per layer. None: in proportion to the hidden size."},
    )
    target_num_attention_heads: int | None = field(
        default=None,
        metadata={
            "help": "Final number of attention heads per layer. None: unchanged, heads become narrower; with rotary positions "
            "(ModernBERT), where they cannot, in proportion to the hidden size."
        },
    )
    target_parameters: int | None = field(
        default=None,
        metadata={
            "help": "Final number of parameters, in place of a hidden size: the hidden size that comes nearest is used, and "
            "logged, with the feed-forward size in proportion. None: the sizes above decide."
        },
    )
    shrinking: Shrinking = field(
        default=Shrinking.CUBIC, metadata={"help": "Schedule of the sizes: cubic (fast at first), linear, or one_shot."}
    )
    pruning_start: float = field(
        default=0.1,
        metadata={
            "help": "Share of the training before the first pruning event, at least 0 and below 1. Until then the student moves "
            "away from its teacher, so that gradients show the importance of its units. 0: after the first step."
        },
    )
    pruning_end: float = field(
        default=0.75,
        metadata={
            "help": "Share of the training at which the final size is reached, above pruning_start and at most 1."
        },
    )
    pruning_events: int = field(default=10, metadata={"help": "Number of pruning events; one_shot has one."})
    importance: Criterion = field(
        default=Criterion.SENSITIVITY,
        metadata={"help": "Importance of a unit: sensitivity (Σ|θ ∂L/∂θ|), taylor (|Σ θ ∂L/∂θ|), magnitude, random."},
    )
    importance_smoothing: float = field(
        default=0.9,
        metadata={
            "help": "Decay of the moving average of importance over steps, at least 0 and below 1. 0: the last step alone."
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
        """Whether a final size is given."""
        sizes = self.target_hidden_size, self.target_intermediate_size, self.target_num_attention_heads
        return any(size is not None for size in (*sizes, self.target_parameters))

    def shrinking_plan(self) -> ShrinkingPlan:
        """The final sizes, the schedule and the importance, as `ShrinkingStudent` takes them."""
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
