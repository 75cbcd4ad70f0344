"""Data for rerankers: one row per pair of a query and a document, with the number of the query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import datasets

QUERY_ID, QUERY, DOCUMENT, LABEL = "query_id", "query", "document", "label"
_POSITIVE, _NEGATIVES = "positive", "negatives"


def with_query_ids(rows: datasets.Dataset, column: str = QUERY, name: str = QUERY_ID) -> datasets.Dataset:
    """Number the queries of a column of any type, in the order in which they first come.

    Args:
        rows: One row per candidate.
        column: The column that is the same in all candidates of a query, such as the query's text or its id as a string.
        name: The name of the column of numbers; replaces a column of that name.

    Returns:
        The rows with the column of numbers, counted from 0.
    """
    values = rows.select_columns([column]).with_format(None)[:][column]
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    others = rows.remove_columns([name]) if name in rows.column_names else rows
    return others.add_column(name, [numbers[value] for value in values])


def candidate_rows(rows: datasets.Dataset, query_id: str = QUERY_ID) -> datasets.Dataset:
    """One row per candidate, with the columns query, document, label if there are labels, and the number of the query.

    Args:
        rows: Rows with the columns query, document and perhaps label (relevance, at least 0) and `query_id`; or rows with
            the columns query, positive and negatives (a list of documents), which get the labels 1 and 0.
        query_id: The column of any type that says which query a row is of, else rows of the same query text are of one; in
            the result it has integers.

    Returns:
        The rows, those of a query in their order.

    Raises:
        ValueError: The columns are neither; names them.
    """
    names = set(rows.column_names)
    if {QUERY, _POSITIVE, _NEGATIVES} <= names:
        expanded = [row for number, of_query in enumerate(rows) for row in _expanded({query_id: number}, of_query)]
        return datasets.Dataset.from_list(expanded)
    if not {QUERY, DOCUMENT} <= names:
        raise ValueError(
            f"a reranker's data have the columns query, document and perhaps label and {query_id}, or query, "
            f"positive and negatives (a list), got {rows.column_names}"
        )
    kept = [name for name in (query_id, QUERY, DOCUMENT, LABEL) if name in names]
    return with_query_ids(rows.select_columns(kept), query_id if query_id in names else QUERY, query_id)


def _expanded(number: Mapping[str, int], row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for label, documents in ((1.0, [row[_POSITIVE]]), (0.0, row[_NEGATIVES])):
        for document in documents:
            yield {**number, QUERY: row[QUERY], DOCUMENT: document, LABEL: label}
