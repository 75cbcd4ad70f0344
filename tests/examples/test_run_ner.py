"""The script that labels words, on a few sentences with tiny random models, in this process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import datasets
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    BertModel,
    CanineTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
)

from hf_distill.data.class_names import ClassIds
from hf_distill.teachers.loading import load_teacher

PEOPLE = ["anna lee", "ben", "carla de boer"]
PLACES = ["lima", "new york"]
NAMES = ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
TRAINING = ["--do_train", "--learning_rate", "5e-3", "--per_device_train_batch_size", "8", "--save_strategy", "no"]


def rows_of(labels: str | None = "ner_tags") -> list[dict]:
    """Sentences about who went where, of several lengths."""
    rows = []
    for index in range(36):
        person, place = PEOPLE[index % 3].split(), PLACES[index % 2].split()
        words = [*person, "walked", *["far"] * (index % 4), "to", *place]
        tags = ["B-PER", *["I-PER"] * (len(person) - 1), *["O"] * (2 + index % 4), "B-LOC"]
        tags += ["I-LOC"] * (len(place) - 1)
        rows.append({"tokens": words} | ({} if labels is None else {labels: tags}))
    return rows


def write_jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read_json(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text(encoding="utf-8"))


def save_bert(folder: Path, names: list[str] | None = None, hidden_size: int = 32, layers: int = 2) -> str:
    """A random BERT, with a head if classes are named; its tokenizer cuts words of more than three letters."""
    letters = sorted({letter for row in rows_of() for word in row["tokens"] for letter in word})
    starts = sorted({word[:3] for row in rows_of() for word in row["tokens"]})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *starts, *(f"##{letter}" for letter in letters)]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special).save_pretrained(folder)
    torch.manual_seed(layers)
    named = (
        {} if names is None else {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    )
    config = BertConfig(
        vocab_size=len(words), hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * hidden_size, max_position_embeddings=32, initializer_range=0.2, **named,
    )  # fmt: skip
    (BertModel if names is None else BertForTokenClassification)(config).save_pretrained(folder)
    return str(folder)


def always_answering(folder: Path, names: list[str], answer: str) -> str:
    """A model that labels every token the same."""
    model = BertForTokenClassification.from_pretrained(save_bert(folder, names, layers=1))
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([5.0 if name == answer else 0.0 for name in names]))
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(run_main, tmp_path):
    """Calls main; the output folder is the first argument."""

    def call(output: str, *arguments: str) -> Path:
        run_main("--output_dir", str(tmp_path / output), *arguments, *QUIET)
        return tmp_path / output

    return call


@pytest.fixture
def labeled(tmp_path) -> str:
    return write_jsonl(tmp_path / "labeled.json", rows_of())


def lines_of(folder: Path) -> list[list[str]]:
    text = (folder / "predictions.txt").read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [line.split() for line in text.splitlines()]


def test_fine_tune_then_distil(run, tmp_path, labeled):
    files = ["--train_file", labeled, "--validation_file", labeled, "--test_file", labeled]
    stages = [*TRAINING, "--do_eval", "--do_predict", "--max_steps", "40"]
    teacher = run("teacher", "--model_name_or_path", save_bert(tmp_path / "start"), *files, *stages,
                  "--return_entity_level_metrics", "--train_sampling_strategy", "group_by_length")  # fmt: skip
    results = read_json(teacher, "all_results.json")
    assert results["train_samples"] == results["eval_samples"] == results["predict_samples"] == 36
    assert min(results[f"eval_{name}"] for name in ("f1", "PER_f1", "LOC_f1", "accuracy")) > 0.9
    assert results["predict_f1"] == results["eval_f1"]
    assert read_json(teacher, "config.json")["id2label"] == {str(index): name for index, name in enumerate(NAMES)}
    # Lines in the order of the sentences, whatever the order they were asked in.
    tags = [row["ner_tags"] for row in rows_of()]
    lines = lines_of(teacher)
    assert [len(line) for line in lines] == [len(row) for row in tags]
    right = sum(
        answer == tag for line, row in zip(lines, tags, strict=True) for answer, tag in zip(line, row, strict=True)
    )
    assert right / sum(map(len, tags)) == pytest.approx(results["predict_accuracy"])

    small = save_bert(tmp_path / "small", hidden_size=24, layers=1)
    student = run("student", "--model_name_or_path", small, "--teacher_model_name_or_path", str(teacher),
                  "--recipe", "vanilla_kd", *files, *stages, "--max_steps", "100")  # fmt: skip
    results = read_json(student, "all_results.json")
    assert {"eval_soft_label_loss", "eval_hard_label_loss", "eval_teacher_kl"} <= results.keys()
    assert results["eval_f1"] > 0.5
    assert results["eval_teacher_agreement"] > 0.8
    assert "eval_PER_f1" not in results
    assert AutoModelForTokenClassification.from_pretrained(student).config.hidden_size == 24


def test_a_teacher_with_its_classes_in_another_order_teaches_sentences_without_labels(run, tmp_path, labeled):
    teacher = always_answering(tmp_path / "teacher", ["O", "I-PER", "B-LOC", "I-LOC", "B-PER"], answer="B-LOC")
    unlabeled = write_jsonl(tmp_path / "unlabeled.jsonl", rows_of(labels=None))
    start = ["--model_name_or_path", save_bert(tmp_path / "start", NAMES, layers=1), "--train_file", unlabeled]
    taught = ["--teacher_model_name_or_path", teacher, *TRAINING, "--max_steps", "20"]
    student = run("student", *start, *taught, "--test_file", unlabeled, "--do_predict", "--validation_file", labeled,
                  "--do_eval")  # fmt: skip
    # The student's head knew these classes and keeps its order.
    assert read_json(student, "config.json")["id2label"] == {str(index): name for index, name in enumerate(NAMES)}
    assert {name for line in lines_of(student) for name in line} == {"B-LOC"}
    results = read_json(student, "all_results.json")
    assert results["eval_teacher_agreement"] == 1
    tags = [tag for row in rows_of() for tag in row["ner_tags"]]
    assert results["eval_accuracy"] == pytest.approx(tags.count("B-LOC") / len(tags))
    assert not {"predict_f1", "predict_accuracy"} & results.keys()
    with pytest.raises(ValueError, match="hard_label_weight is above 0 but the training examples carry no"):
        run("refused", *start, *taught, "--recipe", "vanilla_kd")


def test_words_beyond_the_limit_are_labeled_o(run, tmp_path, labeled, caplog):
    model = always_answering(tmp_path / "model", NAMES, answer="B-PER")
    rows = [{"tokens": ["anna", "far"]}, {"tokens": []}, {"tokens": ["ben", " ", "far", "far", "to"]}]
    test_file = write_jsonl(tmp_path / "test.json", rows)
    output = run("output", "--model_name_or_path", model, "--test_file", test_file, "--do_predict",
                 "--max_seq_length", "5", "--pad_to_max_length", "--eval_do_concat_batches", "false")  # fmt: skip
    # Three tokens are left besides [CLS] and [SEP]; a space has none.
    assert lines_of(output) == [["B-PER", "B-PER"], [], ["B-PER", "O", "B-PER", "B-PER", "O"]]
    assert "2 words are beyond max_seq_length or have no token" in caplog.text


class TestEncoder:
    """Which tokens carry a word's label."""

    @staticmethod
    def encoded(script, folder: Path, rows: list[dict], **options) -> datasets.Dataset:
        tokenizer = AutoTokenizer.from_pretrained(save_bert(folder))
        arguments = script.DataTrainingArguments(dataset_name="unused", **options)
        encode = arguments.encoder(tokenizer, ClassIds.of(NAMES))
        return encode(datasets.Dataset.from_list(rows), "tokens", "ner_tags")

    def test_the_first_token_of_a_word_unless_all_are_asked_for(self, script, tmp_path):
        # ben / car ##l ##a / lim ##a
        rows = [{"tokens": ["ben", "carla", "lima"], "ner_tags": ["O", "B-PER", "I-LOC"]}]
        first = self.encoded(script, tmp_path, rows)[0]
        assert first["labels"] == [-100, 4, 1, -100, -100, 2, -100, -100]
        assert len(first["input_ids"]) == 8
        assert set(first) >= {"input_ids", "attention_mask", "labels"} and "tokens" not in first
        assert self.encoded(script, tmp_path, rows, label_all_tokens=True)[0]["labels"] == [
            -100,
            4,
            1,
            3,
            3,
            2,
            2,
            -100,
        ]
        rows[0]["ner_tags"][1] = None
        assert self.encoded(script, tmp_path, rows, label_all_tokens=True)[0]["labels"][2:5] == [-100] * 3

    def test_b_follows_b_where_there_is_no_i(self, script, tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(save_bert(tmp_path))
        arguments = script.DataTrainingArguments(dataset_name="unused", label_all_tokens=True)
        encode = arguments.encoder(tokenizer, ClassIds.of(["B-PER", "O"]))
        assert encode.align(["carla", "ben"], ["B-PER", "O"], [None, 0, 0, 0, 1, None]) == [-100, 0, 0, 0, 1, -100]

    def test_lengths(self, script, tmp_path):
        rows = [{"tokens": ["far"] * 40, "ner_tags": ["O"] * 40}, {"tokens": ["to"], "ner_tags": ["O"]}]

        def lengths(**options):
            encoded = self.encoded(script, tmp_path, rows, **options)
            assert [*map(len, encoded["input_ids"])] == [*map(len, encoded["labels"])] or options["pad_to_max_length"]
            return [len(tokens) for tokens in encoded["input_ids"]]

        assert lengths() == [32, 3]
        assert lengths(max_seq_length=10) == [10, 3]
        assert lengths(max_seq_length=10, pad_to_max_length=True) == [10, 10]
        assert lengths(max_seq_length=99) == [32, 3]

    def test_a_class_label_is_matched_by_its_name(self, script, tmp_path):
        names = ["O", "I-LOC", "B-LOC", "I-PER", "B-PER"]
        features = datasets.Features(
            tokens=datasets.List(datasets.Value("string")), pos_tags=datasets.List(datasets.Value("string")),
            ner_tags=datasets.List(datasets.ClassLabel(names=names)),
        )  # fmt: skip
        columns = {"tokens": [["ben", "to"]], "pos_tags": [["NOUN", "ADP"]], "ner_tags": [[4, -1]]}
        raw = {"train": datasets.Dataset.from_dict(columns, features=features)}
        arguments = script.DataTrainingArguments(dataset_name="unused")
        assert script.find_columns(raw, ["train"], arguments) == ("tokens", "ner_tags")
        own = BertConfig(id2label=dict(enumerate(NAMES)), label2id={name: i for i, name in enumerate(NAMES)})
        assert script.find_labels(raw, "ner_tags", BertConfig(), own)[0] == names
        found, ids = script.find_labels(raw, "ner_tags", own, None)
        assert found == NAMES
        encode = arguments.encoder(AutoTokenizer.from_pretrained(save_bert(tmp_path)), ids)
        encoded = encode(raw["train"], "tokens", "ner_tags")
        assert encoded["labels"][:] == [[-100, NAMES.index("B-PER"), -100, -100]]
        other = script.DataTrainingArguments(dataset_name="unused", task_name="POS")
        assert script.find_columns(raw, ["train"], other) == ("tokens", "pos_tags")

    def test_roberta_reads_words_as_behind_a_space(self, script, tmp_path):
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", "Ġa", "Ġb"]
        ids = {token: index for index, token in enumerate(vocabulary)}
        RobertaTokenizer(vocab=ids, merges=[("Ġ", "a"), ("Ġ", "b")]).save_pretrained(tmp_path)
        config = RobertaConfig(
            vocab_size=len(ids), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
            max_position_embeddings=16, num_labels=1,
        )  # fmt: skip
        transformers.RobertaForTokenClassification(config).save_pretrained(tmp_path)
        model, tokenizer = script.load_model(
            script.FineTuningArguments(model_name_or_path=str(tmp_path)), ["O"], config
        )
        assert tokenizer(["a", "b"], is_split_into_words=True).tokens() == ["<s>", "Ġa", "Ġb", "</s>"]
        # Saved without that setting, as most are, a teacher's tokenizer is still the same.
        assert load_teacher(str(tmp_path), model, tokenizer).model.config.vocab_size == len(ids)


class TestLabels:
    """What the classes are called, and what stands for them."""

    @staticmethod
    def found(script, labels: list | None, own: list[str] = (), teacher: list[str] | None = None) -> tuple:
        def config(names: list[str]) -> BertConfig:
            return BertConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})

        raw = {"train": datasets.Dataset.from_list([{"tokens": ["ben"]} | ({"tags": labels} if labels else {})])}
        return script.find_labels(
            raw, "tags", config(own) if own else BertConfig(), None if teacher is None else config(teacher)
        )

    def test_words_are_sorted(self, script):
        names, ids = self.found(script, ["O", "B-X", None, "B-A", "O"])
        assert names == ["B-A", "B-X", "O"]
        assert ids.exact == {"B-A": 0, "B-X": 1, "O": 2, "0": 0, "1": 1, "2": 2}

    def test_a_teacher_may_know_more(self, script):
        assert self.found(script, ["O", "B-X"], teacher=["O", "I-X", "B-X"])[0] == ["B-X", "I-X", "O"]
        assert self.found(script, ["O", "B-Y"], teacher=["O", "I-X", "B-X"])[0] == ["B-Y", "O"]

    def test_a_head_with_the_same_classes_keeps_its_order(self, script):
        names, ids = self.found(script, ["O", "B-X"], own=["O", "B-X"], teacher=["B-X", "O"])
        assert names == ["O", "B-X"]
        # A number means the class of that number before the reordering.
        assert (ids.get("O"), ids.get("0")) == (0, 1)

    def test_numbers(self, script):
        assert self.found(script, [0, 2, -100, None])[0] == ["LABEL_0", "LABEL_1", "LABEL_2"]
        names, ids = self.found(script, [0, 1], own=["a", "b"], teacher=["b", "a"])
        assert (names, ids.get("0"), ids.get("1")) == (["a", "b"], 1, 0)

    def test_without_labels_the_teacher_has_them_or_the_model(self, script):
        assert self.found(script, None, own=["a", "b", "c"], teacher=["x", "y"])[0] == ["x", "y"]
        assert self.found(script, None, own=["a", "b", "c"])[0] == ["a", "b", "c"]


def test_a_first_row_without_labels_hides_none_of_the_others(script, tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('tokens,tags\n"[""None"", ""NA""]",\n"[""to""]","[""O""]"\n', encoding="utf-8")
    arguments = script.DataTrainingArguments(train_file=str(path))
    rows = script.load_raw(script.FineTuningArguments(model_name_or_path="unused"), arguments)["train"]
    assert rows[:] == {"tokens": [["None", "NA"], ["to"]], "tags": [[], ["O"]]}


def test_csv_files_hold_lists_as_json(script, tmp_path):
    def load(*rows: list[str]) -> datasets.Dataset:
        with (tmp_path / "data.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "tokens", "tags"], *rows])
        arguments = script.DataTrainingArguments(train_file=str(tmp_path / "data.csv"))
        return script.load_raw(script.FineTuningArguments(model_name_or_path="unused"), arguments)["train"]

    rows = [["1", '["NA", "\\"x\\"", "a, b"]', '["O", "B-X", "O"]'], ["2", "", "[]"]]
    loaded = load(*rows)
    assert loaded["tokens"][:] == [["NA", '"x"', "a, b"], []]
    assert loaded["tags"][:] == [["O", "B-X", "O"], []]
    assert loaded["id"][:] == [1, 2]
    arguments = script.DataTrainingArguments(dataset_name="unused")
    assert script.find_columns({"train": loaded}, ["train"], arguments) == ("tokens", "tags")
    with pytest.raises(ValueError, match=r"written as JSON, such as .*got .*'\[no json'"):
        load(*rows, ["3", "[no json", "[]"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--do_train"], r"exactly one of dataset_name and files \(train_file, .* got none of them"),
        (["--do_eval", "--train_file", "{json}"], r"do_eval needs the split 'validation', got only \['train'\]"),
        (["--do_train", "--train_file", "{json}", "--max_seq_length", "0"], "max_seq_length must be at least 1, got 0"),
        (
            ["--do_train", "--train_file", "{json}", "--text_column_name", "words"],
            r"text_column_name must be lists of words, got 'words'; train has .*'tokens'",
        ),
        (
            ["--do_train", "--train_file", "{json}", "--label_column_name", "tags"],
            r"label_column_name must be lists of labels, got 'tags'; the columns are .*'ner_tags'",
        ),
        (
            ["--do_train", "--train_file", "{unlabeled}"],
            r"training without a teacher needs labels, got only the columns \['tokens'\]: .*--label_column_name",
        ),
        (
            ["--do_train", "--train_file", "{short}"],
            r"each word needs a label, got 2 words \['ben', 'walked'\] and 1: \['O'\]",
        ),
        (
            ["--do_train", "--do_eval", "--train_file", "{json}", "--validation_file", "{other}"],
            r"the data have the label 'B-ORG'; allowed are .*'B-LOC', 'B-PER'",
        ),
        (
            ["--do_train", "--train_file", "{json}", "--tokenizer_name", "{slow}"],
            "must be a fast one, .* the slow Canine",
        ),
    ],
)
def test_mistakes_are_named_with_what_is_allowed(run, tmp_path, labeled, arguments, message):
    if "{slow}" in arguments:
        CanineTokenizer().save_pretrained(tmp_path / "slow")
    places = {
        "{json}": labeled,
        "{short}": write_jsonl(tmp_path / "short.json", [{"tokens": ["ben", "walked"], "ner_tags": ["O"]}]),
        "{unlabeled}": write_jsonl(tmp_path / "unlabeled.json", [{"tokens": ["ben", "walked"]}]),
        "{other}": write_jsonl(tmp_path / "other.json", [{"tokens": ["ben"], "ner_tags": ["B-ORG"]}]),
        "{slow}": str(tmp_path / "slow"),
    }
    with pytest.raises(ValueError, match=message):
        run("output", "--model_name_or_path", save_bert(tmp_path / "start"), *(places.get(a, a) for a in arguments))


def test_the_built_in_set_of_words_is_read_and_one_of_texts_refused(script, monkeypatch):
    features = datasets.Features(
        {
            "words": datasets.List(datasets.Value("string")),
            "tags": datasets.List(datasets.ClassLabel(names=["X", "NOUN"])),
        }
    )
    rows = datasets.Dataset.from_list([{"words": ["a", "film"], "tags": [0, 1]}], features=features)
    monkeypatch.setattr("hf_distill.resources.built_in.load_brown", lambda: {"train": rows})
    args = script.DataTrainingArguments(dataset_name="brown", task_name="pos")
    raw = script.load_raw(script.FineTuningArguments(model_name_or_path="x"), args)
    assert script.find_columns(raw, ["train"], args) == ("words", "tags")
    with pytest.raises(ValueError, match=r"built-in \['brown'\] here, .*got 'wordnet'"):
        script.load_raw(
            script.FineTuningArguments(model_name_or_path="x"), script.DataTrainingArguments(dataset_name="wordnet")
        )
