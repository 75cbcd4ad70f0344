"""The training of a student in one command: data, student, trainer, and the control on labels alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill.data.sequences import text_columns
from hf_distill.data.words import word_label_column, words_column
from hf_distill.evaluation.comparison import TEACHER
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.pretrained.origin import initialization_of
from hf_distill.scripts.datasets import label_column_for, load_splits, splits_with_columns
from hf_distill.scripts.distillation import make_student_trainer, require_same_shape
from hf_distill.scripts.external_teacher import ExternalOutputs, external_material
from hf_distill.scripts.finished_training import FinishedTraining
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.scripts.labels_alone import train_on_labels
from hf_distill.scripts.output_folder import checkpoint_to_resume, output_folder_in_use, output_path, resume_advice
from hf_distill.scripts.run import ScriptTrainingArguments
from hf_distill.scripts.splits import training_splits
from hf_distill.scripts.training_material import TrainingMaterial
from hf_distill.scripts.unlabeled_texts import (
    with_unlabeled_images,
    with_unlabeled_questions,
    with_unlabeled_single_texts,
    with_unlabeled_texts,
    with_unlabeled_words,
)
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.students.create import create_student
from hf_distill.tasks import Task, task_of


@dataclass(frozen=True)
class StudentRequest:
    """The options of `hf-distill train`.

    Attributes:
        args: The training arguments.
        teacher: A folder, or an id on the Hub. None: `outputs` are given.
        student: The student's size, see `create_student`.
        initialization: The source of its initial weights. None: the first that fits.
        dataset: The data set's name, see `load_splits`. None: `outputs` are given, whose rows are all there are.
        dataset_config: The name of its configuration. None: the default one.
        text_column: The column of texts, or the columns of pairs of texts. None: see `text_columns`.
        label_column: The column of labels. None: label.
        max_length: Tokens that longer inputs are cut to.
        transfer_set: The name of a data set of unlabeled texts, words, questions or images. None: there is none.
        labels_alone: Whether to train the student on the labels alone too, see `train_on_labels`.
        outputs: Outputs of a teacher from elsewhere. None: there is a teacher.
    """

    args: ScriptTrainingArguments
    teacher: str | None
    student: str
    initialization: str | None
    dataset: str | None
    dataset_config: str | None
    text_column: list[str] | None
    label_column: str | None
    max_length: int
    transfer_set: str | None
    labels_alone: bool
    outputs: ExternalOutputs | None = None


def train_student(request: StudentRequest, say: Callable[[str], None]) -> tuple[FinishedTraining, dict[str, float]]:
    """Train a student and save it.

    Args:
        request: The options.
        say: A function that is called with remarks for the user.

    Returns:
        The finished training, and the metrics of the trainer's own evaluation, empty without rows to evaluate on.

    Raises:
        ValueError: An option does not fit the data, the teacher or another option.
        OSError: The teacher or the data do not exist.
    """
    set_verbosity(request.args)
    with output_folder_in_use(request.args):
        return _train_student(request, say)


def _train_student(request: StudentRequest, say: Callable[[str], None]) -> tuple[FinishedTraining, dict[str, float]]:
    args = request.args
    checkpoint = checkpoint_to_resume(args)
    material = _material(request)
    splits, source = material.splits, material.source

    set_seed(args.seed)
    model = create_student(request.student, source, request.initialization)
    require_same_shape(checkpoint, model, args)
    if request.text_column is None and task_of(model) in (Task.SEQUENCE_CLASSIFICATION, Task.TOKEN_CLASSIFICATION):
        say(_default_columns(splits["train"], task_of(model)))
    trainer = make_student_trainer(
        model, args, material.teacher, material.processing_class, material.trained_on, request.max_length
    )
    with advice_on_interrupt(lambda: resume_advice(args)):
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        metrics = {} if trainer.eval_dataset is None else trainer.evaluate()
        start = initialization_of(model)  # as chosen above, and logged there
        again = partial(create_student, request.student, source, start)
        control = train_on_labels(trainer, again, splits, request.max_length, say) if request.labels_alone else None
    name = request.dataset or (request.outputs.path if request.outputs else "")
    base = request.outputs.base_of(request.student) if request.outputs else None
    finished = FinishedTraining(
        output_path(args),
        request.teacher,
        name,
        splits,
        trainer.task,
        material.held_out,
        control,
        base,
        request.transfer_set,
        request.outputs.path if request.outputs else None,
    )
    return finished, metrics


def _material(request: StudentRequest) -> TrainingMaterial:
    """The rows and models that the options name."""
    seed, outputs = request.args.seed, request.outputs
    if (request.teacher is None) == (outputs is None):
        raise ValueError(
            "pass either TEACHER, a model, or --teacher-outputs, what a teacher answered, got "
            + ("neither" if outputs is None else "both")
        )
    if outputs is not None:
        if request.transfer_set is not None or request.args.teacher_checkpoints:
            raise ValueError(
                "--transfer-set and --teacher_checkpoints need a teacher that is run, got --teacher-outputs"
            )
        return external_material(
            outputs, request.student, request.dataset, request.dataset_config, request.text_column,
            request.label_column, request.max_length, seed,
        )  # fmt: skip
    if request.teacher is None or request.dataset is None:
        raise ValueError("a teacher needs --dataset, the rows that it teaches on")
    splits = load_splits(request.dataset, request.dataset_config)
    label = label_column_for(request.teacher, splits, request.label_column)
    splits, held_out = training_splits(splits_with_columns(splits, request.text_column, label), seed)
    teacher = load_evaluated_model(request.teacher, Path(request.teacher).name, TEACHER)
    rows = _training_rows(request, splits, teacher.model)
    return TrainingMaterial(
        splits, held_out, splits | {"train": rows}, teacher.model, teacher.processing_class, teacher.model
    )


def _training_rows(request: StudentRequest, splits: Mapping[str, Dataset], teacher: PreTrainedModel) -> Dataset:
    """The raw rows that the student learns from."""
    if request.transfer_set is None:
        return splits["train"]
    task = task_of(teacher)
    if task is Task.TOKEN_CLASSIFICATION:
        return with_unlabeled_words(splits, request.transfer_set)
    if task is Task.SENTENCE_EMBEDDING:
        return with_unlabeled_single_texts(splits, request.transfer_set, teacher.config)
    if task is Task.QUESTION_ANSWERING:
        return with_unlabeled_questions(splits, request.transfer_set)
    if task is Task.IMAGE_CLASSIFICATION:
        return with_unlabeled_images(splits, request.transfer_set)
    return with_unlabeled_texts(splits, request.transfer_set, request.text_column)


def _default_columns(rows: Dataset, task: Task | None) -> str:
    """A sentence that says which columns are read where the user named none."""
    if task is Task.TOKEN_CLASSIFICATION:
        words = words_column(rows.features)
        labels = None if words is None else word_label_column(rows.features, words)
        return f"Words are read from the column {words} (--text-column), labels from {labels} (--label-column)."
    columns = text_columns(rows.features)
    found = f"Texts are read from the column{'s' if len(columns) > 1 else ''} {' and '.join(columns)} (--text-column)"
    if "label" in rows.column_names:
        return f"{found}."
    return f"{found}, labels from nothing: no column is called label or has the teacher's classes (--label-column)."
