"""A student that was trimmed from Python has a record of its own, and can be published."""

import pytest

from hf_distill.fingerprints import weights_sha256
from hf_distill.pruning import trim_vocabulary
from hf_distill.publishing.derived_record import record_derived
from hf_distill.publishing.hub import plan_publication
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord, describe_model
from tests.cli.commands import invoke
from tests.publishing.test_run_record import record
from tests.tiny_models import tiny_bert, tiny_tokenizer


@pytest.fixture
def folders(tmp_path):
    """A recorded student, and the same with fewer tokens."""
    model, tokenizer = tiny_bert(), tiny_tokenizer()
    student, trimmed = tmp_path / "student", tmp_path / "trimmed"
    model.save_pretrained(student)
    described = record(metrics={"eval_accuracy": 0.5})
    described.student = describe_model(model) | {"saved_as": "student"}
    described.save(student)
    for part in trim_vocabulary(model, tokenizer, ["w5 w6 w7"]):
        part.save_pretrained(trimmed)
    return student, trimmed


def test_a_trimmed_student_is_recorded_and_published(folders):
    student, trimmed = folders
    invoke("card", str(trimmed), "--made-from", str(student))
    before, now = RunRecord.load(student), RunRecord.load(trimmed)
    assert now.made_from["weights_sha256"] == before.student["weights_sha256"]
    assert now.student["parameters"] < now.made_from["parameters"] and now.student["vocab_size"] < 100
    assert now.training == before.training and now.metrics == {} and now.student["saved_as"] == "trimmed"
    card = (trimmed / "README.md").read_text()
    assert f"It was trained as student with {before.student['parameters']:,} parameters" in card
    assert "100 tokens), and made smaller afterwards" in card and "\n\n\n" not in card
    assert {"run.json", "README.md"} <= {file.name for file in plan_publication(trimmed, "alice/trimmed").files}


def test_what_was_not_made_from_the_student_is_refused(folders):
    student, trimmed = folders
    with pytest.raises(ValueError, match="has the weights of"):
        record_derived(student, tiny_bert(), student)
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        record_derived(student, tiny_bert(seed=1), trimmed)
    assert weights_sha256(tiny_bert()) == RunRecord.load(student).student["weights_sha256"]


def test_a_record_of_training_has_no_such_line(folders):
    student, _ = folders
    assert "made smaller afterwards" not in write_model_card(student).read_text()
