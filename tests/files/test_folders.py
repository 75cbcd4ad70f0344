"""What others' folders may name and hold."""

import os
from types import SimpleNamespace

import pyarrow as pa
import pytest

from hf_distill.files import FileFormatError, is_own_file, named_file, regular_files_below, require_sound_table


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "private.txt").write_text("private")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    for name in ("a.txt", "inner/b.txt", "c.md"):
        (tmp_path / "folder" / name).write_text(name)
    return tmp_path / "folder"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../private.txt", "inner/b.txt", "/etc/hostname", "C:x", "a\\b", "a\0"]
)
def test_names_with_a_path_are_refused(folder, name):
    with pytest.raises(FileFormatError, match=r"index\.json must name files of its own folder"):
        named_file(folder, name, "index.json")


def test_names_of_what_is_no_regular_file_are_refused(folder):
    os.symlink(folder.parent / "private.txt", folder / "link")
    os.symlink(folder.parent / "nowhere", folder / "dangling")
    os.mkfifo(folder / "pipe")
    for name in ("link", "dangling", "pipe", "inner"):
        with pytest.raises(FileFormatError, match=f"{name}', which is no regular file"):
            named_file(folder, name, "index.json")
    assert named_file(folder, "a.txt", "index.json").read_text() == "a.txt"
    assert not named_file(folder, "not there", "index.json").exists()


def test_a_snapshot_of_the_hub_cache_has_its_files_among_the_blobs(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "main"
    (snapshot / "deep").mkdir(parents=True)
    (tmp_path / "models--a--b" / "blobs").mkdir()
    (tmp_path / "models--a--b" / "blobs" / "abc").write_text("blob")
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "abc").write_text("of another")
    os.symlink("../../blobs/abc", snapshot / "own.txt")
    os.symlink("../../../blobs/abc", snapshot / "deep" / "own.txt")
    assert is_own_file(snapshot / "own.txt") and is_own_file(snapshot / "deep" / "own.txt")
    assert regular_files_below(snapshot, {".txt"}) == [snapshot / "deep" / "own.txt", snapshot / "own.txt"]
    for target in ("../../../blobs/abc", "../../blobs", "../../blobs/missing", "/etc/hostname"):
        (snapshot / "odd.txt").unlink(missing_ok=True)
        os.symlink(target, snapshot / "odd.txt")
        assert not is_own_file(snapshot / "odd.txt")


def test_folders_are_searched_without_leaving_them(folder):
    os.symlink(folder / "a.txt", folder / "again.txt")
    os.symlink(folder / "inner", folder / "also_inside")
    found = [folder / "a.txt", folder / "again.txt", folder / "inner" / "b.txt"]
    assert regular_files_below(folder, {".txt"}) == found
    os.symlink(folder.parent / "private.txt", folder / "unread.bin")
    assert regular_files_below(str(folder), {".txt"}) == found
    for name, target in (("out.txt", "../private.txt"), ("inner/out", "/etc")):
        os.symlink(target, folder / name)
        with pytest.raises(FileFormatError, match=rf"{name} is a link that leads out of .*folder"):
            regular_files_below(folder, {".txt"})
        (folder / name).unlink()
    os.mkfifo(folder / "pipe.txt")
    with pytest.raises(FileFormatError, match=r"pipe\.txt must be regular files"):
        regular_files_below(folder, {".txt"})


def test_tables_that_point_outside_of_themselves_are_refused():
    sound = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), pa.array([1, 2, 3]))
    require_sound_table(pa.table({"x": sound}), "x.arrow")
    buffers = [None, pa.array([0, 1000, 3], pa.int32()).buffers()[1]]
    forged = pa.Array.from_buffers(sound.type, 2, buffers, children=[sound.values])
    for table in (pa.table({"x": forged}), pa.table({"x": pa.StructArray.from_arrays([forged], ["y"])})):
        with pytest.raises(FileFormatError, match=r"x\.arrow holds rows that point outside"):
            require_sound_table(table, "x.arrow")

    def unknown(full):
        raise pa.ArrowNotImplementedError("of another kind")

    with pytest.raises(FileFormatError, match="of another kind"):
        require_sound_table(SimpleNamespace(validate=unknown), "x.arrow")
