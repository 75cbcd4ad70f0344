"""Limits of a text model's inputs, its vocabulary size and maximum length, and checks of batches and data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.data.arrow_columns import lists_of_numbers
from hf_distill.distributed.weights import gathered
from hf_distill.tasks import Task, class_of, unwrapped

# Names of position embeddings beside word embeddings; relative and rotary positions have none.
_POSITION_EMBEDDINGS = ("position_embeddings", "position_embedding", "embed_positions", "wpe")


@dataclass(frozen=True)
class ReadingLimits:
    """The limits of a text model's inputs.

    Attributes:
        name: The model's role and class, for error messages.
        vocabulary_size: Number of word embeddings. None: the model has no word embeddings.
        max_length: Number of tokens of the longest input. None: the length is not limited.
        padding_id: The id of the padding token, if the model gives padding no position, as RoBERTa does, so that
            padding does not count towards the length. None: it counts.
        prefix: The prefix of the names of the model's inputs, such as "teacher_".
    """

    name: str
    vocabulary_size: int | None
    max_length: int | None
    padding_id: int | None = None
    prefix: str = ""

    @classmethod
    def of(cls, model: nn.Module, role: str, prefix: str = "") -> ReadingLimits:
        """The limits of a model, from the sizes of its embeddings.

        Args:
            model: Any model; without word embeddings, or if it is not a transformers model, it has no limits.
            role: The role of the model, such as "student", for error messages.
            prefix: The prefix of the names of the model's inputs.

        Returns:
            The limits.
        """
        words = _word_embeddings(unwrapped(model))
        table = None if words is None else _position_embeddings(unwrapped(model), words)
        positions = padding_id = None
        if table is not None and table.padding_idx is not None:  # positions start after that of padding
            positions, padding_id = table.num_embeddings - table.padding_idx - 1, table.padding_idx
        elif table is not None:
            rows = table.num_embeddings - getattr(table, "offset", 0)
            positions = min(rows, getattr(unwrapped(model).config, "max_position_embeddings", None) or rows)
        rows_of_words = None if words is None else words.num_embeddings
        return cls(f"the {role} ({class_of(model).__name__})", rows_of_words, positions, padding_id, prefix)

    @property
    def column(self) -> str:
        """The name of the model's input of token ids."""
        return f"{self.prefix}input_ids"

    def require_tokenizer(self, tokenizer: Any) -> None:
        """Refuse a tokenizer with tokens that have no word embedding.

        Args:
            tokenizer: The tokenizer; any other object is accepted without a check.

        Raises:
            ValueError: There is such a token; the message names the last one, and the size of the embeddings.
        """
        if self.vocabulary_size is None or not isinstance(tokenizer, PreTrainedTokenizerBase):
            return
        token, token_id = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        if token_id >= self.vocabulary_size:
            raise ValueError(
                f"the tokenizer's token {token!r} has the id {token_id}, but {self.name} has an embedding table of "
                f"{self.vocabulary_size} rows, for ids up to {self.vocabulary_size - 1}. Tokens were added to the tokenizer "
                f"and not to this model: call its resize_token_embeddings({token_id + 1}), or take the tokenizer it came with."
            )

    def require_batch(self, batch: Mapping[str, Any]) -> None:
        """Refuse a batch with token ids or a length beyond the limits.

        Args:
            batch: Model inputs, as a data collator returns them.

        Raises:
            ValueError: The batch is beyond a limit; the message names the value and the limit.
        """
        tokens = batch.get(self.column)
        if not isinstance(tokens, Tensor) or tokens.dim() != 2 or not tokens.numel() or tokens.device.type != "cpu":
            return
        lowest, highest = tokens.aminmax()
        if self.vocabulary_size is not None and not 0 <= int(lowest) <= int(highest) < self.vocabulary_size:
            beyond = int(lowest) if lowest < 0 else int(highest)
            raise ValueError(self._of_token(f"a batch's {self.column}", beyond))
        if self.max_length is not None and tokens.shape[1] > self.max_length:
            longest = tokens.shape[1] if self.padding_id is None else int(tokens.ne(self.padding_id).sum(1).max())
            if longest > self.max_length:
                raise ValueError(self._of_length(f"a batch of {self.column}", longest))

    def require_rows(self, name: str, number_of: Callable[[int], int], tokens: pa.ChunkedArray) -> None:
        """Refuse rows of a data set with token ids or lengths beyond the limits.

        Args:
            name: The name of the data set, for error messages.
            number_of: The number in the data set of each of these rows, by its index among them.
            tokens: The token ids of each row.

        Raises:
            ValueError: A row is beyond a limit; the message names such a row, the value and the limit.
        """
        if self.vocabulary_size is not None:
            bounds = pc.min_max(pc.list_flatten(tokens)).as_py()
            if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < self.vocabulary_size:
                beyond = bounds["min"] if bounds["min"] < 0 else bounds["max"]
                flat = pc.index(pc.list_flatten(tokens), beyond).as_py()
                row = pc.list_parent_indices(tokens)[flat].as_py()
                raise ValueError(self._of_token(f"row {number_of(row)} of {name}", beyond))
        lengths = _filled(pc.list_value_length(tokens))
        if self.max_length is not None and (lengths > self.max_length).any():
            read = lengths if self.padding_id is None else _lengths_without(self.padding_id, tokens, lengths)
            for row in np.flatnonzero(read > self.max_length)[:1]:
                raise ValueError(self._of_length(f"row {number_of(row)} of {name}", read[row]))

    def _of_token(self, where: str, token_id: int) -> str:
        assert self.vocabulary_size is not None
        return (
            f"{where} holds the token id {token_id}, but {self.name} has an embedding table of {self.vocabulary_size} rows, "
            f"for ids from 0 to {self.vocabulary_size - 1}. Make the rows with the model's own tokenizer, or call its "
            "resize_token_embeddings if tokens were added."
        )

    def _of_length(self, where: str, tokens: int) -> str:
        return (
            f"{where} is {tokens} tokens long, but {self.name} has positions for {self.max_length}. Cut the texts when you "
            f"tokenize them: truncation=True, max_length={self.max_length}."
        )


class WithinLimits:
    """A data collator that wraps another one, and refuses batches beyond the limits of a model.

    Unlike a check of the data set before training it covers streams, rows computed when they are read, and what the
    data collator adds.

    Args:
        data_collator: The wrapped data collator.
        limits: The limits of every model that these batches are for.
    """

    def __init__(self, data_collator: Callable[[list], Mapping[str, Any]], limits: Sequence[ReadingLimits]):
        self.data_collator, self.limits = data_collator, tuple(limits)

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        """Collate examples into a batch of model inputs.

        Args:
            examples: The examples, as the wrapped data collator takes them.

        Returns:
            The batch of the wrapped data collator.

        Raises:
            ValueError: The batch has token ids or a length beyond the limits of a model.
        """
        batch = self.data_collator(examples)
        for limit in self.limits:
            limit.require_batch(batch)
        return batch


def require_readable(dataset: Any, name: str, limits: Sequence[ReadingLimits]) -> None:
    """Refuse a data set with rows that are empty or beyond the limits of a model.

    Only token ids stored in Arrow are checked; other data sets, and those whose rows are computed when they are read,
    are accepted without a check.

    Args:
        dataset: Any data set.
        name: The name of the data set for the user, such as "train_dataset".
        limits: The limits of every model that reads the data set.

    Raises:
        ValueError: There is such a row; the message names one, and the limit.
    """
    for column in dict.fromkeys(limit.column for limit in limits if limit.vocabulary_size is not None):
        readers = [limit for limit in limits if limit.column == column]
        for number_of, tokens in lists_of_numbers(dataset, column):
            empty = np.flatnonzero(_filled(pc.list_value_length(tokens)) == 0)
            if len(empty):
                raise ValueError(
                    f"row {number_of(empty[0])} of {name} has no tokens: its {column} is empty. Take such rows out, for "
                    f"example with dataset.filter(lambda row: len(row[{column!r}]) > 0)."
                )
            for reader in readers:
                reader.require_rows(name, number_of, tokens)


def require_padding_token(model: nn.Module, role: str, task: Task | None) -> None:
    """Refuse a classifier on the last token, such as GPT-2's, without a padding token to find that token in a batch.

    Args:
        model: The model to check.
        role: The role of the model, "student" or "teacher", for error messages.
        task: The task of the model's head. None: an unknown task, which is accepted.

    Raises:
        ValueError: The model cannot process batches; the message names the remedy.
    """
    config = getattr(unwrapped(model), "config", None)
    if task is not Task.SEQUENCE_CLASSIFICATION or getattr(config, "pad_token_id", 0) is not None:
        return
    if _accepts_batch(model, rows=1) and not _accepts_batch(model, rows=2):
        raise ValueError(
            f"the {role} ({class_of(model).__name__}) has no padding token and accepts no batch of more than one text: set "
            f"its config.pad_token_id to the tokenizer's pad_token_id before training"
            + (' (by name: teacher_model_init_kwargs={"pad_token_id": ...})' if role == "teacher" else "")
        )


def _filled(lengths: pa.ChunkedArray) -> np.ndarray:
    """The lengths, integer (rows,); a row without a list has length 0."""
    return pc.fill_null(lengths, 0).to_numpy()


def _lengths_without(token_id: int, tokens: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    """The number of tokens in each row other than a certain one, integer (rows,)."""
    others = pc.not_equal(pc.list_flatten(tokens), token_id).to_numpy()
    ends = np.cumsum(lengths)
    counted = np.concatenate([[0], np.cumsum(others)])
    return counted[ends] - counted[ends - lengths]


def _word_embeddings(model: nn.Module) -> nn.Embedding | None:
    try:
        table = cast(PreTrainedModel, model).get_input_embeddings()
    except (AttributeError, NotImplementedError):  # not a transformers model, or not a model of texts
        return None
    return cast(nn.Embedding, table) if isinstance(getattr(table, "num_embeddings", None), int) else None


def _position_embeddings(model: nn.Module, words: nn.Embedding) -> nn.Embedding | None:
    """The position embeddings beside the word embeddings, or beside a module that shares their weights."""
    for module in model.modules():
        children = dict(module.named_children())
        if any(getattr(child, "weight", None) is words.weight for child in children.values()):
            for name in _POSITION_EMBEDDINGS:
                if isinstance(table := children.get(name), nn.Embedding):
                    return table
    return None


def _accepts_batch(model: nn.Module, rows: int) -> bool:
    training = model.training
    tokens = torch.zeros(rows, 2, dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), gathered(model):
            model.eval()(input_ids=tokens)
    except ValueError:
        return False
    except (RuntimeError, LookupError, TypeError, AttributeError):  # the model takes other inputs
        return True
    finally:
        model.train(training)
    return True
