"""Unlabeled texts, words, questions or images that a student learns from beside the labeled rows of a data set."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import cast

from datasets import Dataset, Features, Image, concatenate_datasets
from transformers import PretrainedConfig

from hf_distill.data.corpus import text_hash
from hf_distill.data.files import load_named
from hf_distill.data.sequences import single_texts, string_columns, text_columns
from hf_distill.data.words import word_columns, words_column
from hf_distill.resources.squad import is_squad_file, load_squad_file
from hf_distill.scripts.datasets import load_unlabeled_rows
from hf_distill.sentence_encoder import DEFAULT_PROMPT, PROMPTS

QUESTION, IMAGE = ("question", "context"), "image"

logger = logging.getLogger(__name__)


def with_unlabeled_texts(splits: Mapping[str, Dataset], source: str, text_column: list[str] | None) -> Dataset:
    """The labeled training rows, followed by unlabeled texts that are in none of the splits.

    Args:
        splits: The rows of the data set by split, train among them.
        source: The unlabeled texts, see `load_unlabeled_rows`.
        text_column: The name of the column of texts, or of two for pairs of texts, in both; other names in the source will do
            if it has no other columns of strings. None: text, or the first columns of strings.

    Returns:
        The rows with the text columns of the split train, and its column label, which is None for unlabeled texts.

    Raises:
        ValueError: The texts have another number of text columns.
        OSError: The source does not exist.
    """
    train, rows = splits["train"], cast(Dataset, load_unlabeled_rows(source))
    own, theirs = text_columns(train.features), text_column or text_columns(rows.features)
    missing = [name for name in theirs if name not in rows.column_names]
    if missing and len(strings := string_columns(rows.features)) == len(own):  # such as the lines of a text file
        theirs, missing = strings, []
    if missing:
        raise ValueError(f"the transfer set {source} has no columns {missing}, it has {rows.column_names}")
    if not own or len(theirs) != len(own):
        raise ValueError(
            f"the transfer set {source} must have as many text columns as the data set ({own}), got {theirs}; name the columns "
            "of texts and labels (--text-column, --label-column)"
        )
    rows = rows.select_columns(theirs).rename_columns(dict(zip(theirs, own, strict=True)))
    return _with_new(splits, rows, own, ["label"] if "label" in train.column_names else [])


def with_unlabeled_words(splits: Mapping[str, Dataset], source: str) -> Dataset:
    """The training rows of words and labels, followed by rows of words without labels that are in none of the splits.

    Args:
        splits: The rows of the data set by split, train among them.
        source: The rows of words, see `load_unlabeled_rows`; labels of them are not read.

    Returns:
        The rows with the columns of words and of labels of the split train; the labels of the others are None.

    Raises:
        ValueError: The source has no column of lists of words.
        OSError: The source does not exist.
    """
    own, label = word_columns(splits["train"].features)
    rows = cast(Dataset, load_unlabeled_rows(source))
    theirs = words_column(rows.features)
    if theirs is None:
        raise ValueError(f"the transfer set {source} must have a column of lists of words, it has {rows.column_names}")
    return _with_new(splits, rows.select_columns([theirs]).rename_columns({theirs: own}), [own], [label])


def with_unlabeled_questions(splits: Mapping[str, Dataset], source: str) -> Dataset:
    """The training questions and questions that are in none of the splits, all without answers: the teacher gives them.

    Args:
        splits: The rows of the data set by split, train among them.
        source: A file with SQuAD's format, or rows with the columns question and context, see `load_unlabeled_rows`; answers
            are not read.

    Returns:
        Rows with the columns question and context.

    Raises:
        ValueError: The source lacks one of the columns.
        OSError: The source does not exist.
    """
    path = Path(source)
    rows = load_squad_file(path) if is_squad_file(path) else cast(Dataset, load_unlabeled_rows(source))
    if missing := set(QUESTION) - set(rows.column_names):
        raise ValueError(f"the transfer set {source} has no columns {sorted(missing)}, it has {rows.column_names}")
    return _with_new(splits, rows.select_columns(list(QUESTION)), list(QUESTION), [])


def with_unlabeled_images(splits: Mapping[str, Dataset], source: str) -> Dataset:
    """The labeled training images, followed by images without labels that are in none of the splits.

    Args:
        splits: The rows of the data set by split, train among them.
        source: A folder of image files, or a data set with the column image; labels of them are not read.

    Returns:
        The rows with the columns image and label, which is None for unlabeled images.

    Raises:
        ValueError: The data set or the source has no column image.
        OSError: The source does not exist.
    """
    rows = load_named(source, split="train")
    for whose, columns in (("data set", splits["train"].column_names), ("transfer set", rows.column_names)):
        if IMAGE not in columns:
            raise ValueError(f"a transfer set of images needs the column {IMAGE}, the {whose} has {columns}")
    known = {found for split in splits.values() for found in _image_hashes(split)}
    hashes = _image_hashes(rows)
    new = [index for index, found in enumerate(hashes) if found not in known]
    return _followed_by(splits["train"].select_columns([IMAGE, "label"]), rows.select_columns([IMAGE]), new)


def with_unlabeled_single_texts(splits: Mapping[str, Dataset], source: str, config: PretrainedConfig) -> Dataset:
    """All texts of the training rows, each by itself, followed by texts that are in none of the splits.

    Args:
        splits: The rows of the data set by split, train among them.
        source: The texts, see `load_unlabeled_rows`.
        config: The configuration of the sentence encoder that reads them, all with its default prompt.

    Returns:
        Rows with the column text.

    Raises:
        ValueError: The data set or the source has no column of texts, or the encoder has prompts of which none is the default.
        OSError: The source does not exist.
    """
    prompts, default = getattr(config, PROMPTS, None), getattr(config, DEFAULT_PROMPT, None)
    if prompts and default is None:
        raise ValueError(
            f"texts of a transfer set get the default prompt of a sentence encoder, and the teacher names none of its "
            f"prompts, {list(prompts)}, as the default: load it with default_prompt and save it"
        )
    own = {name: single_texts(rows) for name, rows in splits.items()}
    return _with_new(own, single_texts(cast(Dataset, load_unlabeled_rows(source))), ["text"], [])


def _with_new(splits: Mapping[str, Dataset], rows: Dataset, own: list[str], labels: list[str]) -> Dataset:
    """The training rows, and the rows whose texts are in no split; the columns are those of texts and labels."""
    train = splits["train"]
    # Files of different kinds are read with different types of strings.
    rows = rows.cast(Features({name: train.features[name] for name in own}))
    known = {found for split in splits.values() for found in text_hashes(split, own)}
    new = [index for index, found in enumerate(text_hashes(rows, own)) if found not in known]
    return _followed_by(train.select_columns([*own, *labels]), rows, new)


def _followed_by(train: Dataset, rows: Dataset, new: list[int]) -> Dataset:
    """The training rows, followed by the new ones among others, which have no labels."""
    logger.info(f"{len(new)} rows of the transfer set are used; {len(rows) - len(new)} are in the data set too.")
    return concatenate_datasets([train, rows.select(new)])


def _image_hashes(rows: Dataset) -> Iterator[bytes]:
    """A hash of the file of each image."""
    for batch in rows.select_columns([IMAGE]).cast_column(IMAGE, Image(decode=False)).iter(batch_size=100):
        for image in batch[IMAGE]:
            yield sha256(image["bytes"] or Path(image["path"]).read_bytes()).digest()


def text_hashes(rows: Dataset, columns: list[str]) -> Iterator[bytes]:
    """A hash of the texts of each row.

    Args:
        rows: The rows.
        columns: The columns of texts, or of lists of words.

    Yields:
        The hashes, one per row; equal for texts that differ in case and white space alone.
    """
    for batch in rows.select_columns(columns).iter(batch_size=1000):
        for texts in zip(*(batch[name] for name in columns), strict=True):
            yield text_hash("\n".join(text if isinstance(text, str) else " ".join(text or ()) for text in texts))
