"""What of a folder is published, and what is refused before anything is sent."""

import json
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_distill import SentenceEncoder
from hf_distill.files.sentence_transformers import saved_pooling, saved_prompts
from hf_distill.publishing.student_folder import files_to_publish, is_weights, left_out
from tests.hub.students import JUNK, make_student
from tests.tiny_models import tiny_bert

TOKEN = "hf_" + "abcdefghijABCDEFGHIJ0123456789wxyz"
PUBLISHED = ["README.md", "config.json", "model.safetensors", "run.json", "tokenizer.json", "tokenizer_config.json"]


@pytest.fixture
def folder(tmp_path):
    return make_student(tmp_path / "student")


def rewrite(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_only_what_a_stranger_needs(folder):
    files = files_to_publish(folder)
    assert [file.name for file in files] == PUBLISHED
    assert left_out(folder, files) == sorted([*JUNK, "checkpoint-10/"])
    assert all(file.size == file.path.stat().st_size and len(file.sha256) == 64 for file in files)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_sentence_encoder_goes_with_the_files_that_sentence_transformers_reads(folder, normalize):
    model = SentenceEncoder.from_model(tiny_bert(layers=1), "cls", normalize, {"query": "query: "})
    model.save_pretrained(folder)
    files = files_to_publish(folder)
    own = ["1_Pooling/config.json", "config_sentence_transformers.json", "modules.json"]
    assert sorted(file.name for file in files) == sorted([*own, *PUBLISHED])
    assert left_out(folder, files) == sorted([*JUNK, "checkpoint-10/"])
    published = folder.parent / "published"
    for file in files:
        (published / file.name).parent.mkdir(parents=True, exist_ok=True)
        (published / file.name).write_bytes(file.read())
    assert saved_pooling(published) == ("cls", normalize)
    assert saved_prompts(published) == ({"query": "query: "}, None)


@pytest.mark.parametrize("path", ["../elsewhere", "deep/folder"])
def test_modules_that_lead_elsewhere_are_refused(folder, path):
    SentenceEncoder.from_model(tiny_bert(layers=1)).save_pretrained(folder)
    modules = json.loads((folder / "modules.json").read_text())
    target = folder / path
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "1_Pooling").rename(target)
    modules[1]["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises((ValueError, OSError), match=re.escape(path)):
        files_to_publish(folder)


def test_checksums_are_gits_and_sha256s(folder):
    (folder / "LICENSE").write_bytes(b"hello\n")
    (license,) = (file for file in files_to_publish(folder) if file.name == "LICENSE")
    assert license.git_oid == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    assert license.sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def test_plots_go_where_the_card_shows_them(folder):
    for name in ("shown.png", "other.png"):
        (folder / name).write_bytes(b"\x89PNG")
    with (folder / "README.md").open("a") as card:
        card.write("\n![how it went](shown.png) ![elsewhere](https://example.org/x.png)\n")
    assert [file.name for file in files_to_publish(folder)] == sorted([*PUBLISHED, "shown.png"])
    (folder / "shown.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"README.md shows shown.png, which .* does not have"):
        files_to_publish(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "adapter_model.bin"])
def test_pickled_weights_are_refused(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(ValueError, match=f"pickled weights, {name}: only safetensors are published"):
        files_to_publish(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "has no weights: neither model.safetensors nor"),
        ("config.json", "has no config.json"),
        ("README.md", "has no README.md; `hf-distill card .*` renders it"),
    ],
)
def test_what_must_be_there(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        files_to_publish(folder)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a folder, got '.*absent'"):
        files_to_publish(tmp_path / "absent")


def test_a_shard_that_the_index_names_must_be_there(folder):
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"names: model-00001-of-00002\.safetensors"):
        files_to_publish(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": ["MyOwnBert"]},
        {"architectures": None},
        {"architectures": ["pipeline"]},
        {"architectures": ["AutoModel"]},
        {"architectures": ["BertForSequenceClassification", 1]},
    ],
    ids=str,
)
def test_only_stock_architectures(folder, changes):
    rewrite(folder / "config.json", **changes)
    with pytest.raises(
        ValueError,
        match=r"must name a stock architecture of transformers, got|'architectures' of .* must be list\[str\], got",
    ):
        files_to_publish(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
@pytest.mark.parametrize(
    "content",
    [{"auto_map": {"AutoTokenizer": ["evil/repo--module.Tokenizer", None]}}, {"text_config": {"auto_map": {"AutoConfig": "a.B"}}},
     {"custom_pipelines": {"mine": {"impl": "pipeline.Mine"}}}],
    ids=lambda content: next(iter(content)),
)  # fmt: skip
def test_code_of_its_own_is_refused(folder, name, content):
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | content))
    with pytest.raises(ValueError, match=rf"{name} has (auto_map|custom_pipelines), which loads code of its own"):
        files_to_publish(folder)


def test_a_word_of_a_vocabulary_is_no_code(folder):
    (folder / "vocab.json").write_text('{"auto_map": 7}')
    assert files_to_publish(folder)


@pytest.mark.parametrize("name", ["spiece.model", "tokenizer.model", "LICENSE.txt"])
def test_a_pickle_under_another_name_is_refused(folder, name):
    (folder / name).write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=rf"{name} is a pickle, which can run code where it is read"):
        files_to_publish(folder)
    torch.save({}, folder / name)
    with pytest.raises(ValueError, match=rf"{name} is a pickle"):
        files_to_publish(folder)


@pytest.mark.parametrize("name", ["vocab.txt", "LICENSE", "README.md", "model.safetensors", "config.json"])
def test_links_out_of_the_folder_are_refused(folder, tmp_path, name):
    (tmp_path / "private").write_text("not a real key")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "private")
    with pytest.raises(ValueError, match=rf"only regular files of the folder itself are published; {name} of"):
        files_to_publish(folder)


def test_links_inside_of_the_folder_are_what_they_lead_to(folder):
    (folder / "about.md").write_text("MIT")
    (folder / "LICENSE").symlink_to("about.md")
    assert "LICENSE" in [file.name for file in files_to_publish(folder)]


def test_a_folder_of_the_hub_s_cache_is_published(folder, tmp_path):
    blobs, snapshot = tmp_path / "models--a--b" / "blobs", tmp_path / "models--a--b" / "snapshots" / "main"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name in PUBLISHED:
        (folder / name).rename(blobs / f"blob-of-{name}")
        (snapshot / name).symlink_to(f"../../blobs/blob-of-{name}")
    assert [file.name for file in files_to_publish(snapshot)] == PUBLISHED


@pytest.mark.parametrize("name", ["vocab.txt", "README.md", "model.safetensors"])
def test_pipes_are_refused_and_not_waited_for(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=rf"{name} of .* leads out of it or is no regular file"):
        files_to_publish(folder)


def test_licences_of_known_names_only(folder):
    (folder / "LICENSE.key").write_text("not a license")
    files = files_to_publish(folder)
    assert "LICENSE.key" in left_out(folder, files)


@pytest.mark.parametrize(
    "place", ["../private/secret.safetensors", "/etc/passwd", "a/model-1-of-2.safetensors", 7, "private.safetensors"]
)
def test_names_in_an_index_are_plain(folder, place):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "x": place}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ValueError, match=r"must name files such as model-00001-of-00002\.safetensors, got|'weight_map' of .* must be"
    ):
        files_to_publish(folder)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', "[" * 100_000])
def test_an_index_of_another_kind(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(
        ValueError,
        match=r"index\.json (must be dict|lacks|is no JSON that)|'weight_map' of .* must be",
    ):
        files_to_publish(folder)


def test_weights_must_be_those_of_the_configuration(folder):
    rewrite(folder / "config.json", num_hidden_layers=2)
    with pytest.raises(ValueError, match=r"lacks weights of BertForSequenceClassification: bert.encoder.layer.1"):
        files_to_publish(folder)
    rewrite(folder / "config.json", num_hidden_layers=1, vocab_size=101)
    with pytest.raises(ValueError, match="does not load"):
        files_to_publish(folder)


def test_weights_must_be_whole(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"from_pretrained does not load"):
        files_to_publish(folder)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("# No metadata", "must begin with metadata"),
        ("---\ntags: [a\n---\n# Broken", "metadata of .*README.md is invalid"),
        ("---\njust words\n---\n# Broken", "metadata of .*README.md is invalid"),
        ("---\nmodel-index:\n- name: x\n  results:\n  - task: 1\n---\n# Broken", "metadata of .*README.md is invalid"),
    ],
)
def test_metadata_of_the_card_is_read(folder, card, message):
    (folder / "README.md").write_text(card)
    with pytest.raises(ValueError, match=message):
        files_to_publish(folder)


@pytest.mark.parametrize("name", ["README.md", "run.json", "config.json", "tokenizer_config.json", "LICENSE"])
@pytest.mark.parametrize("token", [TOKEN, "hf_oauth_" + TOKEN[3:]])
def test_tokens_are_found(folder, name, token):
    path = folder / name
    if path.suffix == ".json":
        rewrite(path, oops=token)
    else:
        path.write_text((path.read_text() if path.exists() else "") + f"\nhub_token: {token}\n")
    with pytest.raises(
        ValueError, match=rf"{name} contains what looks like a token, a password or a key, in line \d+"
    ) as error:
        files_to_publish(folder)
    assert token not in str(error.value)


def test_the_token_in_use_is_found_whatever_it_looks_like(folder):
    (folder / "LICENSE").write_text("MIT\nsecret-of-the-house\n")
    files_to_publish(folder)
    with pytest.raises(ValueError, match="LICENSE contains what looks like a token, a password or a key, in line 2"):
        files_to_publish(folder, "secret-of-the-house")


def test_a_token_in_the_header_of_weights_is_found(folder):
    (folder / "model.safetensors").unlink()
    save_file({"a": torch.zeros(2)}, folder / "model.safetensors", metadata={"by": TOKEN})
    with pytest.raises(ValueError, match=r"model.safetensors contains what looks like a token"):
        files_to_publish(folder)


@pytest.mark.parametrize(
    "secret", ["password: hunter2!", "AIza" + "Sy0" * 11, "see https://anna:secret@host/x", "WANDB_API_KEY=abc"]
)
def test_other_secrets_are_found_too(folder, secret):
    (folder / "LICENSE").write_text(f"MIT\n{secret}\n")
    with pytest.raises(ValueError, match="a token, a password or a key, in line 2: remove it"):
        files_to_publish(folder)


def test_special_tokens_and_words_are_no_secrets(folder):
    rewrite(folder / "tokenizer_config.json", image_token="<image>", mask_token="[MASK]", sep_token="</s>")
    (folder / "vocab.txt").write_text("password=abcdef1\ntoken: x1\nauthorization: 20104\n")
    assert files_to_publish(folder)


def test_names_that_only_begin_like_tokens_are_fine(folder):
    with (folder / "README.md").open("a") as card:
        card.write("\nhf_distill, hf_hub_download, hf_distill_for_sequence_classification_models\n")
    assert files_to_publish(folder)


@pytest.fixture
def adapter(folder):
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    save_file({"base_model.lora_A": torch.zeros(2)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "google/bert", "r": 2}))
    return folder


def test_an_adapter(adapter):
    names = [file.name for file in files_to_publish(adapter)]
    assert names[1:3] == ["adapter_config.json", "adapter_model.safetensors"] and "config.json" not in names


@pytest.mark.parametrize("base", ["/models/bert", "./bert", None, ""])
def test_an_adapter_of_a_base_that_nobody_has(adapter, base):
    rewrite(adapter / "adapter_config.json", base_model_name_or_path=base)
    if base is None:
        rewrite(adapter / "adapter_config.json", base_model_name_or_path=str(adapter))
    with pytest.raises(ValueError, match="must be a Hub id, got"):
        files_to_publish(adapter)


def test_an_adapter_that_cannot_be_read(adapter):
    (adapter / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"adapter_model.safetensors cannot be read"):
        files_to_publish(adapter)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.safetensors", True),
        ("model-00001-of-00002.safetensors", True),
        ("adapter_model.safetensors", True),
        ("onnx/model.safetensors", False),
        ("projections.safetensors", False),
        ("pytorch_model.bin", False),
    ],
)
def test_what_a_loader_takes_for_weights(name, expected):
    assert is_weights(name) is expected


def test_weights_that_are_not_finite_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"weights that are NaN or infinite, 1 parameters such as {name}"):
        files_to_publish(folder)


def test_a_tokenizer_without_a_limit_is_published(folder):
    rewrite(
        folder / "tokenizer_config.json", model_max_length=1000000000000000019884624838656
    )  # as transformers writes it
    assert "tokenizer_config.json" in [file.name for file in files_to_publish(folder)]
