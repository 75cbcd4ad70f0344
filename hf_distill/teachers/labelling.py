"""Ask a teacher once about every text of a transfer set, and keep the answers beside the texts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import datasets
import torch
from tqdm.auto import tqdm

from hf_distill.fingerprints import rows_sha256, weights_sha256
from hf_distill.length_bucket_sampler import example_lengths
from hf_distill.teachers.column import TEACHER_LOGITS
from hf_distill.teachers.frozen import FrozenTeacher


def label_transfer_set(
    dataset: datasets.Dataset,
    teacher: FrozenTeacher,
    data_collator: Callable[[list[dict]], dict],
    batch_size: int = 64,
    disable_tqdm: bool = False,
    cache_folder: str | Path | None = None,
) -> datasets.Dataset:
    """Add the column `teacher_logits`, which `DistillationTrainer` reads instead of running the teacher.

    Texts are answered in order of length, so that almost nothing is padding; rows keep their order.

    Args:
        dataset: A tokenized dataset (with `input_ids`).
        teacher: The teacher, its labels in the student's order (see `load_teacher`).
        data_collator: Makes a batch of model inputs out of rows; columns the teacher does not read are left out.
        batch_size: Rows per forward pass.
        disable_tqdm: No progress bar.
        cache_folder: Keeps the labelled set, and gives it back for the same rows and a teacher of the same weights.

    Returns:
        The dataset with one more column, float32 (rows, classes).

    Raises:
        ValueError: The dataset has no `input_ids`, or the teacher's answer to a batch is not finite.
    """
    if cache_folder is None:
        return _labelled(dataset, teacher, data_collator, batch_size, disable_tqdm)
    order = "" if teacher.label_permutation is None else "-" + "-".join(map(str, teacher.label_permutation.tolist()))
    kept = Path(cache_folder, f"{weights_sha256(teacher.model)[:16]}{order}-{rows_sha256(dataset)[:16]}")
    if not kept.exists():
        labelled = _labelled(dataset, teacher, data_collator, batch_size, disable_tqdm)
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=kept.parent, prefix="unfinished-"))
        labelled.save_to_disk(unfinished)
        try:
            unfinished.rename(kept)
        except OSError:
            if not kept.exists():
                raise
            shutil.rmtree(unfinished)  # another process was faster
    return datasets.load_from_disk(kept)


def _labelled(
    dataset: datasets.Dataset,
    teacher: FrozenTeacher,
    data_collator: Callable[[list[dict]], dict],
    batch_size: int,
    disable_tqdm: bool,
) -> datasets.Dataset:
    lengths = example_lengths(dataset)
    if lengths is None:
        raise ValueError(f"label_transfer_set needs a tokenized dataset with input_ids, got {dataset.column_names}")
    readable = dataset.select_columns([name for name in dataset.column_names if name in teacher.input_names])
    by_length = torch.tensor(lengths).argsort(descending=True)  # the longest first: too little memory shows at once
    logits = None
    batches = by_length.split(batch_size)
    for rows in tqdm(batches, desc="Labelling the transfer set", disable=disable_tqdm):
        inputs = data_collator([readable[row] for row in rows.tolist()])
        answer = teacher.outputs({name: value.to(teacher.device) for name, value in inputs.items()}).logits.cpu()
        if not answer.isfinite().all():
            raise ValueError(f"the teacher's logits are not finite for rows {rows.tolist()} of the dataset")
        if logits is None:
            logits = torch.empty(len(dataset), *answer.shape[1:])
        logits[rows] = answer
    return dataset.add_column(TEACHER_LOGITS, logits.tolist(), feature=datasets.List(datasets.Value("float32")))


def label_with_trajectory(
    dataset: datasets.Dataset,
    teachers: Iterable[FrozenTeacher],
    data_collator: Callable[[list[dict]], dict],
    **options: Any,
) -> datasets.Dataset:
    """Add the column `teacher_logits` with the answers of several teachers, which `ProgressiveTrainer` reads.

    Args:
        dataset: A tokenized dataset.
        teachers: A teacher's checkpoints in the order they will teach. An iterator that makes them one by one keeps one
            in memory at a time.
        data_collator: As for `label_transfer_set`.
        options: Further arguments of `label_transfer_set`.

    Returns:
        The dataset with one more column, float32 (rows, checkpoints, classes).

    Raises:
        ValueError: As `label_transfer_set` does.
    """
    answers = [label_transfer_set(dataset, teacher, data_collator, **options)[TEACHER_LOGITS] for teacher in teachers]
    rows = [list(row) for row in zip(*answers, strict=True)]
    feature = datasets.List(datasets.List(datasets.Value("float32")))
    return dataset.add_column(TEACHER_LOGITS, rows, feature=feature)
