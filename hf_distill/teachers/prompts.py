"""Prompts of a language model that classifies texts: templates, the words of each label, and batches of tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hf_distill.objectives.label_words import LabelScore
from hf_distill.text.privacy import public

# Texts without content (Zhao et al. 2021, arXiv 2102.09690, section 5).
CONTENT_FREE = ("N/A", "[MASK]", "")
_FIELDS = ("{text}", "{text_pair}")
_PROBE = "text"


@dataclass(frozen=True)
class Prompt:
    """The question that a language model completes with the words of a label.

    Attributes:
        templates: One or more texts with the field {text}, and for pairs of texts {text_pair}, whose distributions are
            averaged.
        words: The words of each label, in the order of the labels, such as {"positive": " good"}. They follow the template
            immediately, so most of them begin with a space.
        score: How the log-probabilities of a label's tokens become its score.
        content_free: Texts without content, such as `CONTENT_FREE`, whose mean distribution calibrates that of every template.
            Empty: no calibration.

    Raises:
        ValueError: There is no template, one lacks the field {text}, there are fewer than two labels, or one has no words.
    """

    templates: Sequence[str]
    words: Mapping[str, str]
    score: LabelScore = LabelScore.SUM
    content_free: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        if isinstance(self.templates, str) or not self.templates:
            raise ValueError(f"templates must be a list of at least one text, got {self.templates!r}")
        for template in self.templates:
            if _FIELDS[0] not in template:
                raise ValueError(f"a template needs the field {_FIELDS[0]}, where the text goes, got {template!r}")
        if len(self.words) < 2:
            raise ValueError(f"a prompt needs the words of at least 2 labels, got {dict(self.words)}")
        for label, words in self.words.items():
            if not words.strip():
                raise ValueError(f"the label {label!r} needs words that the model may answer, got {words!r}")

    @property
    def labels(self) -> list[str]:
        """The labels, in the order of the logits."""
        return list(self.words)

    def rendered(self, template: str, texts: Sequence[str]) -> str:
        """A template with one or two texts in its fields."""
        given = dict(zip(_FIELDS, texts, strict=False))
        return re.sub(r"\{text(_pair)?\}", lambda found: given[found.group()], template)

    def require_columns(self, columns: Sequence[str]) -> None:
        """Refuse templates with another number of fields than there are columns of texts.

        Args:
            columns: The columns of texts, one or two.

        Raises:
            ValueError: A pair of texts has a template without {text_pair}, or a single text one with it.
        """
        for template in self.templates:
            if len(columns) not in (1, 2) or (_FIELDS[1] in template) != (len(columns) == 2):
                raise ValueError(
                    f"one column of texts fills {_FIELDS[0]}, a second one {_FIELDS[1]}; got the columns {list(columns)} and the "
                    f"template {template!r}"
                )

    def description(self) -> dict[str, Any]:
        """The prompt as JSON, for provenance and run records."""
        return public(
            {
                "templates": list(self.templates),
                "verbalizers": dict(self.words),
                "label_score": LabelScore(self.score).value,
                "content_free": list(self.content_free),
            }
        )


class PromptEncoder:
    """A data collator that makes prompts of texts, and cuts the texts of those that are too long.

    Args:
        tokenizer: The language model's tokenizer; special tokens that it puts before a text are put before the prompt.
        prompt: The prompt.
        columns: The column of texts, or the two columns of pairs of texts.
        max_length: Tokens that longer texts are cut to. None: as many as the model can read.
        context: Tokens that the model can read. None: any number.

    Attributes:
        label_tokens: Token ids of the labels' words, (templates, labels, tokens), padded with 0.
        is_label_token: Which of them are tokens and not padding, bool, of the same shape.

    Raises:
        ValueError: The words of a label are no tokens of their own after a template, those of two labels have the same
            tokens, or a template is longer than the model can read.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        columns: Sequence[str] = ("text",),
        max_length: int | None = None,
        context: int | None = None,
    ):
        prompt.require_columns(columns)
        self.tokenizer, self.prompt, self.columns = tokenizer, prompt, tuple(columns)
        self._start, self._max_length, self._room = _start_tokens(tokenizer), max_length, None
        by_template = [self._tokens_of_labels(template) for template in prompt.templates]
        longest = max(len(tokens) for labels in by_template for tokens in labels)
        self.label_tokens = torch.tensor(
            [[tokens + [0] * (longest - len(tokens)) for tokens in labels] for labels in by_template]
        )
        lengths = torch.tensor([[len(tokens) for tokens in labels] for labels in by_template])
        self.is_label_token = torch.arange(longest) < lengths[..., None]
        self._room = None if context is None else context - longest + 1  # the last token of a label is not read
        for template in prompt.templates:
            if not self._fits(template, [""] * len(columns)):
                raise ValueError(
                    f"the template {template!r} has {len(self._tokens(template, [''] * len(columns)))} tokens and its labels up "
                    f"to {longest}, but the model reads {context}: shorten the template"
                )

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """The prompts of rows.

        Args:
            examples: The rows, with the columns of texts.

        Returns:
            `input_ids` and `attention_mask`, (rows * templates, tokens), with the templates of a row one after the other, and
            padding before them.
        """
        return self.batch([[row[name] for name in self.columns] for row in examples])

    def batch(self, rows: Sequence[Sequence[str]]) -> dict[str, Tensor]:
        """Like calling it, from one or two texts per row."""
        tokens = [self._fitting(template, texts) for texts in rows for template in self.prompt.templates]
        longest = max(map(len, tokens))
        padded = [[0] * (longest - len(each)) + each for each in tokens]
        mask = [[0] * (longest - len(each)) + [1] * len(each) for each in tokens]
        return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask)}

    def content_free(self) -> dict[str, Tensor]:
        """The prompts of the texts without content."""
        return self.batch([[text] * len(self.columns) for text in self.prompt.content_free])

    def _tokens(self, template: str, texts: Sequence[str], words: str = "") -> list[int]:
        tokens = self._plain_tokens(self.prompt.rendered(template, texts) + words)
        return tokens if tokens[: len(self._start)] == self._start else self._start + tokens

    def _plain_tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def _fits(self, template: str, texts: Sequence[str]) -> bool:
        longest = self._max_length
        if longest is not None and sum(len(self._plain_tokens(text)) for text in texts) > longest:
            return False
        return self._room is None or len(self._tokens(template, texts)) <= self._room

    def _fitting(self, template: str, texts: Sequence[str]) -> list[int]:
        """The tokens of a prompt, of whose texts only as many characters are kept as fit, the same number of each."""
        if not self._fits(template, texts):
            low, high = 0, max(map(len, texts))
            while high - low > 1:
                middle = (low + high) // 2
                is_short = self._fits(template, [text[:middle] for text in texts])
                low, high = (middle, high) if is_short else (low, middle)
            texts = [text[:low] for text in texts]
        return self._tokens(template, texts)

    def _tokens_of_labels(self, template: str) -> list[list[int]]:
        """The tokens of each label's words after a template."""
        probe = [_PROBE] * len(self.columns)
        before, found = self._tokens(template, probe), {}
        for label, words in self.prompt.words.items():
            whole = self._tokens(template, probe, words)
            found[label] = whole[len(before) :]
            if whole[: len(before)] != before or not found[label]:
                raise ValueError(
                    f"the words {words!r} of the label {label!r} are no tokens of their own after the template {template!r}: "
                    "begin them with the space that separates them, and end the template without one"
                )
        for label, tokens in found.items():
            if alike := [name for name in found if found[name] == tokens and name != label]:
                raise ValueError(
                    f"the words of the labels {[label, *alike]} have the same tokens, {tokens}, so that the model cannot tell them "
                    "apart: give each label words of its own"
                )
        return list(found.values())


def _start_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that a tokenizer puts before a text, without those that it puts behind."""
    whole, bare = tokenizer(_PROBE)["input_ids"], tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    starts = range(len(whole) - len(bare) + 1)
    return whole[: next((start for start in starts if whole[start : start + len(bare)] == bare), 0)]
