"""Rows of lists of words, with a class for each word."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from datasets import Dataset, Features
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.class_names import MISSING, ClassIds, label_names
from hf_distill.data.files import require_texts
from hf_distill.data.sequences import STRINGS
from hf_distill.objectives.reduction import IGNORE_INDEX

FIRST_TOKENS = "first_tokens"  # column: where each word begins, None for a word without tokens
_LONGEST = 512  # tokens, for tokenizers without a limit of their own


def word_label_ids(config: PretrainedConfig) -> ClassIds:
    """The class that each name or number of a label stands for."""
    return ClassIds.of(label_names(config))


def word_columns(features: Features) -> tuple[str, str]:
    """The columns of words and of labels: tokens, or else the first of lists of strings, and the last of other lists.

    Of several columns of labels ner_tags is taken.

    Raises:
        ValueError: There are no such columns.
    """
    lists = [name for name, feature in features.items() if hasattr(feature, "feature")]
    texts = [name for name in lists if getattr(features[name].feature, "dtype", None) in STRINGS]
    text = "tokens" if "tokens" in texts else next(iter(texts), None)
    labels = [name for name in lists if name != text]
    if text is None or not labels:
        raise ValueError(f"the data need a column of lists of words and one of their labels, got {features}")
    return text, "ner_tags" if "ner_tags" in labels else labels[-1]


@dataclass
class WordEncoder:
    """Makes model inputs from words, with labels where the data have them.

    Attributes:
        tokenizer: The model's, a fast one.
        ids: The class that each name or number of a label stands for.
        max_length: Longer inputs are cut. None: to what the tokenizer allows.
        pad: Every input to that length, not to the longest of its batch.
        label_all_tokens: Label not only a word's first token; after B- follows I-.
        cached: Take an earlier result of the same call.
        num_proc: Processes that tokenize. None: one.
    """

    tokenizer: PreTrainedTokenizerBase
    ids: ClassIds
    max_length: int | None = None
    pad: bool = False
    label_all_tokens: bool = False
    cached: bool = True
    num_proc: int | None = None

    def __call__(self, rows: Dataset, text: str, label: str | None, first_tokens: bool = False) -> Dataset:
        """From the columns of words and of labels; with the column `FIRST_TOKENS` if asked for.

        Raises:
            ValueError: A row has no words, not a label for each, or a label that is none of the classes.
        """
        require_texts(rows, [text])
        name_of = getattr(getattr(rows.features.get(label), "feature", None), "int2str", str)
        limit = self.tokenizer.model_max_length
        length = min(self.max_length or (limit if limit < 10**6 else _LONGEST), limit)
        options = {"truncation": True, "max_length": length, "padding": self.pad and "max_length"}

        def encode_rows(batch: dict[str, list]) -> dict[str, list]:
            encoding = self.tokenizer(batch[text], is_split_into_words=True, **options)
            inputs, words_of_tokens = dict(encoding), [encoding.word_ids(row) for row in range(len(batch[text]))]
            if label in rows.column_names:
                names = [[None if value in MISSING else name_of(value) for value in row or ()] for row in batch[label]]
                inputs["labels"] = list(map(self.align, batch[text], names, words_of_tokens))
            if first_tokens:
                inputs[FIRST_TOKENS] = [
                    [tokens.index(word) if word in tokens else None for word in range(len(words))]
                    for words, tokens in zip(batch[text], words_of_tokens, strict=True)
                ]
            return inputs

        how = {"load_from_cache_file": self.cached, "num_proc": self.num_proc}
        return rows.map(encode_rows, batched=True, remove_columns=rows.column_names, **how)

    def align(self, words: list[str], labels: list[str | None], words_of_tokens: list[int | None]) -> list[int]:
        """The class of each token; -100 for one that does not count."""
        if len(labels) != len(words):
            raise ValueError(f"each word needs a label, got {len(words)} words {words} and {len(labels)}: {labels}")
        self.ids.require([label for label in labels if label is not None])
        classes = []
        for previous, word in pairwise([None, *words_of_tokens]):
            label = None if word is None else labels[word]
            if label is not None and word == previous:
                inside = f"I-{label[2:]}" if label[:2].casefold() == "b-" else label
                label = (label if self.ids.get(inside) is None else inside) if self.label_all_tokens else None
            classes.append(IGNORE_INDEX if label is None else self.ids.get(label))
        return classes
