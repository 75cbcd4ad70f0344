"""Splits that depend on a text alone, so that copies of it in several data sets or domains are in the same split."""

from __future__ import annotations

from hf_distill.data.corpus import text_hash

SPLITS = ("train", "validation", "test")

_TENTHS = {0: "test", 1: "validation"}


def split_of(text: str) -> str:
    """The split of a text by a hash of the normalized text (lower case, single spaces).

    Args:
        text: The text.

    Returns:
        "test" or "validation" for a tenth of all texts each, "train" for the others.
    """
    return _TENTHS.get(int.from_bytes(text_hash(text)[:8], "big") % 10, "train")
