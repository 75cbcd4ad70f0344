"""Batches that hold all candidates of their queries, shuffled and seeded, the same for every split over processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import datasets
import numpy as np
import torch
from torch.utils.data import Sampler
from transformers import TrainingArguments

from hf_distill.data.arrow_columns import StoredRows, lists_of_numbers
from hf_distill.data.length_bucket_sampler import LengthBucketSampler, example_lengths


class QueryBatchSampler(Sampler[list[int]]):
    """Every row once an epoch, in batches of the rows of equally many queries; only the last of an epoch may have fewer.

    Args:
        rows: The rows of each query.
        queries_per_batch: Queries per batch, at least 1.
        order: The order of the queries, drawn anew for every epoch.
        drop_last: Whether to leave out a last batch of fewer queries.

    Attributes:
        batch_size: None, by which accelerate recognizes batches of different numbers of rows.
    """

    batch_size: None = None

    def __init__(self, rows: Sequence[list[int]], queries_per_batch: int, order: Sampler[int], drop_last: bool = False):
        self.rows, self.queries_per_batch, self.order, self.drop_last = rows, queries_per_batch, order, drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.rows), self.queries_per_batch)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        order, size = list(self.order), self.queries_per_batch
        for start in range(0, len(self) * size, size):
            yield [row for query in order[start : start + size] for row in self.rows[query]]


class _RandomOrder(Sampler[int]):
    """Numbers in an order that depends on seed and epoch alone."""

    def __init__(self, length: int, seed: int, epoch: Callable[[], int]):
        self.length, self.seed, self.epoch = length, seed, epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return iter(torch.randperm(self.length, generator=generator).tolist())


def query_batch_sampler(
    dataset: datasets.Dataset,
    query_column: str,
    args: TrainingArguments,
    batch_size: int,
    epoch: Callable[[], int],
    length_bucketing: bool,
) -> QueryBatchSampler:
    """The batches of a training set whose rows are candidates of queries.

    The queries of an optimizer step are of similar length and depend on seed and epoch alone, not on how the step is split.

    Args:
        dataset: The training set.
        query_column: The column that says which query a row is of.
        args: The training arguments, with the seed, the column of lengths and the number of accumulated micro-batches.
        batch_size: Rows that a micro-batch of one process may have.
        epoch: Function that returns the current epoch, called at the start of each.
        length_bucketing: Whether queries of similar length, that of their longest row, are in one batch.

    Returns:
        The sampler of the batches of all processes.

    Raises:
        ValueError: A query has more candidates than a micro-batch has rows, or the column is unsuitable.
    """
    rows = rows_of_queries(dataset, query_column)
    per_batch = queries_per_batch(rows, batch_size)
    seed = args.seed if args.data_seed is None else args.data_seed
    lengths = example_lengths(dataset, args.length_column_name) if length_bucketing else None
    order: Sampler[int] = _RandomOrder(len(rows), seed, epoch)
    if lengths is not None and len(lengths):
        longest = [int(lengths[of_query].max()) for of_query in rows]
        per_step = per_batch * args.gradient_accumulation_steps * args.world_size
        order = LengthBucketSampler(longest, per_step, seed, epoch)
    return QueryBatchSampler(rows, per_batch, order, args.dataloader_drop_last)


def queries_per_batch(rows: Sequence[list[int]], batch_size: int) -> int:
    """Number of queries whose candidates fit into a batch, whichever queries they are.

    Args:
        rows: The rows of each query.
        batch_size: Rows that a micro-batch of one process may have.

    Returns:
        The number, at least 1.

    Raises:
        ValueError: A query has more candidates than a batch has rows; names both numbers.
    """
    most = max(rows, key=len)
    if len(most) > batch_size:
        raise ValueError(
            f"all candidates of a query are in one batch, and the query of row {most[0]} has {len(most)}: set "
            f"per_device_train_batch_size to at least {len(most)}, got {batch_size}, or leave out candidates"
        )
    return batch_size // len(most)


def rows_of_queries(dataset: datasets.Dataset, query_column: str) -> list[list[int]]:
    """The rows of each query, in the order of the data set; the rows of a query need not follow one another.

    Args:
        dataset: Rows stored in Arrow.
        query_column: The column of integers that says which query a row is of.

    Returns:
        The numbers of the rows of each query, queries in the order of their first rows.

    Raises:
        ValueError: There is no such column, or a row has no integer there.
    """
    blocks = [block for _, block in lists_of_numbers(dataset, query_column, depth=0)]
    if not blocks or any(block.null_count for block in blocks):
        raise ValueError(_unsuitable(dataset, query_column, bool(blocks)))
    queries = StoredRows.of(dataset).values(query_column, lambda block: block.fill_null(0).to_numpy())
    _, first, number = np.unique(queries, return_index=True, return_inverse=True)
    in_order = np.argsort(number, kind="stable")
    groups = np.split(in_order, np.flatnonzero(np.diff(number[in_order])) + 1)
    return [groups[group].tolist() for group in np.argsort(first)]


def _unsuitable(dataset: datasets.Dataset, query_column: str, has_integers: bool) -> str:
    if has_integers:
        return f"query_column {query_column!r} must have an integer in every row, but some rows have none"
    features = getattr(dataset, "features", None) or {}
    found = f"the type {features[query_column]}" if query_column in features else f"the columns {list(features)}"
    return (
        f"query_column must name a column of integers of a datasets.Dataset without a transform, got {query_column!r} and "
        f"{found}; number the queries of other columns by hf_distill.data.candidates.with_query_ids"
    )
