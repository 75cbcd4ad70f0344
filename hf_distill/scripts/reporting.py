"""Metrics of a run: logged, saved, and completed with the numbers of examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import transformers
from datasets import Dataset
from transformers.trainer import TRAINER_STATE_NAME

from hf_distill.data.arrow_columns import StoredRows
from hf_distill.data.sequences import label_values
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.scripts.output_folder import output_path
from hf_distill.tasks import SINGLE_LABEL, Task

if TYPE_CHECKING:
    from transformers import Trainer

logger = transformers.logging.get_logger("transformers.examples")
_OF_A_GUESS = 0.9  # the share of the loss of a guess from which nearly nothing was learned


def sample_counts(dataset: Any) -> dict[str, int]:
    """Count the examples, and those of them with a label where not all have one.

    Args:
        dataset: The rows; a data set of unknown length, such as a stream, is not counted.

    Returns:
        `samples`, and `labeled_samples` if some examples have no label; empty where the length is not known.
    """
    if not isinstance(dataset, Dataset):
        return {}
    labeled = int(_are_labeled(dataset).sum())
    return {"samples": len(dataset)} | ({"labeled_samples": labeled} if 0 < labeled < len(dataset) else {})


def _are_labeled(dataset: Dataset) -> np.ndarray:
    """Whether each row has a class index, bool (rows,); empty where there are none."""
    name = next((name for name in ("labels", "label") if name in dataset.column_names), None)
    if name is None or str(getattr(dataset.features[name], "dtype", "")).startswith("float"):
        return np.zeros(0, np.bool_)
    value_of = label_values(dataset.features[name])
    return StoredRows.of(dataset).values(
        name, lambda labels: [_has_label(value_of(label)) for label in labels.to_pylist()], np.bool_
    )


def _has_label(label: Any) -> bool:
    """Whether a row has a label; of a list of labels by token, whether any token has one."""
    return any(map(_has_label, label)) if isinstance(label, list) else label not in (None, IGNORE_INDEX)


def report_training(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Log and save the metrics of a training and the trainer's state.

    Args:
        trainer: The trainer.
        metrics: The metrics that `train` returned; empty for a run that was finished before, whose saved metrics and state
            are kept.
    """
    if metrics:
        report(trainer, "train", metrics, trainer.train_dataset)
        _warn_of_guessing(trainer, metrics["train_loss"])
    if metrics or not (output_path(trainer.args) / TRAINER_STATE_NAME).exists():
        trainer.save_state()


def _warn_of_guessing(trainer: Any, loss: float) -> None:
    """Warn where a classifier learned nearly nothing of its labels, as in 3 epochs of a few hundred rows of many classes."""
    if (
        trainer.task not in (Task.SEQUENCE_CLASSIFICATION, Task.IMAGE_CLASSIFICATION)
        or trainer.problem_type != SINGLE_LABEL
    ):
        return
    learns_labels_alone = [term.name for term in trainer.training_objective.terms] == ["hard_label"]
    classes = trainer.model.config.num_labels
    if learns_labels_alone and loss > _OF_A_GUESS * math.log(classes):
        logger.warning(
            f"The training loss was {loss:.3g} on average, and a guess among {classes} classes has {math.log(classes):.3g}: train for "
            "more epochs (--num_train_epochs) or at a higher --learning_rate; a teacher above all, whose "
            "students learn no more than it knows"
        )


def report(trainer: Trainer, stage: str, metrics: dict[str, float], dataset: Any) -> None:
    """Log and save the metrics of a stage.

    Args:
        trainer: The trainer.
        stage: "train", "eval" or "predict"; part of the file's name.
        metrics: The metrics; the numbers of examples are added to them.
        dataset: The rows of the stage.
    """
    metrics |= {f"{stage}_{name}": count for name, count in sample_counts(dataset).items()} | metrics
    trainer.log_metrics(stage, metrics)
    trainer.save_metrics(stage, metrics)
