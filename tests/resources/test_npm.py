"""A download with npm is the pinned file, or nothing; without npm the message says what to install."""

import hashlib
import sys

import pytest

from hf_distill.resources import npm

CONTENT = b"the real archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Writes the archive where it runs, as npm does, and notes its arguments beside its own file.
CLIENT = """#!{python}
import pathlib, sys
pathlib.Path(__file__).with_name("asked").open("a").write(" ".join(sys.argv[1:]) + "\\n")
if {fails}:
    sys.exit("npm error code E404")
pathlib.Path("thing-1.0.tgz").write_bytes({content})
"""


@pytest.fixture
def client(monkeypatch, tmp_path):
    """A cache folder of its own, and a function that puts another npm on the path and returns its folder."""
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(content=CONTENT, fails=False):
        (folder / "npm").write_text(CLIENT.format(python=sys.executable, content=content, fails=fails))
        (folder / "npm").chmod(0o755)
        return folder

    return make


def unpack(archive, folder):
    (folder / "content.bin").write_bytes(archive.read_bytes())


def test_downloads_once_and_keeps_what_it_verified(client):
    asked = client() / "asked"
    folder = npm.fetch_npm("thing@1.0", SHA256, unpack)
    assert folder.name == f"thing-1.0-{SHA256[:12]}" and (folder / "content.bin").read_bytes() == CONTENT
    assert npm.fetch_npm("thing@1.0", SHA256, unpack) == folder
    assert asked.read_text() == "pack --silent --ignore-scripts thing@1.0\n"


def test_another_archive_is_refused_and_leaves_nothing(client, tmp_path):
    client(content=b"something else")
    with pytest.raises(RuntimeError, match=rf"thing-1\.0\.tgz has sha256 .*, expected {SHA256}"):
        npm.fetch_npm("thing@1.0", SHA256, unpack)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_failing_npm_is_reported_with_its_own_words(client, tmp_path):
    client(fails=True)
    with pytest.raises(RuntimeError, match=r"npm could not download thing@1\.0 \(exit 1\):\nnpm error code E404"):
        npm.fetch_npm("thing@1.0", SHA256, unpack)
    assert list((tmp_path / "cache").iterdir()) == []


def test_without_npm_the_message_says_what_to_install(client, tmp_path):
    with pytest.raises(RuntimeError, match=r"thing@1\.0 is downloaded with npm, which was not found: install Node\.js"):
        npm.fetch_npm("thing@1.0", SHA256, unpack)
    assert list((tmp_path / "cache").iterdir()) == []
