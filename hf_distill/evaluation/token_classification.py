"""Entity precision, recall and F1 as in the CoNLL shared tasks, and token accuracy, computed locally."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import EvalPrediction

from hf_distill.objectives.reduction import IGNORE_INDEX

_PREFIXES = ("B", "I", "E", "S")
_OUTSIDE = ("O", "")
Tag = tuple[str, str]  # prefix, type


def entity_metric(label_names: Sequence[str], per_type: bool = True) -> Callable[[EvalPrediction], dict[str, float]]:
    """The metric of entity recognition or tagging, to be passed to a trainer as `compute_metrics`.

    An entity is correct if its type, its first and its last token are predicted. Prefixes are interpreted as by the CoNLL
    script, in any of the schemes IOB1, IOB2, IOE and BIOES: an entity also begins at an I- or E- after O, after the end
    of an entity (E- or S-) or after another type.

    Args:
        label_names: The names of the classes in the order of the model's outputs. "B-PER", "I-PER", "E-PER" and "S-PER"
            are parts of entities of type PER, names without a prefix are outside; "B", "I", "E" and "S", if there is
            nothing else but "O", are parts of entities without a type.
        per_type: Also return the scores of each type.

    Returns:
        A function of an evaluation's predictions (sequences, tokens, classes) and labels (sequences, tokens); tokens
        labeled -100 are removed from their sequences. The keys of its result are `precision`, `recall`, `f1` (0 if no
        entity is predicted or none is labeled) and `accuracy` of tokens, and for each type that occurs in labels or
        predictions `PER_precision`, `PER_recall`, `PER_f1` and the number of labeled entities, `PER_number`. Without prefixed
        names there is `accuracy` alone. The result is empty if no token is left. The function raises a ValueError for
        predictions of another number of classes.

    Raises:
        ValueError: There are no names, or some have a known and others an unknown prefix.

    Source:
        Tjong Kim Sang and Buchholz 2000, arXiv cs/0009008, section 3, and their evaluation script conlleval.
    """
    tags = _read_tags(label_names)
    has_entities = any(tag != _OUTSIDE for tag in tags)

    def compute(evaluation: EvalPrediction) -> dict[str, float]:
        labels = evaluation.label_ids
        batches = labels if isinstance(labels, list) else [labels]
        gold_rows = [row for batch in batches for row in np.asarray(batch)]
        pairs = list(zip(predicted_classes(evaluation.predictions, len(tags)), gold_rows, strict=True))
        pairs = [(predicted[gold != IGNORE_INDEX], gold[gold != IGNORE_INDEX]) for predicted, gold in pairs]
        if not sum(len(gold) for _, gold in pairs):
            return {}
        predicted_tokens, gold_tokens = (np.concatenate(rows) for rows in zip(*pairs, strict=True))
        metrics = {"accuracy": float((gold_tokens == predicted_tokens).mean())}
        if not has_entities:
            return metrics
        both = [([tags[index] for index in predicted], [tags[index] for index in gold]) for predicted, gold in pairs]
        return _entity_scores(both, per_type) | metrics

    return compute


def entity_counts(predicted: Sequence[str], gold: Sequence[str]) -> tuple[int, int, int]:
    """Count the correct, predicted and labeled entities of one sequence; without prefixed names, the tokens.

    Args:
        predicted: The names of the tokens' predicted classes, see `entity_metric`.
        gold: The names of the tokens' correct classes.

    Returns:
        The numbers of correct, predicted and labeled entities. Twice the sum of the first over all sequences, divided by
        the sum of the others, is the F1; the accuracy without prefixed names.
    """
    tags = [_read_tags([*names, "O"])[:-1] for names in (predicted, gold)]
    if all(tag == _OUTSIDE for tag in [*tags[0], *tags[1]]) and not {*predicted, *gold} <= {"O"}:
        correct = sum(one == other for one, other in zip(predicted, gold, strict=True))
        return correct, len(predicted), len(gold)
    predicted_entities, gold_entities = map(_entities, tags)
    return len(predicted_entities & gold_entities), len(predicted_entities), len(gold_entities)


def entity_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """Compute precision, recall and F1 of entities, and the accuracy of tokens, from class names.

    Args:
        predictions: The names of the predicted classes of the tokens of each sequence, see `entity_metric`.
        references: The names of the correct classes of the same tokens.

    Returns:
        The metrics `precision`, `recall`, `f1` and `accuracy`, in [0, 1].
    """
    tags = _tags_of(predictions, references)
    pairs = zip(predictions, references, strict=True)
    correct = [one == other for pair in pairs for one, other in zip(*pair, strict=True)]
    return _entity_scores(tags, per_type=False) | {"accuracy": sum(correct) / max(len(correct), 1)}


def type_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """The F1 of each type of entity, from class names.

    Args:
        predictions: The names of the predicted classes of the tokens of each sequence, see `entity_metric`.
        references: The names of the correct classes of the same tokens.

    Returns:
        For each type of some labeled entity, in alphabetical order, its `name`, the number of labeled entities (`examples`),
        and its `f1`, in [0, 1].
    """
    counts = _EntityCounts.of(_tags_of(predictions, references))
    labeled = [kind for kind in counts.kinds if counts.gold[kind]]
    return [{"name": kind, "examples": counts.gold[kind], "f1": counts.scores(kind)["f1"]} for kind in labeled]


def _tags_of(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> list[tuple[list[Tag], list[Tag]]]:
    pairs = zip(predictions, references, strict=True)
    return [(_read_tags([*one, "O"])[:-1], _read_tags([*other, "O"])[:-1]) for one, other in pairs]


def predicted_classes(predictions: Any, num_classes: int) -> list[np.ndarray]:
    """The most probable class of every token.

    Args:
        predictions: The logits (sequences, tokens, classes), or a tuple with logits first; or a list of either, one per
            batch.
        num_classes: The expected number of classes.

    Returns:
        The classes of each sequence, (tokens,), padding included.

    Raises:
        ValueError: The logits have another shape.
    """
    rows = []
    for batch in predictions if isinstance(predictions, list) else [predictions]:
        # Models that also return hidden states or attentions give a tuple, logits first.
        logits = np.asarray(batch[0] if isinstance(batch, tuple) else batch)
        if logits.ndim != 3 or logits.shape[-1] != num_classes:
            raise ValueError(f"predictions must be (sequences, tokens, {num_classes} classes), got {logits.shape}")
        rows.extend(logits.argmax(axis=-1))
    return rows


def _read_tags(label_names: Sequence[str]) -> list[Tag]:
    """The prefix and the type of each class."""
    if not label_names:
        raise ValueError("label_names must name at least one class, got none")
    if set(label_names) <= {*_PREFIXES, "O"}:
        return [(name, "") for name in label_names]
    parts = [name.partition("-") for name in label_names]
    tags = [(prefix, kind) if prefix in _PREFIXES and kind else _OUTSIDE for prefix, _, kind in parts]
    unknown = [name for name, tag in zip(label_names, tags, strict=True) if tag == _OUTSIDE and name[1:2] == "-"]
    if unknown and any(tag != _OUTSIDE for tag in tags):
        raise ValueError(
            f"prefixes of label_names must be among {[f'{prefix}-' for prefix in _PREFIXES]}, got {unknown}"
        )
    return tags


def _entities(tags: Sequence[Tag]) -> set[tuple[str, int, int]]:
    """The entities of one sequence: type, first position, and the position after the last."""
    found: set[tuple[str, int, int]] = set()
    start, (last_prefix, last_type) = None, _OUTSIDE
    for position, (prefix, kind) in enumerate([*tags, _OUTSIDE]):
        continues = prefix in ("I", "E") and last_prefix in ("B", "I") and kind == last_type
        if start is not None and not continues:
            found.add((last_type, start, position))
            start = None
        if prefix != "O" and not continues:
            start = position
        last_prefix, last_type = prefix, kind
    return found


@dataclass(frozen=True)
class _EntityCounts:
    """The numbers of predicted, labeled and correctly predicted entities, by type."""

    predicted: Counter[str]
    gold: Counter[str]
    correct: Counter[str]

    @classmethod
    def of(cls, pairs: Sequence[tuple[list[Tag], list[Tag]]]) -> _EntityCounts:
        """Count the entities of predicted and correct tags of sequences."""
        counts = cls(Counter(), Counter(), Counter())
        for predicted_tags, gold_tags in pairs:
            predicted, gold = _entities(predicted_tags), _entities(gold_tags)
            counts.predicted.update(kind for kind, _, _ in predicted)
            counts.gold.update(kind for kind, _, _ in gold)
            counts.correct.update(kind for kind, _, _ in predicted & gold)
        return counts

    @property
    def kinds(self) -> list[str]:
        """The types that are predicted or labeled, in alphabetical order; entities without a type are left out."""
        return sorted(filter(None, self.predicted.keys() | self.gold.keys()))

    def scores(self, kind: str) -> dict[str, float]:
        """Precision, recall and F1 of a type."""
        return _scores(self.correct[kind], self.predicted[kind], self.gold[kind])


def _entity_scores(pairs: Sequence[tuple[list[Tag], list[Tag]]], per_type: bool) -> dict[str, float]:
    counts = _EntityCounts.of(pairs)
    scores = _scores(counts.correct.total(), counts.predicted.total(), counts.gold.total())
    for kind in counts.kinds if per_type else ():
        of_kind = counts.scores(kind) | {"number": counts.gold[kind]}
        scores |= {f"{kind}_{name}": value for name, value in of_kind.items()}
    return scores


def _scores(correct: int, predicted: int, gold: int) -> dict[str, float]:
    """Precision, recall and their harmonic mean."""
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / gold if gold else 0.0,
        "f1": 2 * correct / (predicted + gold) if correct else 0.0,
    }
