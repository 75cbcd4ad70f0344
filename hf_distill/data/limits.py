"""Which tokens and how many of them a model can read, and the first row of a data set that is beyond it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from hf_distill.distributed.weights import gathered
from hf_distill.tasks import Task, class_of, unwrapped

_ROWS_AT_A_TIME = 1 << 16
# What families call the table of positions beside their table of words; relative and rotary positions have none.
_POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")


@dataclass(frozen=True)
class ReadingLimits:
    """What a model of texts can read.

    Attributes:
        name: The model, as errors name it.
        vocabulary_size: Rows of its table of words; None where it has none.
        max_length: Tokens of the longest text; None where nothing limits it.
        padding_id: Of a model that numbers no padding, as RoBERTa does, which padding therefore makes no longer; else None.
        prefix: Of the names of its inputs.
    """

    name: str
    vocabulary_size: int | None
    max_length: int | None
    padding_id: int | None = None
    prefix: str = ""

    @classmethod
    def of(cls, model: nn.Module, role: str, prefix: str = "") -> ReadingLimits:
        """Those of a model, read off its tables.

        Args:
            model: Any; of one that is none of transformers' nothing is known.
            role: Such as "student".
            prefix: See the attribute.
        """
        words = _word_table(unwrapped(model))
        table = None if words is None else _position_table(unwrapped(model), words)
        positions = padding_id = None
        if table is not None and table.padding_idx is not None:  # positions are counted from behind that of padding
            positions, padding_id = table.num_embeddings - table.padding_idx - 1, table.padding_idx
        elif table is not None:
            rows = table.num_embeddings - getattr(table, "offset", 0)
            positions = min(rows, getattr(unwrapped(model).config, "max_position_embeddings", None) or rows)
        rows_of_words = None if words is None else words.num_embeddings
        return cls(f"the {role} ({class_of(model).__name__})", rows_of_words, positions, padding_id, prefix)

    @property
    def column(self) -> str:
        """The input that holds its tokens."""
        return f"{self.prefix}input_ids"

    def require_tokenizer(self, tokenizer: Any) -> None:
        """Refuse a tokenizer with tokens beyond the table of words; anything but a tokenizer is let pass.

        Raises:
            ValueError: Names the last such token, and the table's size.
        """
        if self.vocabulary_size is None or not isinstance(tokenizer, PreTrainedTokenizerBase):
            return
        token, token_id = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
        if token_id >= self.vocabulary_size:
            raise ValueError(
                f"the tokenizer's token {token!r} has the id {token_id}, but {self.name} has an embedding table of "
                f"{self.vocabulary_size} rows, for ids up to {self.vocabulary_size - 1}. Tokens were added to the tokenizer and not to this "
                f"model: call its resize_token_embeddings({token_id + 1}), or take the tokenizer it came with."
            )

    def require_batch(self, batch: Mapping[str, Any]) -> None:
        """Refuse a batch of model inputs, as a collator makes it, with tokens or texts beyond the limits.

        Raises:
            ValueError: Names what is beyond, and the limit.
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

    def require_rows(self, name: str, first: int, tokens: pa.ChunkedArray) -> None:
        """Refuse rows of a data set with tokens or texts beyond the limits.

        Args:
            name: Of the data set, for the error.
            first: Number of the first row.
            tokens: A list of token ids per row.

        Raises:
            ValueError: Names the first such row, what is beyond, and the limit.
        """
        if self.vocabulary_size is not None:
            bounds = pc.min_max(pc.list_flatten(tokens)).as_py()
            if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] < self.vocabulary_size:
                beyond = bounds["min"] if bounds["min"] < 0 else bounds["max"]
                flat = pc.index(pc.list_flatten(tokens), beyond).as_py()
                row = first + pc.list_parent_indices(tokens)[flat].as_py()
                raise ValueError(self._of_token(f"row {row} of {name}", beyond))
        lengths = _filled(pc.list_value_length(tokens))
        if self.max_length is not None and (lengths > self.max_length).any():
            read = lengths if self.padding_id is None else _lengths_without(self.padding_id, tokens, lengths)
            for row in np.flatnonzero(read > self.max_length)[:1]:
                raise ValueError(self._of_length(f"row {first + row} of {name}", read[row]))

    def _of_token(self, where: str, token_id: int) -> str:
        return (
            f"{where} holds the token id {token_id}, but {self.name} has an embedding table of {self.vocabulary_size} rows, for ids "
            f"from 0 to {self.vocabulary_size - 1}. Make the rows with the model's own tokenizer, or call its "
            "resize_token_embeddings if tokens were added."
        )

    def _of_length(self, where: str, tokens: int) -> str:
        return (
            f"{where} is {tokens} tokens long, but {self.name} has positions for {self.max_length}. Cut the texts when you "
            f"tokenize them: truncation=True, max_length={self.max_length}."
        )


class WithinLimits:
    """A data collator that makes model inputs as ever, and refuses those that a model could not read.

    It sees what a look at the data set beforehand does not: streams, rows made when asked, and what collators put in.

    Args:
        data_collator: Makes the model inputs.
        limits: Of every model that reads them.
    """

    def __init__(self, data_collator: Callable[[list], Mapping[str, Any]], limits: Sequence[ReadingLimits]):
        self.data_collator, self.limits = data_collator, tuple(limits)

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        """One batch of model inputs.

        Raises:
            ValueError: It holds a token or is of a length that a model has no embedding for.
        """
        batch = self.data_collator(examples)
        for limit in self.limits:
            limit.require_batch(batch)
        return batch


def require_readable(dataset: Any, name: str, limits: Sequence[ReadingLimits]) -> None:
    """Refuse a data set with rows that are empty or that a model cannot read.

    Looks at the tokens in Arrow alone; data sets of other kinds, and those that make their rows when asked, are let pass.

    Args:
        dataset: Any data set.
        name: As the user knows it, such as "train_dataset".
        limits: Of every model that reads it.

    Raises:
        ValueError: Names the first such row, and the limit.
    """
    for column in dict.fromkeys(limit.column for limit in limits if limit.vocabulary_size is not None):
        readers = [limit for limit in limits if limit.column == column]
        for first, tokens in lists_of_numbers(dataset, column):
            empty = np.flatnonzero(_filled(pc.list_value_length(tokens)) == 0)
            if len(empty):
                raise ValueError(
                    f"row {first + empty[0]} of {name} has no tokens: its {column} is empty. Take such rows out, for "
                    f"example with dataset.filter(lambda row: len(row[{column!r}]) > 0)."
                )
            for reader in readers:
                reader.require_rows(name, first, tokens)


def require_padding_token(model: nn.Module, role: str, task: Task | None) -> None:
    """Refuse a classifier of the last token of texts, such as GPT-2's, that cannot tell which that is in a batch.

    Raises:
        ValueError: Names the model and the way out.
    """
    config = getattr(unwrapped(model), "config", None)
    if task is not Task.SEQUENCE_CLASSIFICATION or getattr(config, "pad_token_id", 0) is not None:
        return
    if _answers(model, rows=1) and not _answers(model, rows=2):
        raise ValueError(
            f"the {role} ({class_of(model).__name__}) has no padding token and answers no batch of more than one text: set "
            f"its config.pad_token_id to the tokenizer's pad_token_id before training"
            + (' (by name: teacher_model_init_kwargs={"pad_token_id": ...})' if role == "teacher" else "")
        )


def lists_of_numbers(
    dataset: Any, column: str, depth: int = 1, of: Callable[[pa.DataType], bool] = pa.types.is_integer
) -> Iterator[tuple[int, pa.ChunkedArray]]:
    """A column of numbers in Arrow, block by block; nothing where it is not there, or of another kind.

    Args:
        dataset: Any data set; of those that make their rows when asked nothing is seen.
        column: Its name.
        depth: Of the lists that the numbers are in; 0 for one number per row.
        of: Whether numbers are of the wanted kind.

    Yields:
        Number of a block's first row, and the block.
    """
    if not isinstance(dataset, datasets.Dataset) or dataset.format["type"] == "custom":
        return
    if column not in dataset.column_names:
        return
    kind = dataset.features.arrow_schema.field(column).type
    for _ in range(depth):
        kind = getattr(kind, "value_type", None)
    if kind is None or not of(kind):
        return
    rows = dataset.select_columns([column]).with_format("arrow")
    for first in range(0, len(rows), _ROWS_AT_A_TIME):
        yield first, rows[first : first + _ROWS_AT_A_TIME][column]


def _filled(lengths: pa.ChunkedArray) -> np.ndarray:
    """As numbers; a row without a list has length 0."""
    return pc.fill_null(lengths, 0).to_numpy()


def _lengths_without(token_id: int, tokens: pa.ChunkedArray, lengths: np.ndarray) -> np.ndarray:
    """Tokens of each row other than one."""
    others = pc.not_equal(pc.list_flatten(tokens), token_id).to_numpy()
    ends = np.cumsum(lengths)
    counted = np.concatenate([[0], np.cumsum(others)])
    return counted[ends] - counted[ends - lengths]


def _word_table(model: nn.Module) -> nn.Module | None:
    try:
        table = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # no model of transformers, or none of words
        return None
    return table if isinstance(getattr(table, "num_embeddings", None), int) else None


def _position_table(model: nn.Module, words: nn.Module) -> nn.Embedding | None:
    """The table beside that of words, or beside another with the same weights, as encoder-decoders have."""
    for module in model.modules():
        children = dict(module.named_children())
        if any(getattr(child, "weight", None) is words.weight for child in children.values()):
            for name in _POSITION_TABLES:
                if isinstance(children.get(name), nn.Embedding):
                    return children[name]
    return None


def _answers(model: nn.Module, rows: int) -> bool:
    training = model.training
    tokens = torch.zeros(rows, 2, dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), gathered(model):
            model.eval()(input_ids=tokens)
    except ValueError:
        return False
    except (RuntimeError, LookupError, TypeError, AttributeError):  # of a model that wants other inputs than these
        return True
    finally:
        model.train(training)
    return True
