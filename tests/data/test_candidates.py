"""Rows of one candidate each, from the kinds of files that rerankers have."""

import datasets
import pytest

from hf_distill.data.candidates import candidate_rows, with_query_ids


def test_positives_and_negatives_become_labeled_candidates():
    rows = [
        {"query": "q", "positive": "a", "negatives": ["b", "c"]},
        {"query": "q", "positive": "d", "negatives": []},
    ]
    found = candidate_rows(datasets.Dataset.from_list(rows)).to_list()
    assert [tuple(row.values()) for row in found] == [
        (0, "q", "a", 1),
        (0, "q", "b", 0),
        (0, "q", "c", 0),
        (1, "q", "d", 1),
    ]
    assert list(found[0]) == ["query_id", "query", "document", "label"]


def test_queries_are_numbered_by_their_ids_or_else_by_their_texts():
    rows = datasets.Dataset.from_dict({"query": ["q", "q", "r"], "document": ["a", "b", "a"], "more": [1, 2, 3]})
    assert candidate_rows(rows)["query_id"][:] == [0, 0, 1]
    named = candidate_rows(rows.add_column("query_id", ["x", "y", "x"]).add_column("label", [2.0, 0.0, 1.0]))
    assert named["query_id"][:] == [0, 1, 0] and set(named.column_names) == {"query_id", "query", "document", "label"}
    assert with_query_ids(rows, "document", "number")["number"][:] == [0, 1, 0]


def test_other_columns_are_refused():
    with pytest.raises(ValueError, match=r"query, positive and negatives \(a list\), got \['query', 'text'\]"):
        candidate_rows(datasets.Dataset.from_dict({"query": ["a"], "text": ["b"]}))
