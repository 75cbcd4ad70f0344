"""The question-answering script on questions made by a template with tiny random models, in this process."""

from __future__ import annotations

import functools
import itertools
import json
import random
from pathlib import Path

import pytest
import torch
import transformers
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    CanineTokenizer,
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    PreTrainedTokenizerFast,
)

ANIMALS = ["cat", "dog", "cow", "horse", "pig", "goat", "bird", "fox"]
PLACES = ["garden", "house", "field", "wood", "river", "barn", "road", "hill"]
ADJECTIVES = ["old", "small", "big", "red"]
FILLERS = ["it is a long day", "rain and wind come and go", "nobody is here now", "we see that all is well"]
WORDS = " ".join([*ANIMALS, *PLACES, *ADJECTIVES, *FILLERS, "the sleeps near who where when sleeps does it sleep"])
QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
TRAINING = ["--learning_rate", "3e-3", "--per_device_train_batch_size", "16", "--save_strategy", "no"]
WINDOWS = ["--max_seq_length", "20", "--doc_stride", "4", "--max_answer_length", "4"]


def row(index: int, animal: str, place: str, kind: str) -> dict:
    """A question about a sentence somewhere among others; "when" has no answer."""
    maker = random.Random(index)
    who, where = f"{maker.choice(ADJECTIVES)} {animal}", f"{maker.choice(ADJECTIVES)} {place}"
    sentences = maker.sample(FILLERS, maker.randint(1, 4))
    sentences.insert(maker.randint(0, len(sentences)), f"the {who} sleeps near the {where}")
    context = " . ".join(sentences)
    answer = {"who": who, "where": where, "when": None}[kind]
    answers = (
        {"text": [answer], "answer_start": [context.index(answer)]} if answer else {"text": [], "answer_start": []}
    )
    question = {"who": "who sleeps", "where": "where does it sleep", "when": "when does it sleep"}[kind]
    return {"id": f"q{index}", "context": context, "question": question, "answers": answers}


def rows_of(*kinds: str) -> tuple[list[dict], list[dict]]:
    """For training and for validation; no animal is in the same place in both."""
    pairs = list(itertools.product(enumerate(ANIMALS), enumerate(PLACES)))
    made = [
        (a + b, row(index, animal, place, kinds[index % len(kinds)]))
        for index, ((a, animal), (b, place)) in enumerate(pairs * 4)
    ]
    return [one for key, one in made if key % 4], [one for key, one in made if not key % 4]


def without(rows: list[dict], column: str) -> list[dict]:
    return [{name: value for name, value in one.items() if name != column} for one in rows]


def nested(rows: list[dict]) -> dict:
    """As SQuAD 2.0 publishes them: a paragraph with its questions, articles of one paragraph."""
    articles = []
    for one in rows:
        answers = zip(one["answers"]["text"], one["answers"]["answer_start"], strict=True)
        question = {
            "id": one["id"], "question": one["question"], "is_impossible": not one["answers"]["text"],
            "answers": [{"text": text, "answer_start": start} for text, start in answers],
        }  # fmt: skip
        articles.append({"title": one["id"], "paragraphs": [{"context": one["context"], "qas": [question]}]})
    return {"version": "v2.0", "data": articles}


def write(path: Path, content: dict | list) -> str:
    """An object as .json; rows as lines in .jsonl."""
    text = json.dumps(content) if path.suffix == ".json" else "\n".join(json.dumps(one) for one in content) + "\n"
    path.write_text(text, encoding="utf-8")
    return str(path)


def read_json(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text(encoding="utf-8"))


def tiny_tokenizer(**options) -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(WORDS.split())), "."]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep")}
    options = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"], **special, **options}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **options)


def save_bert(folder: Path, hidden_size: int, layers: int, **tokenizer_options) -> str:
    tokenizer = tiny_tokenizer(**tokenizer_options)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=hidden_size, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * hidden_size, max_position_embeddings=32, initializer_range=0.2,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    BertForQuestionAnswering(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(run_main, tmp_path_factory):
    """Calls main; returns the output folder."""

    def call(*arguments: str) -> Path:
        output = tmp_path_factory.mktemp("output")
        run_main("--output_dir", str(output), *arguments, *QUIET)
        return output

    return call


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """Arguments that name answerable questions, a row per line."""
    folder = tmp_path_factory.mktemp("files")
    for_training, for_validation = rows_of("who", "where", "where")
    return ["--train_file", write(folder / "train.jsonl", for_training),
            "--validation_file", write(folder / "validation.jsonl", for_validation),
            "--test_file", write(folder / "test.jsonl", without(for_validation, "answers"))]  # fmt: skip


@pytest.fixture(scope="module")
def teacher(run, files, tmp_path_factory) -> Path:
    start = save_bert(tmp_path_factory.mktemp("start"), 32, 2)
    return run("--model_name_or_path", start, *files, *WINDOWS, *TRAINING, "--max_steps", "150",
               "--do_train", "--do_eval", "--do_predict")  # fmt: skip


@pytest.fixture
def encode(script, files):
    """Windows of the training questions, padded on a side."""

    def make(side: str, *more: str) -> Dataset:
        parser = transformers.HfArgumentParser((script.DataTrainingArguments,))
        (args,) = parser.parse_args_into_dataclasses([*files, *WINDOWS, *more])
        return args.encoder(tiny_tokenizer(padding_side=side))(
            Dataset.from_list(rows_of("who", "where", "when")[0]), for_training=False
        )

    return make


def test_teacher_learns_to_answer(teacher):
    results, record = read_json(teacher, "all_results.json"), read_json(teacher, "run.json")
    assert results["eval_exact_match"] > 80 and results["eval_f1"] >= results["eval_exact_match"]
    for_training, for_validation = rows_of("who", "where", "where")
    assert results["train_samples"] > len(for_training)  # some contexts came in two windows
    assert record["metrics"]["eval_exact_match"] == results["eval_exact_match"]
    assert record["metrics"]["eval_f1"] == results["eval_f1"]
    predictions = read_json(teacher, "eval_predictions.json")
    assert list(predictions) == [one["id"] for one in for_validation]
    right = [predictions[one["id"]] == one["answers"]["text"][0] for one in for_validation]
    assert results["eval_exact_match"] == pytest.approx(100 * sum(right) / len(right))
    assert read_json(teacher, "predict_predictions.json") == predictions
    assert not (teacher / "eval_null_odds.json").exists()


def test_student_learns_from_the_teachers_soft_labels_alone(run, files, teacher, tmp_path):
    unlabeled = write(tmp_path / "train.jsonl", without(rows_of("who", "where", "where")[0], "answers"))
    start = save_bert(tmp_path / "start", 32, 1)
    student = run("--model_name_or_path", start, "--teacher_model_name_or_path", str(teacher), "--recipe", "vanilla_kd",
                  "--hard_label_weight", "0", *files, "--train_file", unlabeled, *WINDOWS, *TRAINING,
                  "--max_steps", "200", "--do_train", "--do_eval")  # fmt: skip
    results = read_json(student, "all_results.json")
    assert results["eval_exact_match"] > 70
    assert results["eval_teacher_agreement"] > 0.7
    assert {"eval_soft_label_loss", "eval_hard_label_loss", "eval_teacher_kl"} <= results.keys()
    assert read_json(student, "run.json")["metrics"]["eval_f1"] == results["eval_f1"]


def test_a_teacher_reads_which_text_a_token_is_of_though_the_student_does_not(run, files, teacher, tmp_path):
    tiny_tokenizer(model_input_names=["input_ids", "attention_mask"]).save_pretrained(tmp_path / "start")
    config = DistilBertConfig(vocab_size=len(tiny_tokenizer()), dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    DistilBertForQuestionAnswering(config).save_pretrained(tmp_path / "start")
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        forward = BertForQuestionAnswering.forward

        @functools.wraps(forward)
        def noting(*args, **inputs):
            seen.append(inputs["token_type_ids"].max().item())
            return forward(*args, **inputs)

        patch.setattr(BertForQuestionAnswering, "forward", noting)
        run("--model_name_or_path", str(tmp_path / "start"), "--teacher_model_name_or_path", str(teacher), *files,
            *WINDOWS, *TRAINING, "--max_steps", "2", "--do_train", "--do_eval")  # fmt: skip
    assert seen and set(seen) == {1}


def test_unanswerable_questions_in_a_nested_file(run, tmp_path):
    for_training, for_validation = rows_of("who", "where", "when")
    places = ["--train_file", write(tmp_path / "train.json", nested(for_training)),
              "--validation_file", write(tmp_path / "validation.json", nested(for_validation))]  # fmt: skip
    arguments = ["--model_name_or_path", save_bert(tmp_path / "start", 32, 2), *places, *WINDOWS, *TRAINING,
                 "--do_train", "--do_eval"]  # fmt: skip
    with pytest.raises(ValueError, match="pass --version_2_with_negative"):
        run(*arguments)
    output = run(*arguments, "--version_2_with_negative", "--max_steps", "200")
    results = read_json(output, "eval_results.json")
    assert results["eval_exact_match"] > 80 and results["eval_NoAns_exact"] > 80 and results["eval_HasAns_f1"] > 80
    predictions, odds = read_json(output, "eval_predictions.json"), read_json(output, "eval_null_odds.json")
    assert list(predictions) == list(odds) == [one["id"] for one in for_validation]
    assert all((predictions[name] == "") == (odds[name] > 0) for name in predictions)

    threshold = ["--version_2_with_negative", "--null_score_diff_threshold", "1e6"]
    evaluated = run("--model_name_or_path", str(output), *places[2:], *WINDOWS, *threshold, "--do_eval",
                    "--max_eval_samples", "9")  # fmt: skip
    assert all(read_json(evaluated, "eval_predictions.json").values())
    assert len(read_json(evaluated, "eval_predictions.json")) == 9
    assert read_json(evaluated, "eval_results.json")["eval_NoAns_exact"] == 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_windows_are_labeled_with_the_answers_tokens(encode, side):
    windows, rows, tokenizer = encode(side), rows_of("who", "where", "when")[0], tiny_tokenizer()
    assert len(windows) > len(rows) and max(map(len, windows["input_ids"])) == 20
    found = set()
    for window in windows:
        ids, (start, end) = window["input_ids"], (window["start_positions"], window["end_positions"])
        context, answers = rows[window["example"]]["context"], rows[window["example"]]["answers"]["text"]
        question = tokenizer(rows[window["example"]]["question"], add_special_tokens=False)["input_ids"]
        if side == "left":
            assert len(ids) == 20 and ids[-len(question) - 1 : -1] == question
        else:
            assert ids[1 : len(question) + 1] == question
        assert ids[window["null_position"]] == tokenizer.cls_token_id
        for token, (first, last) in zip(ids, window["offsets"], strict=True):
            assert first == -1 or tokenizer.convert_ids_to_tokens(token) == context[first:last]
        if start == window["null_position"]:
            assert end == start
            covered = [offset for offset in window["offsets"] if offset[0] >= 0]
            assert not answers or answers[0] not in context[covered[0][0] : covered[-1][1]]
        else:
            assert tokenizer.decode(ids[start : end + 1]) == answers[0]
            found.add(window["example"])
    assert found == {index for index, one in enumerate(rows) if one["answers"]["text"]}


def test_padding_to_the_full_length(encode):
    assert set(map(len, encode("right", "--pad_to_max_length")["input_ids"])) == {20}


def test_a_tokenizer_that_pads_on_the_left(run, files, tmp_path):
    start = save_bert(tmp_path / "start", 32, 2, padding_side="left")
    output = run("--model_name_or_path", start, *files, *WINDOWS, *TRAINING, "--max_steps", "150",
                 "--do_train", "--do_eval")  # fmt: skip
    assert read_json(output, "eval_results.json")["eval_exact_match"] > 60


def test_forms_of_files(script, tmp_path):
    """Rows under "data", rows in a list, rows per line, and nested rows are the same questions."""
    rows = rows_of("when", "who")[0][:5]
    model_args = script.FineTuningArguments(model_name_or_path="model", cache_dir=str(tmp_path / "cache"))

    def load(name: str, content: dict | list) -> Dataset:
        args = script.DataTrainingArguments(train_file=write(tmp_path / name, content))
        return script.load_raw(model_args, args)["train"]

    forms = {"data.json": {"data": rows}, "nested.json": nested(rows), "list.json": rows, "lines.jsonl": rows}
    for name, content in forms.items():
        assert load(name, content).to_list() == rows
    assert load("nested.json", nested(rows[:3])).num_rows == 3  # the file has changed
    without_answers = nested(rows[:1])
    del without_answers["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    assert load("unlabeled.json", without_answers).column_names == ["id", "context", "question"]


def test_what_cannot_work_is_named(run, files, tmp_path):
    model = save_bert(tmp_path / "start", 16, 1)
    rows = rows_of("who")[1][:3]
    start = ["--model_name_or_path", model, "--do_eval", *WINDOWS]
    lacking = write(tmp_path / "lacking.jsonl", without(rows, "context"))
    with pytest.raises(
        ValueError, match=r"do_eval needs a split 'validation' with the columns \['question', 'context'"
    ):
        run(*start, "--validation_file", lacking)
    with pytest.raises(ValueError, match="do_eval needs a split 'validation'"):
        run(*start, *files[:2])
    unlabeled = write(tmp_path / "unlabeled.jsonl", without(rows, "answers"))
    with pytest.raises(
        ValueError, match=r"training without a teacher needs labels, got only the columns .* column answers"
    ):
        run("--model_name_or_path", "nowhere", "--do_train", "--train_file", unlabeled, *WINDOWS)
    with pytest.raises(ValueError, match="ids of validation must all be different"):
        run(*start, "--validation_file", write(tmp_path / "twice.jsonl", rows + rows[:1]))
    with pytest.raises(ValueError, match=r"row 1 has no answers\. Where the passage has none"):
        run(*start, "--validation_file", write(tmp_path / "some.jsonl", [rows[0], {**rows[1], "answers": None}]))
    with pytest.raises(ValueError, match=r"doc_stride must be .* below max_seq_length \(20\), got 20"):
        run(*start, *files, "--doc_stride", "20")
    long = write(tmp_path / "long.jsonl", [{**rows[0], "question": "who " * 13}])
    with pytest.raises(ValueError, match=r"fewer than 13 tokens, one has 13: 'who who"):
        run(*start, "--validation_file", long)
    with pytest.raises(ValueError, match=r"n_best_size and max_answer_length must be at least 1, got \(0, 4\)"):
        run(*start, *files, "--n_best_size", "0")
    with pytest.raises(ValueError, match="group_by_length mixes up the answers"):
        run(*start, *files, "--train_sampling_strategy", "group_by_length")
    CanineTokenizer().save_pretrained(tmp_path / "slow")
    with pytest.raises(ValueError, match=r"only fast tokenizers know; that of .* is a CanineTokenizer"):
        run(*start, *files, "--tokenizer_name", str(tmp_path / "slow"))


@pytest.mark.parametrize(
    ("more", "limit", "expected"),
    [
        ([], 512, (384, 128)),
        (["--max_seq_length", "30"], 512, (30, 10)),
        ([], 60, (60, 20)),
        (["--max_seq_length", "30", "--doc_stride", "12"], 512, (30, 12)),
    ],
)
def test_the_stride_fits_the_windows(script, files, more, limit, expected):
    (args,) = transformers.HfArgumentParser((script.DataTrainingArguments,)).parse_args_into_dataclasses(
        [*files, *more]
    )
    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = limit
    encoder = args.encoder(tokenizer)
    assert (encoder.max_length, encoder.doc_stride) == expected


def test_a_stride_that_does_not_fit_is_refused_by_name(script, files):
    parser = transformers.HfArgumentParser((script.DataTrainingArguments,))
    with pytest.raises(ValueError, match=r"doc_stride must be at least 0 and below max_seq_length \(30\), got 40"):
        parser.parse_args_into_dataclasses([*files, "--max_seq_length", "30", "--doc_stride", "40"])
