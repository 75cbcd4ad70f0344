"""Arguments of `DistillationTrainer`."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

import torch
from transformers import TrainingArguments

from hf_distill.hardware import fast_bfloat16


class SoftLabelLoss(str, Enum):
    """How the student's class distribution is compared with the teacher's; functions of `objectives.logits`."""

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JENSEN_SHANNON = "jensen_shannon"
    SOFT_CROSS_ENTROPY = "soft_cross_entropy"
    LOGIT_MSE = "logit_mse"


class TeacherDtype(str, Enum):
    """The precision the teacher computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


# The only defaults of TrainingArguments that differ here: bf16 (chosen by hardware), and the order of the training
# examples, which length_bucketing decides while train_sampling_strategy keeps its default "random".
@dataclass
class DistillationTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` plus what distillation needs; see each field's help.

    The defaults are stage 2 of Pre-trained Distillation (Turc et al. 2019, arXiv 1908.08962): soft labels only,
    temperature 1, no labels needed.

    Raises:
        ValueError: A weight is negative or not finite, all weights are 0, or the temperature is not above 0.
    """

    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "teacher_model_init_kwargs"]

    soft_label_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the soft-label loss, at least 0. None: 1 with a teacher, 0 without."},
    )
    hard_label_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the student's own loss on the labels, at least 0. None: 0 with a teacher, 1 without. "
            "Labels of -100 do not count, so a partly labelled set works."
        },
    )
    soft_label_loss: SoftLabelLoss | None = field(
        default=None,
        metadata={
            "help": "How student and teacher logits are compared. None: forward_kl for classes (for multi-label heads "
            "one yes/no divergence per label), logit_mse for regression, where it is the only choice."
        },
    )
    temperature: float = field(
        default=1.0,
        metadata={
            "help": "Softens both distributions (the papers' τ or T), above 0. The loss is multiplied by its square, "
            "so gradients keep their size. Without effect on logit_mse."
        },
    )
    teacher_dtype: TeacherDtype = field(
        default=TeacherDtype.AUTO,
        metadata={
            "help": "Precision of the teacher's weights and activations. auto: bfloat16 where the device is fast at it "
            "(CUDA from compute capability 8.0, CPUs with AMX or AVX512-BF16) and the first examples of the training "
            "set get the same predictions, else the checkpoint's own."
        },
    )
    teacher_revision: str | None = field(
        default=None,
        metadata={"help": "Branch, tag or commit of a teacher given as a Hub id. None: its default branch."},
    )
    teacher_model_init_kwargs: dict | str | None = field(
        default=None,
        metadata={
            "help": "Further arguments of from_pretrained for a teacher given by name, as a dict or JSON, for example "
            '\'{"attn_implementation": "eager"}\'. None: none.'
        },
    )
    length_bucketing: bool = field(
        default=True,
        metadata={
            "help": "Make batches of texts of similar length, in a shuffled and seeded order, so that little is spent "
            "on padding. Takes effect on tokenized datasets.Dataset training sets while train_sampling_strategy is "
            "random. False: any examples together."
        },
    )
    bf16: bool | None = field(
        default=None,
        metadata={
            "help": "Train the student under bfloat16 autocast. None: where the device is fast at it, unless fp16, "
            "DeepSpeed or the accelerate launcher has decided the precision.",
            "nargs": "?",
            "const": True,  # a bare --bf16 means true, as it does for Trainer scripts
        },
    )

    def __post_init__(self) -> None:
        if self.bf16 is None:
            self.bf16 = self._precision_is_open() and fast_bfloat16("cpu" if self.use_cpu else _default_device())
        super().__post_init__()
        self.teacher_dtype = TeacherDtype(self.teacher_dtype)
        if self.soft_label_loss is not None:
            self.soft_label_loss = SoftLabelLoss(self.soft_label_loss)
        require_valid_objective(self)

    def _precision_is_open(self) -> bool:
        return not (self.fp16 or self.deepspeed or "ACCELERATE_MIXED_PRECISION" in os.environ)


def complete(args: TrainingArguments) -> TrainingArguments:
    """Give plain `TrainingArguments` the fields of `DistillationTrainingArguments` that they lack, at their defaults.

    Only `length_bucketing` is off for them, since it changes plain training.

    Returns:
        The same object.
    """
    for own in fields(DistillationTrainingArguments):
        if not hasattr(args, own.name):
            setattr(args, own.name, False if own.name == "length_bucketing" else own.default)
    return args


def resolved_weights(args: TrainingArguments, has_teacher: bool) -> tuple[float, float]:
    """The weights of soft and hard labels, None replaced by its meaning.

    Raises:
        ValueError: Soft labels are asked for and nobody gives them, or all weights are 0.
    """
    require_valid_objective(args)
    soft = float(has_teacher) if args.soft_label_weight is None else args.soft_label_weight
    hard = float(not has_teacher) if args.hard_label_weight is None else args.hard_label_weight
    if soft > 0 and not has_teacher:
        raise ValueError(
            f"soft_label_weight is {soft} but there is no teacher: pass teacher_model (a model, a Hub id or a local "
            "path), give the dataset a teacher_logits column (label_transfer_set), or set soft_label_weight to 0"
        )
    if soft == 0 and hard == 0:
        raise ValueError(
            f"soft_label_weight is {soft} and hard_label_weight {hard}"
            f"{' (its default with a teacher)' if args.hard_label_weight is None else ''}: at least one must be "
            "above 0, else there is nothing to learn from"
        )
    return soft, hard


def require_valid_objective(args: Any) -> None:
    """Refuse weights and temperatures that no objective can be made of.

    Raises:
        ValueError: Names the field, the value got and the values allowed.
    """
    weights = {name: getattr(args, name) for name in ("soft_label_weight", "hard_label_weight")}
    for name, weight in weights.items():
        if weight is not None and not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"{name} must be a finite number of at least 0, got {weight}")
    if all(weight == 0 for weight in weights.values()):
        raise ValueError(f"at least one weight must be above 0, got {weights}: there is nothing to learn from")
    if not (math.isfinite(args.temperature) and args.temperature > 0):
        raise ValueError(f"temperature must be a finite number above 0, got {args.temperature}")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
