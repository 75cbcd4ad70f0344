"""SQuAD's metrics against values worked out by hand, and the search for answers against trying every span."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hf_distill.data.answer_spans import answer_tokens
from hf_distill.evaluation.question_answering import (
    answers_from_logits,
    exact_match_and_f1,
    normalized,
)

CONTEXT = "the big cat sleeps"
# Where the four words are, behind a first token and a question of two.
OFFSETS = np.array([(-1, -1), (-1, -1), (-1, -1), (0, 3), (4, 7), (8, 11), (12, 18)])


def logits(**values: float) -> np.ndarray:
    """Zeros over the seven tokens but at the positions named: logits(at5=2.0)."""
    row = np.zeros(len(OFFSETS))
    for name, value in values.items():
        row[int(name.removeprefix("at"))] = value
    return row


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The  Cat's\tgarden!", "cats garden"),
        ("a theatre, an ant and the end", "theatre ant and end"),
        ("state-of-the-art", "stateoftheart"),
        ("the", ""),
        ("", ""),
        ("Đà Nẵng’s", "đà nẵng’s"),  # only ASCII punctuation goes, as in SQuAD's own script
    ],
)
def test_normalized(answer, expected):
    assert normalized(answer) == expected


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "f1"),
    [
        ("The cat.", ["cat"], 100, 100),
        ("big cat", ["dog", "the big black cat"], 0, 100 * 2 * 2 / (2 + 3)),
        ("cat cat cat", ["cat cat"], 0, 100 * 2 * 2 / (3 + 2)),  # bags: a word counts as often as in both
        ("dog", ["cat"], 0, 0),
        ("", ["cat"], 0, 0),
        ("cat", ["cat sleeps", "cat"], 100, 100),
        ("cat sleeps here", ["cat sat on mats", "cat"], 0, 100 * 2 / (3 + 1)),
        ("an", ["the"], 100, 0),  # as in SQuAD's own script: no word is shared
    ],
)
def test_one_question(prediction, golds, exact, f1):
    assert exact_match_and_f1([prediction], [golds]) == pytest.approx({"exact_match": exact, "f1": f1})


def test_mean_over_questions():
    metrics = exact_match_and_f1(["cat", "big dog", "cow"], [["a cat"], ["dog"], ["pig"]])
    assert metrics == pytest.approx({"exact_match": 100 / 3, "f1": 100 * (1 + 2 / 3) / 3})
    assert all(type(value) is float for value in metrics.values())


def test_unanswerable_questions():
    predictions = ["cat", "", "", "dog", "the"]
    golds = [["cat"], ["big cat"], [], [], []]
    assert exact_match_and_f1(predictions, golds, version_2=True) == pytest.approx(
        {
            "exact_match": 60, "f1": 60, "HasAns_exact": 50, "HasAns_f1": 50,
            "NoAns_exact": 200 / 3, "NoAns_f1": 200 / 3, "HasAns_total": 2, "NoAns_total": 3,
        }
    )  # fmt: skip


def test_answer_of_articles_only_wants_an_empty_prediction_in_version_2():
    assert exact_match_and_f1(["", "the", "cat"], [["the"]] * 3, version_2=True) == pytest.approx(
        {"exact_match": 200 / 3, "f1": 200 / 3, "HasAns_exact": 200 / 3, "HasAns_f1": 200 / 3, "HasAns_total": 3}
    )
    assert exact_match_and_f1(["cat", ""], [["the", "cat"]] * 2, version_2=True)["exact_match"] == 50


def test_nothing_and_wrong_arguments():
    assert exact_match_and_f1([], [], version_2=True) == {}
    with pytest.raises(ValueError, match="question 1 has no answer; pass version_2=True"):
        exact_match_and_f1(["cat", ""], [["cat"], []])
    with pytest.raises(ValueError, match="got 1 for 2 questions"):
        exact_match_and_f1(["cat"], [["cat"], ["dog"]])


@pytest.mark.parametrize(
    ("answer", "start", "tokens"),
    [
        ("big cat", 4, (4, 5)),
        ("the", 0, (3, 3)),
        ("sleeps", 12, (6, 6)),
        ("at sl", 9, (5, 6)),  # inside of tokens: all that have a part of it
        (CONTEXT, 0, (3, 6)),
        ("", 4, (0, 0)),
        ("sleeps near", 12, (0, 0)),  # not whole in this window
        ("big cat", -3, (0, 0)),
    ],
)
def test_tokens_of_an_answer(answer, start, tokens):
    assert answer_tokens(OFFSETS, {"text": [answer, "the"], "answer_start": [start, 0]}, 0) == tokens


def test_no_answer_or_no_context_is_labeled_with_the_null_position():
    answers = {"text": ["the"], "answer_start": [0]}
    assert answer_tokens(OFFSETS, {"text": [], "answer_start": []}, 2) == (2, 2)
    assert answer_tokens(OFFSETS[:3], answers, 2) == (2, 2)
    # The window begins after the answer.
    assert answer_tokens(np.where(OFFSETS < 4, -1, OFFSETS), answers, 2) == (2, 2)


def test_best_span_of_the_context():
    start, end = logits(at1=9, at4=2, at5=1), logits(at2=9, at5=3, at3=4)
    # Best apart are start 4 and end 3, which is before it; the question's tokens are better still.
    answers, differences = answers_from_logits([start], [end], [OFFSETS], [0], [CONTEXT])
    assert answers == ["big cat"] and differences == [-5.0]


def test_long_spans_do_not_count():
    start, end = logits(at3=5), logits(at6=5, at4=1)
    for longest, answer in ((4, CONTEXT), (3, "the big"), (1, "the")):
        assert answers_from_logits([start], [end], [OFFSETS], [0], [CONTEXT], max_answer_length=longest)[0] == [answer]


def test_starts_and_ends_are_of_the_n_best():
    start, end = logits(at6=3, at3=2), logits(at3=3, at6=-1)
    assert answers_from_logits([start], [end], [OFFSETS], [0], [CONTEXT], n_best_size=2)[0] == ["the"]
    # The only start is behind the only end.
    for version_2 in (False, True):
        answers, differences = answers_from_logits(
            [start], [end], [OFFSETS], [0], [CONTEXT], n_best_size=1, version_2=version_2
        )
        assert answers == [""] and differences[0] > 1e38
        assert json.loads(json.dumps(differences, allow_nan=False)) == differences


def windows_of_two_questions():
    """The second question's context comes in two windows, in between which is the first question's."""
    contexts = ["a dog", "one two three four"]
    offsets = [[(-1, -1), (0, 3), (4, 7)], [(-1, -1), (0, 1), (2, 5)], [(-1, -1), (8, 13), (14, 18)]]
    start = np.array([[1.0, 2.0, 0.0, -100.0], [0.0, 0.0, 3.0, 99.0], [4.0, 0.0, 5.0, 99.0]])
    end = np.array([[1.0, 2.0, 0.0, -100.0], [0.0, 0.0, 3.0, 99.0], [1.0, 0.0, 0.0, 99.0]])
    return {"start_logits": start, "end_logits": end, "offsets": offsets, "examples": [1, 0, 1], "contexts": contexts}


def test_answer_in_the_second_window():
    answers, differences = answers_from_logits(**windows_of_two_questions())
    assert answers == ["dog", "four"]
    assert differences == [0 - 6, min(1 + 1, 4 + 1) - 5]


@pytest.mark.parametrize(("threshold", "expected"), [(-7, ["", ""]), (-4, ["dog", ""]), (-3, ["dog", "four"])])
def test_threshold_of_no_answer(threshold, expected):
    options = {"null_score_diff_threshold": threshold} | windows_of_two_questions()
    assert answers_from_logits(**options, version_2=True)[0] == expected
    assert answers_from_logits(**options)[0] == ["dog", "four"]


def test_null_positions():
    given = windows_of_two_questions()
    assert answers_from_logits(**given, null_positions=[2, 1, 1])[1] == [0 - 6, 0 - 5]


def test_equal_scores_give_the_first_span():
    flat = np.zeros((2, len(OFFSETS)))
    for n_best_size in (1, 20):
        answers, differences = answers_from_logits(
            flat, flat, [OFFSETS, OFFSETS + 20], [0, 0], [CONTEXT + ", " + CONTEXT], n_best_size=n_best_size
        )
        assert answers == ["the"] and differences == [0.0]


@pytest.mark.parametrize("fill", [-1e4, -100.0, 1e4, np.nan, -np.inf])
def test_padding_and_other_texts_positions_do_not_matter(fill):
    start, end = logits(at4=2), logits(at5=2)
    padded = [np.concatenate([row, np.full(3, fill)]) for row in (start, end)]
    padded[0][1:3] = padded[1][1:3] = fill
    answers, differences = answers_from_logits([padded[0]], [padded[1]], [OFFSETS], [0], [CONTEXT])
    assert answers == ["big cat"] and differences == [-4.0]


def test_windows_without_a_possible_span():
    nowhere = np.full_like(OFFSETS, -1)
    without_text = np.where(OFFSETS < 0, -1, 4)
    for offsets in (nowhere, without_text, OFFSETS[:0]):
        assert answers_from_logits([logits()], [logits()], [offsets], [0], [CONTEXT])[0] == [""]
    # Ruled-out tokens, as some heads mark them.
    ruled_out = np.where(OFFSETS[:, 0] < 0, 0.0, -np.inf)
    assert answers_from_logits([ruled_out], [ruled_out], [OFFSETS], [0], [CONTEXT])[0] == [""]
    # The other window has an answer.
    assert answers_from_logits([logits()] * 2, [logits()] * 2, [nowhere, OFFSETS], [0, 0], [CONTEXT])[0] == ["the"]


def test_half_precision_does_not_overflow():
    start, end = logits(at4=6e4).astype(np.float16), logits(at4=6e4).astype(np.float16)
    assert answers_from_logits([start], [end], [OFFSETS], [0], [CONTEXT]) == (["big"], [-2 * float(np.float16(6e4))])


def test_unequal_numbers_of_windows_are_refused():
    with pytest.raises(ValueError):
        answers_from_logits([logits()] * 2, [logits()] * 2, [OFFSETS], [0, 0], [CONTEXT])
    with pytest.raises(ValueError):
        answers_from_logits([logits()], [logits()], [OFFSETS], [0], [CONTEXT], null_positions=[0, 0])


def every_span(start, end, offsets, n_best_size, max_answer_length):
    """Score and characters of the best span, by trying all."""
    context = [position for position, (first, _) in enumerate(offsets) if first >= 0]
    starts = sorted(context, key=lambda position: -start[position])[:n_best_size]
    ends = sorted(context, key=lambda position: -end[position])[:n_best_size]
    spans = [
        (start[first] + end[last], offsets[first][0], offsets[last][1])
        for first in starts
        for last in ends
        if first <= last < first + max_answer_length
    ]
    return max(spans, default=None)


@pytest.mark.parametrize("n_best_size", [1, 3, 100])
@pytest.mark.parametrize("max_answer_length", [1, 4, 100])
def test_search_finds_what_trying_every_span_finds(n_best_size, max_answer_length):
    random = np.random.default_rng(n_best_size + max_answer_length)
    text = "".join(random.choice(list("abcdefgh"), 200))
    examples = random.integers(0, 12, 40).tolist() + list(range(12))
    start, end = random.normal(size=(2, len(examples), 25))
    nulls = random.integers(0, 5, len(examples))
    offsets = []
    for _ in examples:
        question, tokens, shift = random.integers(1, 6), random.integers(8, 26), random.integers(0, 100)
        positions = np.arange(tokens)[:, None] * 3 + shift + np.array([0, 2])
        offsets.append(np.where(np.arange(tokens)[:, None] < question, -1, positions))
    expected, gaps = [], []
    for example in range(12):
        windows = [window for window, of in enumerate(examples) if of == example]
        found = [every_span(start[w], end[w], offsets[w].tolist(), n_best_size, max_answer_length) for w in windows]
        best = max((span for span in found if span), default=None)
        null = min(start[w][nulls[w]] + end[w][nulls[w]] for w in windows)
        gaps.append(null - best[0] if best else np.inf)
        expected.append("" if best is None or gaps[-1] > 0.5 else text[best[1] : best[2]])
    answers, differences = answers_from_logits(
        start, end, offsets, examples, [text] * 12, nulls, n_best_size, max_answer_length,
        version_2=True, null_score_diff_threshold=0.5,
    )  # fmt: skip
    assert answers == expected
    assert [gap if gap < 1e38 else np.inf for gap in differences] == pytest.approx(gaps)
