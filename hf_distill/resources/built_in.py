"""The built-in data sets by the names that commands and scripts take in place of files; each is downloaded on first use."""

from __future__ import annotations

import datasets

from hf_distill.resources.brown import load_brown
from hf_distill.resources.digits import load_digits_dataset
from hf_distill.resources.prose import load_large_prose, load_prose
from hf_distill.resources.sentiment import DOMAINS, load_sentiment, load_transfer_set
from hf_distill.resources.wordnet import load_wordnet

# Labeled sets with the splits train, validation and test, by what has a label.
TEXTS = (*DOMAINS, "wordnet")
WORDS = ("brown",)
IMAGES = ("digits",)
LABELED = (*TEXTS, *WORDS, *IMAGES)
# Text alone: short texts of all domains; manuals and a book; these and more sources.
ALL_DOMAINS, PROSE, LARGE_PROSE = "icwsm2014", "prose", "large_prose"
UNLABELED_TEXTS = (ALL_DOMAINS, PROSE, LARGE_PROSE, *TEXTS)


def load_labeled(name: str) -> dict[str, datasets.Dataset]:
    """The splits of a labeled set.

    Args:
        name: One of `LABELED`.

    Returns:
        The splits train, validation and test; see the set's own function for the columns.

    Raises:
        RuntimeError: The download fails, or is not the pinned file.
    """
    if name in DOMAINS:
        return dict(load_sentiment(name))
    loaders = {"wordnet": load_wordnet, "brown": load_brown, "digits": load_digits_dataset}
    return dict(loaders[name]())


def load_unlabeled(name: str) -> datasets.Dataset:
    """The rows of a set to pre-train on, or for a teacher to label, none of which is evaluated on.

    Args:
        name: One of `UNLABELED_TEXTS` or `WORDS`.

    Returns:
        The column text, or words; of wordnet and brown, the rows of the training split with their labels.

    Raises:
        RuntimeError: A download fails, or is not the pinned file.
    """
    if name == PROSE:
        return load_prose()
    if name == LARGE_PROSE:
        return load_large_prose()
    if name == ALL_DOMAINS or name in DOMAINS:
        return load_transfer_set(tuple(DOMAINS) if name == ALL_DOMAINS else (name,))
    rows = load_labeled(name)["train"]
    return rows.select_columns(["text", "label"]) if name in TEXTS else rows
