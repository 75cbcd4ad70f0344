"""The record says what happened and nothing private."""

import json
from dataclasses import fields

import pytest
from transformers import TrainingArguments

from hf_distill.fingerprints import weights_sha256
from hf_distill.pretrained.origin import note_random_weights
from hf_distill.publishing.run_origin import changed_arguments
from hf_distill.publishing.run_record import RunRecord, describe_model
from hf_distill.students.create import create_student
from tests.tiny_models import tiny_bert

MODEL = {"name": "m", "architecture": "A", "parameters": 1, "weights_sha256": "0" * 64}
TRAINING = {"steps": 1, "epochs": 1.0, "seconds": 1.0, "seed": 0, "hardware": "a CPU"}


def record(**changes):
    fields = dict(trainer="T", student=MODEL, teacher=None, objective=[], arguments={}, data={}, training=TRAINING)
    return RunRecord(**(fields | changes))


def test_round_trip_and_no_partial_file(tmp_path):
    saved = record(metrics={"eval_loss": 0.5})
    saved.save(tmp_path)
    assert RunRecord.load(tmp_path) == saved
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_metric_whose_name_tells_a_path_stays_one_metric(tmp_path):
    name = "/home/anna/metric"
    row = {"name": "m", "role": "other", "parameters": 1, "metrics": {name: 0.5}}
    data = {"name": "d", "split": "test", "examples": 1, "fingerprint": "f"}
    record(evaluation={"task": "t", "data": data, "metric": name, "rows": [row]}).save(tmp_path)
    assert (
        RunRecord.load(tmp_path).evaluation["metric"] == "metric" and "anna" not in (tmp_path / "run.json").read_text()
    )


def test_another_schema_version_is_refused(tmp_path):
    path = record().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99; this package reads 2"):
        RunRecord.load(tmp_path)


def test_every_text_argument_may_be_private_and_none_gets_out(tmp_path):
    """Whatever field a path or a token is put into."""
    secret, folder = "hf_" + "x" * 30, str(tmp_path / "anna" / "private")
    args = TrainingArguments(str(tmp_path), report_to="none")
    texts = [each.name for each in fields(args) if isinstance(getattr(args, each.name, None), (str, type(None)))]
    for name in texts:
        object.__setattr__(args, name, f"{folder}/{secret}/end")
    saved = record(arguments=changed_arguments(args), command=f"python x.py --token {secret} --data {folder}/f.csv")
    content = saved.save(tmp_path).read_text()
    assert len(texts) > 20 and secret not in content and str(tmp_path) not in content and "anna" not in content


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"student": {"name": "m"}}, r"\$\.student: 'architecture' is a required property"),
        ({"training": TRAINING | {"steps": "many"}}, r"\$\.training\.steps: 'many' is not of type 'integer'"),
        ({"metrics": {"eval_loss": "low"}}, r"\$\.metrics\.eval_loss"),
        ({"git": {"commit": "main", "changed": False}}, r"\$\.git"),
    ],
)
def test_a_record_that_breaks_the_schema_is_refused_with_the_place(tmp_path, change, place):
    record(**change).save(tmp_path)
    with pytest.raises(ValueError, match=place):
        RunRecord.load(tmp_path)


def test_a_field_nobody_knows_is_refused(tmp_path):
    path = record().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1}))
    with pytest.raises(ValueError, match="'extra' was unexpected"):
        RunRecord.load(tmp_path)


def test_what_is_no_json_is_refused(tmp_path):
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is no JSON"):
        RunRecord.load(tmp_path)


def test_records_of_the_first_version_are_read(tmp_path):
    path = record().save(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 1, "comparison": []}))
    assert RunRecord.load(tmp_path).schema_version == 2


def test_where_a_teacher_came_from_is_read_off_its_own_record(tmp_path):
    model = tiny_bert()
    model.save_pretrained(tmp_path / "teacher")
    record(teacher=MODEL | {"name": "grand"}).save(tmp_path / "teacher")
    loaded = type(model).from_pretrained(tmp_path / "teacher")
    expected = {"from": "m", "teacher": "grand", "trainer": "T", "steps": 1}
    assert describe_model(loaded)["lineage"] == expected and describe_model(loaded)["name"] == "teacher"
    assert describe_model(model)["lineage"] is None and describe_model(model)["initialization"] is None
    assert describe_model(create_student("1/64", model, "random"))["initialization"] == "random"


def test_hash_tells_weights_apart():
    first, same, other = tiny_bert(seed=1), tiny_bert(seed=1), tiny_bert(seed=2)
    assert weights_sha256(first) == weights_sha256(same) != weights_sha256(other)
    assert describe_model(first)["parameters"] == first.num_parameters()


def test_a_model_made_from_the_configuration_of_another_is_random_and_not_that_one():
    model = tiny_bert()
    assert describe_model(model)["initialization"] is None
    model.config._name_or_path, model.config._commit_hash = "org/model", "c0ffee"
    note_random_weights(model)
    found = describe_model(model)
    assert (found["initialization"], found["name"], found["revision"]) == ("random", type(model).__name__, None)


def test_a_teacher_made_of_a_configuration_began_with_random_weights(tmp_path):
    model = tiny_bert()
    model.save_pretrained(tmp_path / "teacher")
    record(student=MODEL | {"name": "BertModel", "architecture": "BertModel"}).save(tmp_path / "teacher")
    assert describe_model(type(model).from_pretrained(tmp_path / "teacher"))["lineage"]["from"] == "random weights"
