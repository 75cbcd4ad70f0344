"""Augmentation of a transfer set: new texts without labels, made from its texts, for a teacher to label."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets
from torch import nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_distill.data.augmentation_methods import (
    AugmentationMethod,
    AugmentationOptions,
    TextAugmenter,
    method_weights,
    require_positive,
)
from hf_distill.data.corpus import text_hash, without_texts_of
from hf_distill.data.files import require_texts
from hf_distill.data.sequences import text_columns
from hf_distill.data.text_parts import PartsFolder

logger = logging.getLogger(__name__)


def augment_transfer_set(
    dataset: Dataset,
    copies: int = 1,
    methods: Mapping[str, float] | None = None,
    model: nn.Module | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    exclude: Dataset | Iterable[Dataset] = (),
    keep_originals: bool = True,
    seed: int = 0,
    output_dir: str | os.PathLike[str] | None = None,
    disable_tqdm: bool = False,
    **options: Any,
) -> Dataset:
    """Make new texts from those of a transfer set, for `label_transfer_set` to label, so that meaning need not be kept.

    Each new text is made by one method, drawn by weight: `mask_fill` replaces words by predictions of a masked-language
    model, `nearest_words` by words with similar embeddings, `word_dropout` leaves words out, `n_gram_sampling` keeps 1 to 5
    consecutive words, `mix` joins halves of two texts. Of a pair the first text, the second or both are changed. A new text
    depends on the seed, its row and its copy number, not on batches, parts or `copies`.

    Args:
        dataset: The transfer set; its texts are in the column "text", or else in the first one or two columns of strings.
        copies: New texts per text. Fewer are returned if some are duplicates.
        methods: The weights by `AugmentationMethod`. None: 0.75 for `mask_fill` with a masked-language model, else for
            `word_dropout`, and 0.25 for `n_gram_sampling`.
        model: A masked-language model for `mask_fill`; a model with input embeddings for `nearest_words`.
        tokenizer: The tokenizer of this model.
        exclude: Evaluation sets. Rows with a text of these, whatever its case and white space, are neither read nor returned.
        keep_originals: Return the original texts too, before the new ones.
        seed: The seed of all random numbers.
        output_dir: Folder in which finished parts are kept, so that the same call resumes. None: everything stays in memory.
        disable_tqdm: Show no progress bar.
        **options: Fields of `AugmentationOptions`.

    Returns:
        The columns of texts, without labels and teacher outputs. Duplicates of originals and of earlier new texts are left
        out; a log message and `info.description` say how many.

    Raises:
        ValueError: There are no texts, an option or weight is not allowed, a method needs another model, or the folder holds
            texts made in another way.
        FolderInUseError: Another process writes into the folder, and did not finish in time.

    Source:
        Jiao et al. 2020, arXiv 1909.10351 (TinyBERT), algorithm 1; Tang et al. 2019, arXiv 1903.12136, section 3.3.
    """
    require_positive("copies", copies)
    given, chosen = _texts(dataset), AugmentationOptions(**options)
    weights = method_weights(methods, model)
    augmenter = TextAugmenter(weights, model, tokenizer, chosen)
    evaluation = _evaluation_texts(exclude)
    originals = _without(given, evaluation)
    _require_enough(originals, weights)
    made = _made(augmenter, originals, (copies, seed), chosen.rows_per_part, output_dir, disable_tqdm)
    unique = _without_duplicates(made, originals)
    new = _without(unique, evaluation)
    summary = _summary(weights, seed, given=given, originals=originals, made=made, unique=unique, new=new)
    return _with_info(concatenate_datasets([originals, new]) if keep_originals else new, dataset, summary)


def _texts(dataset: Any) -> Dataset:
    """The columns of texts alone, as strings."""
    if not isinstance(dataset, Dataset):
        raise ValueError(f"augment_transfer_set needs a datasets.Dataset, got a {type(dataset).__name__}")
    columns = _columns(dataset, "the transfer set")
    require_texts(dataset, columns)
    rows = dataset.with_format(None).select_columns(columns)
    features = Features(dict.fromkeys(columns, Value("string")))
    return rows if rows.features == features else rows.cast(features)


def _columns(dataset: Dataset, name: str) -> list[str]:
    columns = text_columns(dataset.features)
    if not columns:
        raise ValueError(f"{name} has no column of strings, its columns are {dataset.column_names}")
    return columns


def _evaluation_texts(exclude: Dataset | Iterable[Dataset]) -> list[str]:
    """The texts of all evaluation sets."""
    texts: list[str] = []
    for each in [exclude] if isinstance(exclude, Dataset) else exclude:
        if not isinstance(each, Dataset):
            raise ValueError(f"exclude must be data sets, such as [splits['test']], got a {type(each).__name__}")
        for column in _columns(each, "a data set of exclude"):
            texts += [text for text in each.with_format(None)[column] if text is not None]
    return texts


def _without(texts: Dataset, evaluation: list[str]) -> Dataset:
    """The rows without a text of the evaluation sets in any column."""
    for column in texts.column_names:
        texts, _ = without_texts_of(texts, evaluation, column)
    return texts


def _require_enough(originals: Dataset, weights: Mapping[AugmentationMethod, float]) -> None:
    needed = 2 if AugmentationMethod.MIX in weights else 1
    if len(originals) < needed:
        raise ValueError(
            f"the transfer set holds {len(originals)} texts that are not in exclude; {', '.join(weights)} need at least {needed}"
        )


def _made(
    augmenter: TextAugmenter,
    originals: Dataset,
    copies_and_seed: tuple[int, int],
    rows_per_part: int,
    output_dir: str | os.PathLike[str] | None,
    disable_tqdm: bool,
) -> Dataset:
    """All new texts, duplicates included."""
    starts = range(0, len(originals), rows_per_part)
    settings = {} if output_dir is None else augmenter.settings(originals, *copies_and_seed)
    with nullcontext() if output_dir is None else PartsFolder.opened(output_dir, settings) as folder:
        keep: Callable[[int, Callable[[], pa.Table]], Dataset] = _in_memory if folder is None else folder.part
        parts = []
        for index, start in enumerate(tqdm(starts, desc="Augmenting", unit=" parts", disable=disable_tqdm)):
            parts.append(keep(index, partial(augmenter.new_texts, originals, start, *copies_and_seed)))
    return concatenate_datasets(parts)


def _in_memory(index: int, make: Callable[[], pa.Table]) -> Dataset:
    return Dataset(make())


def _without_duplicates(made: Dataset, originals: Dataset) -> Dataset:
    """The new texts that equal no original and no earlier new text, whatever their case and white space."""
    seen = set(_row_hashes(originals))
    kept = []
    for index, row_hash in enumerate(_row_hashes(made)):
        if row_hash not in seen:
            seen.add(row_hash)
            kept.append(index)
    return made.select(kept)


def _row_hashes(rows: Dataset) -> Iterable[bytes]:
    for batch in rows.iter(batch_size=1000):
        for texts in zip(*batch.values(), strict=True):
            yield hashlib.sha256(b"".join(map(text_hash, texts))).digest()


def _summary(weights: Iterable[AugmentationMethod], seed: int, **rows: Dataset) -> str:
    """How many texts were made and left out."""
    count = {name: len(each) for name, each in rows.items()}
    summary = (
        f"Augmented by {', '.join(method.value for method in weights)} (seed {seed}): {count['new']} new texts from "
        f"{count['originals']}. Left out were {count['made'] - count['unique']} duplicates, and texts of evaluation sets: "
        f"{count['unique'] - count['new']} new ones, {count['given'] - count['originals']} of the transfer set."
    )
    logger.log(logging.WARNING if count["new"] < count["made"] else logging.INFO, summary)
    return summary


def _with_info(augmented: Dataset, dataset: Dataset, summary: str) -> Dataset:
    """The texts with the description of the transfer set, for the run record."""
    for name in ("dataset_name", "license", "citation"):
        setattr(augmented.info, name, getattr(dataset.info, name))
    augmented.info.description = f"{dataset.info.description} {summary}".strip()
    return augmented
