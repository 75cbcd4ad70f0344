"""Model inputs for extractive question answering, from rows of a question, a context and its answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from hf_distill.data.answer_spans import answer_tokens
from hf_distill.data.files import require_texts

NO_INPUTS = ["offsets", "example", "null_position"]  # columns of windows that models do not read


@dataclass
class WindowEncoder:
    """Encodes windows: a question with a part of its context, with labels where the data set has answers.

    Attributes:
        tokenizer: The model's tokenizer, a fast one.
        max_length: Tokens per window, question included; longer contexts are split into several windows.
        doc_stride: Tokens by which consecutive windows overlap.
        pad: Pad every window to `max_length`, not to the longest of its batch; tokenizers that pad on the left always
            do.
        segments: Whether to return token type ids. None: if the model uses them.
        cached: Use the cached result of an earlier call with the same arguments.
        num_proc: Number of processes that tokenize. None: one.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int = 384
    doc_stride: int = 128
    pad: bool = False
    segments: bool | None = None
    cached: bool = True
    num_proc: int | None = None

    @classmethod
    def fitting(cls, tokenizer: PreTrainedTokenizerBase) -> WindowEncoder:
        """An encoder with the default lengths, or shorter ones if the tokenizer's maximum is shorter."""
        limit = tokenizer.model_max_length
        return cls(tokenizer, min(cls.max_length, limit), min(cls.doc_stride, limit // 4))

    def __call__(self, rows: Dataset, for_training: bool) -> Dataset:
        """Encode rows as windows.

        Args:
            rows: Rows with the columns question, context and, if there are labels, answers.
            for_training: Leave out the columns `NO_INPUTS`, which are needed to extract answers from the model's
                outputs.

        Returns:
            The windows, at least one per row.

        Raises:
            ValueError: A row has no question, no context or, where others have them, no answers, or a question is too long.
        """
        require_texts(rows, ["question", "context"])
        return rows.map(
            self._encode_rows,
            fn_kwargs={"for_training": for_training},
            batched=True,
            with_indices=True,
            remove_columns=rows.column_names,
            num_proc=self.num_proc,
            load_from_cache_file=self.cached,
            desc="Tokenizing",
        )

    def _encode_rows(self, rows: dict[str, list], indices: list[int], for_training: bool) -> dict[str, list]:
        # Leading white space would count against the window: some tokenizers keep it.
        questions, contexts = [question.lstrip() for question in rows["question"]], rows["context"]
        max_length = min(self.max_length, self.tokenizer.model_max_length)
        self._require_room(questions, max_length)
        question_first = self.tokenizer.padding_side == "right"
        pad = self.pad or not question_first  # padding on the left would move the labels
        encoded = self.tokenizer(
            *((questions, contexts) if question_first else (contexts, questions)),
            truncation="only_second" if question_first else "only_first",
            max_length=max_length,
            stride=self.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            return_token_type_ids=self.segments,
            padding="max_length" if pad else False,
        )
        sources, pairs = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        offsets = [
            [pair if sequence == int(question_first) else (-1, -1) for pair, sequence in zip(*tokens, strict=True)]
            for tokens in zip(pairs, map(encoded.sequence_ids, range(len(pairs))), strict=True)
        ]
        nulls = list(map(self._null_position, encoded["input_ids"], encoded["attention_mask"]))
        values = (offsets, [indices[source] for source in sources], nulls)
        columns = {} if for_training else dict(zip(NO_INPUTS, values, strict=True))
        if "answers" in rows:
            answers = [rows["answers"][source] for source in sources]
            if None in answers:
                raise ValueError(
                    f"row {indices[sources[answers.index(None)]]} has no answers. Where the passage has none, its lists of answers "
                    "must be empty; questions whose answers nobody knows belong in a file of their own, for hf-distill train "
                    "--transfer-set, or leave answers out of all rows and learn soft labels alone"
                )
            spans = list(map(answer_tokens, map(np.array, offsets), answers, nulls))
            columns["start_positions"], columns["end_positions"] = map(list, zip(*spans, strict=True))
        return dict(encoded) | columns

    def _require_room(self, questions: list[str], max_length: int) -> None:
        """Refuse questions that leave no room in a window for more context than the overlap with the window before."""
        room = max_length - self.doc_stride - self.tokenizer.num_special_tokens_to_add(pair=True)
        tokens = self.tokenizer(questions, add_special_tokens=False, verbose=False)["input_ids"]
        for question, ids in zip(questions, tokens, strict=True):
            if len(ids) >= room:
                raise ValueError(
                    f"with max_seq_length {max_length} and doc_stride {self.doc_stride} a question may have fewer "
                    f"than {room} tokens, one has {len(ids)}: {question[:100]!r}. Change one of the two."
                )

    def _null_position(self, ids: list[int], mask: list[int]) -> int:
        """The position that stands for "no answer": that of the classification token, or else the first."""
        marks = [token for token in (self.tokenizer.cls_token_id, self.tokenizer.bos_token_id) if token in ids]
        return ids.index(marks[0]) if marks else mask.index(1)
