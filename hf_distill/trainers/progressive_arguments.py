"""Arguments of `ProgressiveTrainer`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from hf_distill.distributed.sharding import TeacherSharding
from hf_distill.objectives.logits import SoftLabelLoss
from hf_distill.text.suggestions import choice
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.progression import GeneralStageLoss

LATE, EQUAL, TEACHER_STEPS = "late", "equal", "teacher_steps"


@dataclass
class ProgressiveTrainingArguments(DistillationTrainingArguments):
    """`DistillationTrainingArguments` and the arguments of Pro-KD: the teacher's checkpoints and the two stages.

    `max_steps` or `num_train_epochs` is the length of the general stage. Without `teacher_checkpoints` these are
    `DistillationTrainingArguments`. Source: Rezagholizadeh et al. 2021, arXiv 2110.08532; the equations of the general
    stage are those published with Annealing-KD (Jafari et al. 2021, arXiv 2104.07163).

    Raises:
        ValueError: A value is outside of its range.
    """

    teacher_checkpoints: list[str] | None = field(
        default=None,
        metadata={
            "help": "Checkpoints of the teacher's training: one output folder of Trainer, whose checkpoint-* are used in the "
            "order of their steps, or one checkpoint, or several folders or Hub ids (name@revision) in the order in which "
            "they teach (oldest first in the paper, any order is allowed); whole models or LoRA adapters of one base model. "
            "None: train as DistillationTrainer does."
        },
    )
    checkpoint_shares: str = field(
        default=LATE,
        metadata={
            "help": f"Share of the general stage per checkpoint: {LATE} (half for the last one, the others equal), {EQUAL} (the "
            f"paper's), {TEACHER_STEPS} (in proportion to the teacher's steps since the previous checkpoint), or numbers such "
            "as 1,1,2, one per checkpoint."
        },
    )
    skip_unreadable_checkpoints: bool = field(
        default=False, metadata={"help": "Skip missing or incomplete checkpoints instead of refusing them."}
    )
    general_stage_loss: GeneralStageLoss = field(
        default=GeneralStageLoss.LOGIT_MSE,
        metadata={
            "help": "Loss of the general stage. logit_mse: squared distance to the teacher's logits times a scale φ that rises "
            "to 1. forward_kl: KL divergence at a temperature that falls to 1."
        },
    )
    max_temperature: int = field(
        default=10,
        metadata={
            "help": "Initial temperature t, at least 1 (τ_max in the papers); φ = 1 - (t - 1) / τ_max. 1: φ = 1 throughout."
        },
    )
    final_stage_epochs: float = field(
        default=1.0, metadata={"help": "Epochs of the final stage, on hard labels, at least 0. 0: no final stage."}
    )
    final_stage_steps: int = field(
        default=-1, metadata={"help": "Optimizer steps of the final stage; above 0 they replace final_stage_epochs."}
    )
    final_stage_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the final stage. None: learning_rate."}
    )
    keep_better_stage: bool = field(
        default=True,
        metadata={
            "help": "Evaluate after each of the two stages, where there are an eval_dataset and compute_metrics, and keep the "
            "student of the general stage if the final stage has not improved metric_for_best_model (by default accuracy, F1 "
            "or another score of compute_metrics)."
        },
    )
    final_stage_budget: float = field(
        default=0.25,
        metadata={
            "help": "Share of a compute budget that is reserved for the final stage, if there is one; above 0 and below 1."
        },
    )

    def __post_init__(self) -> None:
        self.general_stage_loss = choice(GeneralStageLoss, self.general_stage_loss, "general_stage_loss")
        if self.teacher_checkpoints and self.soft_label_loss is None:
            self.soft_label_loss = SoftLabelLoss(self.general_stage_loss.value)
        super().__post_init__()
        if self.teacher_checkpoints and self.teacher_sharding is TeacherSharding.ALWAYS:
            raise ValueError(
                "a teacher whose checkpoints follow one another is whole on every process: teacher_sharding must be auto or "
                f"never, got {self.teacher_sharding.value!r}"
            )
        if self.teacher_checkpoints:
            self.teacher_sharding = TeacherSharding.NEVER
        if self.max_temperature < 1:
            raise ValueError(f"max_temperature must be at least 1, got {self.max_temperature}")
        if self.final_stage_epochs < 0:
            raise ValueError(f"final_stage_epochs must be at least 0, got {self.final_stage_epochs}")
        if not 0 < self.final_stage_budget < 1:
            raise ValueError(f"final_stage_budget must be above 0 and below 1, got {self.final_stage_budget}")
        if not isinstance(self.teacher_checkpoints, str | list | tuple | None):
            raise ValueError(
                f"teacher_checkpoints must be a folder or a list of them, got {self.teacher_checkpoints!r}"
            )
        if isinstance(self.teacher_checkpoints, str):
            self.teacher_checkpoints = [self.teacher_checkpoints]
        if self.checkpoint_shares not in (LATE, EQUAL, TEACHER_STEPS):
            self._explicit_shares()

    @property
    def has_final_stage(self) -> bool:
        """Whether a final stage on hard labels follows the general stage."""
        return self.final_stage_steps > 0 or self.final_stage_epochs > 0

    def shares(self, teacher_steps: Sequence[int]) -> list[float]:
        """Relative length of the general stage for each checkpoint.

        Args:
            teacher_steps: The teacher's optimizer steps at its checkpoints, ascending.

        Returns:
            One number above 0 per checkpoint; only their proportions matter.

        Raises:
            ValueError: `checkpoint_shares` does not have one number per checkpoint, or is "teacher_steps" and the steps
                do not rise.
        """
        if self.checkpoint_shares == EQUAL:
            return [1.0] * len(teacher_steps)
        if self.checkpoint_shares == LATE:
            earlier = len(teacher_steps) - 1
            return [*[1.0] * earlier, float(max(1, earlier))]
        if self.checkpoint_shares == TEACHER_STEPS:
            shares = [float(later - earlier) for earlier, later in pairwise([0, *teacher_steps])]
            if min(shares) <= 0:
                raise ValueError(
                    f"checkpoint_shares {TEACHER_STEPS!r} needs checkpoints whose steps rise, got {[*teacher_steps]}"
                )
            return shares
        shares = self._explicit_shares()
        if len(shares) != len(teacher_steps):
            raise ValueError(f"checkpoint_shares has {len(shares)} numbers for {len(teacher_steps)} checkpoints")
        return shares

    def _explicit_shares(self) -> list[float]:
        try:
            shares = [float(part) for part in self.checkpoint_shares.split(",")]
        except ValueError:
            shares = []
        if not shares or not all(math.isfinite(share) and share > 0 for share in shares):
            raise ValueError(
                f"checkpoint_shares must be {LATE}, {EQUAL}, {TEACHER_STEPS} or numbers above 0 such as 1,1,2, got "
                f"{self.checkpoint_shares!r}"
            )
        return shares
