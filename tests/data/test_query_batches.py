"""All candidates of a query are in one batch, whatever the seed, the number of processes and the order."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

import datasets
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard

from hf_distill.data.query_batches import queries_per_batch, query_batch_sampler, rows_of_queries

LARGEST = 5


def candidates(queries: int, seed: int) -> datasets.Dataset:
    """1 to 5 candidates per query, of 1 to 40 tokens, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, LARGEST + 1, (queries,), generator=generator).tolist()
    sizes[0] = LARGEST
    ids = torch.tensor([100 + 3 * query for query, size in enumerate(sizes) for _ in range(size)])
    ids = ids[torch.randperm(len(ids), generator=generator)].tolist()
    lengths = torch.randint(1, 41, (len(ids),), generator=generator).tolist()
    return datasets.Dataset.from_dict({"query": ids, "input_ids": [[5] * length for length in lengths]})


def sampler_of(dataset, batch_size, seed=0, accumulation=1, processes=1, epoch=0, bucketing=True, drop_last=False):
    args = SimpleNamespace(
        seed=seed, data_seed=None, length_column_name="length", gradient_accumulation_steps=accumulation,
        world_size=processes, dataloader_drop_last=drop_last,
    )  # fmt: skip
    return query_batch_sampler(dataset, "query", args, batch_size, lambda: epoch, bucketing)


@pytest.mark.parametrize("bucketing", [True, False], ids=["bucketed", "random"])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [LARGEST, 7, 16])
def test_queries_are_whole_in_every_batch_of_every_process(batch_size, processes, bucketing):
    for seed in range(8):
        dataset = candidates(queries=11 + seed, seed=seed)
        ids = dataset["query"]
        sampler = sampler_of(dataset, batch_size, seed, processes=processes, bucketing=bucketing)
        whole = {query: sorted(row for row, own in enumerate(ids) if own == query) for query in ids}
        shards = [list(BatchSamplerShard(sampler, processes, index)) for index in range(processes)]
        assert len({len(batches) for batches in shards}) == 1 and len(shards[0]) == -(-len(sampler) // processes)
        in_order = [batch for round_of in zip(*shards, strict=True) for batch in round_of]
        for batch in in_order:
            assert 0 < len(batch) <= batch_size
            for query in {ids[row] for row in batch}:
                assert sorted(row for row in batch if ids[row] == query) == whole[query]
        # Only whole batches are repeated, after all others.
        assert sorted(row for batch in in_order[: len(sampler)] for row in batch) == list(range(len(dataset)))


def test_a_step_has_the_same_rows_however_it_is_split():
    dataset = candidates(queries=24, seed=1)
    whole = list(sampler_of(dataset, 4 * LARGEST))
    for batch_size, accumulation, processes in [(LARGEST, 4, 1), (2 * LARGEST, 1, 2), (LARGEST, 2, 2)]:
        parts = list(sampler_of(dataset, batch_size, accumulation=accumulation, processes=processes))
        per_step = accumulation * processes
        steps = [[*chain(*parts[start : start + per_step])] for start in range(0, len(parts), per_step)]
        assert steps == whole


def test_the_order_depends_on_seed_and_epoch_alone():
    dataset = candidates(queries=24, seed=1)
    for bucketing in (True, False):
        reference = list(sampler_of(dataset, 8, bucketing=bucketing))
        torch.manual_seed(99)
        before = torch.get_rng_state()
        assert list(sampler_of(dataset, 8, bucketing=bucketing)) == reference
        assert torch.equal(torch.get_rng_state(), before)
        others = [list(sampler_of(dataset, 8, bucketing=bucketing, **change)) for change in ({"seed": 1}, {"epoch": 1})]
        assert all(other != reference for other in others)
        assert {len(other) for other in others} == {len(reference)}  # so that every epoch has equally many steps


def test_batches_are_of_similar_length():
    dataset = candidates(queries=200, seed=2)
    lengths = [len(tokens) for tokens in dataset["input_ids"]]

    def padded(bucketing):
        batches = sampler_of(dataset, 4 * LARGEST, bucketing=bucketing)
        return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)

    assert padded(True) < 0.9 * padded(False)


def test_the_last_batch_may_be_dropped():
    dataset = candidates(queries=11, seed=0)
    kept, dropped = (sampler_of(dataset, 2 * LARGEST, drop_last=drop) for drop in (False, True))
    assert (len(list(kept)), len(list(dropped))) == (len(kept), len(dropped)) == (6, 5)


def test_rows_of_queries_are_found_in_their_order():
    rows = datasets.Dataset.from_dict({"query": [7, -2, 7, 5, -2, 7]})
    assert rows_of_queries(rows, "query") == [[0, 2, 5], [1, 4], [3]]
    assert rows_of_queries(rows.select([3, 1, 4]), "query") == [[0], [1, 2]]  # with an index of its own


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (datasets.Dataset.from_dict({"query": ["a", "b"]}), r"got 'query' and the type .*string.*with_query_ids"),
        (datasets.Dataset.from_dict({"text": ["a", "b"]}), r"got 'query' and the columns \['text'\]"),
        (datasets.Dataset.from_dict({"query": [1, None]}), "integer in every row, but some rows have none"),
        ([{"query": 1}], r"a datasets.Dataset without a transform, got 'query' and the columns \[\]"),
    ],
)
def test_an_unsuitable_column_is_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        rows_of_queries(dataset, "query")


def test_a_batch_smaller_than_the_candidates_of_a_query_is_refused():
    assert queries_per_batch([[0, 1], [2, 3, 4]], 7) == 2
    with pytest.raises(
        ValueError, match="the query of row 2 has 3: set per_device_train_batch_size to at least 3, got 2"
    ):
        queries_per_batch([[0, 1], [2, 3, 4]], 2)
