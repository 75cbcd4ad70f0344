"""Wherever the package reads files of others, what is no sound file of the kind ends in one clear error."""

import json
import os

import pytest
from datasets import Dataset
from transformers import AutoModelForSequenceClassification

from hf_distill.data.files import load_texts
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.files import FileFormatError
from hf_distill.publishing.run_record import RunRecord, describe_model
from hf_distill.publishing.student_folder import files_to_publish
from hf_distill.resources.squad import is_squad_file
from hf_distill.scripts.datasets import load_splits
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from tests.tiny_models import tiny_bert, tiny_tokenizer

DEEP = "[" * 100_000


@pytest.fixture
def saved(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    return tmp_path


@pytest.mark.parametrize("text", [DEEP, "[]", '{"objective": [5]}', '{"objective": 5}', '{"a": 1, "a": 1}'])
def test_records(saved, text):
    model = AutoModelForSequenceClassification.from_pretrained(saved)
    (saved / "run.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"run\.json"):
        load_evaluated_model(str(saved), "student")
    with pytest.raises(ValueError, match=r"run\.json"):
        RunRecord.load(saved)
    assert describe_model(model)["lineage"] is None


@pytest.mark.parametrize("text", [DEEP, "[]", '{"architectures": [5]}', '{"architectures": "Bert"}', "{"])
def test_configurations(saved, text):
    (saved / "config.json").write_text(text)
    with pytest.raises(FileFormatError, match=r"config\.json"):
        files_to_publish(saved)


@pytest.mark.parametrize(
    "text", [DEEP, "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../x"}}']
)
def test_indices_of_weights(saved, text):
    (saved / "model.safetensors").unlink()
    (saved / "model.safetensors.index.json").write_text(text)
    for read in (files_to_publish, lambda folder: find_checkpoints(str(folder))):
        with pytest.raises(FileFormatError, match=r"model\.safetensors\.index\.json"):
            read(saved)


@pytest.mark.parametrize("text", [DEEP, "[]", "", '{"log_history": ['])
def test_states_of_a_training(tmp_path, text):
    for step in (1, 2):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text('{"log_history": [{"loss": NaN}]}')
    (tmp_path / "checkpoint-2" / "trainer_state.json").write_text(text)
    assert last_complete_checkpoint(tmp_path) == str(tmp_path / "checkpoint-1")


def test_saved_data_sets(tmp_path):
    Dataset.from_dict({"input_ids": [[1, 2], [3]], "labels": [0, 1]}).save_to_disk(tmp_path)
    assert load_splits(str(tmp_path))[tmp_path.name]["labels"][:] == [0, 1]
    path = next(tmp_path.glob("*.arrow"))
    content, offsets = path.read_bytes(), b"".join(each.to_bytes(4, "little") for each in (0, 2, 3))
    assert content.count(offsets) == 1
    path.write_bytes(content.replace(offsets, offsets[:-4] + (1000).to_bytes(4, "little")))
    with pytest.raises(FileFormatError, match="rows that point outside"):
        load_splits(str(tmp_path))


def test_questions(tmp_path):
    (tmp_path / "x.json").write_text(DEEP)
    with pytest.raises(FileFormatError, match="nested too deeply"):
        is_squad_file(tmp_path / "x.json")


def test_folders_of_texts(tmp_path):
    (tmp_path / "private").write_text("a line of a private file\n")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a good film\n")
    assert load_texts(str(tmp_path / "texts"))["text"][:] == ["a good film"]
    os.symlink(tmp_path / "private", tmp_path / "texts" / "b.txt")
    with pytest.raises(FileFormatError, match=r"b\.txt is a link that leads out of"):
        load_texts(str(tmp_path / "texts"))


def test_a_record_may_hold_a_loss_that_is_none(saved):
    (saved / "run.json").write_text(json.dumps({"teacher": {"name": "x"}, "metrics": {"eval_loss": float("nan")}}))
    assert load_evaluated_model(str(saved), "student").role == "distilled"
