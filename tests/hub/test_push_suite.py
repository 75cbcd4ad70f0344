"""Every step of publishing breaks in every way: the repository is as before or complete, and the command continues."""

from __future__ import annotations

import traceback

import httpx2
import pytest
from huggingface_hub import HfApi

from hf_distill.publishing.hub import publish
from hf_distill.publishing.hub_session import PublishError, RetryPolicy
from tests.hub.environment import TOKEN
from tests.hub.faults import ALWAYS, Failure, Fault
from tests.hub.students import contents_of, make_student

PUBLISHED = ["README.md", "config.json", "model.safetensors", "run.json", "tokenizer.json", "tokenizer_config.json"]
REPO, TAG = "alice/tiny", "v2"
_BEGINNING = ["whoami", "validate-yaml", "create", "info", "refs", "preupload"]
STEPS = {
    "lfs": [*_BEGINNING, "lfs-batch", "lfs-put", "lfs-verify", "commit", "tag"],
    "xet": [*_BEGINNING, "xet-write-token", "commit", "tag"],
}
CHANGES = {"create", "lfs-put", "commit", "tag"}  # where it matters whether the work was done before the line broke


def faults_of(mode: str) -> list[Fault]:
    """The faults of a mode: each step breaks in each way, and those that come twice break the second time too."""
    faults = []
    for step in STEPS[mode]:
        faults += [Fault(step, status=500), Fault(step, status=503, times=ALWAYS), Fault(step, Failure.RESET)]
        faults += [Fault(step, Failure.HANG), Fault(step, Failure.DEATH)]
        if step in CHANGES:
            faults += [Fault(step, failure, applied=True) for failure in (Failure.RESET, Failure.DEATH)]
    faults += [Fault(step, Failure.DEATH, nth=2) for step in ("validate-yaml", "refs")]
    faults += [Fault("info", failure, nth=nth) for failure in (Failure.RESET, Failure.DEATH) for nth in (2, 3)]
    faults += [Fault("commit", status=status) for status in (400, 401, 403, 404, 409, 412, 413, 429)]
    faults += [Fault("commit", failure, applied=True, times=ALWAYS) for failure in (Failure.RESET, Failure.HANG)]
    faults += [Fault("commit", status=500, applied=True), Fault("commit", status=412, applied=True)]
    faults += [Fault("create", status=409), Fault("tag", status=409), Fault("tag", status=409, applied=True)]
    faults += [Fault("whoami", status=401), Fault("preupload", status=403), Fault("tag", status=403)]
    return faults


# Every other fault meets a repository that holds an older student, the rest one that is not there yet.
CASES = [
    pytest.param(mode, fault, bool(number % 2), id=f"{mode}-{fault}-{'over-old' if number % 2 else 'new'}")
    for mode in STEPS
    for number, fault in enumerate(faults_of(mode))
]
PASSING = {409, 412, 429, 500, 503}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """A student, and the one it replaces; both only read."""
    root = tmp_path_factory.mktemp("students")
    return make_student(root / "new", seed=1), make_student(root / "old", layers=2)


def state(hub) -> dict[str, bytes | str]:
    """What main holds: contents of small files, checksums of large ones."""
    repository = hub.contents.repositories.get(REPO)
    files = repository.head.files if repository else {}
    return {name: file.sha256 or file.content for name, file in files.items() if name != ".gitattributes"}


def written_below(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_there_are_enough():
    for mode, steps in STEPS.items():
        faults = faults_of(mode)
        assert len(faults) == len(set(map(str, faults))) >= 60
        assert {fault.route for fault in faults} == set(steps)


@pytest.mark.parametrize(("hub", "fault", "over_old"), CASES, indirect=["hub"])
def test_never_partial_and_continued(hub, fault, over_old, versions, tmp_path, capfd, caplog):
    new, old = versions
    if over_old:
        publish(old, REPO, tag="v1")
    before, here = state(hub), contents_of(new)
    commits = len(hub.contents.repositories[REPO].commits) if before else 1

    said = ""
    hub.faults.order(fault)
    try:
        timeout = 0.5 if fault.failure is Failure.HANG else 20
        publish(new, REPO, tag=TAG, patience=RetryPolicy(attempts=2, wait=0, timeout=timeout))
    except PublishError as error:
        said = str(error) + "".join(traceback.format_exception(error))
    assert hub.faults.met, "the fault was never met"
    if fault.times == 1 and fault.failure is Failure.STATUS and fault.status in PASSING:
        assert not said, "one error of this kind is survived within one call"
    if fault.failure is Failure.DEATH or (fault.times == ALWAYS and not fault.applied and fault.route != "lfs-verify"):
        assert said, "success was reported of what cannot have succeeded"

    after = state(hub)
    hub.faults.order()
    hub.start()
    publish(new, REPO, tag=TAG, patience=RetryPolicy(attempts=2, wait=0))
    complete = state(hub)
    assert after in (before, complete), f"partial: {sorted(after)}"
    assert before != complete
    assert sorted(complete) == PUBLISHED
    assert all(content == here[name] for name, content in complete.items() if isinstance(content, bytes))
    repository = hub.contents.repositories[REPO]
    assert repository.refs[f"refs/tags/{TAG}"] == repository.head.oid
    assert len(repository.commits) == commits + 1, "committed twice"
    assert contents_of(new) == here

    out, err = capfd.readouterr()
    assert TOKEN not in said + out + err + caplog.text
    assert TOKEN.encode() not in written_below(tmp_path)


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
def test_a_careless_publisher_would_be_caught(hub, versions):
    new, old = versions
    publish(old, REPO)
    before = state(hub)
    hub.faults.order(Fault("commit", Failure.DEATH, nth=3))
    with pytest.raises(httpx2.TransportError):
        for name in PUBLISHED:
            HfApi().upload_file(path_or_fileobj=new / name, path_in_repo=name, repo_id=REPO)
    partial = state(hub)
    hub.start()
    publish(new, REPO)
    assert partial not in (before, state(hub))
