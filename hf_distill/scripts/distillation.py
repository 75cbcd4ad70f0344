"""A trainer for a student from its teacher and raw data, for every task that `hf-distill train` knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoConfig,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    default_data_collator,
)

from hf_distill.data.images import encode_images
from hf_distill.data.questions import WindowEncoder
from hf_distill.data.sequences import SequenceEncoder, encode_single_texts, label_ids, text_columns
from hf_distill.data.words import WordEncoder, word_columns, word_label_ids
from hf_distill.precomputed.label import label_transfer_set
from hf_distill.preflight.argument_rules import resolved_weights
from hf_distill.scripts.output_folder import output_path
from hf_distill.scripts.run import ScriptTrainingArguments, make_trainer
from hf_distill.scripts.splits import is_labeled
from hf_distill.tasks import Task, task_of
from hf_distill.teachers.column_names import has_teacher_logits, precomputed_columns
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.trainers.distillation_trainer import DistillationTrainer

TEACHER_OUTPUTS = "teacher-outputs"  # the folder of precomputed outputs, in the output folder


def require_same_shape(checkpoint: str | bool | None, model: PreTrainedModel, args: ScriptTrainingArguments) -> None:
    """Refuse to resume from the checkpoint of a student of another size.

    Args:
        checkpoint: The checkpoint to resume from, see `checkpoint_to_resume`.
        model: The student.
        args: The training arguments; a student that is pruned changes its size, and is not checked.

    Raises:
        ValueError: The checkpoint's student has another number of layers or another hidden size.
    """
    if isinstance(checkpoint, str) and not args.has_target:
        earlier = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        shapes = [f"{config.num_hidden_layers}/{config.hidden_size}" for config in (earlier, model.config)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{Path(checkpoint).parent} holds checkpoints of a student of shape {shapes[0]}, the requested student's is "
                f"{shapes[1]}: choose another --output-dir, or delete them with --overwrite_output_dir true"
            )


def make_student_trainer(
    model: PreTrainedModel,
    args: ScriptTrainingArguments,
    teacher: PreTrainedModel | None,
    processing: Any,
    splits: Mapping[str, Dataset],
    max_length: int,
) -> DistillationTrainer:
    """Make the trainer of a student on the split train.

    The teacher's outputs for the training rows are computed once and stored in a subfolder of the output folder, unless
    the student learns more than logits. During training it is evaluated on the split validation, or on a test split without labels, which no comparison needs.

    Args:
        model: The student.
        args: The training arguments.
        teacher: The teacher. None: its outputs are in the rows.
        processing: The tokenizer or image processor.
        splits: The raw rows by split, or model inputs with precomputed teacher outputs.
        max_length: Tokens that longer inputs are cut to.

    Returns:
        The trainer, see `make_trainer`.

    Raises:
        ValueError: The task is not supported, or the rows lack what it needs.
    """
    evaluated = "validation"
    if "validation" not in splits and "test" in splits and not is_labeled(splits["test"], task_of(model)):
        evaluated = "test"
    with args.main_process_first(desc="encoding"):
        data = {
            split: encode_rows(splits[split], model, processing, max_length)
            for split in ("train", evaluated)
            if split in splits
        }
    data_collator = collator_for(model, processing)
    if task_of(model) is Task.IMAGE_CLASSIFICATION:
        args.remove_unused_columns = False  # the images are made into model inputs when they are read
    if teacher is not None and learns_logits_alone(args) and not has_teacher_logits(data["train"].column_names):
        labeled = label_transfer_set(
            data["train"], FrozenTeacher(teacher, args.teacher_dtype, args.device, sharding=args.teacher_sharding),
            data_collator, cache_folder=output_path(args) / TEACHER_OUTPUTS, processing_class=processing,
            disable_tqdm=bool(args.disable_tqdm),
        )  # fmt: skip
        data["train"] = _read_as(data["train"], labeled)
    return make_trainer(
        model, args, teacher, train_dataset=data["train"], eval_dataset=data.get(evaluated),
        data_collator=data_collator, processing_class=processing,
    )  # fmt: skip


def _read_as(rows: Dataset, labeled: Dataset) -> Dataset:
    """The rows with teacher outputs, read through the transform that the rows have, as those of images do."""
    if rows.format["type"] != "custom":
        return labeled
    transform = rows.format["format_kwargs"]["transform"]
    return labeled.with_transform(partial(_transformed, transform, precomputed_columns(labeled.column_names)))


def _transformed(transform: Callable[[dict], dict], outputs: Sequence[str], batch: dict[str, list]) -> dict[str, list]:
    return transform(batch) | {name: batch[name] for name in outputs}


def learns_logits_alone(args: ScriptTrainingArguments) -> bool:
    """Whether the teacher's logits are all that the student learns from it, so that they can be computed in advance."""
    weights = resolved_weights(args, has_teacher=True)
    of_logits = ("soft_label_weight", "hard_label_weight", "similarity_weight")
    of_features = [weights[name] for name in weights if name not in of_logits]
    is_plain = not (args.has_target or args.teacher_checkpoints)
    return is_plain and weights["soft_label_weight"] > 0 and not any(of_features)


def encode_rows(rows: Dataset, model: PreTrainedModel, processing_class: Any, max_length: int) -> Dataset:
    """Make model inputs of raw rows, with labels where the rows have them.

    Args:
        rows: Raw rows; rows with precomputed teacher outputs are model inputs already.
        model: The student, whose head says what the task is.
        processing_class: The tokenizer or image processor.
        max_length: Tokens that longer inputs are cut to.

    Returns:
        The model inputs.

    Raises:
        ValueError: The model's task is not supported, or the rows lack what it needs.
    """
    if has_teacher_logits(rows.column_names):
        return rows.remove_columns([name for name in ("label",) if name in rows.column_names])
    task, ids = task_of(model), label_ids(model.config)
    if task is Task.SEQUENCE_CLASSIFICATION:
        return SequenceEncoder(processing_class, ids, max_length)(rows, text_columns(rows.features))
    if task is Task.SENTENCE_EMBEDDING:
        return encode_single_texts(rows, model.config, processing_class, max_length)
    if task is Task.TOKEN_CLASSIFICATION:
        return WordEncoder(processing_class, word_label_ids(model.config), max_length)(
            rows, *word_columns(rows.features)
        )
    if task is Task.QUESTION_ANSWERING:
        return WindowEncoder.fitting(processing_class)(rows, for_training=True)
    if task is Task.IMAGE_CLASSIFICATION:
        return encode_images(rows, processing_class, model.config)
    raise ValueError(
        f"the teacher must classify texts, words or images, answer questions or embed texts, got a {type(model).__name__}"
    )


def collator_for(model: PreTrainedModel, processing_class: Any) -> Any:
    """The data collator of a model's task."""
    task = task_of(model)
    if task is Task.IMAGE_CLASSIFICATION:
        return default_data_collator
    by_token = task is Task.TOKEN_CLASSIFICATION
    return (DataCollatorForTokenClassification if by_token else DataCollatorWithPadding)(processing_class)
