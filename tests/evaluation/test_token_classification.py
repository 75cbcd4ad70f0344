"""Entity scores against values worked out by hand, and against trying every span of random sequences."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill.evaluation.token_classification import entity_metric, predicted_classes

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-PER", "E-LOC", "S-LOC"]


def evaluation(predicted: list[str], gold: list[str], names: list[str] = NAMES) -> EvalPrediction:
    """Sequences of names with spaces between, "-" for a token that does not count; padded as Trainer does."""
    rows = [[-100 if name == "-" else names.index(name) for name in line.split()] for line in gold]
    answers = [[names.index(name) for name in line.split()] for line in predicted]
    length = max(map(len, rows))
    labels, logits = np.full((len(rows), length), -100), np.full((len(rows), length, len(names)), -100.0)
    for row, (answer, row_labels) in enumerate(zip(answers, rows, strict=True)):
        labels[row, : len(row_labels)] = row_labels
        logits[row, : len(answer)] = np.eye(len(names))[answer]
    return EvalPrediction(logits, labels)


def scores(predicted: list[str], gold: list[str], names: list[str] = NAMES) -> dict[str, float]:
    return entity_metric(names)(evaluation(predicted, gold, names))


@pytest.mark.parametrize(
    ("predicted", "gold", "precision", "recall"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", 1, 1),
        ("B-PER O O B-LOC", "B-PER I-PER O B-LOC", 1 / 2, 1 / 2),  # a part of an entity is none
        ("O I-PER I-PER O", "O B-PER I-PER O", 1, 1),  # I- behind O begins an entity
        ("B-PER I-LOC O O", "B-PER B-LOC O O", 1, 1),  # so does I- of another type
        ("B-PER I-LOC I-LOC O", "B-PER I-PER I-PER O", 0, 0),
        ("I-PER I-PER B-PER O", "B-PER I-PER B-PER O", 1, 1),  # IOB1: B- only between neighbors
        ("B-PER B-PER O O", "B-PER I-PER O O", 0, 0),
        ("I-PER E-PER I-PER I-PER", "B-PER I-PER B-PER I-PER", 1, 1),  # IOE: E- ends an entity
        ("E-PER E-PER O O", "B-PER B-PER O O", 1, 1),
        ("B-PER I-PER E-PER S-LOC", "B-PER I-PER I-PER B-LOC", 1, 1),
        ("S-PER I-PER S-PER E-PER", "B-PER B-PER B-PER B-PER", 1, 1),  # nothing goes on behind S-
        ("O O O O", "B-PER O O B-LOC", 0, 0),
        ("B-PER O O B-LOC", "O O O O", 0, 0),
        ("O O O O", "O O O O", 0, 0),
        ("B-PER O S-LOC O", "B-PER O O O", 1 / 2, 1),
    ],
)
def test_one_sequence(predicted, gold, precision, recall):
    found = scores([predicted], [gold])
    f1 = 2 * precision * recall / (precision + recall) if precision else 0
    assert {name: found[name] for name in ("precision", "recall", "f1")} == pytest.approx(
        {"precision": precision, "recall": recall, "f1": f1}
    )
    assert all(type(value) in (float, int) for value in found.values())  # which JSON can have


def of(kind, *values):
    """The scores of a type of entity."""
    return dict(zip([f"{kind}_{name}" for name in ("precision", "recall", "f1", "number")], values, strict=True))


def test_several_sequences_and_types():
    found = scores(
        ["B-PER I-PER O B-LOC O", "B-LOC", "I-PER I-PER I-PER"],
        ["B-PER I-PER O B-PER O", "B-LOC", "B-PER B-PER I-PER"],
    )
    # Predicted: PER, LOC; LOC; PER of three words. Gold: PER, PER; LOC; PER, PER of two words. Right: one PER, one LOC.
    expected = {
        "precision": 2 / 4, "recall": 2 / 5, "f1": 4 / 9, "accuracy": 6 / 9,
        **of("PER", 1 / 2, 1 / 4, 2 / 6, 4), **of("LOC", 1 / 2, 1, 2 / 3, 1),
    }  # fmt: skip
    assert found == pytest.approx(expected)
    json.dumps(found)
    overall = entity_metric(NAMES, per_type=False)(evaluation(["B-PER"], ["B-PER"]))
    assert overall == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "accuracy": 1.0}


def test_entities_end_with_their_sequence():
    assert scores(["O B-PER", "I-PER O"], ["O B-PER", "B-PER O"])["f1"] == 1
    assert scores(["O B-PER I-PER O"], ["O B-PER B-PER O"])["f1"] == 0


def test_tokens_of_minus_100_are_taken_out():
    # Further pieces of words between the parts of an entity: whatever is predicted there, the entity goes on.
    assert scores(["O B-PER O I-PER B-LOC O"], ["- B-PER - I-PER - O"]) == pytest.approx(
        {"precision": 1, "recall": 1, "f1": 1, "accuracy": 1} | of("PER", 1, 1, 1, 1)
    )
    assert scores(["B-PER O"], ["- -"]) == {}
    assert scores(["B-PER", "B-LOC"], ["-", "B-LOC"])["f1"] == 1


def test_names_without_a_prefix_are_no_entities():
    names = ["NOUN", "VERB", "X-Y", "I"]
    assert scores(["NOUN VERB I NOUN"], ["NOUN NOUN I -"], names) == {"accuracy": pytest.approx(2 / 3)}
    mixed = ["O", "B-PER", "I-PER", "PER"]
    assert scores(["B-PER PER"], ["B-PER O"], mixed) == {
        "precision": 1, "recall": 1, "f1": 1, "accuracy": 0.5, **of("PER", 1, 1, 1, 1),
    }  # fmt: skip


def test_entities_without_a_type_and_types_with_a_hyphen():
    assert scores(["B I O"], ["B I B"], ["B", "I", "O"]) == pytest.approx(
        {"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "accuracy": 2 / 3}
    )
    names = ["O", "B-work-of-art", "I-work-of-art", "B-art"]
    found = scores(["B-work-of-art I-work-of-art B-art"], ["B-work-of-art I-work-of-art O"], names)
    types = of("work-of-art", 1, 1, 1, 1) | of("art", 0, 0, 0, 0)
    assert found == pytest.approx({"precision": 1 / 2, "recall": 1, "f1": 2 / 3, "accuracy": 2 / 3} | types)


def test_further_outputs_and_separate_batches():
    whole = evaluation(["B-PER I-PER O", "B-LOC O O"], ["B-PER I-PER O", "B-LOC I-LOC -"])
    expected = entity_metric(NAMES)(whole)
    assert 0 < expected["f1"] < 1
    hidden = np.zeros((2, 3, 8))
    assert entity_metric(NAMES)(EvalPrediction((whole.predictions, hidden), whole.label_ids)) == expected
    # As eval_do_concat_batches=False leaves them: batches of their own lengths.
    logits, labels = whole.predictions, whole.label_ids
    batches = EvalPrediction([logits[:1], logits[1:, :2]], [labels[:1], labels[1:, :2]])
    assert entity_metric(NAMES)(batches) == expected
    assert [row.tolist() for row in predicted_classes([(logits[1:, :2], hidden)], len(NAMES))] == [[3, 0]]


def test_what_is_refused():
    with pytest.raises(ValueError, match="at least one class, got none"):
        entity_metric([])
    with pytest.raises(ValueError, match=r"among \['B-', 'I-', 'E-', 'S-'\], got \['L-PER', 'U-PER'\]"):
        entity_metric(["O", "B-PER", "I-PER", "L-PER", "U-PER"])
    with pytest.raises(ValueError, match=r"\(sequences, tokens, 2 classes\), got \(1, 1, 9\)"):
        entity_metric(["O", "B-PER"])(evaluation(["O"], ["O"]))


def spans(names: list[str]) -> set[tuple]:
    """Every span that is an entity, found by asking of each: one type, no end inside, no beginning inside."""
    prefixes, types = [name[0] for name in names], [name[2:] for name in names]

    def joined(first: int, second: int) -> bool:
        if types[first] != types[second] or "O" in (prefixes[first], prefixes[second]):
            return False
        return prefixes[first] not in "ES" and prefixes[second] not in "BS"

    found = set()
    for start in range(len(names)):
        for end in range(start, len(names)):
            whole = all(joined(at, at + 1) for at in range(start, end)) and prefixes[start] != "O"
            grows_left = start > 0 and joined(start - 1, start)
            grows_right = end + 1 < len(names) and joined(end, end + 1)
            if whole and not grows_left and not grows_right:
                found.add((types[start], start, end))
    return found


def test_random_sequences_against_trying_every_span():
    draw = random.Random(3)
    metric = entity_metric(NAMES)
    for _ in range(200):
        gold = [[draw.choice([*NAMES, "-"]) for _ in range(draw.randint(1, 12))] for _ in range(draw.randint(1, 4))]
        predicted = [
            [name if name != "-" and draw.random() < 0.7 else draw.choice(NAMES) for name in row] for row in gold
        ]
        kept = [[(p, g) for p, g in zip(*rows, strict=True) if g != "-"] for rows in zip(predicted, gold, strict=True)]
        if not any(kept):
            continue
        of_all = [
            {(row, *span) for row, pairs in enumerate(kept) for span in spans([pair[side] for pair in pairs])}
            for side in (0, 1)
        ]
        expected = {"accuracy": np.mean([p == g for pairs in kept for p, g in pairs])}
        for kind in ("PER", "LOC", None):
            guessed, there = ({span for span in side if kind in (span[1], None)} for side in of_all)
            right = len(guessed & there)
            precision, recall = right / max(1, len(guessed)), right / max(1, len(there))
            f1 = 2 * precision * recall / (precision + recall) if right else 0
            if kind is None:
                expected |= {"precision": precision, "recall": recall, "f1": f1}
            elif guessed or there:
                expected |= of(kind, precision, recall, f1, len(there))
        assert metric(evaluation([*map(" ".join, predicted)], [*map(" ".join, gold)])) == pytest.approx(expected)
