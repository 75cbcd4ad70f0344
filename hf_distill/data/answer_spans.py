"""Token positions of answers for extractive question answering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def answer_tokens(offsets: np.ndarray, answers: Mapping[str, Sequence], null_position: int) -> tuple[int, int]:
    """The labels of a window: the positions of the first and last token of the question's first answer.

    Args:
        offsets: Start and end of each token in the context, in characters, integer (tokens, 2); negative for tokens
            outside the context, such as those of the question.
        answers: The answers under "text", and the index of each one's first character in the context under
            "answer_start".
        null_position: The position that stands for "no answer".

    Returns:
        First and last position; the null position twice if there is no answer or it is not completely in this window.
    """
    context = context_positions(offsets)
    if not answers["text"] or not len(context):
        return null_position, null_position
    begins, ends = offsets[context].T
    begin = answers["answer_start"][0]
    end = begin + len(answers["text"][0])
    if not begins[0] <= begin < end <= ends[-1]:
        return null_position, null_position
    first, last = np.searchsorted(begins, begin, side="right") - 1, np.searchsorted(ends, end)
    return int(context[first]), int(context[last])


def context_positions(offsets: np.ndarray) -> np.ndarray:
    """The positions whose tokens belong to the context."""
    return np.flatnonzero(offsets.reshape(-1, 2)[:, 0] >= 0)
