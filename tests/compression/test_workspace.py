"""Steps are done once, and a folder holds those of one request."""

from __future__ import annotations

import pytest

from hf_distill.compression.workspace import Workspace
from hf_distill.files import FolderInUseError


def test_a_finished_step_is_not_done_again_and_its_result_is_kept(tmp_path):
    calls = []
    for _ in range(2):
        work = Workspace(tmp_path / "out", {"--target": "3x"})
        with work.in_use():
            assert work.once("step", lambda: calls.append(1) or {"value": [0.5, None]}) == {"value": [0.5, None]}
    assert calls == [1] and work.is_finished("step") and not work.is_finished("other")


def test_a_step_that_fails_is_not_finished(tmp_path):
    work = Workspace(tmp_path, {})
    with pytest.raises(ZeroDivisionError), work.in_use():
        work.once("step", lambda: 1 / 0)
    assert not work.is_finished("step")


@pytest.mark.parametrize(("earlier", "now"), [({"a": 1}, {"a": 2}), ({"a": 1}, {}), ({}, {"a": 2})])
def test_another_request_is_refused_by_the_name_of_what_differs(tmp_path, earlier, now):
    with Workspace(tmp_path, earlier).in_use():
        pass
    with pytest.raises(ValueError, match=f"its a is {earlier.get('a')}, now it is {now.get('a')}"):
        Workspace(tmp_path, now)


def test_nothing_is_written_before_the_work_and_foreign_files_are_left_alone(tmp_path):
    Workspace(tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty and has no request"):
        Workspace(tmp_path, {})


def test_one_process_at_a_time_and_an_interruption_says_how_to_resume(tmp_path):
    work = Workspace(tmp_path, {})
    with pytest.raises(KeyboardInterrupt, match="The same command resumes"), work.in_use():
        with pytest.raises(FolderInUseError), work.in_use():
            pass
        raise KeyboardInterrupt
