"""A labeled transfer set on the Hub; `test_client` has what a stranger's process does with it."""

from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard, snapshot_download

from hf_distill import label_transfer_set, load_teacher_outputs
from hf_distill.precomputed.provenance import provenances
from hf_distill.publishing.hub import publish
from tests.hub.data_sets import PLAIN, REPO, make_labeled
from tests.hub.environment import TOKEN
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


@pytest.fixture
def folder(tmp_path):
    return make_labeled(tmp_path)


@pytest.mark.parametrize("hub", ["xet"], indirect=True)
def test_its_card_says_which_teacher_answered_and_nothing_about_the_machine(hub, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    labeled = load_teacher_outputs(folder)
    done = publish(folder, REPO, private=True)
    assert (done.repo_type, done.private, done.url) == ("dataset", True, f"{hub.url}/datasets/{REPO}")
    shards = [f"shard-0000{index}.arrow" for index in range(3)]
    assert [file.name for file in done.files] == [
        "README.md",
        "manifest.json",
        *shards,
        "cost.json",
    ] and not done.left_out
    assert not publish(folder, REPO).changed
    labeled.push_to_hub(PLAIN)
    sha256 = provenances(labeled)["teacher_provenance"].teacher["weights_sha256"]
    card = DatasetCard.load(REPO)
    card.validate()
    for said in ("reviewer", sha256, "`teacher_logits`", "bad, good", "29 rows"):
        assert said in card.text, said
    assert card.data.task_categories == ["text-classification"]
    assert sha256 in str(DatasetCard.load(PLAIN))
    for name in (REPO, PLAIN):
        for file in Path(snapshot_download(name, repo_type="dataset", cache_dir=tmp_path / "cache")).rglob("*"):
            content = file.read_bytes() if file.is_file() else b""
            assert not [word for word in (TOKEN, "secret", str(tmp_path), str(Path.home())) if word.encode() in content]


@pytest.mark.parametrize("hub", ["lfs"], indirect=True)
def test_only_what_is_whole_is_published(hub, folder, tmp_path):
    publish(folder, REPO)
    shard, *_ = sorted(folder.glob("shard-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=r"shard-00000\.arrow has sha256"):
        publish(folder, REPO)
    shard.write_bytes(whole)
    (folder / "manifest.json").rename(folder / "unfinished.json")
    with pytest.raises(FileNotFoundError, match="never finished"):
        publish(folder, REPO)
    other = tmp_path / "other"
    label_transfer_set(encoded_sentences(9), tiny_bert(), tiny_tokenizer(), other)
    publish(other, REPO, message="fewer")
    head = hub.contents.repositories[f"datasets/{REPO}"].head
    assert sorted(head.files) == [".gitattributes", "README.md", "cost.json", "manifest.json", "shard-00000.arrow"]
    assert head.title == "fewer" and not hub.unknown
