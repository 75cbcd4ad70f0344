"""The closed choices among the arguments."""

from __future__ import annotations

from enum import Enum

from hf_distill.recipes import RECIPES

RecipeName = Enum("RecipeName", {name.upper(): name for name in RECIPES}, type=str)


class SoftLabelLoss(str, Enum):
    """How the student's class distribution is compared with the teacher's; functions of `objectives.logits`."""

    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    JENSEN_SHANNON = "jensen_shannon"
    SOFT_CROSS_ENTROPY = "soft_cross_entropy"
    LOGIT_MSE = "logit_mse"


class SoftLabelPositions(str, Enum):
    """Where soft labels of masked-language models are compared."""

    MASKED = "masked"
    ATTENDED = "attended"


class HiddenStateLoss(str, Enum):
    """How hidden states are compared; functions of `objectives.hidden_states`."""

    MSE = "mse"
    NORMALIZED_MSE = "normalized_mse"
    COSINE = "cosine"


class HiddenStatePositions(str, Enum):
    """Which positions' hidden states are compared."""

    ALL = "all"
    FIRST = "first"


class AttentionLoss(str, Enum):
    """How attentions are compared; functions of `objectives.attention`."""

    SCORE_MSE = "score_mse"
    DISTRIBUTION_KL = "distribution_kl"


class Projection(str, Enum):
    """When hidden states pass a learned linear map to the teacher's width."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class TeacherDtype(str, Enum):
    """The precision the teacher computes in."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class TeacherSharding(str, Enum):
    """Whether every process holds the whole teacher or a part of it."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class GeneralStageLoss(str, Enum):
    """How a student follows its teacher's checkpoints."""

    LOGIT_MSE = "logit_mse"
    FORWARD_KL = "forward_kl"
