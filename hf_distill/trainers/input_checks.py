"""What a student and its teachers cannot read or be trained with, found before training and said of the right model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow.compute as pc
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, TrainingArguments

from hf_distill.encoding.limits import (
    ReadingLimits,
    WithinLimits,
    lists_of_numbers,
    require_padding_token,
    require_readable,
)
from hf_distill.objectives.evidence import Features
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.tasks import Task, class_of, unwrapped
from hf_distill.teachers.column import TEACHER_CLASSES
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.outputs import Teacher, TeacherOutputs
from hf_distill.teachers.own_inputs import SeparateEncodings
from hf_distill.trainers.argument_rules import resolved_weights
from hf_distill.trainers.checks import require_nonempty


class SharedVocabulary:
    """Cuts logits over two vocabularies, of which one has more rows that stand for no token, to those of both.

    Args:
        task: What the heads are for; of those that do not give words nothing is cut.
        tokenizer: Of both models; None or anything else where it is not known.
    """

    def __init__(self, task: Task | None, tokenizer: Any):
        self._is_of_words = task in (Task.MASKED_LM, Task.CAUSAL_LM)
        self._tokenizer = tokenizer if _is_tokenizer(tokenizer) else None

    def require(self, student: int, teacher: int) -> None:
        """Refuse two numbers of words whose difference may be more than rows that stand for no token.

        Raises:
            ValueError: Names both.
        """
        if not self._is_of_words or student == teacher:
            return
        tokens = None if self._tokenizer is None else max(self._tokenizer.get_vocab().values()) + 1
        if tokens is None or tokens > min(student, teacher):
            known = "is not known (pass processing_class)" if tokens is None else f"has {tokens} tokens"
            raise ValueError(
                f"the teacher's logits are over {teacher} words, the student's over {student}, and the tokenizer {known}: "
                "only rows that stand for no token may be left out. Give both models the same vocabulary, for example "
                f"with student.resize_token_embeddings({teacher})."
            )

    def of_both(self, student: Features, teacher: TeacherOutputs | None) -> tuple[Features, TeacherOutputs | None]:
        """Both answers, (..., words), over the words that both models have.

        Raises:
            ValueError: They may not be cut.
        """
        if not self._is_of_words or teacher is None or teacher.logits is None:
            return student, teacher
        sizes = student.logits.shape[-1], teacher.logits.shape[-1]
        if sizes[0] == sizes[1]:
            return student, teacher
        self.require(*sizes)
        own, theirs = student.logits[..., : min(sizes)], teacher.logits[..., : min(sizes)]
        return replace(student, logits=own), replace(teacher, logits=theirs)


def live_teachers(teacher: Teacher | None) -> list[FrozenTeacher]:
    """Those of an ensemble, or the one there is; none where answers are recorded or made by something else."""
    return [each for each in getattr(teacher, "teachers", [teacher]) if isinstance(each, FrozenTeacher)]


def reading_limits(student: nn.Module, teacher: Teacher | None) -> list[ReadingLimits]:
    """Of the student, and of every live teacher."""
    teachers = live_teachers(teacher)
    roles = ["teacher"] if len(teachers) == 1 else [f"teacher {index}" for index in range(len(teachers))]
    own = [ReadingLimits.of(each.model, role, each.input_prefix) for each, role in zip(teachers, roles, strict=True)]
    return [ReadingLimits.of(student, "student"), *own]


def tokenizer_of(processing_class: Any, data_collator: Any) -> Any:
    """The tokenizer of the student's inputs; None where there is none to be found."""
    found = getattr(processing_class, "tokenizer", processing_class)
    while found is None and data_collator is not None:
        found, data_collator = getattr(data_collator, "tokenizer", None), getattr(data_collator, "data_collator", None)
    return found if _is_tokenizer(found) else None


def own_encodings(data_collator: Any) -> dict[str, Any]:
    """By prefix of their columns the processing classes of teachers that do not read the student's inputs."""
    while data_collator is not None and not isinstance(data_collator, SeparateEncodings):
        data_collator = getattr(data_collator, "data_collator", None)
    return {} if data_collator is None else data_collator.processing_classes


def require_readable_inputs(
    limits: Sequence[ReadingLimits], tokenizers: Mapping[str, Any], named_sets: Mapping[str, Any]
) -> None:
    """Refuse tokenizers and data sets with tokens or texts beyond what a model has embeddings for.

    Args:
        limits: Of every model.
        tokenizers: By prefix of the inputs they make.
        named_sets: Data sets by the name that the user knows them by.

    Raises:
        ValueError: Names the token or the row, and the model.
    """
    for limit in limits:
        limit.require_tokenizer(tokenizers.get(limit.prefix))
    for name, dataset in named_sets.items():
        require_readable(dataset, name, limits)


def require_recorded_words(named_sets: Mapping[str, Any], student: nn.Module) -> None:
    """Refuse recorded answers about words that the student's head does not have.

    Raises:
        ValueError: Names the row, the word and the size.
    """
    words = getattr(getattr(unwrapped(student), "config", None), "vocab_size", None)
    for name, dataset in named_sets.items() if words else ():
        for first, classes in lists_of_numbers(dataset, TEACHER_CLASSES):
            highest = pc.max(pc.list_flatten(pc.list_flatten(classes))).as_py()
            if highest is not None and highest >= words:
                rows = f"rows {first} to {first + len(classes) - 1} of {name}"
                raise ValueError(
                    f"the recorded answers of {rows} are about the word {highest}, but the student has {words} words: label "
                    "the rows with processing_class given, which leaves out what stands for no token, or with a teacher "
                    "of the student's vocabulary"
                )


def require_known_classes(named_sets: Mapping[str, Any], model: nn.Module, task: Task | None) -> None:
    """Refuse labels that are no class of a classifier; only whole numbers in columns are looked at.

    Raises:
        ValueError: Names the data set, the label, and the classes there are.
    """
    config = getattr(unwrapped(model), "config", None)
    kinds = (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION)
    if task not in kinds or config is None or config.num_labels < 2:
        return
    depth = 1 if task is Task.TOKEN_CLASSIFICATION else 0
    for name, dataset in named_sets.items():
        for column in {"labels", "label"} & set(getattr(dataset, "column_names", None) or ()):
            for _, labels in lists_of_numbers(dataset, column, depth):
                values = pc.list_flatten(labels) if depth else labels
                counted = pc.min_max(values.filter(pc.not_equal(values, IGNORE_INDEX))).as_py()
                if counted["min"] is not None and not 0 <= counted["min"] <= counted["max"] < config.num_labels:
                    wrong = counted["min"] if counted["min"] < 0 else counted["max"]
                    raise ValueError(
                        f"{name} has the label {wrong} in its column {column!r}, but the {class_of(model).__name__} has the "
                        f"classes 0 to {config.num_labels - 1}; {IGNORE_INDEX} is not counted. Create the model with "
                        "num_labels of the data, or encode the labels anew."
                    )


def require_same_positions(student: Features | None, teacher: Features | None, first_only: bool) -> None:
    """Refuse to compare, position by position, two models that make different numbers of positions of the same inputs.

    Args:
        student: What it left behind of example inputs; None where nothing inside is compared.
        teacher: The same of the teacher.
        first_only: Of hidden states the first position alone is compared.

    Raises:
        ValueError: Names both numbers.
    """
    if student is None or teacher is None:
        return
    for name, dim in (("queries", 2),) if first_only else (("hidden_states", 1), ("queries", 2)):
        both = [next(iter(getattr(side, name).values()), None) for side in (student, teacher)]
        if all(each is not None for each in both) and both[0].shape[dim] != both[1].shape[dim]:
            numbers = [each.shape[dim] for each in both]
            raise ValueError(
                f"the student makes {numbers[0]} positions of the example inputs, the teacher {numbers[1]}: what is inside "
                "them is compared position by position. Give them the same patch size or tokenizer, or learn from soft "
                "labels alone."
            )


def require_trainable_precision(student: nn.Module) -> None:
    """Refuse a student with float16 weights to learn, which mixed precision keeps in float32.

    Raises:
        ValueError: Says how to come by float32.
    """
    if any(each.requires_grad and each.dtype == torch.float16 for each in student.parameters()):
        raise ValueError(
            f"the student ({class_of(student).__name__}) has float16 weights, in which small updates are lost and gradients "
            "overflow: load it with dtype=torch.float32, or call student.float(). To compute in half precision, pass "
            "bf16=True or fp16=True beside float32 weights."
        )


def require_full_batch(dataset: Any, args: TrainingArguments) -> None:
    """Refuse a training set that is smaller than a batch, where what is smaller is dropped.

    Raises:
        ValueError: Names both sizes.
    """
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and hasattr(dataset, "__len__") and len(dataset) < batch:
        raise ValueError(
            f"train_dataset holds {len(dataset)} examples, a batch {batch}, and dataloader_drop_last drops what is "
            "smaller: nothing would be trained. Lower per_device_train_batch_size, or leave dataloader_drop_last False."
        )


def require_sound_inputs(trainer: Any) -> None:
    """All of these checks of a trainer's models and data; from now on its collator checks every batch.

    Args:
        trainer: A `DistillationTrainer` with its teacher.

    Raises:
        ValueError: Names what is wrong, and of which model.
    """
    sets, args, task = dict(named_sets(trainer.train_dataset, trainer.eval_dataset)), trainer.args, trainer.task
    if args.eval_strategy != "no":
        for name, dataset in named_sets(None, trainer.eval_dataset):
            require_nonempty(dataset, name, "evaluation")
    limits = reading_limits(trainer.model, trainer.teacher)
    tokenizer = tokenizer_of(trainer.processing_class, trainer.data_collator)
    require_readable_inputs(limits, {"": tokenizer} | own_encodings(trainer.data_collator), sets)
    require_recorded_words(sets, trainer.model)
    for limit in limits[1:]:
        if limits[0].words and limit.words and not limit.prefix:
            trainer.shared_vocabulary.require(limits[0].words, limit.words)
    for teacher in live_teachers(trainer.teacher):
        require_padding_token(teacher.model, "teacher", task)
    if trainer.train_dataset is not None:
        require_full_batch(trainer.train_dataset, args)
        if not trainer.is_deepspeed_enabled:  # which keeps float32 weights itself
            require_trainable_precision(trainer.model)
        if args.train_batch_size > 1:
            require_padding_token(trainer.model, "student", task)
    weights = resolved_weights(args, has_teacher=trainer.teacher is not None)
    if not (weights["hard_label_weight"] or getattr(args, "has_final_stage", False)):
        sets.pop("train_dataset", None)
    require_known_classes(sets, trainer.model, task)
    trainer.data_collator = WithinLimits(trainer.data_collator, limits)


def named_sets(train_dataset: Any, eval_dataset: Any) -> Iterator[tuple[str, Any]]:
    """The data sets a trainer has, by the names their user knows them by."""
    if train_dataset is not None:
        yield "train_dataset", train_dataset
    if isinstance(eval_dataset, dict):
        yield from ((f"eval_dataset[{name!r}]", dataset) for name, dataset in eval_dataset.items())
    elif eval_dataset is not None and not isinstance(eval_dataset, str):
        yield "eval_dataset", eval_dataset


def _is_tokenizer(value: Any) -> bool:
    return isinstance(value, PreTrainedTokenizerBase)
