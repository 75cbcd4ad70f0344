"""A download is the pinned file, or nothing."""

import hashlib

import pytest

from hf_distill.resources import pypi


@pytest.fixture
def index(monkeypatch, tmp_path):
    """A cache folder of its own, and an index that serves one archive; counts how often it is asked."""
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))

    class Index:
        content, asked = b"the real archive", 0
        sha256 = hashlib.sha256(content).hexdigest()

        def download(self, requirement, sha256, folder, platform):
            self.asked += 1
            folder.mkdir()
            (folder / "archive.zip").write_bytes(self.content)
            return folder / "archive.zip"

    served = Index()
    monkeypatch.setattr(pypi, "_download", served.download)
    return served


def unpack(archive, folder):
    (folder / "content.bin").write_bytes(archive.read_bytes())


def test_downloads_once_and_keeps_what_it_verified(index):
    folder = pypi.fetch("thing==1.0", index.sha256, unpack)
    assert (folder / "content.bin").read_bytes() == index.content
    assert pypi.fetch("thing==1.0", index.sha256, unpack) == folder and index.asked == 1


def test_tampered_archive_is_refused_and_leaves_nothing(index, tmp_path):
    pinned, index.content = index.sha256, b"something else"
    with pytest.raises(RuntimeError, match=f"archive.zip has sha256 .*, expected {pinned}"):
        pypi.fetch("thing==1.0", pinned, unpack)
    assert list((tmp_path / "cache").iterdir()) == []


def test_interrupted_unpacking_leaves_nothing_and_can_be_repeated(index, tmp_path):
    def breaks(archive, folder):
        unpack(archive, folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pypi.fetch("thing==1.0", index.sha256, breaks)
    assert list((tmp_path / "cache").iterdir()) == []
    assert (pypi.fetch("thing==1.0", index.sha256, unpack) / "content.bin").exists()


@pytest.mark.real_data
def test_pip_refuses_another_hash_before_it_runs_anything_of_the_archive(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        RuntimeError, match=r"pip could not download vaderSentiment==0.5 [\s\S]*DO NOT MATCH THE HASHES"
    ):
        pypi.fetch("vaderSentiment==0.5", "0" * 64, unpack)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failing_pip_is_reported_with_its_own_words(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(
        RuntimeError, match=r"pip could not download no-such-thing==9.9 .*[\s\S]*No matching distribution"
    ):
        pypi.fetch("no-such-thing==9.9", "0" * 64, unpack)
    assert list((tmp_path / "cache").iterdir()) == []
