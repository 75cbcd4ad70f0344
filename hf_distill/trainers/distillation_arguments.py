"""Arguments of `DistillationTrainer`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments

from hf_distill.compute.precision import bfloat16_speedup, fast_bfloat16
from hf_distill.distributed.sharding import TeacherSharding
from hf_distill.features.projections import Projection
from hf_distill.objectives.attention import AttentionLoss
from hf_distill.objectives.hidden_states import HiddenStateLoss, HiddenStatePositions
from hf_distill.objectives.logits import SoftLabelLoss
from hf_distill.objectives.reduction import SoftLabelPositions
from hf_distill.preflight.argument_rules import DEFAULTS, left_open, require_valid_objective, resolve_defaults
from hf_distill.preflight.student_defaults import STOCK, fill_with_stock
from hf_distill.recipes import RecipeName
from hf_distill.teachers.frozen import TeacherDtype
from hf_distill.text.credentials import cleaned
from hf_distill.text.suggestions import choice
from hf_distill.trainers.budget_arguments import BudgetArguments
from hf_distill.trainers.student_arguments import StudentArguments


# The only defaults of TrainingArguments that differ here: bf16 (chosen by hardware, on a CPU together with use_cpu), learning
# rate and warm-up of students that create_student made, and the order of the training examples, which length_bucketing
# decides while train_sampling_strategy keeps its default "random".
@dataclass
class DistillationTrainingArguments(BudgetArguments, StudentArguments):
    """`transformers.TrainingArguments` and the arguments of distillation; each field's help describes it.

    The defaults are stage 2 of Pre-trained Distillation (Turc et al. 2019, arXiv 1908.08962): soft labels only,
    temperature 1, no labels needed.

    Raises:
        ValueError: A weight is negative or not finite, all weights are 0, or the temperature is not above 0.
    """

    MEANING_OF_NONE: ClassVar[dict[str, Any]] = DEFAULTS | STOCK
    _VALID_DICT_FIELDS = [*TrainingArguments._VALID_DICT_FIELDS, "teacher_model_init_kwargs"]

    recipe: RecipeName | None = field(
        default=None,
        metadata={
            "help": "Sets the arguments below to a paper's values; arguments given explicitly take precedence. "
            "`hf-distill recipes` prints the formula, values and paper of each. None: no recipe."
        },
    )
    soft_label_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the soft-label loss on the teacher's logits, at least 0. None: 1 with a teacher, 0 without."
        },
    )
    hard_label_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the student's own loss on the labels, at least 0. Labels of -100 (in multi-label rows entries of "
            "-100) and numbers that are NaN are ignored, so a partly labeled set works. None: 0 with a teacher, 1 without."
        },
    )
    soft_label_loss: SoftLabelLoss | None = field(
        default=None,
        metadata={
            "help": "Loss between student and teacher logits. None: forward_kl for classes (for multi-label heads one binary "
            "divergence per label), logit_mse for regression; cosine for sentence encoders, which may also take logit_mse, the "
            "mean squared error of embeddings. margin_mse and listwise_kl are for rerankers, heads of one output: they compare "
            "the candidates of a query, which query_column names."
        },
    )
    query_column: str | None = field(
        default=None,
        metadata={
            "help": "Column of integers that says which query a row is a candidate of. Every batch then holds all candidates of "
            "its queries: as many queries as fit into the batch size whatever they are, of similar length if "
            "length_bucketing. None: rows are independent of each other."
        },
    )
    soft_label_top_k: int | None = field(
        default=None,
        metadata={
            "help": "Compare the teacher's k most probable classes, and all others as one class; forward_kl only. None: every "
            "class."
        },
    )
    soft_label_positions: SoftLabelPositions = field(
        default=SoftLabelPositions.MASKED,
        metadata={
            "help": "Positions at which masked language modeling compares soft labels. masked: the masked positions, the only "
            "ones whose logits are computed. attended: all positions without padding, as in DistilBERT's training script."
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "help": "Temperature of both distributions (τ or T in the papers), above 0. The loss is multiplied by its square, so "
            "that gradients keep their scale. No effect on logit_mse. None: the recipe's, else 1."
        },
    )
    hidden_state_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the hidden-state loss of the mapped layers, at least 0. None: the recipe's, else 0."
        },
    )
    hidden_state_loss: HiddenStateLoss | None = field(
        default=None,
        metadata={
            "help": "Loss between hidden states. mse: mean squared error, summed over layers. normalized_mse: that of states "
            "normalized to length 1, averaged over layers. cosine: 1 - cosine similarity, summed over layers. None: the "
            "recipe's, else mse."
        },
    )
    hidden_state_positions: HiddenStatePositions | None = field(
        default=None,
        metadata={
            "help": "all: compare every position without padding. first: the first position ([CLS]) only. None: the recipe's, "
            "else all."
        },
    )
    embedding_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the mean squared error between the outputs of the embeddings, at least 0. None: the recipe's, "
            "else 0."
        },
    )
    attention_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the attention loss of the mapped layers, at least 0; student and teacher need equally many "
            "heads. None: the recipe's, else 0."
        },
    )
    attention_loss: AttentionLoss | None = field(
        default=None,
        metadata={
            "help": "score_mse: mean squared error of the attention scores before the softmax. distribution_kl: KL divergence "
            "of the attention distributions. None: the recipe's, else score_mse."
        },
    )
    layer_map: str | None = field(
        default=None,
        metadata={
            "help": "Teacher layer that each student layer imitates, for hidden states and attention: uniform, first, last, "
            "skip, final, or pairs student:teacher counted from 0, such as 0:2,1:5. None: the recipe's, else uniform."
        },
    )
    relation_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the self-attention relation loss (MiniLMv2), at least 0. None: the recipe's, else 0."
        },
    )
    relations: str | None = field(
        default=None,
        metadata={
            "help": "Relations to compare, a comma-separated list of queries, keys and values. None: the recipe's, else "
            "queries,keys,values."
        },
    )
    relation_heads: int | None = field(
        default=None,
        metadata={
            "help": "Number of relation heads into which queries, keys and values are split; must divide both hidden sizes. "
            "None: the teacher's number of attention heads."
        },
    )
    relation_layer_map: str | None = field(
        default=None,
        metadata={
            "help": "Layers whose relations are compared, in the syntax of layer_map. None: the recipe's, else final (the "
            "student's last layer imitates the teacher's last)."
        },
    )
    similarity_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the loss on the similarities of a micro-batch's texts, for sentence encoders, at least 0; the "
            "temperature applies to it. None: the recipe's, else 0."
        },
    )
    projection: Projection = field(
        default=Projection.AUTO,
        metadata={
            "help": "Learned linear map from the student's hidden states to the teacher's width, trained with the student and "
            "not saved with it. auto: if the widths differ; always; never."
        },
    )
    teacher_dtype: TeacherDtype = field(
        default=TeacherDtype.AUTO,
        metadata={
            "help": "Precision of the teacher's weights and activations. auto: bfloat16 if the device has fast bfloat16 (CUDA "
            "from compute capability 8.0, CPUs with AMX) and the predictions for the first training examples stay the same, "
            "else the checkpoint's own."
        },
    )
    teacher_sharding: TeacherSharding = field(
        default=TeacherSharding.AUTO,
        metadata={
            "help": "Whether the teacher is sharded over the processes with FSDP2, whatever engine holds the student. never: "
            "every process holds the whole teacher. always: every process holds a shard, and layers are gathered while they "
            "compute. auto: sharded if the whole teacher would take more than half of the free GPU memory. A teacher given "
            "by teacher_checkpoints is never sharded."
        },
    )
    teacher_revision: str | None = field(
        default=None,
        metadata={"help": "Branch, tag or commit of a teacher given as a Hub id. None: the default branch."},
    )
    teacher_model_init_kwargs: dict | str | None = field(
        default=None,
        metadata={
            "help": "Additional arguments of from_pretrained for a teacher given by name, as a dict or JSON, for example "
            '\'{"attn_implementation": "eager"}\'. None: no additional arguments.'
        },
    )
    teacher_weights: list[float] | None = field(
        default=None,
        metadata={
            "help": "Weights of several teachers in the mean of their probabilities, above 0, one per teacher; only the "
            "proportions matter. None: equal."
        },
    )
    merge_adapters: bool = field(
        default=False,
        metadata={
            "help": "Merge the PEFT adapters of a trained student into its base model, and save one ordinary model; "
            "checkpoints keep the adapters separate. False: save only the adapters."
        },
    )
    length_bucketing: bool = field(
        default=True,
        metadata={
            "help": "Make batches of texts of similar length, in a shuffled and seeded order, to reduce padding. Used for "
            "tokenized datasets.Dataset training sets while train_sampling_strategy is random. False: batches regardless "
            "of length."
        },
    )

    def __post_init__(self) -> None:
        self.open_settings = fill_with_stock(self)
        self.bfloat16_speedup: float | None = None
        if self.bf16 is None:
            device = "cpu" if self.use_cpu else _default_device()
            self.bf16 = self._precision_is_open() and fast_bfloat16(device)
            if device == "cpu" and self._precision_is_open():
                self.bfloat16_speedup = bfloat16_speedup()
            self.use_cpu = self.use_cpu or (self.bf16 and device == "cpu")  # else TrainingArguments refuses bf16 there
        super().__post_init__()
        self.teacher_dtype = choice(TeacherDtype, self.teacher_dtype, "teacher_dtype")
        self.teacher_sharding = choice(TeacherSharding, self.teacher_sharding, "teacher_sharding")
        self._left_open = left_open(self)
        resolve_defaults(self)
        require_valid_objective(self)

    def open_again(self) -> None:
        """Reset to None what the recipe and the defaults filled in, so that another recipe can be chosen."""
        for name in self._left_open:
            setattr(self, name, None)

    def to_dict(self) -> dict[str, Any]:
        """The arguments as `TrainingArguments.to_dict` gives them, without access tokens, also in nested mappings."""
        return cleaned(super().to_dict())

    def _precision_is_open(self) -> bool:
        return not (self.fp16 or self.deepspeed or "ACCELERATE_MIXED_PRECISION" in os.environ)


def with_distillation_defaults(args: TrainingArguments) -> TrainingArguments:
    """Give plain `TrainingArguments` the fields of `DistillationTrainingArguments` that they lack, at their defaults.

    Only `length_bucketing` is off for them, since it changes plain training.

    Args:
        args: Training arguments; changed in place.

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
