"""Checks before training of data whose rows are candidates of queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import datasets
from torch import nn

from hf_distill.data.query_batches import queries_per_batch, rows_of_queries
from hf_distill.objectives.ranking import RANKING_LOSSES
from hf_distill.preflight.training import require_nonempty
from hf_distill.tasks import unwrapped


def require_queries(args: Any, student: nn.Module, has_teacher: bool, named_sets: Mapping[str, Any]) -> None:
    """Refuse data and arguments by which the candidates of a query cannot be in one batch, or cannot be compared.

    Args:
        args: The training arguments, with the fields of `DistillationTrainingArguments`.
        student: The student, or its wrapper.
        has_teacher: Whether there is a teacher.
        named_sets: The training set as "train_dataset", and the evaluation sets by name.

    Raises:
        ValueError: A column is missing or unsuitable, a query has one candidate or more than a batch has rows, the batches
            are to be made in another way, or the student's head has several outputs; names the problem.
    """
    if args.query_column is None:
        return
    loss = getattr(args.soft_label_loss, "value", None)
    is_ranked = has_teacher and args.soft_label_weight != 0 and loss in RANKING_LOSSES
    outputs = getattr(getattr(unwrapped(student), "config", None), "num_labels", 1)
    if is_ranked and outputs != 1:
        raise ValueError(
            f"soft_label_loss {loss!r} compares one score per row, but the student has num_labels {outputs}: load it with "
            "num_labels=1"
        )
    if args.train_sampling_strategy != "random":
        raise ValueError(
            "query_column makes the batches, in random order: leave train_sampling_strategy at 'random', got "
            f"{args.train_sampling_strategy!r}"
        )
    for name, dataset in named_sets.items():
        if name == "train_dataset":
            _require_trainable(dataset, args, is_ranked)
        elif is_ranked and isinstance(dataset, datasets.Dataset) and len(dataset):
            rows_of_queries(dataset, args.query_column)


def _require_trainable(dataset: Any, args: Any, is_ranked: bool) -> None:
    require_nonempty(dataset)
    rows = rows_of_queries(dataset, args.query_column)
    in_step = queries_per_batch(rows, args.train_batch_size) * args.world_size
    alone = [of_query[0] for of_query in rows if len(of_query) == 1]
    if is_ranked and alone:
        raise ValueError(
            f"{len(alone)} queries have one candidate, the first that of row {alone[0]}: {args.soft_label_loss.value} compares "
            "the candidates of a query, so leave those rows out of train_dataset"
        )
    if args.dataloader_drop_last and len(rows) < in_step:
        raise ValueError(
            f"train_dataset holds {len(rows)} queries, a batch of all processes {in_step}, and dataloader_drop_last drops what "
            "is smaller: nothing would be trained. Leave dataloader_drop_last False."
        )
