"""Arguments of `DistillationTrainer`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments

from hf_distill.distributed.sharding import TeacherSharding
from hf_distill.features.projections import Projection
from hf_distill.hardware import fast_bfloat16
from hf_distill.objectives.attention import AttentionLoss
from hf_distill.objectives.hidden_states import HiddenStateLoss, HiddenStatePositions
from hf_distill.objectives.logits import SoftLabelLoss
from hf_distill.objectives.reduction import SoftLabelPositions
from hf_distill.recipes import RecipeName
from hf_distill.teachers.frozen import TeacherDtype
from hf_distill.text.credentials import cleaned
from hf_distill.text.suggestions import choice
from hf_distill.trainers.argument_rules import DEFAULTS, left_open, require_valid_objective, resolve_defaults
from hf_distill.trainers.budget_arguments import BudgetArguments


# The only defaults of TrainingArguments that differ here: bf16 (chosen by hardware, on a CPU together with use_cpu), and the
# order of the training examples, which length_bucketing decides while train_sampling_strategy keeps its default "random".
@dataclass
class DistillationTrainingArguments(BudgetArguments, TrainingArguments):
    """`transformers.TrainingArguments` plus what distillation needs; see each field's help.

    The defaults are stage 2 of Pre-trained Distillation (Turc et al. 2019, arXiv 1908.08962): soft labels only,
    temperature 1, no labels needed.

    Raises:
        ValueError: A weight is negative or not finite, all weights are 0, or the temperature is not above 0.
    """

    MEANING_OF_NONE: ClassVar[dict[str, Any]] = DEFAULTS
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "teacher_model_init_kwargs"]

    recipe: RecipeName | None = field(
        default=None,
        metadata={
            "help": "Sets the fields below to a paper's values; fields given explicitly win. `hf-distill recipes` "
            "prints each one's formula, values and paper. None: no recipe."
        },
    )
    soft_label_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the soft-label loss, at least 0. None: 1 with a teacher, 0 without."},
    )
    hard_label_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the student's own loss on the labels, at least 0. None: 0 with a teacher, 1 without. "
            "Classes of -100, in multi-label rows entries of -100, and numbers that are NaN do not count, so a partly labeled "
            "set works."
        },
    )
    soft_label_loss: SoftLabelLoss | None = field(
        default=None,
        metadata={
            "help": "How student and teacher logits are compared. None: forward_kl for classes (for multi-label heads "
            "one yes/no divergence per label), logit_mse for regression, where it is the only choice."
        },
    )
    soft_label_top_k: int | None = field(
        default=None,
        metadata={
            "help": "Compare only the teacher's k most probable classes, and all others as one; forward_kl only. "
            "None: every class."
        },
    )
    soft_label_positions: SoftLabelPositions = field(
        default=SoftLabelPositions.MASKED,
        metadata={
            "help": "Which positions soft labels of masked-language models compare: masked, whose logits alone are computed, or "
            "attended, all that are no padding, as DistilBERT's training script does."
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "Softens both distributions (the papers' τ or T), above 0. The loss is multiplied by its square, "
            "so gradients keep their size. Without effect on logit_mse. None: the recipe's, else 1."
        },
    )
    hidden_state_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the hidden states of the mapped layers, at least 0. None: the recipe's, else 0."},
    )
    hidden_state_loss: HiddenStateLoss | None = field(
        default=None,
        metadata={
            "help": "How hidden states are compared: mean squared error, that of their directions, or 1 - cosine; summed "
            "over the layers, of directions their mean. None: the recipe's, else mse."
        },
    )
    hidden_state_positions: HiddenStatePositions | None = field(
        default=None,
        metadata={
            "help": "Compare every position that is no padding, or the first ([CLS]) only. None: the recipe's, else all."
        },
    )
    embedding_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the mean squared error of the embeddings' output, at least 0. None: the recipe's, else 0."
        },
    )
    attention_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the attentions of the mapped layers, at least 0; student and teacher need equally many "
            "heads. None: the recipe's, else 0."
        },
    )
    attention_loss: AttentionLoss | None = field(
        default=None,
        metadata={
            "help": "score_mse: mean squared error of the scores before the softmax; distribution_kl: divergence of "
            "the distributions. None: the recipe's, else score_mse."
        },
    )
    layer_map: str | None = field(
        default=None,
        metadata={
            "help": "Which teacher layer each student layer imitates, for hidden states and attention: uniform, first, "
            "last, skip, final, or pairs student:teacher counted from 0, such as 0:2,1:5. None: the recipe's, else "
            "uniform."
        },
    )
    relation_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the self-attention relations (MiniLMv2), at least 0. None: the recipe's, else 0."},
    )
    relations: str | None = field(
        default=None,
        metadata={
            "help": "Which relations, of queries, keys and values. None: the recipe's, else queries,keys,values."
        },
    )
    relation_heads: int | None = field(
        default=None,
        metadata={
            "help": "Relation heads that queries, keys and values are split into; divides both hidden sizes. None: the "
            "teacher's number of heads."
        },
    )
    relation_layer_map: str | None = field(
        default=None,
        metadata={
            "help": "Layers whose relations are compared, written as layer_map is. None: the recipe's, else final (the "
            "student's last imitates the teacher's last)."
        },
    )
    projection: Projection = field(
        default=Projection.AUTO,
        metadata={
            "help": "Learned linear map from the student's hidden states to the teacher's width, trained with the "
            "student and not exported. auto: where the widths differ; always; never."
        },
    )
    teacher_dtype: TeacherDtype = field(
        default=TeacherDtype.AUTO,
        metadata={
            "help": "Precision of the teacher's weights and activations. auto: bfloat16 where the device is fast at it "
            "(CUDA from compute capability 8.0, CPUs with AMX) and the first examples of the training set get the same "
            "predictions, else the checkpoint's own."
        },
    )
    teacher_sharding: TeacherSharding = field(
        default=TeacherSharding.AUTO,
        metadata={
            "help": "Whether every process holds the whole teacher (never) or a part of it, with layers put together while "
            "they compute (always; FSDP2, whatever holds the student). auto: in parts where the whole one would take more "
            "than half of the GPU memory that is free. Teachers with a trajectory are always whole."
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
    teacher_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "Weights of several teachers in the mean of their probabilities, above 0, one per teacher; only "
            "their proportions count. None: equal."
        },
    )
    merge_adapters: bool = field(
        default=False,
        metadata={
            "help": "Save a student with PEFT adapters as the ordinary model they make together with its base, once trained; "
            "checkpoints keep the adapters apart. False: save the adapters alone."
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
    bf16: bool | None = field(  # type: ignore[assignment]  # None until the device is known
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
            device = "cpu" if self.use_cpu else _default_device()
            self.bf16 = self._precision_is_open() and fast_bfloat16(device)
            self.use_cpu = self.use_cpu or (self.bf16 and device == "cpu")  # else TrainingArguments refuses bf16 there
        super().__post_init__()
        self.teacher_dtype = choice(TeacherDtype, self.teacher_dtype, "teacher_dtype")
        self.teacher_sharding = choice(TeacherSharding, self.teacher_sharding, "teacher_sharding")
        self._left_open = left_open(self)
        resolve_defaults(self)
        require_valid_objective(self)

    def open_again(self) -> None:
        """Make what the recipe and the defaults filled in None again, for a recipe chosen anew."""
        for name in self._left_open:
            setattr(self, name, None)

    def to_dict(self) -> dict[str, Any]:
        """TrainingArguments', which loggers write to disk; without tokens also in mappings such as a teacher's."""
        return cleaned(super().to_dict())

    def _precision_is_open(self) -> bool:
        return not (self.fp16 or self.deepspeed or "ACCELERATE_MIXED_PRECISION" in os.environ)


def with_distillation_defaults(args: TrainingArguments) -> TrainingArguments:
    """Give plain `TrainingArguments` the fields of `DistillationTrainingArguments` that they lack, at their defaults.

    Only `length_bucketing` is off for them, since it changes plain training.

    Returns:
        The same object.
    """
    for own in fields(DistillationTrainingArguments):
        if not hasattr(args, own.name):
            setattr(args, own.name, False if own.name == "length_bucketing" else own.default)
    resolve_defaults(args)
    return args


def _default_device() -> str:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if found is None else found.type
