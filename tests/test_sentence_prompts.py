"""What the texts of a sentence encoder begin with: kept in folders, and the same in training, evaluation and use."""

from __future__ import annotations

import json

import numpy as np
import pytest
from datasets import Dataset, Value

from hf_distill import SentenceEncoder, create_student
from hf_distill.data.sequences import encode_single_texts, single_texts
from hf_distill.evaluation.comparison import DISTILLED, TEACHER, EvaluatedModel, compare
from hf_distill.evaluation.embeddings import embeddings_of
from hf_distill.pruning import trim_vocabulary
from hf_distill.publishing.run_record import describe_model
from hf_distill.publishing.usage import usage
from hf_distill.scripts.transfer_set import load_transfer_set
from hf_distill.scripts.unlabeled_texts import with_unlabeled_single_texts
from hf_distill.sentence_encoder import prompts_of
from tests.tiny_models import tiny_bert, tiny_tokenizer

TEXTS = ["w5 w6 w7 w8 w9", "w6 w7", "w8"]
PROMPTS = {"query": "w10 ", "passage": "w11 w12 "}


@pytest.fixture
def encoder():
    return SentenceEncoder.from_model(tiny_bert(layers=2), prompts=PROMPTS, default_prompt="query").eval()


@pytest.fixture
def folder(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "encoder")
    tiny_tokenizer().save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def begun(name):
    return [PROMPTS[name] + text for text in TEXTS]


def test_embeddings_are_those_of_sentence_transformers(encoder, folder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    own = embeddings_of(encoder, tiny_tokenizer(), TEXTS)
    documents = embeddings_of(encoder, tiny_tokenizer(), TEXTS, prompt=PROMPTS["passage"])
    near = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(theirs.encode(TEXTS), own, **near)
    np.testing.assert_allclose(theirs.encode_query(TEXTS), own, **near)
    np.testing.assert_allclose(theirs.encode_document(TEXTS), documents, **near)
    np.testing.assert_allclose(embeddings_of(encoder, tiny_tokenizer(), begun("passage"), prompt=""), documents, **near)
    assert np.abs(own - documents).max() > 1e-3


def test_they_are_read_from_the_folder_of_sentence_transformers(folder, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    config = json.loads((tmp_path / "theirs" / "config.json").read_text())
    stock = {name: value for name, value in config.items() if not name.startswith("sentence_")}
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(stock))
    found = SentenceEncoder.from_pretrained(tmp_path / "theirs").config
    assert (found.sentence_prompts, found.sentence_default_prompt) == (
        PROMPTS | {"document": "w11 w12 "}, "query",
    )  # fmt: skip


def test_empty_prompts_are_none(folder):
    settings = {"prompts": {"query": "w10 ", "document": ""}, "default_prompt_name": "document"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    config = json.loads((folder / "config.json").read_text())
    for name in ("sentence_prompts", "sentence_default_prompt"):
        del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    found = SentenceEncoder.from_pretrained(folder).config
    assert (found.sentence_prompts, found.sentence_default_prompt) == ({"query": "w10 "}, None)
    assert prompts_of(found) == [""] and prompts_of(found, 2) == ["w10 ", ""]


def test_prompts_that_are_no_texts_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in config if "sentence_" not in key}))
    for prompts in ("w10 ", {"query": 7}):
        (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
        with pytest.raises(ValueError, match=r"'prompts' of .*config_sentence_transformers\.json"):
            SentenceEncoder.from_pretrained(folder)


def test_prompts_that_are_left_out_of_pooling_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({key: config[key] for key in config if "sentence_" not in key}))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "mean", "include_prompt": False}))
    with pytest.raises(ValueError, match="leaves prompts out of pooling"):
        SentenceEncoder.from_pretrained(folder)
    assert prompts_of(SentenceEncoder.from_pretrained(folder, pooling="mean").config) == ["w10 "]


def test_a_default_must_be_one_of_them(folder):
    with pytest.raises(ValueError, match=r"one of the prompts, .*'query'.*, got 'answer'"):
        SentenceEncoder.from_pretrained(folder, default_prompt="answer")
    assert prompts_of(SentenceEncoder.from_pretrained(folder, default_prompt="passage").config) == ["w11 w12 "]
    other = SentenceEncoder.from_pretrained(folder, prompts={"text": "w13 "}, default_prompt="text").config
    assert prompts_of(other, 2) == ["w13 ", "w13 "]


def test_students_keep_them(encoder):
    student = create_student("1/16", encoder, layers="uniform")
    smaller, _ = trim_vocabulary(student, tiny_tokenizer(), begun("query"))
    assert prompts_of(smaller.config, 2) == ["w10 ", "w11 w12 "]
    assert prompts_of(tiny_bert().config, 2) == ["", ""]


def test_model_inputs_begin_with_them(encoder):
    tokenizer, rows = tiny_tokenizer(), Dataset.from_dict({"question": TEXTS, "answer": TEXTS})
    found = encode_single_texts(rows, encoder.config, tokenizer, 16)
    assert found["input_ids"][:] == tokenizer([*begun("query"), *begun("passage")])["input_ids"]
    alone = encode_single_texts(rows.select_columns("answer"), encoder.config, tokenizer, 16)
    assert alone["input_ids"][:] == tokenizer(begun("query"))["input_ids"]


def test_columns_of_different_types_of_strings_are_read(encoder):
    rows = Dataset.from_dict({"question": TEXTS, "answer": TEXTS}).cast_column("question", Value("large_string"))
    assert single_texts(rows, prompts_of(encoder.config, 2))["text"][:] == [*begun("query"), *begun("passage")]
    assert single_texts(rows)["text"][:] == [*TEXTS, *TEXTS]


def test_a_missing_text_stays_missing(encoder):
    rows = Dataset.from_dict({"text": ["w5", None]})
    assert single_texts(rows, ["w10 "])["text"][:] == ["w10 w5", None]
    with pytest.raises(ValueError, match="text"):
        encode_single_texts(rows, encoder.config, tiny_tokenizer(), 16)


def test_a_comparison_reads_pairs_as_queries_and_documents(encoder):
    bare = SentenceEncoder.from_model(tiny_bert(layers=2)).eval()  # with the same weights
    texts = {"question": TEXTS * 4, "answer": [text + " w20" for text in TEXTS * 4]}
    begun_texts = {
        column: [PROMPTS[name] + text for text in texts[column]]
        for column, name in zip(texts, PROMPTS, strict=True)
    }  # fmt: skip
    found, expected, other = (
        compare([EvaluatedModel("big", TEACHER, model, tiny_tokenizer()),
                 EvaluatedModel("small", DISTILLED, model, tiny_tokenizer())],
                Dataset.from_dict({**rows, "label": [float(7 * row % 12) for row in range(12)]}), "sts", "test", latency=None)
        for model, rows in ((encoder, texts), (bare, begun_texts), (bare, texts))
    )  # fmt: skip
    metrics = [each["rows"][0]["metrics"] for each in (found, expected, other)]
    assert metrics[0] == pytest.approx(metrics[1]) and metrics[0] != pytest.approx(metrics[2])


def test_unlabeled_texts_need_a_default(encoder, tmp_path):
    (tmp_path / "texts.txt").write_text("w7 w8\nw9\n")
    splits, source = {"train": Dataset.from_dict({"question": ["w5"], "answer": ["w6"]})}, str(tmp_path / "texts.txt")
    assert with_unlabeled_single_texts(splits, source, encoder.config)["text"][:] == ["w5", "w6", "w7 w8", "w9"]
    encoder.config.sentence_default_prompt = None
    with pytest.raises(ValueError, match=r"names none of its prompts, \['query', 'passage'\], as the default"):
        with_unlabeled_single_texts(splits, source, encoder.config)


def test_labeled_texts_begin_with_the_default(encoder, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    rows = load_transfer_set(
        str(tmp_path / "texts.txt"), ["text"], tiny_tokenizer(), 16, prompt=prompts_of(encoder.config)[0]
    )
    assert rows["input_ids"][:] == tiny_tokenizer()(begun("query"))["input_ids"]
    assert rows["text"][:] == TEXTS


def test_records_and_code_name_them(encoder, folder):
    about = describe_model(encoder)
    assert (about["prompts"], about["default_prompt"], about["normalized"]) == (PROMPTS, "query", True)
    assert "encode_query(" in usage(about, {}) and "encode_document(" in usage(about, {})
    one = describe_model(SentenceEncoder.from_pretrained(folder, prompts={"text": "w13 "}, default_prompt="text"))
    assert ".encode([" in usage(one, {})
    none = describe_model(SentenceEncoder.from_model(tiny_bert(layers=1), normalize=False))
    assert none["normalized"] is False and "prompts" not in none
