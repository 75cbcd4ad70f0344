"""`hf-distill publish` and `hf-distill publish-family`: what they print and how they end."""

import json

import pytest
from typer.testing import CliRunner

from hf_distill.cli.main import app
from tests.hub.contents import User
from tests.hub.data_sets import make_labeled
from tests.hub.environment import TOKEN
from tests.hub.students import make_student

pytestmark = pytest.mark.parametrize("hub", ["lfs"], indirect=True)


@pytest.fixture
def folder(tmp_path):
    return make_student(tmp_path / "tiny")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_dry_run_then_publish_then_again(hub, folder):
    words = ("publish", folder, "alice/tiny", "--private", "--tag", "v1")
    dry = run(*words, "--dry-run")
    assert dry.exit_code == 0 and not hub.requests
    assert "Would publish alice/tiny (private, tagged v1):" in dry.stdout
    size = (folder / "model.safetensors").stat().st_size
    assert f"model.safetensors             {size:,} bytes" in dry.stdout
    assert "Stays here: checkpoint-10/, events.out.tfevents.1, finished.json, optimizer.pt" in dry.stdout
    named = "The card names no license: `hf-distill card FOLDER --license apache-2.0` writes one into it.\n"
    assert dry.stdout.endswith(f"{named}{hub.url}/alice/tiny\n")
    done = run(*words)
    assert done.exit_code == 0 and "Published alice/tiny (private, tagged v1):" in done.stdout
    commit = hub.contents.repositories["alice/tiny"].head.oid
    assert done.stdout.endswith(f"Commit {commit}\n{hub.url}/alice/tiny\n")
    again = run(*words, "--json")
    record = json.loads(again.stdout)
    assert (record["commit"], record["changed"], record["tag"], record["private"]) == (commit, False, "v1", True)
    assert [file["name"] for file in record["files"]][2] == "model.safetensors" and "optimizer.pt" in record["left_out"]
    assert str(folder) not in again.stdout
    for result in (dry, done, again):
        assert TOKEN not in result.output


def test_a_card_without_a_license_is_mentioned(hub, folder, tmp_path):
    rows = make_labeled(tmp_path / "rows")
    for where in (folder, rows):
        card = where / "README.md"
        without = run("publish", where, "alice/tiny", "--dry-run")
        assert "The card names no license: `" in without.stdout
        card.write_text(card.read_text().replace("---\n", "---\nlicense: mit\n", 1))
        assert "license" not in run("publish", where, "alice/tiny", "--dry-run").stdout
        assert json.loads(run("publish", where, "alice/tiny", "--dry-run", "--json").stdout)["license"] == "mit"


def test_failures_end_with_a_message(hub, folder, monkeypatch):
    hub.add_user(TOKEN, User("alice", role="read"))
    (folder.parent / "empty").mkdir()
    for words, message in [
        ((folder, "alice/tiny"), "Error: alice/tiny: the token may only read"),
        ((folder, "tiny"), "Error: repo_id must be 'namespace/name', got 'tiny'"),
        ((folder.parent / "empty", "alice/tiny"), "has no weights"),
    ]:
        result = run("publish", *words)
        assert result.exit_code == 1 and message in result.stderr
        assert "Traceback" not in result.output and TOKEN not in result.output


def test_a_family(hub, folder, tmp_path):
    other = make_student(tmp_path / "mini", layers=2)
    words = ("publish-family", folder, other, "--title", "Reviewers", "--namespace", "lab")
    dry = run(*words, "--dry-run")
    assert dry.exit_code == 0 and "Collection 'Reviewers': not made" in dry.stdout and not hub.requests
    done = run(*words)
    assert done.exit_code == 0 and f"| [mini]({hub.url}/lab/mini) | 2 | 16 |" in done.stdout
    record = json.loads(run(*words, "--json").stdout)
    assert record["collection"] in done.stdout
    assert [student["repo_id"] for student in record["students"]] == ["lab/tiny", "lab/mini"]
    failed = run(*words[:-1], "nobody")
    assert failed.exit_code == 1 and "may write to alice, lab, not to 'nobody'" in failed.stderr


@pytest.mark.parametrize("command", ["publish", "publish-family"])
def test_help_has_an_example(hub, command):
    assert f"Example: hf-distill {command} " in CliRunner().invoke(app, [command, "--help"], terminal_width=200).output
