"""Where in a window the answer to its question stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np


def answer_tokens(offsets: np.ndarray, answers: Mapping[str, Sequence], null_position: int) -> tuple[int, int]:
    """What a window is labeled with: the first and last token of the question's first answer.

    Args:
        offsets: Of the window's tokens, integer (tokens, 2), negative for tokens that are not of the context, such as the question's.
        answers: Under "text" the answers, and under "answer_start" where in the context each begins.
        null_position: The position that stands for "no answer".

    Returns:
        First and last position; twice the null position if there is no answer, or it is not whole in this window.
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
    """The positions whose tokens are of the context."""
    return np.flatnonzero(offsets.reshape(-1, 2)[:, 0] >= 0)
