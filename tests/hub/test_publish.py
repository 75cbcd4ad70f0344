"""Publishing one student: what is sent, what is there afterwards, what is refused."""

import hashlib
import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from transformers import BertForSequenceClassification
from typer.testing import CliRunner

from hf_distill.cli.main import app
from hf_distill.publishing.hub import publish
from hf_distill.publishing.hub_session import PublishError, RetryPolicy
from hf_distill.publishing.model_card import write_model_card
from tests.hub.contents import User
from tests.hub.environment import TOKEN, client_environment, run_python
from tests.hub.faults import ALWAYS, Failure, Fault
from tests.hub.students import JUNK, LOAD, contents_of, logits_of, make_student

REPO = "alice/tiny"
PUBLISHED = ["README.md", "config.json", "model.safetensors", "run.json", "tokenizer.json", "tokenizer_config.json"]
QUICK = RetryPolicy(attempts=3, wait=0, timeout=1)


@pytest.fixture
def folder(tmp_path):
    return make_student(tmp_path / "tiny")


def files_there(hub, repo=REPO, commit=None):
    repository = hub.contents.repositories[repo]
    files = (repository.commits[commit] if commit else repository.head).files
    return {name: file for name, file in files.items() if name != ".gitattributes"}


def test_a_student_is_published_and_loaded_by_a_stranger(hub, folder, tmp_path):
    before = contents_of(folder)
    published = publish(folder, REPO, tag="v1.0")
    assert published.changed and not published.private and published.url == f"{hub.url}/{REPO}"
    there = files_there(hub)
    assert sorted(there) == PUBLISHED == [file.name for file in published.files]
    for name, file in there.items():
        assert file.size == len(before[name])
        assert file.content in (None, before[name])
    assert there["model.safetensors"].sha256 == hashlib.sha256(before["model.safetensors"]).hexdigest()
    repository = hub.contents.repositories[REPO]
    assert [commit.title for commit in repository.history(published.commit)] == ["Publish a student", "initial commit"]
    assert repository.refs["refs/tags/v1.0"] == published.commit == repository.head.oid
    assert set(JUNK) | {"checkpoint-10/"} <= set(published.left_out)
    assert contents_of(folder) == before

    done = run_python(LOAD, client_environment(hub.url, tmp_path / "home", xet=hub.contents.xet is not None), REPO)
    assert done.returncode == 0, done.stderr
    expected = logits_of(BertForSequenceClassification.from_pretrained(folder))
    name, logits = json.loads(done.stdout.split("logits", 1)[1])
    assert name == REPO and logits == pytest.approx(expected, abs=1e-5)
    assert not [asked for asked in hub.unknown if "alice" in asked]


def test_the_code_of_a_published_card_runs_as_it_is_copied(hub, folder, tmp_path):
    before = write_model_card(folder).read_text()
    publish(folder, REPO)
    card = files_there(hub)["README.md"].content.decode()
    (code,) = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert f'pipeline("text-classification", "{REPO}")' in code and (folder / "README.md").read_text() == before
    done = run_python(code, client_environment(hub.url, tmp_path / "home", xet=hub.contents.xet is not None))
    assert done.returncode == 0 and "'score'" in done.stdout, done.stderr
    assert not publish(folder, REPO).changed  # the same card again


def test_names_of_files_are_printed_without_control_codes(folder):
    (folder / "x\x1b]0;title\x07").touch()
    shown = CliRunner().invoke(app, ["publish", str(folder), REPO, "--dry-run"])
    assert shown.exit_code == 0 and "\x1b" not in shown.output and r"x\x1b]0;title\x07" in shown.output


def test_the_same_command_again_changes_nothing(hub, folder):
    first = publish(folder, REPO, tag="v1.0")
    again = publish(folder, REPO, tag="v1.0")
    assert not again.changed and again.commit == first.commit
    assert len(hub.contents.repositories[REPO].commits) == 2


def test_only_what_changed_is_sent(hub, folder):
    publish(folder, REPO)
    weights = files_there(hub)["model.safetensors"]
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nMore.\n")
    hub.requests.clear()
    assert publish(folder, REPO).changed
    assert not {"lfs-put", "lfs-batch", "xet-write-token"} & set(hub.requests)
    assert files_there(hub)["model.safetensors"] is weights
    assert b"More." in files_there(hub)["README.md"].content


def test_weights_of_before_do_not_stay(hub, folder):
    publish(folder, REPO)
    model = BertForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    shards = {path.name for path in folder.glob("model-*.safetensors")} | {"model.safetensors.index.json"}
    assert len(shards) > 2
    HfApi().create_commit(REPO, [CommitOperationAdd("notes.txt", b"of somebody else")], commit_message="notes")
    publish(folder, REPO)
    assert set(files_there(hub)) == {*PUBLISHED, *shards, "notes.txt"} - {"model.safetensors"}


def test_a_dry_run_asks_nobody(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    plan = publish(folder, REPO, private=True, dry_run=True)
    assert [(file.name, file.size) for file in plan.files] == [
        (name, (folder / name).stat().st_size) for name in PUBLISHED
    ]
    assert (plan.repo_id, plan.private, plan.commit, plan.changed) == (REPO, True, None, False)
    assert not hub.requests


def test_private_by_choice(hub, folder):
    assert publish(folder, REPO, private=True).private
    assert hub.contents.repositories[REPO].private
    assert publish(folder, REPO).private  # what is private stays so
    publish(folder, "alice/open")
    with pytest.raises(PublishError, match="exists and is public, private was asked for"):
        publish(folder, "alice/open", private=True)


def test_a_pull_request_by_choice(hub, folder):
    hub.add_user("hf_bob", User("bob"))
    api = HfApi(token="hf_bob")
    api.create_repo("bob/theirs")
    head = api.model_info("bob/theirs").sha
    proposed = publish(folder, "bob/theirs", create_pr=True)
    assert proposed.url.endswith("/bob/theirs/discussions/1") and proposed.changed
    assert api.model_info("bob/theirs").sha == head
    assert sorted(files_there(hub, "bob/theirs", proposed.commit)) == PUBLISHED
    again = publish(folder, "bob/theirs", create_pr=True)
    assert (again.url, again.commit, again.changed) == (proposed.url, proposed.commit, False)
    with pytest.raises(PublishError, match="no such repository"):
        publish(folder, "bob/absent", create_pr=True)
    with pytest.raises(ValueError, match="no commit to name before it is merged, got tag='v1'"):
        publish(folder, "bob/theirs", create_pr=True, tag="v1")


@pytest.mark.parametrize("failure", [Failure.RESET, Failure.HANG], ids=lambda failure: failure.value)
def test_a_pull_request_whose_answer_is_lost_is_not_opened_twice(hub, folder, failure):
    HfApi().create_repo(REPO)
    hub.faults.order(Fault("commit", failure, applied=True))
    proposed = publish(folder, REPO, create_pr=True, patience=QUICK)
    assert proposed.changed and proposed.url.endswith("/discussions/1")
    assert len(hub.contents.repositories[REPO].pull_requests) == 1


def test_a_tag_of_another_version_is_not_moved(hub, folder):
    first = publish(folder, REPO, tag="v1.0")
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nMore.\n")
    with pytest.raises(PublishError, match=f"tag 'v1.0' names another version, commit {first.commit[:8]}"):
        publish(folder, REPO, tag="v1.0")
    assert hub.contents.repositories[REPO].head.oid == first.commit  # found before anything was sent
    second = publish(folder, REPO, tag="v1.1")
    refs = hub.contents.repositories[REPO].refs
    assert (refs["refs/tags/v1.0"], refs["refs/tags/v1.1"]) == (first.commit, second.commit)


def test_somebody_elses_commit_is_not_overwritten(hub, folder, monkeypatch):
    """Between our look at the repository and our commit, somebody else commits."""
    api = HfApi()
    api.create_repo(REPO)
    preupload = HfApi.preupload_lfs_files

    def meanwhile(self, *args, **kwargs):
        monkeypatch.setattr(HfApi, "preupload_lfs_files", preupload)
        api.create_commit(REPO, [CommitOperationAdd("README.md", b"# Mine")], commit_message="theirs")
        return preupload(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
    with pytest.raises(PublishError, match="somebody else committed to the repository meanwhile"):
        publish(folder, REPO, patience=QUICK)
    assert list(files_there(hub)) == ["README.md"]
    publish(folder, REPO)
    assert sorted(files_there(hub)) == PUBLISHED


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("whoami", status=401), "does not know this token: log in with `hf auth login`"),
        (Fault("create", status=403), "the token may not do this: it needs write permission"),
        (Fault("create", status=402, message="payment required"), "no room left on the Hub"),
        (Fault("commit", status=403, message="Storage quota exceeded"), "no room left .*Storage quota exceeded"),
        (Fault("commit", status=400, message="bad card"), "refuses it with status 400 .*bad card"),
        (Fault("commit", status=412, times=ALWAYS), "something else changes the repository at the same time"),
        (Fault("commit", status=500, times=ALWAYS), r"sending the commit failed: the Hub is down or overloaded \(status 500\)"),
        (Fault("commit", Failure.HANG, times=ALWAYS), "sending the commit failed: no response within 1 seconds"),
        (Fault("info", status=429, times=ALWAYS), "too many requests"),
        (Fault("create", Failure.RESET, times=ALWAYS), "cannot be reached, or broke the connection off"),
        (Fault("whoami", Failure.DEATH), "cannot be reached"),
        (Fault("validate-yaml", status=503, times=ALWAYS), r"the Hub is down or overloaded \(status 503\)"),
        (Fault("info", nth=1, status=404), "no such repository or namespace"),
    ],
    ids=str,
)  # fmt: skip
def test_every_failure_has_its_message(hub, folder, fault, message):
    hub.faults.order(fault)
    with pytest.raises(PublishError, match=message) as error:
        publish(folder, REPO, patience=QUICK)
    assert str(error.value).startswith(f"{REPO}: ")
    assert str(error.value).endswith("The folder was only read; the same command continues.")
    assert error.value.__cause__ is None and error.value.__suppress_context__


@pytest.mark.parametrize(
    ("user", "repo", "message"),
    [
        (None, REPO, "does not know this token"),
        (User("alice", role="read"), REPO, "may only read"),
        (User("alice", organizations=("lab",)), "nobody/tiny", "may write to alice, lab, not to 'nobody'"),
    ],
    ids=["wrong token", "read-only token", "no such organization"],
)
def test_a_token_that_may_not_publish(hub, folder, user, repo, message):
    token = "hf_OtherTokenOtherTokenOtherToken"
    if user:
        hub.add_user(token, user)
    with pytest.raises(PublishError, match=message) as error:
        publish(folder, repo, token=token)
    assert token not in str(error.value) and not hub.contents.repositories


@pytest.mark.parametrize("token", [TOKEN + "\n", "hf_ü" + TOKEN], ids=["newline", "letter"])
def test_a_token_that_is_none(hub, folder, token):
    with pytest.raises(PublishError, match="has spaces or characters that no token has") as error:
        publish(folder, REPO, token=token)
    assert TOKEN not in str(error.value) and not hub.requests


def test_no_token_and_no_line(hub, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="offline mode: unset HF_HUB_OFFLINE"):
        publish(folder, REPO, patience=QUICK)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PublishError, match="needs a token, got none"):
        publish(folder, REPO)


@pytest.mark.parametrize("repo_id", ["tiny", "a/b/c", "alice/ti ny", "alice/", "alice/größe", "älice/tiny"])
def test_a_name_that_no_repository_has(folder, repo_id):
    with pytest.raises(ValueError, match=repo_id):
        publish(folder, repo_id, dry_run=True)


@pytest.mark.parametrize(
    "tag", ["", "v 1", "v..1", "/v1", "v1/", "v1.lock", "-v1", "v~1", "v1.", "ü", "refs/x.lock/y", "a\nb"]
)
def test_a_name_that_no_tag_has(folder, tag):
    with pytest.raises(ValueError, match=r"tag must be a name that git takes, such as 'v1\.0', got"):
        publish(folder, REPO, tag=tag, dry_run=True)
    assert publish(folder, REPO, tag="release/v1.0-rc+1", dry_run=True)


@pytest.mark.parametrize("patience", [dict(attempts=0), dict(wait=-1), dict(timeout=0)], ids=str)
def test_patience_has_bounds(patience):
    with pytest.raises(ValueError, match="at least 1"):
        RetryPolicy(**patience)


def test_the_hub_may_ask_to_wait(hub, folder, monkeypatch):
    waits = []
    monkeypatch.setattr("hf_distill.publishing.hub_session.time", SimpleNamespace(sleep=waits.append))
    hub.faults.order(Fault("create", status=503, times=2), Fault("commit", status=429))
    publish(folder, REPO, patience=RetryPolicy(wait=0.5))
    assert waits == [0.5, 1.0, 1.0]


def test_what_landed_is_compared(hub, folder, monkeypatch):
    """Somebody edits the card while it is on its way."""
    preupload, card = HfApi.preupload_lfs_files, folder / "README.md"
    told = card.read_text()

    def meanwhile(self, *args, **kwargs):
        card.write_text(told.replace("tiny.", "huge."))
        return preupload(self, *args, **kwargs)

    monkeypatch.setattr(HfApi, "preupload_lfs_files", meanwhile)
    with pytest.raises(
        PublishError, match=r"not what was sent, in README.md: the folder seems to change. Commit \w+ landed"
    ):
        publish(folder, REPO)
    monkeypatch.setattr(HfApi, "preupload_lfs_files", preupload)
    card.write_text(told)
    publish(folder, REPO)
    assert files_there(hub)["README.md"].content == told.encode()


PUBLISH = """
import sys
from hf_distill.publishing import publish
print(publish(sys.argv[1], sys.argv[2], tag="v1").changed)
"""


@pytest.mark.parametrize("hub", ["xet"], indirect=True)
def test_a_publisher_that_is_killed_is_continued(hub, folder, tmp_path):
    environment = client_environment(hub.url, tmp_path / "home", xet=hub.contents.xet is not None)
    hub.faults.order(Fault("commit", Failure.HANG))
    killed = subprocess.Popen([sys.executable, "-c", PUBLISH, folder, REPO], env=environment, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not hub.faults.met:
        assert killed.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    killed.kill()
    said = killed.communicate()[1].decode()
    assert not files_there(hub)
    again = run_python(PUBLISH, environment, str(folder), REPO)
    assert again.stdout.endswith("True\n"), again.stderr
    assert sorted(files_there(hub)) == PUBLISHED and len(hub.contents.repositories[REPO].commits) == 2
    assert TOKEN not in said + again.stdout + again.stderr
