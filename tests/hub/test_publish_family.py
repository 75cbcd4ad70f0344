"""A family on the Hub: repositories, cards that show one another, a collection; also when the line breaks."""

import json

import pytest
from huggingface_hub import HfApi
from transformers import BertForSequenceClassification

from hf_distill.publishing.family import publish_family
from hf_distill.publishing.hub_session import PublishError, RetryPolicy
from tests.hub.environment import TOKEN, client_environment, run_python
from tests.hub.faults import Failure, Fault
from tests.hub.students import LOAD, contents_of, logits_of, make_student

NAMES = ["tiny", "mini", "small", "medium"]
TITLE = "Small reviewers"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Four students; only read."""
    root = tmp_path_factory.mktemp("family")
    return [make_student(root / name, layers, seed=layers) for layers, name in enumerate(NAMES, start=1)]


def published(hub) -> dict[str, bytes]:
    """The card of every student that is there whole."""
    complete = {}
    for name, repository in hub.contents.repositories.items():
        files = repository.head.files
        if "model.safetensors" in files:
            assert len(files) == 7, "partial"
            complete[name] = files["README.md"].content
    return complete


def members(hub) -> list[list[str]]:
    return [[item["id"] for item in each["items"]] for each in hub.contents.collections.values()]


@pytest.mark.parametrize("hub", ["xet"], indirect=True)
def test_a_family_is_published_and_loaded_by_a_stranger(hub, folders, tmp_path):
    before = [contents_of(folder) for folder in folders]
    family = publish_family(folders, TITLE, "lab", description="BERTs that review", private=True, tag="v1")
    assert [contents_of(folder) for folder in folders] == before
    repositories = [f"lab/{name}" for name in NAMES]
    cards = published(hub)
    assert list(cards) == repositories == [student.repo_id for student in family.students]
    for own, card in cards.items():
        text = card.decode()
        assert f"## The family: {TITLE}" in text and f"**{own[4:]}** (this model)" in text
        assert all(f"]({hub.url}/{other})" in text for other in repositories if other != own)
        assert all(f"| {layers} | 16 |" in text for layers in range(1, 5))
    (collection,) = hub.contents.collections.values()
    assert (collection["title"], collection["private"], collection["description"]) == (TITLE, True, "BERTs that review")
    assert members(hub) == [repositories] and family.collection == f"{hub.url}/collections/{collection['slug']}"
    assert collection["items"][0]["note"]["text"].startswith("1 layer, hidden size 16, ")

    again = publish_family(folders, TITLE, "lab", private=True, tag="v1")
    assert not any(student.changed for student in again.students) and members(hub) == [repositories]

    environment = client_environment(hub.url, tmp_path / "home", xet=hub.contents.xet is not None)
    done = run_python(LOAD, environment, *repositories)
    assert done.returncode == 0, done.stderr
    loaded = dict(json.loads(line) for line in done.stdout.split("logits")[1:])
    stock = BertForSequenceClassification
    expected = {f"lab/{each.name}": logits_of(stock.from_pretrained(each)) for each in folders}
    assert loaded.keys() == expected.keys()
    assert all(loaded[name] == pytest.approx(logits, abs=1e-5) for name, logits in expected.items())


def test_a_dry_run_asks_nobody(hub, folders, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    family = publish_family(folders, TITLE, "lab", dry_run=True)
    assert not hub.requests and family.collection == "" and len(family.students) == 4
    assert family.table.count("\n") == 5


@pytest.mark.parametrize(
    "fault",
    [
        Fault("commit", Failure.DEATH, nth=3),
        Fault("commit", Failure.DEATH, nth=3, applied=True),
        Fault("create", status=403, nth=2),
        Fault("collection-create", Failure.DEATH),
        Fault("collection-create", Failure.RESET, applied=True),
        Fault("collection-create", status=409),
        Fault("collection-add", Failure.DEATH, nth=2),
        Fault("collection-add", Failure.DEATH, nth=2, applied=True),
        Fault("collection-add", Failure.HANG, nth=3, applied=True),
        Fault("collection-add", status=500, nth=4),
        Fault("collection-get", Failure.DEATH),
    ],
    ids=str,
)
def test_a_family_is_continued(hub, folders, fault, capfd, caplog):
    hub.faults.order(fault)
    hangs = fault.failure is Failure.HANG
    said = ""
    try:
        publish_family(folders, TITLE, "lab", patience=RetryPolicy(attempts=2, wait=0, timeout=0.5 if hangs else 20))
    except PublishError as error:
        said = str(error)
    assert hub.faults.met
    assert hangs or bool(said) is (fault.failure is Failure.DEATH or fault.status == 403)
    assert said == "" or said.endswith("the same command continues.")
    partly = published(hub)

    hub.faults.order()
    hub.start()
    publish_family(folders, TITLE, "lab", patience=RetryPolicy(wait=0))
    cards = published(hub)
    assert list(cards) == [f"lab/{name}" for name in NAMES]
    assert partly.items() <= cards.items()
    assert [len(repository.commits) for repository in hub.contents.repositories.values()] == [2] * 4
    assert members(hub) == [list(cards)]
    assert TOKEN not in said + "".join(capfd.readouterr()) + caplog.text


def test_a_public_collection_is_not_taken_for_private(hub, folders):
    HfApi().create_collection(TITLE, namespace="lab")
    with pytest.raises(PublishError, match="the collection exists and is public, private was asked for"):
        publish_family(folders, TITLE, "lab", private=True)


def test_a_broken_member_stops_the_family_before_anything_is_sent(hub, folders, tmp_path):
    broken = make_student(tmp_path / "broken")
    (broken / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"broken has no config\.json"):
        publish_family([*folders, broken], TITLE, "lab")
    assert not hub.requests
