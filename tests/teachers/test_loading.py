"""A teacher from a folder: read as it was saved, or refused."""

import json

import pytest

from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.teachers.loading import load_teacher
from tests.pretrained.test_files import BROKEN, as_int8
from tests.tiny_models import tiny_bert, tiny_tokenizer


@pytest.fixture
def saved(tmp_path):
    tiny_bert(seed=1).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def test_a_broken_tokenizer_does_not_skip_the_comparison_of_vocabularies(saved):
    student, tokenizer = tiny_bert(), tiny_tokenizer()
    load_teacher(str(saved), student, tokenizer)
    rules = json.loads((saved / "tokenizer.json").read_text())
    words = rules["model"]["vocab"]
    words["w7"], words["w8"] = words["w8"], words["w7"]
    (saved / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ValueError, match="differ in 4 entries"):
        load_teacher(str(saved), student, tokenizer)
    for text in BROKEN:
        (saved / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=r"the tokenizer of .* cannot be read"):
            load_teacher(str(saved), student, tokenizer)
        load_teacher(str(saved), student)  # nothing to compare it with
    for path in saved.glob("*token*"):
        path.unlink()
    load_teacher(str(saved), student, tokenizer)


def test_weights_that_are_no_fractions_are_refused(saved):
    as_int8(saved / "model.safetensors")
    with pytest.raises(ValueError, match="weights of the type I8"):
        load_teacher(str(saved), tiny_bert())


def test_code_that_comes_with_a_teacher_is_not_run(saved, monkeypatch):
    """Nor does the terminal ask whether it may be run."""
    config = json.loads((saved / "config.json").read_text())
    config |= {"model_type": "unknown", "auto_map": {"AutoConfig": "code.Config"}}
    (saved / "config.json").write_text(json.dumps(config))
    (saved / "code.py").write_text(f"open({str(saved / 'EXECUTED')!r}, 'w')\n")
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_teacher(str(saved), tiny_bert())
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_evaluated_model(str(saved), "teacher")
    assert not (saved / "EXECUTED").exists()
    with pytest.raises(AttributeError, match="Config"):
        load_teacher(str(saved), tiny_bert(), init_kwargs={"trust_remote_code": True})
    assert (saved / "EXECUTED").exists()
