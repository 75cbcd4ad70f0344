"""The text-classification script, as a user runs it: a process of its own on files of a few sentences and tiny models."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from hf_distill import create_student
from hf_distill.data.class_names import ClassIds
from hf_distill.data.sequences import encode_label
from hf_distill.resources.minilm import minilm_path
from hf_distill.resources.sentiment import LABELS, load_sentiment

REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "examples" / "run_glue.py"
REVIEWS = [
    ("a warm and funny film with a great cast", "positive"),
    ("the plot is dull and the jokes are old", "negative"),
    ("one of the best films of the year", "positive"),
    ("two hours of my life that i will not get back", "negative"),
    ("the acting is great and the ending is perfect", "positive"),
    ("a long and boring film without a plot", "negative"),
    ("funny , warm and never dull", "positive"),
    ("not funny , not warm and far too long", "negative"),
    ("a perfect cast in the best role of their life", "positive"),
]
TEXTS = [text for text, _ in REVIEWS]
QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]


def save_bert(folder: Path, hidden_size: int, layers: int, seed: int, labels: list[str] | None = None) -> str:
    """A random BERT and its tokenizer, which knows every word of the reviews."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({word for text in TEXTS for word in text.split()})]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=32,
        initializer_range=0.2,
    )
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def always_answering(folder: Path, labels: list[str], answer: str) -> str:
    """A classifier that answers the same whatever it reads."""
    model = BertForSequenceClassification.from_pretrained(save_bert(folder, 32, 1, seed=0, labels=labels))
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([5.0 if label == answer else 0.0 for label in labels]))
    model.save_pretrained(folder)
    return str(folder)


def write_csv(path: Path, header: list[str], rows: list) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run_script(*arguments: str, exit_code: int = 0) -> str:
    """What a process of the script prints."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == exit_code, done.stderr[-4000:]
    return done.stdout + done.stderr


def read_json(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text(encoding="utf-8"))


def predictions_in(path: Path) -> list[str]:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    assert header == "index\tprediction"
    assert [line.split("\t")[0] for line in lines] == [str(index) for index in range(len(lines))]
    return [line.split("\t")[1] for line in lines]


@pytest.fixture
def bert(tmp_path):
    return save_bert(tmp_path / "bert", hidden_size=32, layers=1, seed=0)


def test_fine_tune_then_distil_then_continue(run_main, tmp_path):
    start = save_bert(tmp_path / "start", hidden_size=32, layers=2, seed=1)
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    labeled = write_csv(tmp_path / "labeled.csv", ["label", "review"], [(label, text) for text, label in REVIEWS])
    unlabeled = write_jsonl(tmp_path / "texts.jsonl", [{"text": text} for text in TEXTS])

    # Without a teacher: ordinary fine-tuning, on the labels' names.
    files = ["--train_file", labeled, "--validation_file", labeled, "--test_file", labeled]
    training = ["--max_steps", "40", "--learning_rate", "5e-3", "--per_device_train_batch_size", "9"]
    stages = ["--do_train", "--do_eval", "--do_predict", "--max_predict_samples", "4"]
    places = ["--model_name_or_path", start, "--output_dir", str(teacher)]
    run_main(*places, *files, *training, *stages, *QUIET, "--save_strategy", "no")
    assert read_json(teacher, "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    results = read_json(teacher, "all_results.json")
    assert results["train_samples"] == results["eval_samples"] == len(REVIEWS)
    assert results["eval_accuracy"] == 1.0
    assert "eval_teacher_agreement" not in results
    assert predictions_in(teacher / "predict_results.txt") == [label for _, label in REVIEWS[:4]]
    assert read_json(teacher, "trainer_state.json")["global_step"] == 40

    # With a teacher: no labels to train on, arguments from a file. Names and number of the classes are the teacher's.
    arguments = {
        "model_name_or_path": save_bert(tmp_path / "small", hidden_size=32, layers=1, seed=2),
        "teacher_model_name_or_path": str(teacher),
        "train_file": unlabeled,
        "validation_file": str(tmp_path / "validation.json"),
        "output_dir": str(student),
        "do_train": True,
        "do_eval": True,
        "max_steps": 4,
        "save_steps": 2,
        "learning_rate": 5e-3,
        "temperature": 2.0,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    rows = [{"text": text, "label": label.upper()} for text, label in REVIEWS]
    Path(arguments["validation_file"]).write_text(json.dumps(rows), encoding="utf-8")
    argument_file = tmp_path / "arguments.json"
    argument_file.write_text(json.dumps(arguments), encoding="utf-8")
    printed = run_script(str(argument_file))
    assert "read from the columns" in printed and "Model config" not in printed and printed.count("\n") < 60
    assert read_json(student, "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    results = read_json(student, "eval_results.json")
    assert {"eval_accuracy", "eval_teacher_agreement", "eval_soft_label_loss"} <= results.keys()
    # The teacher is right about every sentence, so agreeing with it is being right.
    assert results["eval_teacher_agreement"] == results["eval_accuracy"]
    uninterrupted = load_file(student / "model.safetensors")

    # As if stopped after step 2: the same weights come out, because the second half is repeated and not the first.
    shutil.rmtree(student / "checkpoint-4")
    (student / "model.safetensors").unlink()
    argument_file.write_text(
        json.dumps(arguments | {"resume_from_checkpoint": True, "log_level": "info"}), encoding="utf-8"
    )
    printed = run_script(str(argument_file))
    assert f"Resuming from {student / 'checkpoint-2'}" in printed
    assert "global step 2" in printed
    assert read_json(student, "trainer_state.json")["global_step"] == 4
    torch.testing.assert_close(load_file(student / "model.safetensors"), uninterrupted)

    # Finished, the same command takes no step and leaves what the training measured; another objective is refused.
    kept = {name: (student / name).read_bytes() for name in ("train_results.json", "trainer_state.json")}
    assert "is finished: it made all of its 4 steps" in run_script(str(argument_file))
    assert kept == {name: (student / name).read_bytes() for name in kept}
    assert read_json(student, "run.json")["training"]["steps"] == 4
    argument_file.write_text(json.dumps(arguments | {"temperature": 4.0}), encoding="utf-8")
    told = run_script(str(argument_file), exit_code=1)
    assert "belongs to another run: objective is" in told and "choose another output_dir" in told
    torch.testing.assert_close(load_file(student / "model.safetensors"), uninterrupted)


def test_help_names_the_arguments():
    printed = run_script("--help")
    for flag in ("--temperature", "--teacher_model_name_or_path", "--task_name", "--resume_from_checkpoint"):
        assert flag in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--do_train", "--task_name", "imdb"], r"task_name must be one of \('cola', 'mnli'.*got 'imdb'"),
        (["--do_train"], r"exactly one of task_name, dataset_name and files .* got none of them"),
        (
            ["--do_train", "--task_name", "sst2", "--dataset_name", "imdb"],
            r"exactly one of .* got \{'task_name': 'sst2'",
        ),
        (
            ["--do_train", "--train_file", "{csv}.txt"],
            r"train_file must be an existing .csv or .json or .jsonl file, got",
        ),
        (["--do_train", "--train_file", "absent.csv"], r"train_file must be an existing .* got 'absent.csv'"),
        (["--train_file", "{csv}"], r"nothing to do: pass at least one of --do_train, --do_eval and --do_predict"),
        (
            ["--do_train", "--do_eval", "--train_file", "{csv}"],
            r"do_eval needs the split 'validation', got only \['train'\]",
        ),
        (
            ["--do_train", "--train_file", "{csv}", "--resume_from_checkpoint", "true"],
            r"true where output_dir has a checkpoint, got 'true' and output_dir",
        ),
        (
            ["--do_train", "--train_file", "{csv}", "--resume_from_checkpoint", "absent"],
            r"must be a checkpoint's folder, .* got 'absent'",
        ),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(run_main, tmp_path, arguments, message):
    path = write_csv(tmp_path / "data.csv", ["text", "label"], REVIEWS)
    shutil.copy(path, f"{path}.txt")
    given = [argument.replace("{csv}", path) for argument in arguments]
    with pytest.raises(ValueError, match=message):
        run_main("--model_name_or_path", "nowhere", "--output_dir", str(tmp_path / "output"), *given)


def test_mnli_is_evaluated_on_both_sets_in_the_order_of_a_trained_head(run_main, script, tmp_path, monkeypatch):
    names = ["entailment", "neutral", "contradiction"]
    features = datasets.Features(
        {
            "premise": datasets.Value("string"),
            "hypothesis": datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
            "idx": datasets.Value("int32"),
        }
    )

    def split(count: int, label: int | None) -> datasets.Dataset:
        labels = [index % 3 if label is None else label for index in range(count)]
        columns = {"premise": TEXTS[:count], "hypothesis": TEXTS[-count:], "label": labels, "idx": range(count)}
        return datasets.Dataset.from_dict(columns, features=features)

    glue = datasets.DatasetDict(
        train=split(6, None),
        validation_matched=split(5, 0),
        validation_mismatched=split(4, 2),
        test_matched=split(3, -1),
        test_mismatched=split(2, -1),
    )
    asked = []
    monkeypatch.setattr(script, "load_dataset", lambda *names, **options: asked.append(names) or glue)
    # A head that always answers its class 0, which it calls contradiction: never right on the matched set, where all
    # is entailment, and always on the mismatched one.
    head = always_answering(tmp_path / "head", ["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], answer="CONTRADICTION")
    output = tmp_path / "output"
    stages = ["--do_eval", "--do_predict", "--max_eval_samples", "4"]
    run_main("--model_name_or_path", head, "--task_name", "MNLI", *stages, "--output_dir", str(output), *QUIET)
    assert asked == [("nyu-mll/glue", "mnli")]
    results = read_json(output, "eval_results.json")
    assert (results["eval_accuracy"], results["eval_accuracy_mm"]) == (0.0, 1.0)
    assert results["eval_samples"] == results["eval_samples_mm"] == 4
    assert predictions_in(output / "predict_results_mnli.txt") == ["contradiction"] * 3
    assert predictions_in(output / "predict_results_mnli-mm.txt") == ["contradiction"] * 2


def test_a_teacher_with_its_classes_in_another_order_is_followed_by_name(run_main, tmp_path, bert):
    teacher = always_answering(tmp_path / "teacher", ["Positive", "Negative"], answer="Positive")
    path = write_csv(tmp_path / "data.csv", ["text", "label"], REVIEWS)
    output = tmp_path / "output"
    training = ["--max_steps", "30", "--learning_rate", "5e-3", "--save_strategy", "no", "--do_train", "--do_predict"]
    start = ["--model_name_or_path", bert, "--teacher_model_name_or_path", teacher]
    run_main(*start, "--train_file", path, "--test_file", path, "--output_dir", str(output), *training, *QUIET)
    assert read_json(output, "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    assert predictions_in(output / "predict_results.txt") == ["positive"] * len(REVIEWS)

    # A model that has learned its classes needs no training file to be evaluated.
    again = ["--model_name_or_path", str(output), "--output_dir", str(tmp_path / "again"), "--do_eval"]
    run_main(*again, "--validation_file", path, *QUIET)
    positives = sum(label == "positive" for _, label in REVIEWS)
    assert read_json(tmp_path / "again", "eval_results.json")["eval_accuracy"] == positives / len(REVIEWS)


def test_a_student_follows_the_checkpoints_of_its_teacher(run_main, tmp_path, bert):
    path = write_csv(tmp_path / "data.csv", ["text", "label"], REVIEWS)
    start = save_bert(tmp_path / "start", hidden_size=32, layers=2, seed=1)
    shared = ["--train_file", path, "--validation_file", path, "--do_train", "--do_eval", "--learning_rate", "5e-3"]
    places = ["--model_name_or_path", start, "--output_dir", str(tmp_path / "teacher")]
    run_main(*places, *shared, "--max_steps", "9", "--save_steps", "3", *QUIET)
    follow = ["--model_name_or_path", bert, "--teacher_checkpoints", str(tmp_path / "teacher"), "--max_steps", "9"]
    follow += ["--final_stage_steps", "4", "--save_steps", "2", "--logging_steps", "1", "--max_temperature", "3"]
    output = tmp_path / "student"
    run_main(*follow, *shared, "--output_dir", str(output), *QUIET)
    assert "eval_teacher_agreement" in read_json(output, "all_results.json")
    history = [entry for entry in read_json(output, "trainer_state.json")["log_history"] if "stage" in entry]
    assert [entry.get("teacher_step") for entry in history] == [3] * 2 + [6] * 2 + [9] * 5 + [None] * 4
    whole = load_file(output / "model.safetensors")
    shutil.rmtree(output / "final_stage" / "checkpoint-4")
    run_main(*follow, *shared, "--output_dir", str(output), *QUIET)  # goes on from the final stage's second step
    resumed = load_file(output / "model.safetensors")
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())
    with pytest.raises(ValueError, match="either teacher_model_name_or_path or teacher_checkpoints, got both"):
        both = ["--teacher_model_name_or_path", str(tmp_path / "teacher"), "--output_dir", str(tmp_path / "both")]
        run_main(*follow, *shared, *both, *QUIET)


def test_a_teacher_reads_with_its_own_tokenizer(run_main, tmp_path, bert):
    teacher = save_bert(tmp_path / "teacher", hidden_size=32, layers=1, seed=1, labels=["negative", "positive"])
    tokenizer = json.loads(Path(teacher, "tokenizer.json").read_text(encoding="utf-8"))
    words = list(tokenizer["model"]["vocab"])
    special, others = words[:5], words[5:]
    tokenizer["model"]["vocab"] = {word: index for index, word in enumerate([*special, *reversed(others)])}
    Path(teacher, "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    path = write_csv(tmp_path / "data.csv", ["text", "label"], REVIEWS)
    arguments = ["--model_name_or_path", bert, "--teacher_model_name_or_path", teacher, "--train_file", path,
                 "--validation_file", path, "--do_train", "--do_eval", "--max_steps", "3", *QUIET]  # fmt: skip
    with pytest.raises(ValueError, match="vocabular"):
        run_main(*arguments, "--output_dir", str(tmp_path / "refused"))
    output = tmp_path / "output"
    run_main(*arguments, "--teacher_tokenizer_name", teacher, "--output_dir", str(output))
    inputs = AutoTokenizer.from_pretrained(teacher)(TEXTS, padding=True, return_tensors="pt")
    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    answers = model(**inputs).logits.argmax(dim=-1).tolist()
    right = sum(answer == (label == "positive") for answer, (_, label) in zip(answers, REVIEWS, strict=True))
    metrics = read_json(output, "eval_results.json")
    student = AutoModelForSequenceClassification.from_pretrained(output).eval()
    inputs = AutoTokenizer.from_pretrained(output)(TEXTS, padding=True, return_tensors="pt")
    agreed = (student(**inputs).logits.argmax(dim=-1) == torch.tensor(answers)).float().mean()
    assert metrics["eval_teacher_agreement"] == pytest.approx(float(agreed))
    assert right not in (0, len(REVIEWS))


def test_a_teacher_tells_two_texts_apart_where_the_student_does_not(script, bert, tmp_path):
    torch.manual_seed(0)
    sizes = dict(vocab_size=100, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=64)
    student = DistilBertForSequenceClassification(DistilBertConfig(**sizes))
    args = script.ScriptTrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    tokenizer = script.AutoTokenizer.from_pretrained(bert)  # emits none, as DistilBERT's
    assert script.token_type_ids_for_teacher(student, bert, args) is None
    names = ["input_ids", "token_type_ids", "attention_mask"]
    script.AutoTokenizer.from_pretrained(bert, model_input_names=names).save_pretrained(tmp_path / "teacher")
    segments = script.token_type_ids_for_teacher(student, str(tmp_path / "teacher"), args)
    encode = script.Encoder(script.DataTrainingArguments(task_name="mrpc"), tokenizer, {}, segments=segments)
    pair = datasets.Dataset.from_dict({"one": ["a warm film"], "two": ["a dull film"]})
    assert encode(pair, ["one", "two"])["token_type_ids"][0] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def test_padding_is_left_to_the_batch_unless_asked_for(script, bert):
    tokenizer = script.AutoTokenizer.from_pretrained(bert)
    raw = {"train": datasets.Dataset.from_dict({"text": [*TEXTS, " ".join(TEXTS)]})}

    def lengths(**options):
        arguments = script.DataTrainingArguments(task_name="sst2", max_seq_length=24, **options)
        encoded = script.prepare(raw, "train", arguments, script.Encoder(arguments, tokenizer, {}))["train"]
        return [len(tokens) for tokens in encoded["input_ids"]]

    assert lengths() == [*(len(text.split()) + 2 for text in TEXTS), 24]
    assert lengths(pad_to_max_length=True) == [24] * (len(TEXTS) + 1)
    assert lengths(pad_to_max_length=True, max_train_samples=3) == [24] * 3


def test_class_numbers_with_gaps_are_classes_and_the_evaluation_says_how_many_there_are(run_main, tmp_path, bert):
    rows = [(text, "" if index % 3 == 0 else index % 2) for index, text in enumerate(TEXTS)]
    path = write_csv(tmp_path / "data[1].csv", ["text", "label"], rows)
    places = ["--model_name_or_path", bert, "--output_dir", str(tmp_path / "output")]
    files = ["--train_file", path, "--validation_file", path]
    run_main(*places, *files, "--do_train", "--do_eval", "--max_steps", "1", "--save_strategy", "no", *QUIET)
    results = read_json(tmp_path / "output", "all_results.json")
    labeled = sum(label != "" for _, label in rows)
    for stage in ("train", "eval"):
        assert (results[f"{stage}_samples"], results[f"{stage}_labeled_samples"]) == (len(TEXTS), labeled)
    assert results["eval_accuracy"] * labeled == pytest.approx(round(results["eval_accuracy"] * labeled))


def test_float_labels_mean_regression(run_main, tmp_path, bert):
    rows = [
        {"sentence1": text, "sentence2": TEXTS[0], "score_by": 7, "label": index / 2}
        for index, text in enumerate(TEXTS)
    ]
    path = write_jsonl(tmp_path / "pairs.json", rows)
    files = ["--train_file", path, "--validation_file", path, "--test_file", path]
    output = tmp_path / "output"
    places = ["--model_name_or_path", bert, "--ignore_mismatched_sizes", "--output_dir", str(output)]
    stages = ["--do_train", "--do_eval", "--do_predict", "--max_steps", "2", "--save_strategy", "no"]
    run_main(*places, *files, *stages, "--pad_to_max_length", "--max_seq_length", "24", *QUIET)
    results = read_json(output, "eval_results.json")
    assert results["eval_mse"] == pytest.approx(results["eval_loss"], rel=1e-4)
    predicted = [float(value) for value in predictions_in(output / "predict_results.txt")]
    squares = [(value - row["label"]) ** 2 for value, row in zip(predicted, rows, strict=True)]
    assert sum(squares) / len(squares) == pytest.approx(results["eval_mse"], abs=0.01)


class TestLabels:
    """What the classes are called, and what stands for them."""

    @staticmethod
    def raw(labels: list | None) -> dict[str, datasets.Dataset]:
        columns = {"text": TEXTS[: len(labels or TEXTS)]} | ({} if labels is None else {"label": labels})
        return {"train": datasets.Dataset.from_dict(columns)}

    @staticmethod
    def config(*names: str) -> BertConfig:
        return BertConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})

    def test_words_are_sorted(self, script):
        names, ids = script.find_labels(self.raw(["no", "yes", "maybe", None]), BertConfig(), None)
        assert names == ["maybe", "no", "yes"]
        assert [encode_label(value, ids) for value in ("yes", "Maybe", None)] == [2, 0, -100]
        with pytest.raises(ValueError, match=r"the label 'perhaps'; allowed are .*'maybe'"):
            encode_label("perhaps", ids)

    def test_numbers_from_0_have_no_names_but_a_teachers(self, script):
        unnamed, ids = script.find_labels(self.raw([1, 0, 2, 1]), BertConfig(), None)
        assert unnamed == ["LABEL_0", "LABEL_1", "LABEL_2"]
        assert encode_label(2, ids) == 2
        names, ids = script.find_labels(self.raw([1, 0]), BertConfig(), self.config("bad", "good"))
        assert names == ["bad", "good"]
        assert encode_label(1, ids) == encode_label("Good", ids) == 1

    def test_names_that_differ_by_case_alone_and_names_like_missing_values_are_classes(self, script):
        labels = ["it", "IT", "sports", "None"]
        names, ids = script.find_labels(self.raw(labels), BertConfig(), self.config(*labels))
        assert names == ["IT", "None", "it", "sports"]
        assert [encode_label(label, ids) for label in (*labels, "SPORTS")] == [2, 0, 3, 1, 3]
        own = self.config("sports", "IT", "none", "it")
        names, ids = script.find_labels(self.raw(labels), own, self.config(*labels))
        assert names == ["sports", "IT", "None", "it"]
        assert [encode_label(label, ids) for label in labels] == [3, 1, 0, 2]

    def test_a_teachers_equal_names_stay_in_their_order(self, script):
        teacher = self.config("crane", "tit", "crane")
        names, ids = script.find_labels(self.raw([0, 1, 2]), teacher, teacher)
        assert names == ["crane", "tit", "crane"]
        assert [encode_label(label, ids) for label in (0, 1, 2, "tit")] == [0, 1, 2, 1]
        with pytest.raises(ValueError, match=r"several classes are called \['crane'\]"):
            script.find_labels(self.raw([0, 1, 2]), self.config("crane", "crane", "tit"), teacher)

    def test_other_numbers_are_names(self, script):
        names, ids = script.find_labels(self.raw([10, 2, 2]), BertConfig(), None)
        assert names == ["2", "10"]
        assert encode_label(10, ids) == 1

    def test_a_head_with_the_same_classes_keeps_its_order(self, script):
        own, teacher = self.config("good", "bad"), self.config("bad", "good")
        names, ids = script.find_labels(self.raw(["Bad", "Good"]), own, teacher)
        assert names == ["Good", "Bad"]
        assert encode_label("bad", ids) == 1
        # A number means the teacher's class of that number: 0 is bad, which this head calls 1.
        _, ids = script.find_labels(self.raw([0, 1]), own, teacher)
        assert encode_label(0, ids) == 1

    def test_floats_need_a_label_in_every_row(self, script):
        names, ids = script.find_labels(self.raw([0.5, 2.0]), BertConfig(), None)
        assert (names, ids) == ([], ClassIds())
        assert encode_label(3, ids) == 3.0
        with pytest.raises(ValueError, match="the label None; allowed are numbers"):
            encode_label(None, ids)

    def test_without_labels_the_teacher_decides_about_regression(self, script):
        assert script.find_labels(self.raw(None), BertConfig(), self.config("rating")) == ([], ClassIds())
        names, _ = script.find_labels(self.raw(None), BertConfig(), self.config("a", "b", "c"))
        assert names == ["a", "b", "c"]


@pytest.mark.real_data
def test_run_glue_on_movie_reviews_with_the_real_encoder(run_main, tmp_path):
    files = {}
    for split, reviews in load_sentiment().items():
        rows = [[row["text"], LABELS[row["label"]]] for row in reviews.shuffle(seed=0).select(range(96))]
        files[split] = write_csv(tmp_path / f"{split}.csv", ["text", "label"], rows)
    names = dict(id2label=dict(enumerate(LABELS)), label2id={label: index for index, label in enumerate(LABELS)})
    teacher = AutoModelForSequenceClassification.from_pretrained(minilm_path(), **names)
    for folder, model in (("teacher", teacher), ("student", create_student("tiny", teacher, "embeddings"))):
        model.save_pretrained(tmp_path / folder)
        AutoTokenizer.from_pretrained(minilm_path()).save_pretrained(tmp_path / folder)
    run_main(
        "--model_name_or_path", str(tmp_path / "student"), "--teacher_model_name_or_path", str(tmp_path / "teacher"),
        "--train_file", files["train"], "--validation_file", files["validation"], "--do_train", "--do_eval",
        "--output_dir", str(tmp_path / "output"), "--num_train_epochs", "6", "--learning_rate", "1e-3", *QUIET,
    )  # fmt: skip
    metrics = read_json(tmp_path, "output", "eval_results.json")
    assert metrics["eval_teacher_agreement"] > 0.6 and 0 < metrics["eval_teacher_kl"] < 0.1
    student = AutoModelForSequenceClassification.from_pretrained(tmp_path / "output")
    assert student.config.id2label == names["id2label"] and student.num_parameters() == 4_386_178


def test_columns_are_chosen_by_name(run_main, bert, tmp_path):
    rows = [(f"t{index}", label, text, text) for index, (text, label) in enumerate(REVIEWS)]
    path = write_csv(tmp_path / "named.csv", ["id", "queue", "text", "reply"], rows)
    places = ["--model_name_or_path", bert, "--train_file", path, "--validation_file", path]
    training = ["--do_train", "--do_eval", "--max_steps", "2", "--save_strategy", "no", *QUIET]
    chosen = ["--text_column_names", "text, reply", "--label_column_name", "queue"]
    run_main(*places, *training, *chosen, "--output_dir", str(tmp_path / "out"))
    assert read_json(tmp_path / "out", "config.json")["id2label"] == {"0": "negative", "1": "positive"}
    record = read_json(tmp_path / "out", "run.json")
    assert record["data"]["text_pairs"] is True  # the second is read although the first is called text
    for wrong, message in (
        (["--text_column_names", "txt"], r"no columns \['txt'\]"),
        (
            ["--text_column_names", "text", "--label_column_name", "quue"],
            r"no column 'quue', they have .* Did you mean 'queue'",
        ),
        (
            ["--text_column_names", "id,text,reply"],
            r"one text or a pair of them, got the columns \['id', 'text', 'reply'\]",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            run_main(*places, *training, *wrong, "--output_dir", str(tmp_path / "other"))


def test_labels_are_recognized_by_the_teachers_classes_and_are_never_texts(run_main, bert, tmp_path):
    """A teacher's student neither reads them as a second text nor goes without them in evaluations."""
    rows = [(text, label) for text, label in REVIEWS]
    path = write_csv(tmp_path / "tickets.csv", ["message", "queue"], rows)
    places = ["--model_name_or_path", bert, "--train_file", path, "--validation_file", path]
    training = ["--do_train", "--do_eval", "--max_steps", "1", "--save_strategy", "no", *QUIET]
    with pytest.raises(
        ValueError, match=r"needs labels, got only the columns \['message', 'queue'\]: .* with --label_column_name"
    ):
        run_main(*places, *training, "--output_dir", str(tmp_path / "refused"))
    assert not (tmp_path / "refused" / "config.json").exists()
    teacher = always_answering(tmp_path / "teacher", ["negative", "positive"], "positive")
    for name, more in (("whole", []), ("named", ["--text_column_names", "message"])):
        folder = tmp_path / name
        run_main(*places, *training, *more, "--teacher_model_name_or_path", teacher, "--output_dir", str(folder))
        assert "text_pairs" not in read_json(folder, "run.json")["data"]
        assert "eval_hard_label_loss" in read_json(folder, "eval_results.json")
    # A trained classifier knows its own classes.
    own = ["--model_name_or_path", teacher, *places[2:], *training]
    run_main(*own, "--output_dir", str(tmp_path / "own"))
    assert "eval_accuracy" in read_json(tmp_path / "own", "eval_results.json")


def test_a_column_called_labels_holds_the_labels(script):
    rows = datasets.Dataset.from_dict({"message": ["a film"], "labels": ["so so"]})
    chosen = script.choose_columns({"train": rows}, script.DataTrainingArguments(task_name="sst2"), BertConfig())
    assert chosen["train"].column_names == ["message", "label"]


def test_a_used_output_folder_is_continued_refused_or_begun_anew(run_main, bert, tmp_path):
    path = write_csv(tmp_path / "reviews.csv", ["text", "label"], REVIEWS)
    places = ["--model_name_or_path", bert, "--train_file", path, "--output_dir", str(tmp_path / "out")]
    training = ["--do_train", "--save_steps", "2", *QUIET]
    run_main(*places, *training, "--max_steps", "6")
    with pytest.raises(ValueError, match=r"checkpoint-2, 3 in all"):
        run_main(*places, *training, "--max_steps", "4", "--resume_from_checkpoint", "false")
    run_main(*places, *training, "--max_steps", "4", "--overwrite_output_dir", "true")
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert "overwrite_output_dir" not in read_json(tmp_path / "out", "run.json")["arguments"]
