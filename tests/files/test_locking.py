"""One process at a time in a folder: the others wait, or learn whom for; one that was killed keeps nobody out."""

import multiprocessing
import os
import signal
import socket
import time

import pytest

from hf_distill.files import FolderInUseError, folder_lock

CONTEXT = multiprocessing.get_context("fork")


def hold(folder, begun, seconds):
    with folder_lock(folder, "training", 0):
        begun.set()
        time.sleep(seconds)


@pytest.fixture
def held(tmp_path):
    """Starts a process that holds the folder for so long."""
    children = []

    def start(seconds):
        begun = CONTEXT.Event()
        children.append(CONTEXT.Process(target=hold, args=(tmp_path, begun, seconds)))
        children[-1].start()
        assert begun.wait(20)
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.join()


def test_the_folder_is_as_it_was_afterwards(tmp_path):
    with folder_lock(tmp_path, "training", 0):
        assert os.listdir(tmp_path)
    with pytest.raises(KeyError), folder_lock(str(tmp_path), "training", 0):
        raise KeyError
    assert os.listdir(tmp_path) == []


def test_who_comes_second_learns_who_is_there(tmp_path, held):
    child = held(60)
    for timeout in (0, 0.3):
        begin = time.monotonic()
        said = rf"{tmp_path} is in use by process {child.pid} on {socket.gethostname()}, training since 20"
        with pytest.raises(FolderInUseError, match=said), folder_lock(tmp_path, "training", timeout):
            pass
        assert timeout <= time.monotonic() - begin < timeout + 5


def test_who_comes_second_waits(tmp_path, held, caplog):
    held(1)
    with folder_lock(tmp_path, "training", 60):
        assert "waiting up to 60 seconds" in caplog.text
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_was_killed_keeps_nobody_out(tmp_path, held, end):
    child = held(60)
    os.kill(child.pid, end)
    child.join()
    assert os.listdir(tmp_path)
    with folder_lock(tmp_path, "training", 0):
        pass
    assert os.listdir(tmp_path) == []


def count(folder, times):
    for _ in range(times):
        with folder_lock(folder, "counting", 60):
            number = int((folder / "count").read_text())
            time.sleep(0.001)
            (folder / "count").write_text(str(number + 1))


def test_never_two_at_once(tmp_path):
    (tmp_path / "count").write_text("0")
    children = [CONTEXT.Process(target=count, args=(tmp_path, 20)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert (tmp_path / "count").read_text() == "80" and os.listdir(tmp_path) == ["count"]


def test_a_folder_that_cannot_be_written_to_needs_no_lock(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", refused)
    with pytest.raises(PermissionError), folder_lock(tmp_path, "training", 0):
        pass
    monkeypatch.setattr(os, "access", lambda *_: False)
    with folder_lock(tmp_path, "training", 0):
        pass


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    os.symlink("../victim", tmp_path / "folder" / ".lock")
    with pytest.raises(OSError, match=r"\.lock"), folder_lock(tmp_path / "folder", "training", 0):
        pass
    assert not (tmp_path / "victim").exists()
