"""The embedding script on a few texts: layers of a teacher, fewer tokens, and a student with a tokenizer of its own."""

from __future__ import annotations

import json

import datasets
import pytest
from transformers import AutoTokenizer

from hf_distill import SentenceEncoder
from hf_distill.sentence_encoder import prompts_of
from tests.tiny_models import tiny_bert, tiny_tokenizer

QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
STAGES = [
    "--do_train",
    "--do_eval",
    "--max_steps",
    "8",
    "--per_device_train_batch_size",
    "4",
    "--learning_rate",
    "1e-3",
]
TEXTS = [f"w{4 + row % 5} w{5 + row % 4} w{6 + row % 3}" for row in range(40)]


@pytest.fixture
def places(tmp_path):
    """The arguments for a saved teacher and a file of texts."""
    SentenceEncoder.from_model(tiny_bert(32, 4)).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    teacher, texts = str(tmp_path / "teacher"), str(tmp_path / "texts.txt")
    return ["--teacher_model_name_or_path", teacher, "--train_file", texts, *STAGES, *QUIET]


def results(folder):
    return json.loads((folder / "all_results.json").read_text(encoding="utf-8"))


def test_layers_of_the_teacher_with_fewer_tokens(run_main, tmp_path, places):
    folder = tmp_path / "small"
    shape = ["--student_shape", "2/32", "--trim_vocabulary", "--prefix", "w9 "]
    run_main("--output_dir", str(folder), *shape, *places)
    assert prompts_of(SentenceEncoder.from_pretrained(folder).config) == ["w9 "]
    student, tokenizer = SentenceEncoder.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert student.config.num_hidden_layers == 2 and student.config.vocab_size == len(tokenizer) < 100
    found = results(folder)
    assert found["train_samples"] == 38 and found["eval_samples"] == 2
    assert {"eval_soft_label_loss", "eval_similarity_loss", "eval_teacher_cosine"} <= found.keys()


def test_a_student_with_its_own_tokenizer(run_main, tmp_path, places):
    prompts = {"prompts": {"text": "w9 "}, "default_prompt": "text"}
    SentenceEncoder.from_model(tiny_bert(32, 4), **prompts).save_pretrained(tmp_path / "teacher")
    SentenceEncoder.from_model(tiny_bert(16, 1, vocab_size=110), pooling="cls").save_pretrained(tmp_path / "own")
    tiny_tokenizer(shift=7).save_pretrained(tmp_path / "own")
    folder = tmp_path / "small"
    own = ["--student_name_or_path", str(tmp_path / "own"), "--max_train_samples", "20"]
    run_main("--output_dir", str(folder), *own, *places)
    assert results(folder)["train_samples"] == 20
    config = SentenceEncoder.from_pretrained(folder).config
    assert config.sentence_pooling == "cls" and prompts_of(config) == ["w9 "], "that of the teacher"


def test_a_teacher_must_be_named(run_main, tmp_path, places):
    with pytest.raises(ValueError, match="teacher_model_name_or_path must be a Hub id or a local path"):
        run_main("--output_dir", str(tmp_path / "x"), *places[2:])


def test_texts_are_read_from_the_first_strings(script):
    rows = datasets.Dataset.from_dict({"number": [1, 2], "body": ["w5", "w6"]})
    assert script.prompted(rows, None, "w9 ")["text"][:] == ["w9 w5", "w9 w6"]
    with pytest.raises(ValueError, match=r"text_column_name is 'bdy', .* Did you mean 'body'"):
        script.prompted(rows, "bdy", "")
