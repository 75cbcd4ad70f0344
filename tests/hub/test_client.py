"""The unmodified client, transformers and the `hf` command work against the Hub of the tests."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RepositoryNotFoundError

from hf_distill import load_teacher_outputs
from tests.hub.contents import User
from tests.hub.data_sets import PLAIN, make_labeled
from tests.hub.data_sets import REPO as REVIEWS
from tests.hub.environment import TOKEN, client_environment, run_python
from tests.tiny_models import tiny_bert

REPO = "alice/tiny"


def weights(marker: int) -> bytes:
    return bytes([marker]) * 70_000


@pytest.fixture
def api(hub):
    return HfApi()


def test_a_repository_from_creation_to_download(hub, api, tmp_path):
    assert api.whoami()["name"] == "alice"
    url = api.create_repo(REPO, private=True)
    assert url.repo_id == REPO and api.create_repo(REPO, exist_ok=True).repo_id == REPO
    with pytest.raises(HfHubHTTPError, match="already created"):
        api.create_repo(REPO)
    info = api.model_info(REPO)
    assert info.private and [file.rfilename for file in info.siblings] == [".gitattributes"]
    first = api.create_commit(
        REPO,
        [CommitOperationAdd("model.safetensors", weights(1)), CommitOperationAdd("sub/config.json", b"{}")],
        commit_message="first",
        parent_commit=info.sha,
    )
    assert api.model_info(REPO).sha == first.oid
    (large,) = api.get_paths_info(REPO, ["model.safetensors"])
    assert large.size == 70_000 and large.lfs.size == 70_000 and bool(large.xet_hash) == bool(hub.contents.xet)
    assert sorted(api.list_repo_files(REPO)) == [".gitattributes", "model.safetensors", "sub/config.json"]
    path = hf_hub_download(REPO, "model.safetensors", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == weights(1)
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "absent.json", cache_dir=tmp_path / "cache")
    again = api.create_commit(REPO, [CommitOperationAdd("sub/config.json", b"{}")], commit_message="no change")
    assert again.oid == first.oid
    second = api.create_commit(REPO, [CommitOperationDelete("sub/config.json")], commit_message="second")
    assert [commit.title for commit in api.list_repo_commits(REPO)] == ["second", "first", "initial commit"]
    folder = Path(snapshot_download(REPO, revision=first.oid, cache_dir=tmp_path / "cache"))
    assert (folder / "sub" / "config.json").read_text() == "{}"
    assert hub.contents.repositories[REPO].head.oid == second.oid


def test_a_stale_parent_is_refused(hub, api):
    api.create_repo(REPO)
    head = api.model_info(REPO).sha
    api.create_commit(REPO, [CommitOperationAdd("a.txt", b"a")], commit_message="a", parent_commit=head)
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as error:
        api.create_commit(REPO, [CommitOperationAdd("b.txt", b"b")], commit_message="b", parent_commit=head)
    assert error.value.response.status_code == 412


def test_a_commit_needs_the_objects_it_names(hub, api):
    api.create_repo(REPO)
    operation = CommitOperationAdd("model.safetensors", weights(2))
    operation._upload_mode, operation._should_ignore, operation._is_uploaded = "lfs", False, True
    with pytest.raises(HfHubHTTPError, match="never uploaded") as error:
        api.create_commit(REPO, [operation], commit_message="nothing behind it")
    assert error.value.response.status_code == 400
    assert "model.safetensors" not in api.list_repo_files(REPO)


def test_branches_tags_and_pull_requests(hub, api):
    api.create_repo(REPO)
    head = api.model_info(REPO).sha
    api.create_branch(REPO, branch="dev")
    api.create_tag(REPO, tag="v1", revision=head)
    with pytest.raises(HfHubHTTPError) as error:
        api.create_tag(REPO, tag="v1")
    assert error.value.response.status_code == 409
    proposed = api.create_commit(
        REPO, [CommitOperationAdd("model.safetensors", weights(3))], commit_message="please", create_pr=True
    )
    assert proposed.pr_num == 1 and api.model_info(REPO).sha == head
    assert "model.safetensors" in api.list_repo_files(REPO, revision="refs/pr/1")
    refs = api.list_repo_refs(REPO, include_pull_requests=True)
    assert [ref.name for ref in refs.branches] == ["main", "dev"]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", head)]
    assert [ref.target_commit for ref in refs.pull_requests] == [proposed.oid]
    assert [pull.num for pull in api.get_repo_discussions(REPO, discussion_type="pull_request")] == [1]


def test_cards_are_read_as_yaml(hub, api):
    api.create_repo(REPO)
    ModelCard("---\nlicense: mit\ntags:\n- a\n---\n# Fine").validate()
    for broken in ("---\ntags: [a\n---\n", "---\ntags: a\n---\n"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.create_commit(REPO, [CommitOperationAdd("README.md", broken.encode())], commit_message="card")
    assert api.list_repo_files(REPO) == [".gitattributes"]


def test_collections(hub, api):
    api.create_repo(REPO)
    made = api.create_collection("Tiny ones", namespace="alice", description="small")
    assert api.create_collection("Tiny ones", namespace="alice", exists_ok=True).slug == made.slug
    api.add_collection_item(made.slug, REPO, "model", note="2 layers")
    api.add_collection_item(made.slug, REPO, "model", exists_ok=True)
    (item,) = api.get_collection(made.slug).items
    assert (item.item_id, item.item_type, item.note) == (REPO, "model", "2 layers")
    api.update_collection_item(made.slug, item.item_object_id, note="3 layers")
    assert api.update_collection_metadata(made.slug, description="smaller").description == "smaller"
    assert api.get_collection(made.slug).items[0].note == "3 layers"
    assert [each.slug for each in api.list_collections(owner="alice")] == [made.slug]


@pytest.mark.parametrize(
    ("user", "repo", "status"),
    [
        (None, REPO, 401),
        (User("alice", role="read"), REPO, 403),
        (User("alice"), "nobody/tiny", 403),
        (User("bob"), REPO, 403),
    ],
    ids=["wrong token", "read-only", "no such organization", "somebody else's"],
)
def test_who_may_not_create(hub, user, repo, status):
    if user is not None:
        hub.add_user("hf_other", user)
    with pytest.raises(HfHubHTTPError) as error:
        HfApi(token="hf_other").create_repo(repo)
    assert error.value.response.status_code == status
    assert not hub.contents.repositories


def test_the_private_is_seen_by_its_owner_only(hub, api):
    api.create_repo(REPO, private=True)
    hub.add_user("hf_bob", User("bob"))
    for token in ("hf_bob", False):
        with pytest.raises(HfHubHTTPError):
            HfApi(token=token).model_info(REPO)
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token="hf_bob").model_info(REPO)
    api.update_repo_settings(REPO, private=False)
    assert HfApi(token="hf_bob").model_info(REPO).private is False


LOAD = """
import json, sys, torch
from transformers import AutoModelForSequenceClassification
from tests.hub.data_sets import learn, push
if sys.argv[2] == "push":
    model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
    model.push_to_hub("alice/pushed", commit_message="by transformers")
    push(sys.argv[3])
else:
    print("learned", json.dumps(learn()))
    model = AutoModelForSequenceClassification.from_pretrained("alice/pushed").eval()
    logits = model(torch.arange(5, 15).reshape(1, 10)).logits
    print(logits[0].tolist())
"""


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
def test_models_and_data_sets_are_pushed_and_a_fresh_process_loads(hub, tmp_path):
    import torch

    model = tiny_bert().eval()
    model.save_pretrained(tmp_path / "model")
    expected = model(torch.arange(5, 15).reshape(1, 10)).logits[0].tolist()
    labeled = make_labeled(tmp_path)
    for role in ("push", "load"):
        environment = client_environment(hub.url, tmp_path / role, xet=hub.contents.xet is not None)
        done = run_python(LOAD, environment, str(tmp_path / "model"), role, str(labeled))
        assert done.returncode == 0, done.stderr
    *_, learned, logits = done.stdout.strip().splitlines()
    assert json.loads(logits) == pytest.approx(expected, abs=1e-5)  # another process may round otherwise
    assert "model.safetensors" in hub.contents.repositories["alice/pushed"].head.files
    found, rows = json.loads(learned.removeprefix("learned ")), load_teacher_outputs(labeled)[:]
    assert found["verified"] == rows
    for name in (REVIEWS, PLAIN):
        assert found[name]["rows"] == rows
        assert len(found[name]["losses"]) == 2 and found[name]["losses"] == found[PLAIN]["losses"]
        said = ("made by", "with sha256", "order of the labels", "other input_ids")
        assert all(words in message for words, message in zip(said, found[name]["refused"], strict=True))
    assert b"license: mit" in hub.contents.repositories[f"datasets/{PLAIN}"].head.files["README.md"].content
    assert not hub.unknown


def test_the_command_line_uploads_and_downloads(hub, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "model.safetensors").write_bytes(weights(4))
    (source / "config.json").write_text("{}")
    hf = shutil.which("hf", path=str(Path(sys.executable).parent))
    environment = client_environment(hub.url, tmp_path / "home", xet=hub.contents.xet is not None)
    for words in (
        ["auth", "whoami"],
        ["upload", "alice/by-hand", str(source)],
        ["download", "alice/by-hand", "--local-dir", str(tmp_path / "copy")],
    ):
        done = subprocess.run([hf, *words], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert TOKEN not in done.stdout + done.stderr
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == weights(4)
    assert not [asked for asked in hub.unknown if "alice" in asked]
