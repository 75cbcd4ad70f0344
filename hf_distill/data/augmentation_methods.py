"""The methods of augmentation, and the new texts that they make from a part of a transfer set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from math import isfinite
from random import Random
from typing import Any

import pyarrow as pa
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from hf_distill.data.limits import ReadingLimits
from hf_distill.data.text_changes import (
    Replacement,
    draw_replacement,
    dropped_words,
    joined_halves,
    random_index,
    random_numbers,
    sampled_n_gram,
)
from hf_distill.data.word_replacement import MaskedWordReplacer, NearestWordReplacer, WordReplacer
from hf_distill.fingerprints import json_sha256, rows_sha256, weights_sha256
from hf_distill.tasks import Task, class_of, task_of
from hf_distill.text.suggestions import choice


class AugmentationMethod(str, Enum):
    """How a new text is made from an original one."""

    MASK_FILL = "mask_fill"
    NEAREST_WORDS = "nearest_words"
    WORD_DROPOUT = "word_dropout"
    N_GRAM_SAMPLING = "n_gram_sampling"
    MIX = "mix"


_WITH_MODEL = (AugmentationMethod.MASK_FILL, AugmentationMethod.NEAREST_WORDS)
_N_GRAM_WEIGHT = 0.25  # the probability of n-gram sampling of Tang et al. 2019


@dataclass(frozen=True)
class AugmentationOptions:
    """How much the texts are changed, and how many of them are processed at once.

    Attributes:
        replaced_fraction: Probability that a word is replaced (`mask_fill`, `nearest_words`); at least one is. The
            default is TinyBERT's.
        dropped_fraction: Probability that a word is left out (`word_dropout`); at least one is.
        top_k: Candidates for a word, of which one is drawn with equal probability. The default is TinyBERT's.
        longest_n_gram: Largest number of words of an n-gram.
        batch_size: Texts per forward pass of the model.
        rows_per_part: Original texts per file, and the most whose new texts are made at once.

    Raises:
        ValueError: A value is not allowed.
    """

    replaced_fraction: float = 0.4
    dropped_fraction: float = 0.1
    top_k: int = 15
    longest_n_gram: int = 5
    batch_size: int = 32
    rows_per_part: int = 1024

    def __post_init__(self) -> None:
        for name in ("replaced_fraction", "dropped_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {getattr(self, name)!r}")
        for name in ("top_k", "longest_n_gram", "batch_size", "rows_per_part"):
            require_positive(name, getattr(self, name))


def require_positive(name: str, value: Any) -> None:
    """Refuse a value that is not a positive integer.

    Args:
        name: The name of the argument, for the error message.
        value: The value to check.

    Raises:
        ValueError: The value is of another type, or below 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def method_weights(methods: Mapping[str, float] | None, model: nn.Module | None) -> dict[AugmentationMethod, float]:
    """The methods with a weight above 0, in the order of `AugmentationMethod`.

    Args:
        methods: Weights by method. None: the default ones for the model.
        model: The model that replaces words, if there is one.

    Returns:
        The weights.

    Raises:
        ValueError: A method is unknown, a weight is negative or not finite, or all weights are 0.
    """
    if methods is None:
        has_head = model is not None and task_of(model) is Task.MASKED_LM
        changed = AugmentationMethod.MASK_FILL if has_head else AugmentationMethod.WORD_DROPOUT
        methods = {changed: 1 - _N_GRAM_WEIGHT, AugmentationMethod.N_GRAM_SAMPLING: _N_GRAM_WEIGHT}
    weights = {choice(AugmentationMethod, name, "methods"): weight for name, weight in methods.items()}
    if wrong := {name.value: weight for name, weight in weights.items() if not (isfinite(weight) and weight >= 0)}:
        raise ValueError(f"weights of methods must be finite and at least 0, got {wrong}")
    found = {method: float(weights[method]) for method in AugmentationMethod if weights.get(method)}
    if not found:
        raise ValueError(f"at least one method must have a weight above 0, got {dict(methods)}")
    return found


class TextAugmenter:
    """Makes new texts by methods drawn at random.

    Args:
        weights: The weight of each method.
        model: The model that replaces words; needed by `mask_fill` and `nearest_words` only.
        tokenizer: The model's tokenizer.
        options: The options.

    Raises:
        ValueError: A method needs another model or tokenizer.
    """

    def __init__(
        self,
        weights: dict[AugmentationMethod, float],
        model: nn.Module | None,
        tokenizer: PreTrainedTokenizerBase | None,
        options: AugmentationOptions,
    ):
        self._weights, self._options = weights, options
        self._model, self._tokenizer = (model, tokenizer) if {*weights} & {*_WITH_MODEL} else (None, None)
        self._replacers: dict[AugmentationMethod, WordReplacer] = {}
        for method in weights:
            if method in _WITH_MODEL:
                self._replacers[method] = _replacer(method, model, tokenizer, options)

    def settings(self, texts: Dataset, copies: int, seed: int) -> dict[str, Any]:
        """Everything that the new texts depend on, as JSON values.

        Args:
            texts: The original texts.
            copies: New texts per text.
            seed: The seed.

        Returns:
            The values by name.
        """
        options = {name: value for name, value in asdict(self._options).items() if name != "batch_size"}
        tokenizer = None if self._tokenizer is None else sorted(self._tokenizer.get_vocab().items())
        return {
            "texts_sha256": rows_sha256(texts),
            "copies": copies,
            "seed": seed,
            "methods": {method.value: weight for method, weight in self._weights.items()},
            **options,
            "model_sha256": None if self._model is None else weights_sha256(self._model),
            "tokenizer_sha256": None if tokenizer is None else json_sha256(tokenizer),
        }

    def new_texts(self, texts: Dataset, first: int, copies: int, seed: int) -> pa.Table:
        """The new texts for a part of the rows.

        Args:
            texts: All original texts.
            first: The number of the part's first row.
            copies: New texts per text.
            seed: The seed.

        Returns:
            The new texts, those of the same row one after another, in the columns of the original texts.
        """
        made: dict[str, list[str]] = {column: [] for column in texts.column_names}
        waiting: dict[AugmentationMethod, list[tuple[str, int, Replacement]]] = defaultdict(list)
        rows = range(first, min(first + self._options.rows_per_part, len(texts)))
        for number, row in zip(rows, texts.select(rows), strict=True):
            for copy in range(copies):
                numbers = random_numbers(seed, number, copy)
                (method,) = numbers.choices([*self._weights], [*self._weights.values()])
                changed = _changed_columns(texts.column_names, numbers)
                partner = texts[_other(number, len(texts), numbers)] if method is AugmentationMethod.MIX else row
                for column, text in row.items():
                    if column not in changed:
                        made[column].append(text)
                    elif method in self._replacers:
                        drawn = self._replacement(method, text.split(), numbers)
                        waiting[method].append((column, len(made[column]), drawn))
                        made[column].append(text)
                    else:
                        made[column].append(self._changed(method, text.split(), partner[column].split(), numbers))
        for method, drawn_ones in waiting.items():
            replaced = self._replacers[method].texts([drawn for _, _, drawn in drawn_ones])
            for (column, place, _), text in zip(drawn_ones, replaced, strict=True):
                made[column][place] = text
        return pa.table({column: pa.array(values, pa.string()) for column, values in made.items()})

    def _replacement(self, method: AugmentationMethod, words: list[str], numbers: Random) -> Replacement:
        allowed = [self._replacers[method].can_replace(word) for word in words]
        return draw_replacement(words, allowed, self._options.replaced_fraction, numbers)

    def _changed(self, method: AugmentationMethod, words: list[str], others: list[str], numbers: Random) -> str:
        """The new text by a method without a model."""
        if method is AugmentationMethod.WORD_DROPOUT:
            changed = dropped_words(words, self._options.dropped_fraction, numbers)
        elif method is AugmentationMethod.N_GRAM_SAMPLING:
            changed = sampled_n_gram(words, self._options.longest_n_gram, numbers)
        else:
            changed = joined_halves(words, others)
        return " ".join(changed)


def _replacer(
    method: AugmentationMethod,
    model: nn.Module | None,
    tokenizer: PreTrainedTokenizerBase | None,
    options: AugmentationOptions,
) -> WordReplacer:
    """The replacer of words for a method; refuses a model or tokenizer that it cannot use."""
    got = "none" if model is None else f"a {class_of(model).__name__}"
    is_masked_lm = method is AugmentationMethod.MASK_FILL
    if is_masked_lm and (model is None or task_of(model) is not Task.MASKED_LM):
        raise ValueError(f"the method mask_fill needs a masked-language model as model, got {got}")
    limits = None if model is None else ReadingLimits.of(model, "model")
    if model is None or limits is None or limits.vocabulary_size is None:
        raise ValueError(f"the method {method.value} needs a model with input embeddings of tokens, got {got}")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ValueError(f"the method {method.value} needs the model's tokenizer, got a {type(tokenizer).__name__}")
    limits.require_tokenizer(tokenizer)
    if not is_masked_lm:
        return NearestWordReplacer(model, tokenizer, options.top_k)
    if tokenizer.mask_token is None:
        raise ValueError("the method mask_fill needs a tokenizer with a mask token, got one without")
    return MaskedWordReplacer(model, tokenizer, options.top_k, options.batch_size)


def _changed_columns(columns: list[str], numbers: Random) -> list[str]:
    """The columns to change: of a pair the first, the second or both."""
    return columns if len(columns) < 2 else [columns[:1], columns[1:], columns][random_index(numbers, 3)]


def _other(row: int, rows: int, numbers: Random) -> int:
    """The number of a random row other than a certain one."""
    index = random_index(numbers, rows - 1)
    return index + (index >= row)
