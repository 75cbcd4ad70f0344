"""Checks before training that a student and its teachers can read the inputs and can be trained with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments

from hf_distill.data.limits import ReadingLimits, WithinLimits, require_padding_token, require_readable
from hf_distill.objectives.hidden_states import HiddenStatePositions
from hf_distill.objectives.model_outputs import Features
from hf_distill.precomputed.checks import require_matching_outputs
from hf_distill.precomputed.column_checks import (
    columns_of,
    require_known_classes,
    require_precomputed_classes,
    require_precomputed_vocabulary,
)
from hf_distill.precomputed.input_checks import require_matching_inputs
from hf_distill.precomputed.provenance import provenances
from hf_distill.preflight.argument_rules import resolved_weights
from hf_distill.preflight.argument_types import (
    require_data_sets,
    require_head,
    require_inputs,
    require_weights_that_learn,
)
from hf_distill.preflight.queries import require_queries
from hf_distill.preflight.training import require_logits_of_task, require_nonempty
from hf_distill.tasks import class_of
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.column_names import precomputed_columns
from hf_distill.teachers.own_inputs import SeparateEncodings
from hf_distill.teachers.shared_vocabulary import tokenizer_of


def reading_limits(student: nn.Module, teacher: Teacher | None) -> list[ReadingLimits]:
    """The limits of what the student and every live teacher can read."""
    members = () if teacher is None else teacher.members
    roles = ["teacher"] if len(members) == 1 else [f"teacher {index}" for index in range(len(members))]
    own = [ReadingLimits.of(each.model, role, each.input_prefix) for each, role in zip(members, roles, strict=True)]
    return [ReadingLimits.of(student, "student"), *own]


def own_encodings(data_collator: Any) -> dict[str, Any]:
    """The processing classes of teachers with inputs of their own, by the prefix of their columns."""
    while data_collator is not None and not isinstance(data_collator, SeparateEncodings):
        data_collator = getattr(data_collator, "data_collator", None)
    return {} if data_collator is None else data_collator.processing_classes


def require_readable_inputs(
    limits: Sequence[ReadingLimits], tokenizers: Mapping[str, Any], named_sets: Mapping[str, Any]
) -> None:
    """Refuse tokenizers and data sets with tokens or texts beyond what a model has embeddings for.

    Args:
        limits: The limits of every model.
        tokenizers: The tokenizers by the prefix of the inputs they make.
        named_sets: The data sets, by name.

    Raises:
        ValueError: A token or a row is beyond a limit; names it and the model.
    """
    for limit in limits:
        limit.require_tokenizer(tokenizers.get(limit.prefix))
    for name, dataset in named_sets.items():
        require_readable(dataset, name, limits)


def require_trainable_precision(student: nn.Module) -> None:
    """Refuse a student with trainable float16 weights, which mixed precision keeps in float32.

    Args:
        student: The student, or its wrapper.

    Raises:
        ValueError: A trainable parameter is in float16.
    """
    if any(each.requires_grad and each.dtype == torch.float16 for each in student.parameters()):
        raise ValueError(
            f"the student ({class_of(student).__name__}) has float16 weights, in which small updates are lost and gradients "
            "overflow: load it with dtype=torch.float32, or call student.float(). To compute in half precision, pass "
            "bf16=True or fp16=True beside float32 weights."
        )


def require_full_batch(dataset: Any, args: TrainingArguments) -> None:
    """Refuse a training set that is smaller than a batch where incomplete batches are dropped.

    Args:
        dataset: The training set.
        args: The training arguments.

    Raises:
        ValueError: The training set is smaller; names both sizes.
    """
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and hasattr(dataset, "__len__") and len(dataset) < batch:
        raise ValueError(
            f"train_dataset holds {len(dataset)} examples, a batch {batch}, and dataloader_drop_last drops what is "
            "smaller: nothing would be trained. Lower per_device_train_batch_size, or leave dataloader_drop_last False."
        )


def _require_same_positions(student: Features | None, teacher: Features | None, first_only: bool) -> None:
    """Refuse to compare features position by position where student and teacher have different numbers of positions.

    Args:
        student: The student's features for example inputs. None: no features are compared.
        teacher: The teacher's features for the same inputs.
        first_only: Whether hidden states of the first position alone are compared.

    Raises:
        ValueError: The numbers of positions differ; names both.
    """
    if student is None or teacher is None:
        return
    for name, dim in (("queries", 2),) if first_only else (("hidden_states", 1), ("queries", 2)):
        both = [next(iter(getattr(side, name).values()), None) for side in (student, teacher)]
        numbers = [each.shape[dim] for each in both if each is not None]
        if len(numbers) == 2 and numbers[0] != numbers[1]:
            raise ValueError(
                f"the student makes {numbers[0]} positions of the example inputs, the teacher {numbers[1]}: their hidden "
                "states and attention are compared position by position. Give them the same patch size or tokenizer, or learn "
                "from soft labels alone."
            )


def require_comparable_outputs(
    trainer: Any, student: Features | None, teacher: Features | None, example: Mapping[str, Any]
) -> None:
    """Refuse a teacher whose outputs for example inputs cannot be compared with the student's.

    Args:
        trainer: A `DistillationTrainer` with its teacher.
        student: The student's features for the inputs. None: no features are compared.
        teacher: The teacher's outputs. None: they were not computed, as for masked tokens, where logits are large.
        example: A few of the inputs, without labels.

    Raises:
        ValueError: The outputs differ in shape; names the difference.
    """
    if teacher is not None:
        if teacher.top is None:  # else the provenance says which classes there are
            require_logits_of_task(teacher.require_logits(), trainer.task)
    elif student is not None and trainer.teacher.members:
        teacher = trainer.teacher.outputs(example)
    _require_same_positions(student, teacher, trainer.args.hidden_state_positions is HiddenStatePositions.FIRST)


def require_own_precomputed_outputs(
    trainer: Any, collate: Callable[[list], dict[str, Any]], columns: Collection[str]
) -> None:
    """Refuse precomputed outputs for other inputs, for another student, or from another teacher than the live one.

    Args:
        trainer: A `DistillationTrainer` with its teacher.
        collate: Makes model inputs of examples; called twice.
        columns: Names of the columns that hold precomputed outputs.

    Raises:
        ValueError: The outputs do not match; names what they were computed for and what is given.
    """
    for _, dataset in named_sets(trainer.train_dataset, trainer.eval_dataset):
        found = provenances(dataset)
        if not found or trainer.teacher is None:
            continue
        for provenance in found.values():
            require_matching_outputs(provenance, trainer)
        require_matching_inputs(dataset, collate, found, columns)
        if trainer.teacher.live is not None:
            trainer.require_same_teacher(found)


def require_sound_inputs(trainer: Any) -> None:
    """Run all checks of a trainer's models and data, and let its collator check every batch.

    Args:
        trainer: A `DistillationTrainer` with its teacher.

    Raises:
        ValueError: A check fails; names the problem and the model or data set.
    """
    sets, args, task = dict(named_sets(trainer.train_dataset, trainer.eval_dataset)), trainer.args, trainer.task
    require_data_sets(sets)
    require_inputs(sets, trainer.model, args, {*trainer.label_names, *precomputed_columns(columns_of(sets))})
    require_head(trainer.model, "student")
    require_precomputed_classes(sets, trainer.model, task)
    if args.eval_strategy != "no":
        for name, dataset in named_sets(None, trainer.eval_dataset):
            require_nonempty(dataset, name, "evaluation")
    limits = reading_limits(trainer.model, trainer.teacher)
    tokenizer = tokenizer_of(trainer)
    require_readable_inputs(limits, {"": tokenizer} | own_encodings(trainer.data_collator), sets)
    require_precomputed_vocabulary(sets, trainer.model)
    for limit in limits[1:]:
        if limits[0].vocabulary_size and limit.vocabulary_size and not limit.prefix:
            trainer.shared_vocabulary.require(limits[0].vocabulary_size, limit.vocabulary_size)
    for member in () if trainer.teacher is None else trainer.teacher.members:
        require_head(member.model, "teacher")
        require_padding_token(member.model, "teacher", task)
    if trainer.train_dataset is not None:
        require_full_batch(trainer.train_dataset, args)
        require_weights_that_learn(trainer.model)
        if not trainer.is_deepspeed_enabled:  # which keeps float32 weights itself
            require_trainable_precision(trainer.model)
        if args.train_batch_size > 1:
            require_padding_token(trainer.model, "student", task)
    require_queries(args, trainer.model, trainer.teacher is not None, sets)
    weights = resolved_weights(args, has_teacher=trainer.teacher is not None)
    if not (weights["hard_label_weight"] or getattr(args, "has_final_stage", False)):
        sets.pop("train_dataset", None)
    require_known_classes(sets, trainer.model, task)
    trainer.data_collator = WithinLimits(trainer.data_collator, limits)


def named_sets(train_dataset: Any, eval_dataset: Any) -> Iterator[tuple[str, Any]]:
    """The data sets of a trainer with the names of the arguments that they were passed as."""
    if train_dataset is not None:
        yield "train_dataset", train_dataset
    if isinstance(eval_dataset, dict):
        yield from ((f"eval_dataset[{name!r}]", dataset) for name, dataset in eval_dataset.items())
    elif eval_dataset is not None and not isinstance(eval_dataset, str):
        yield "eval_dataset", eval_dataset
