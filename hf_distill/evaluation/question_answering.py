"""Extractive question answering: answers from logits, and the metrics of SQuAD, computed locally."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from hf_distill.data.answer_spans import context_positions

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
# The score of a window without a possible span: below all others, and finite, so that it can be written as JSON.
_NO_SPAN = float(np.finfo(np.float32).min)


def normalized(answer: str) -> str:
    """Normalize an answer for comparison: lower case, no punctuation and articles, words separated by one space."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match_and_f1(
    predictions: Sequence[str], answers: Sequence[Sequence[str]], version_2: bool = False
) -> dict[str, float]:
    """The metrics of SQuAD: each prediction is compared with the gold answer for which its score is highest.

    Args:
        predictions: One predicted answer per question, (questions,).
        answers: The gold answers to each question, (questions,); empty for an unanswerable one.
        version_2: Whether questions may be unanswerable, as in SQuAD 2.0. Such a question scores 1 for a prediction that
            is empty after normalization, else 0; the same holds if its gold answers are all articles and punctuation.

    Returns:
        The metrics by name, in percent: `exact_match` and `f1`, the F1 over the bags of words of prediction and answer.
        With `version_2` also `HasAns_exact`, `HasAns_f1`, `NoAns_exact` and `NoAns_f1` over the questions with and
        without answers, and their numbers `HasAns_total` and `NoAns_total`, if there are any. Empty without questions.

    Raises:
        ValueError: The numbers of predictions and answers differ, or a question has no answer without `version_2`.

    Source:
        Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1; Rajpurkar et al. 2018, arXiv 1806.03822, section 4.3.
    """
    if len(predictions) != len(answers):
        raise ValueError(f"each question needs one prediction, got {len(predictions)} for {len(answers)} questions")
    scores = np.empty((len(answers), 2))  # exact match and F1
    for index, (prediction, given) in enumerate(zip(predictions, answers, strict=True)):
        predicted, golds = normalized(prediction), [normalized(answer) for answer in given]
        if version_2:
            golds = [gold for gold in golds if gold] or [""]
        if not golds:
            raise ValueError(f"question {index} has no answer; pass version_2=True if questions may be unanswerable")
        scores[index] = (predicted in golds, max(_f1(predicted, gold, version_2) for gold in golds))
    answerable = np.array([len(given) > 0 for given in answers], dtype=bool)
    metrics = _means(scores, "exact_match", "f1")
    for name, chosen in (("HasAns", answerable), ("NoAns", ~answerable)):
        if version_2 and chosen.any():
            metrics |= _means(scores[chosen], f"{name}_exact", f"{name}_f1") | {f"{name}_total": int(chosen.sum())}
    return metrics


def answers_from_logits(
    start_logits: np.ndarray,
    end_logits: np.ndarray,
    offsets: Iterable[np.ndarray],
    examples: Iterable[int],
    contexts: Sequence[str],
    null_positions: Iterable[int] | None = None,
    n_best_size: int = 20,
    max_answer_length: int = 30,
    version_2: bool = False,
    null_score_diff_threshold: float = 0.0,
) -> tuple[list[str], list[float]]:
    """The answer to each question: the best span of tokens in any of the windows that its context was split into.

    A span's score is the start logit of its first token plus the end logit of its last. Of equal scores the span in the
    earlier window is taken. Spans that cover no text are ignored.

    Args:
        start_logits: The start logits of all windows, (windows, positions); positions beyond a window's tokens are
            ignored.
        end_logits: The end logits of all windows, (windows, positions).
        offsets: The first character, and the character after the last, of each window's tokens in the context, integer
            (tokens, 2) per window; negative for tokens outside of the context, such as the question's.
        examples: The index of each window's question, (windows,).
        contexts: The context of each question, (questions,).
        null_positions: The position of each window that stands for "no answer", (windows,). None: the first.
        n_best_size: The number of positions with the highest start logits, and with the highest end logits, that spans
            are made of.
        max_answer_length: The largest number of tokens of a span.
        version_2: Whether questions may be unanswerable; then the answer is empty if the difference exceeds the threshold.
        null_score_diff_threshold: The threshold; the higher it is, the fewer questions are left unanswered.

    Returns:
        The answers, substrings of the contexts, (questions,), empty if no span is possible; and the differences,
        (questions,): the lowest "no answer" score of all windows minus the score of the best span.

    Raises:
        ValueError: Logits, offsets, examples or null positions are given for different numbers of windows.

    Source:
        Devlin et al. 2018, arXiv 1810.04805, sections 4.2 and 4.3; the windows' lowest null score as in transformers'
        examples/pytorch/question-answering/utils_qa.py.
    """
    start_logits, end_logits = (np.asarray(logits, dtype=np.float64) for logits in (start_logits, end_logits))
    nulls = np.zeros(len(start_logits), dtype=int) if null_positions is None else null_positions
    best = [(_NO_SPAN, 0, 0)] * len(contexts)
    null_scores = np.full(len(contexts), np.inf)
    for start, end, tokens, example, null in zip(start_logits, end_logits, offsets, examples, nulls, strict=True):
        span = _best_span(start, end, np.asarray(tokens), n_best_size, max_answer_length)
        if span[0] > best[example][0]:
            best[example] = span
        null_scores[example] = min(null_scores[example], start[null] + end[null])
    answers, differences = [], []
    for context, (score, first, last), null_score in zip(contexts, best, null_scores.tolist(), strict=True):
        differences.append(null_score - score)
        is_null = version_2 and differences[-1] > null_score_diff_threshold
        answers.append("" if is_null else context[first:last])
    return answers, differences


def _best_span(
    start_logits: np.ndarray, end_logits: np.ndarray, offsets: np.ndarray, n_best_size: int, max_answer_length: int
) -> tuple[float, int, int]:
    """The score, the first character, and the character after the last, of a window's best span."""
    in_context = context_positions(offsets)
    if not len(in_context):
        return _NO_SPAN, 0, 0
    starts = in_context[np.argsort(-start_logits[in_context], kind="stable")[:n_best_size]]
    ends = in_context[np.argsort(-end_logits[in_context], kind="stable")[:n_best_size]]
    lengths = ends[None, :] - starts[:, None] + 1  # (starts, ends), as are the next
    has_text = offsets[ends, 1][None, :] > offsets[starts, 0][:, None]
    allowed = (lengths >= 1) & (lengths <= max_answer_length) & has_text
    scores = np.where(allowed, start_logits[starts][:, None] + end_logits[ends][None, :], _NO_SPAN)
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    return float(scores[row, column]), int(offsets[starts[row], 0]), int(offsets[ends[column], 1])


def _f1(predicted: str, gold: str, version_2: bool) -> float:
    predicted_words, gold_words = predicted.split(), gold.split()
    if version_2 and not (predicted_words and gold_words):
        return float(predicted_words == gold_words)
    shared = sum((Counter(predicted_words) & Counter(gold_words)).values())
    return 2 * shared / (len(predicted_words) + len(gold_words)) if shared else 0.0


def _means(scores: np.ndarray, *names: str) -> dict[str, float]:
    """The means of the columns of scores (questions, names), in percent; empty without questions."""
    return dict(zip(names, (100 * scores.mean(axis=0)).tolist(), strict=True)) if len(scores) else {}
