"""`hf-distill augment` writes a file that `hf-distill label` reads."""

import pytest
from datasets import load_dataset

from tests.cli.commands import invoke, invoke_json
from tests.tiny_models import tiny_bert, tiny_tokenizer

TEXTS = ["w5 w6 w7 w8", "w7 w8 w9", "w20 w21 w22"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *(f"{text},1" for text in TEXTS)]) + "\n")
    (tmp_path / "test.csv").write_text("text\nW7 W8 W9\n")
    tiny_bert().save_pretrained("model")
    tiny_tokenizer().save_pretrained("model")
    return tmp_path


@pytest.mark.parametrize(("suffix", "kind"), [("csv", "csv"), ("jsonl", "json"), ("parquet", "parquet")])
def test_texts_are_written_without_labels_and_evaluation_texts(folder, suffix, kind):
    output = f"out/augmented.{suffix}"
    options = (
        "--copies",
        2,
        "--method",
        "nearest_words=3",
        "--method",
        "mix=1",
        "--model",
        "model",
        "--exclude",
        "test.csv",
    )
    found = invoke_json("augment", "reviews.csv", "--output", output, *options, "--parts-dir", "parts")
    rows = load_dataset(kind, data_files=output, split="train")
    assert rows.column_names == ["text"] == found["columns"]
    assert rows["text"][:2] == [TEXTS[0], TEXTS[2]] and 2 < len(rows) == found["rows"] <= 6
    assert "1 of the transfer set" in found["description"] and (folder / "parts" / "part-00000.arrow").exists()
    labeled = invoke("label", output, "--teacher", "model", "--output-dir", "labeled")
    assert f"{len(rows)} rows with the outputs of" in labeled.output


def test_new_texts_alone(folder):
    output = invoke("augment", "reviews.csv", "--output", "new.csv", "--no-originals", "--seed", 3).output
    assert "texts in new.csv. Augmented by word_dropout, n_gram_sampling (seed 3)" in output
    assert not set(TEXTS) & set(load_dataset("csv", data_files="new.csv", split="train")["text"])


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (("--output", "a.txt"), 2, "--output must end in one of"),
        (("--output", "a.csv", "--method", "mix"), 2, "must be a name and a weight, such as mix=1, got 'mix'"),
        (("--output", "a.csv", "--method", "mixx=1"), 1, "Did you mean 'mix'?"),
        (("--output", "a.csv", "--method", "mask_fill=1", "--model", "model"), 1, "needs a masked-language model"),
    ],
)
def test_mistakes_end_in_one_line(folder, options, exit_code, message):
    output = invoke("augment", "reviews.csv", *options, exit_code=exit_code).output
    assert message in output and "Traceback" not in output
