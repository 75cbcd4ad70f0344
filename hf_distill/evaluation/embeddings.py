"""Evaluation of sentence encoders: the teacher's similarities and retrieval, and scores on pairs of texts that belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from hf_distill.data.limits import ReadingLimits
from hf_distill.extras import require_extra
from hf_distill.sentence_encoder import prompts_of

_PAIRS_AT_ONCE = 1000  # rows of similarities in memory
_MOST_COMPARED = 500  # where every text is compared with every other


def embeddings_of(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    batch_size: int = 128,
    prompt: str | None = None,
) -> np.ndarray:
    """The embeddings of texts; those that are longer than the model can read are truncated.

    Args:
        model: A sentence encoder, which is left in evaluation mode.
        tokenizer: The tokenizer of the sentence encoder.
        texts: The texts, without their prompt.
        batch_size: Texts per forward pass, of similar length.
        prompt: What the texts are made to begin with. None: the default prompt of the model, if it has one.

    Returns:
        The embeddings, float32 (texts, hidden).
    """
    longest = ReadingLimits.of(model, "sentence encoder").max_length
    if prompt is None:
        (prompt,) = prompts_of(getattr(model, "config", None))
    encoded = tokenizer(
        [prompt + text for text in texts],
        truncation=longest is not None,
        max_length=longest,
        return_token_type_ids=False,
    )
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    found: dict[int, np.ndarray] = {}
    model.eval()
    device = next(model.parameters()).device
    for rows in np.array_split(np.argsort(-lengths, kind="stable"), max(1, -(-len(lengths) // batch_size))):
        batch = tokenizer.pad({name: [encoded[name][row] for row in rows] for name in encoded}, return_tensors="pt")
        with torch.inference_mode():
            output: Any = model(**batch.to(device))
        found |= zip(rows.tolist(), output["logits"].float().cpu().numpy(), strict=True)
    return np.stack([found[row] for row in range(len(lengths))])


def normalized(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings of length 1, (texts, width); one of zeros stays as it is."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings / np.where(lengths > 0, lengths, 1)


def similarity_spearman(student: np.ndarray, teacher: np.ndarray) -> float:
    """Spearman's rank correlation of the student's and the teacher's cosine similarities over all pairs of texts.

    Args:
        student: The student's embeddings, (texts, student width).
        teacher: The teacher's embeddings of the same texts, (texts, teacher width).

    Returns:
        The correlation, in [-1, 1].
    """
    _require_same_rows(student, teacher)
    return float(_spearman(pair_cosines(student), pair_cosines(teacher)))


def pair_cosines(embeddings: np.ndarray) -> np.ndarray:
    """The cosine similarities of all pairs of texts, in the order of `np.triu_indices(texts, k=1)`, (pairs,)."""
    return (normalized(embeddings) @ normalized(embeddings).T)[np.triu_indices(len(embeddings), k=1)]


def evenly_spaced(rows: int) -> np.ndarray:
    """The indices of at most 500 rows, evenly spaced, where every row is compared with every other."""
    return np.unique(np.linspace(0, rows - 1, min(rows, _MOST_COMPARED)).astype(int))


def neighbor_agreement(student: np.ndarray, teacher: np.ndarray, k: int = 10) -> float:
    """The share of the teacher's k nearest other texts of a text that are among the student's, mean over texts.

    Args:
        student: The student's embeddings, (texts, student width).
        teacher: The teacher's embeddings of the same texts, (texts, teacher width).
        k: The number of other texts, fewer than there are texts.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: There are not more than k texts, or numbers of texts differ.
    """
    _require_same_rows(student, teacher)
    if not 0 < k < len(student):
        raise ValueError(f"k must be from 1 to the number of other texts, {len(student) - 1}, got {k}")
    return _mean_overlap(*(_nearest_others(each, k) for each in (student, teacher)))


def retrieval_agreement(
    student: tuple[np.ndarray, np.ndarray], teacher: tuple[np.ndarray, np.ndarray], k: int = 10
) -> float:
    """The share of the teacher's k nearest documents of a query that are among the student's, mean over queries.

    Args:
        student: The student's embeddings of queries and of documents, (queries, width) and (documents, width).
        teacher: The teacher's embeddings of the same.
        k: The number of documents, at most as many as there are.

    Returns:
        The share, in [0, 1].

    Raises:
        ValueError: There are fewer than k documents, or numbers of texts differ.
    """
    for own, others in zip(student, teacher, strict=True):
        _require_same_rows(own, others)
    if not 0 < k <= len(student[1]):
        raise ValueError(f"k must be from 1 to the number of documents, {len(student[1])}, got {k}")
    return _mean_overlap(_nearest(*student, k), _nearest(*teacher, k))


def pair_scores(queries: np.ndarray, documents: np.ndarray) -> dict[str, float]:
    """Scores of retrieving, for each query, the document of the same row among all documents.

    Args:
        queries: Embeddings of queries, (pairs, width).
        documents: Embeddings of the documents that belong to them, (pairs, width).

    Returns:
        `accuracy_at_1` and `mrr` (mean reciprocal rank), in [0, 1], and `spearman`, the rank correlation of the similarity
        with whether two texts belong together, over all pairs and as many others (each query with the next row's document).
    """
    ranks = target_ranks(queries, documents)
    own = (normalized(queries) * normalized(documents)).sum(axis=1)
    others = (normalized(queries) * np.roll(normalized(documents), -1, axis=0)).sum(axis=1)
    together = np.repeat([1, 0], len(queries))
    return {
        "accuracy_at_1": float((ranks == 1).mean()),
        "mrr": float((1 / ranks).mean()),
        "spearman": float(_spearman(np.concatenate([own, others]), together)),
    }


def target_ranks(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The rank, from 1, of each query's own document among all, (pairs,); of equally near ones the mean rank."""
    _require_same_rows(queries, documents)
    queries, documents = normalized(queries), normalized(documents)
    ranks = []
    for first in range(0, len(queries), _PAIRS_AT_ONCE):
        part = queries[first : first + _PAIRS_AT_ONCE] @ documents.T
        own = part[np.arange(len(part)), first + np.arange(len(part))][:, None]
        ranks.append((part > own).sum(axis=1) + ((part == own).sum(axis=1) + 1) / 2)
    return np.concatenate(ranks)


def _nearest(queries: np.ndarray, documents: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-(normalized(queries) @ normalized(documents).T), axis=1, kind="stable")[:, :k]


def _nearest_others(embeddings: np.ndarray, k: int) -> np.ndarray:
    cosines = normalized(embeddings) @ normalized(embeddings).T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def _mean_overlap(first: np.ndarray, second: np.ndarray) -> float:
    """The mean share of the indices of a row that are in the same row of the other, both (rows, k)."""
    shares = [len(np.intersect1d(*both)) / first.shape[1] for both in zip(first, second, strict=True)]
    return float(np.mean(shares))


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    return require_extra("scipy.stats", "eval", "Spearman's correlation").spearmanr(first, second).statistic


def _require_same_rows(first: np.ndarray, second: np.ndarray) -> None:
    if len(first) != len(second):
        raise ValueError(f"both need embeddings of the same texts, got {len(first)} and {len(second)} rows")
