"""The training data loader of rerankers, whose batches hold all candidates of their queries."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch.utils.data import DataLoader
from transformers.trainer_utils import seed_worker

from hf_distill.data.query_batches import query_batch_sampler


def query_loader(trainer: Any) -> DataLoader:
    """The data loader of a trainer with the argument `query_column`, prepared for all processes.

    Args:
        trainer: A trainer whose training set is a `datasets.Dataset` with that column.

    Returns:
        The data loader of this process; it differs from Trainer's in the rows of its batches alone.

    Raises:
        ValueError: A query has more candidates than a micro-batch has rows, or the column is unsuitable.
    """
    args = trainer.args
    sampler = query_batch_sampler(
        trainer.train_dataset,
        args.query_column,
        args,
        trainer._train_batch_size,
        lambda: int(trainer.state.epoch or 0),
        args.length_bucketing,
    )
    loader = DataLoader(
        trainer._remove_unused_columns(trainer.train_dataset, description="training"),
        batch_sampler=sampler,
        collate_fn=trainer.data_collator,
        num_workers=args.dataloader_num_workers,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
        prefetch_factor=args.dataloader_prefetch_factor,
        worker_init_fn=partial(seed_worker, num_workers=args.dataloader_num_workers, rank=args.process_index),
    )
    return trainer.accelerator.prepare(loader)
