"""The record says what happened and nothing private."""

import json

import pytest
from transformers import TrainingArguments

from hf_distill.fingerprints import weights_sha256
from hf_distill.publishing.run_record import (
    RunRecord,
    changed_arguments,
    describe_model,
    public_name,
)
from tests.tiny_models import tiny_bert


def record(**changes):
    fields = dict(trainer="T", student={}, teacher=None, objective=[], arguments={}, data={}, training={})
    return RunRecord(**(fields | changes))


def test_round_trip_and_no_partial_file(tmp_path):
    saved = record(metrics={"eval_loss": 0.5})
    saved.save(tmp_path)
    assert RunRecord.load(tmp_path) == saved
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_another_schema_version_is_refused(tmp_path):
    path = record().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99; this package reads 1"):
        RunRecord.load(tmp_path)


def test_only_changed_arguments_without_paths_and_secrets(tmp_path):
    args = TrainingArguments(str(tmp_path), hub_token="secret", learning_rate=0.1, report_to="none", optim="sgd")
    changed = changed_arguments(args)
    assert changed["learning_rate"] == 0.1 and changed["optim"] == "sgd"
    assert "secret" not in json.dumps(changed) and str(tmp_path) not in json.dumps(changed)
    assert "weight_decay" not in changed


def test_names_of_local_folders_lose_their_path(tmp_path):
    assert public_name(tmp_path / "my-teacher") == "my-teacher"
    assert public_name("google/bert_uncased_L-2_H-128_A-2") == "google/bert_uncased_L-2_H-128_A-2"


def test_hash_tells_weights_apart():
    first, same, other = tiny_bert(seed=1), tiny_bert(seed=1), tiny_bert(seed=2)
    assert weights_sha256(first) == weights_sha256(same) != weights_sha256(other)
    assert describe_model(first)["parameters"] == first.num_parameters()
