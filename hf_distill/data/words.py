"""Model inputs for token classification, from rows of words and a label for each word."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from datasets import Dataset, Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.class_names import MISSING, ClassIds, label_names
from hf_distill.data.files import require_texts
from hf_distill.data.sequences import STRINGS
from hf_distill.objectives.reduction import IGNORE_INDEX

FIRST_TOKENS = "first_tokens"  # the column of each word's first token position, None for a word without tokens
_MODEL_INPUTS = ("input_ids", "token_type_ids", "attention_mask", "labels")
_LONGEST = 512  # tokens, for tokenizers without a maximum length


def word_label_ids(config: PretrainedConfig) -> ClassIds:
    """The class of each name or number of a label."""
    return ClassIds.of(label_names(config))


def word_columns(features: Features) -> tuple[str, str]:
    """The columns of words and of labels in a data set.

    Args:
        features: The features of the data set.

    Returns:
        The column of words, see `words_column`, and that of labels, see `word_label_column`.

    Raises:
        ValueError: There are no such columns, or several that may hold the labels.
    """
    text = words_column(features)
    label = None if text is None else word_label_column(features, text)
    if text is None or label is None:
        raise ValueError(f"the data need a column of lists of words and one of their labels, got {features}")
    return text, label


def words_column(features: Features) -> str | None:
    """The column of words: "tokens", or else the first column of lists of strings; None if there is none."""
    lists = {name: getattr(feature, "feature", None) for name, feature in features.items()}
    texts = [name for name, each in lists.items() if getattr(each, "dtype", None) in STRINGS]
    return "tokens" if "tokens" in texts else next(iter(texts), None)


def word_label_column(
    features: Features, text: str, task: str = "ner", advice: str = "name the right one with --label-column"
) -> str | None:
    """The column of a label for each word: "label", the task's tags ("ner_tags") or "labels", or else the only other list of single values.

    Args:
        features: The features of the data set. Those named like model inputs do not count if it has such.
        text: The column of words.
        task: What comes before _tags in the column's name.
        advice: What a user can do where the choice is open, for the error message.

    Returns:
        The column; None if there is none.

    Raises:
        ValueError: There are several, and none has one of these names.
    """
    inputs = _MODEL_INPUTS if "input_ids" in features else ()
    values = {name: getattr(feature, "feature", None) for name, feature in features.items() if name not in inputs}
    lists = [name for name, value in values.items() if name != text and hasattr(value, "dtype")]
    usual = [name for name in ("label", f"{task}_tags", "labels") if name in lists]
    if len(lists) > 1 and not usual:
        raise ValueError(f"any of the columns {lists} may hold the labels of words; {advice}")
    return next(iter(usual or lists), None)


@dataclass
class WordEncoder:
    """Encodes words as model inputs, with labels where the data set has them.

    Attributes:
        tokenizer: The model's tokenizer, a fast one.
        ids: The class of each name or number of a label.
        max_length: Tokens to which longer inputs are truncated. None: the tokenizer's maximum, or 512 without one.
        pad: Pad every input to that length, not to the longest of its batch.
        label_all_tokens: Label all tokens of a word, with I- after B-, not only its first token.
        cached: Use the cached result of an earlier call with the same arguments.
        num_proc: Number of processes that tokenize. None: one.
    """

    tokenizer: PreTrainedTokenizerBase
    ids: ClassIds
    max_length: int | None = None
    pad: bool = False
    label_all_tokens: bool = False
    cached: bool = True
    num_proc: int | None = None

    def __call__(self, rows: Dataset, text: str, label: str | None, first_tokens: bool = False) -> Dataset:
        """Encode rows as model inputs.

        Args:
            rows: Rows with these columns.
            text: The name of the column of words.
            label: The name of the column of labels, in which rows without labels have None. None: no row has any.
            first_tokens: Add the column `FIRST_TOKENS`.

        Returns:
            The model inputs, one row per row.

        Raises:
            ValueError: A row has no words, not one label for each word, or a label that is not one of the classes.
        """
        require_texts(rows, [text])
        name_of = getattr(getattr(rows.features.get(label), "feature", None), "int2str", str)
        limit = self.tokenizer.model_max_length
        length = min(self.max_length or (limit if limit < 10**6 else _LONGEST), limit)
        options: dict[str, Any] = {"truncation": True, "max_length": length, "padding": self.pad and "max_length"}

        def encode_rows(batch: dict[str, list]) -> dict[str, list]:
            encoding = self.tokenizer(batch[text], is_split_into_words=True, **options)
            inputs, words_of_tokens = dict(encoding), [encoding.word_ids(row) for row in range(len(batch[text]))]
            if label is not None and label in rows.column_names:
                rows_of_labels = zip(batch[label], batch[text], strict=True)
                whole = ([None] * len(words) if row is None else row for row, words in rows_of_labels)
                names = [[None if value in MISSING else name_of(value) for value in row] for row in whole]
                inputs["labels"] = list(map(self.align, batch[text], names, words_of_tokens))
            if first_tokens:
                inputs[FIRST_TOKENS] = [
                    [tokens.index(word) if word in tokens else None for word in range(len(words))]
                    for words, tokens in zip(batch[text], words_of_tokens, strict=True)
                ]
            return inputs

        how = {"load_from_cache_file": self.cached, "num_proc": self.num_proc, "desc": "Tokenizing"}
        return rows.map(encode_rows, batched=True, remove_columns=rows.column_names, **how)

    def align(self, words: list[str], labels: list[str | None], words_of_tokens: list[int | None]) -> list[int]:
        """Give each token the class of its word.

        Args:
            words: The words of a row.
            labels: The label of each word; None for a missing one.
            words_of_tokens: The index of each token's word; None for special tokens.

        Returns:
            The class of each token; -100 for tokens that do not count.

        Raises:
            ValueError: There is not one label for each word, or a label is not one of the classes.
        """
        if len(labels) != len(words):
            raise ValueError(f"each word needs a label, got {len(words)} words {words} and {len(labels)}: {labels}")
        self.ids.require([label for label in labels if label is not None])
        classes = []
        for previous, word in pairwise([None, *words_of_tokens]):
            label = None if word is None else labels[word]
            if label is not None and word == previous:
                inside = f"I-{label[2:]}" if label[:2].casefold() == "b-" else label
                label = (label if self.ids.get(inside) is None else inside) if self.label_all_tokens else None
            index = IGNORE_INDEX if label is None else self.ids.get(label)
            assert index is not None
            classes.append(index)
        return classes
