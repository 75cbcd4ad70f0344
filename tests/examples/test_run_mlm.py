"""The masked-language-modeling script on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import json
import math
from pathlib import Path

import datasets
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedTokenizerFast,
)

from hf_distill.publishing.model_card import write_model_card
from tests.tiny_models import tiny_tokenizer

LINES = [
    "the old man walks along the long road",
    "",
    "the young woman walks along the old river",
    "a small dog runs along the long river",
    "the small cat sleeps near the old road",
    "a young man sleeps near the small river",
] * 8
FILLED = [line for line in LINES if line]
QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
TRAINING = ["--learning_rate", "5e-3", "--per_device_train_batch_size", "8", "--save_strategy", "no"]
SMALL = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2,intermediate_size=32,max_position_embeddings=32"


def save_tokenizer(folder: Path, extra_words: int = 0) -> int:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for line in LINES for word in line.split()})]
    words += [f"extra{index}" for index in range(extra_words)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special).save_pretrained(folder)
    return len(words)


def save_bert(folder: Path, model_class: type = BertForMaskedLM, layers: int = 2, extra_words: int = 0) -> str:
    vocab_size = save_tokenizer(folder, extra_words)
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=vocab_size, hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, initializer_range=0.2,
    )  # fmt: skip
    model_class(config).save_pretrained(folder)
    return str(folder)


def read_json(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text(encoding="utf-8"))


def losses_of(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(folder, "trainer_state.json")["log_history"] if "loss" in entry]


@pytest.fixture
def run(run_main, tmp_path):
    """Calls main; the output folder is the first argument."""

    def call(output: str, *arguments: str) -> Path:
        run_main("--output_dir", str(tmp_path / output), *arguments, *QUIET)
        return tmp_path / output

    return call


@pytest.fixture
def text_file(tmp_path) -> str:
    (tmp_path / "texts.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return str(tmp_path / "texts.txt")


def test_train_a_teacher_from_scratch_then_distil(run, tmp_path, text_file):
    save_tokenizer(tmp_path / "tokenizer")
    places = ["--train_file", text_file, "--validation_file", text_file, "--max_seq_length", "16"]
    stages = ["--do_train", "--do_eval", "--logging_steps", "5", *TRAINING]
    scratch = ["--model_type", "bert", "--config_overrides", SMALL.replace("size=16", "size=32")]
    teacher = run("teacher", *scratch, "--tokenizer_name", str(tmp_path / "tokenizer"), *places, *stages,
                  "--max_steps", "100")  # fmt: skip
    results = read_json(teacher, "all_results.json")
    tokens = sum(len(line.split()) + 2 for line in FILLED)
    assert results["train_samples"] == results["eval_samples"] == tokens // 16
    assert results["perplexity"] == pytest.approx(math.exp(results["eval_loss"]))
    assert "eval_teacher_kl" not in results
    assert read_json(teacher, "run.json")["student"]["initialization"] == "random"
    losses = losses_of(teacher)
    assert losses[-1] < 0.85 * losses[0]

    student = run("student", "--model_type", "bert", "--config_overrides", SMALL, "--recipe", "vanilla_kd",
                  "--teacher_model_name_or_path", str(teacher), *places, *stages, "--max_steps", "40")  # fmt: skip
    results = read_json(student, "all_results.json")
    assert results["perplexity"] == pytest.approx(math.exp(results["eval_hard_label_loss"]))
    assert {"eval_soft_label_loss", "eval_teacher_agreement", "eval_teacher_kl"} <= results.keys()
    losses = losses_of(student)
    assert losses[-1] < 0.9 * losses[0]
    reloaded = AutoModelForMaskedLM.from_pretrained(student)
    assert (reloaded.config.hidden_size, reloaded.config.vocab_size) == (
        16,
        len(AutoTokenizer.from_pretrained(student)),
    )
    assert isinstance(AutoModel.from_pretrained(student), BertModel)


@pytest.mark.parametrize("recipe", ["minilmv2", "tinybert_general"])
def test_a_teacher_without_a_head_teaches_what_needs_no_predictions(run, tmp_path, text_file, recipe, caplog):
    teacher = save_bert(tmp_path / "teacher", BertModel)
    arguments = ["--model_type", "bert", "--config_overrides", SMALL, "--teacher_model_name_or_path", teacher,
                 "--train_file", text_file, "--do_train", "--do_eval", "--line_by_line", "--max_steps", "30",
                 "--logging_steps", "5", *TRAINING]  # fmt: skip
    student = run("student", *arguments, "--recipe", recipe)
    assert caplog.text.count("has no trained head for masked words, and needs none") == 1
    losses = losses_of(student)
    assert losses[-1] < losses[0]
    assert "seem corrupted" not in caplog.text and "LOAD REPORT" not in caplog.text
    results, recorded = read_json(student, "eval_results.json"), read_json(student, "run.json")
    of_predictions = {"perplexity", "eval_hard_label_loss", "eval_teacher_agreement", "eval_teacher_kl"}
    assert not of_predictions & (results.keys() | recorded["metrics"].keys())
    assert results["eval_loss"] == recorded["metrics"]["eval_loss"] > 0
    card = write_model_card(student).read_text(encoding="utf-8")
    assert "encoder to fine-tune" in card and "pipeline_tag: feature-extraction" in card and "fill-mask" not in card
    with pytest.raises(ValueError, match="no trained weights for"):
        run("other", *arguments, "--recipe", "vanilla_kd")


def test_a_copy_of_the_teacher_shrinks_while_it_learns_words(run, tmp_path, text_file):
    teacher = save_bert(tmp_path / "teacher")
    arguments = ["--model_name_or_path", teacher, "--teacher_model_name_or_path", teacher, "--train_file", text_file,
                 "--do_train", "--max_steps", "12", "--pruning_events", "3", "--logging_steps", "1",
                 "--target_hidden_size", "16", *TRAINING]  # fmt: skip
    student = run("student", *arguments, "--recipe", "homodistil")
    widths = [
        entry["hidden_size"] for entry in read_json(student, "trainer_state.json")["log_history"] if "loss" in entry
    ]
    assert widths[-1] == 16 < widths[1] < widths[0] == 32
    model, report = AutoModelForMaskedLM.from_pretrained(student, output_loading_info=True)
    assert model.config.hidden_size == 16 and not report["missing_keys"] and not report["mismatched_keys"]
    with pytest.raises(ValueError, match=r"a student that is pruned has one teacher, got teacher_checkpoints \['x'\]"):
        run("other", *arguments, "--teacher_checkpoints", "x")


def test_the_column_of_texts_can_be_named(script):
    texts = datasets.Dataset.from_dict({"id": ["x1", "x2"], "body": ["w5 w6 w7", "w8 w9"]})
    parser = transformers.HfArgumentParser((script.DataTrainingArguments,))

    def encoded(name: str) -> list[list[int]]:
        given = ["--dataset_name", "any", "--line_by_line", "--text_column_name", name]
        (args,) = parser.parse_args_into_dataclasses(given)
        return script.encode(texts, tiny_tokenizer(), args, None)["input_ids"][:]

    assert encoded("body") == [[5, 6, 7], [8, 9]]
    numbered = texts.map(lambda row: {"id": int(row["id"][1:])})
    (args,) = parser.parse_args_into_dataclasses(["--dataset_name", "any", "--line_by_line"])
    assert script.encode(numbered, tiny_tokenizer(), args, None)["input_ids"][:] == [[5, 6, 7], [8, 9]]
    with pytest.raises(ValueError, match=r"text_column_name is 'bdy', the columns are .* Did you mean 'body'\?"):
        encoded("bdy")


def test_built_in_text_is_validated_on_all_its_sources(script, monkeypatch):
    """Its rows are in the order of the sources, so the first of them would be of one source alone."""
    rows = datasets.Dataset.from_dict({"text": ["manual"] * 100 + ["book"] * 100})
    monkeypatch.setattr("hf_distill.resources.built_in.load_large_prose", lambda: rows)
    args = script.DataTrainingArguments(dataset_name="large_prose", validation_split_percentage=20)
    splits = script.load_raw(script.ModelArguments(model_type="bert"), args)
    assert {split: len(texts) for split, texts in splits.items()} == {"train": 160, "validation": 40}
    assert set(splits["validation"]["text"]) == set(splits["train"]["text"]) == {"manual", "book"}
