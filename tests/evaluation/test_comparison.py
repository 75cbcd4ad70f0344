"""Models beside each other: what is measured, shown and drawn is what scikit-learn, SciPy and the models say."""

from __future__ import annotations

import copy
import io
import time

import datasets
import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, mean_squared_error
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    ViTConfig,
    ViTForImageClassification,
)

from hf_distill.evaluation import plots
from hf_distill.evaluation.comparison import DISTILLED, OTHER, TEACHER, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.latency import measure_latency
from hf_distill.evaluation.plots import pareto_front, report_plot
from hf_distill.evaluation.report import report_table
from hf_distill.publishing.run_record import schema
from hf_distill.resources.digits import load_digits_dataset
from tests.tiny_models import tiny_bert, tiny_tokenizer

NAMES = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
FAST = LatencySettings(batch_sizes=(1, 2), lengths=(8,), formats=("int8",), runs=2, warm_up=0)


def texts(rows: int = 41, kind: str = "class") -> datasets.Dataset:
    generator = np.random.default_rng(5)
    words = [
        " ".join(f"w{word}" for word in generator.integers(4, 100, generator.integers(3, 20))) for _ in range(rows)
    ]
    labels = generator.integers(0, 2, rows).tolist() if kind == "class" else generator.uniform(size=rows).tolist()
    feature = datasets.ClassLabel(names=["bad", "good"]) if kind == "class" else datasets.Value("float32")
    features = datasets.Features({"text": datasets.Value("string"), "label": feature})
    return datasets.Dataset.from_dict({"text": words, "label": labels}, features=features)


def logits_one_by_one(model, rows) -> np.ndarray:
    """Without batches, padding or sorting."""
    with torch.inference_mode():
        found = [model.eval()(**tiny_tokenizer()(text, return_tensors="pt")).logits[0] for text in rows["text"]]
    return torch.stack(found).numpy()


def test_classifiers_are_measured_as_scikit_learn_measures_them():
    teacher = tiny_bert(32, 2, seed=1, **NAMES)
    turned = {"id2label": {0: "Good", 1: "Bad"}, "label2id": {"Good": 0, "Bad": 1}}  # the other order, other case
    student = tiny_bert(16, 1, **turned)
    rows, tokenizer = texts(), tiny_tokenizer()
    evaluated_models = [
        EvaluatedModel("big", TEACHER, teacher, tokenizer),
        EvaluatedModel("small", DISTILLED, student, tokenizer),
    ]
    found = compare(evaluated_models, rows, "reviews", "test", FAST)
    labels = np.array(rows["label"])
    expected = logits_one_by_one(teacher, rows), logits_one_by_one(student, rows)[:, ::-1]
    for row, logits in zip(found["rows"], expected, strict=True):
        predicted = logits.argmax(-1)
        assert row["metrics"]["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
        assert row["metrics"]["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        assert row["metrics"]["matthews_correlation"] == pytest.approx(matthews_corrcoef(labels, predicted))
        assert 0 <= row["metrics"]["expected_calibration_error"] <= 1
    teacher_row, student_row = found["rows"]
    agreement = (expected[0].argmax(-1) == expected[1].argmax(-1)).mean()
    assert student_row["fidelity"]["teacher_agreement"] == pytest.approx(agreement) and 0 < agreement < 1
    p_teacher, p_student = (torch.tensor(each.copy()).softmax(-1) for each in expected)
    kl = (p_teacher * (p_teacher / p_student).log()).sum(-1).mean()
    assert student_row["fidelity"]["teacher_kl"] == pytest.approx(float(kl), rel=1e-4)
    against = student_row["against_teacher"]
    difference = student_row["metrics"]["accuracy"] - teacher_row["metrics"]["accuracy"]
    assert against["difference"] == pytest.approx(difference) and against["low"] <= difference <= against["high"]
    assert 0 < against["mcnemar_p"] <= 1 and "fidelity" not in teacher_row
    assert student_row["parameters"] == student.num_parameters() < teacher_row["parameters"]
    timed = {(each["format"], each["batch_size"], each["sequence_length"]) for each in student_row["latency"]}
    assert timed == {(kind, size, 8) for kind in ("fp32", "int8") for size in (1, 2)}
    assert "accuracy" in student_row["metrics_by_format"]["int8"]
    sizes = student_row["megabytes_by_format"]
    assert sizes["fp32"] == pytest.approx(4 * student.num_parameters() / 1e6, abs=1e-3) and set(sizes) == {
        "fp32",
        "int8",
    }
    headings = [column.header for column in report_table(found).columns]
    assert "fp32 MB" in headings and "int8 MB" in headings
    assert found["data"]["examples"] == 41 and found["metric"] == "accuracy"
    jsonschema.validate(found, schema()["$defs"]["evaluation"] | {"$defs": schema()["$defs"]})


def test_models_of_the_same_structure_have_the_same_latency_which_is_measured_once(monkeypatch):
    measured = []
    monkeypatch.setattr(
        "hf_distill.evaluation.comparison.measure_latency",
        lambda models, *sizes, **more: measured.append(list(models)) or measure_latency(models, *sizes, **more),
    )
    attended_otherwise = tiny_bert(16, 1, **NAMES)
    attended_otherwise.set_attn_implementation("eager")
    models = {"big": tiny_bert(32, 2, **NAMES), "one": tiny_bert(16, 1, **NAMES), "other": attended_otherwise}
    models["same"] = tiny_bert(16, 1, seed=1, **NAMES)
    evaluated = [EvaluatedModel(name, OTHER, model, tiny_tokenizer()) for name, model in models.items()]
    found = compare(evaluated, texts(), "reviews", "test", FAST)
    assert {tuple(each) for each in measured} == {("big", "one", "other")}
    latencies = {row["name"]: row["latency"] for row in found["rows"]}
    assert latencies["same"] == latencies["one"] != latencies["other"] and len(latencies["big"]) == len(
        latencies["one"]
    )


def named(*names: str) -> dict:
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def test_classes_that_differ_by_case_alone_are_two_and_rows_without_a_label_do_not_count():
    names, turned = ("it", "IT", "None"), ("none", "IT", "it")
    model, same = tiny_bert(32, 2, seed=1, **named(*names)), tiny_bert(32, 2, seed=1, **named(*turned))
    with torch.no_grad():
        for parameter in same.classifier.parameters():
            parameter.copy_(parameter.flip(0))
    rows = texts().remove_columns("label")
    answers = [names[index] for index in logits_one_by_one(model, rows).argmax(-1)]
    assert len(set(answers)) == 3
    labels = [None if row % 3 == 0 else answer for row, answer in enumerate(answers)]
    evaluated_models = [
        EvaluatedModel("one", TEACHER, model, tiny_tokenizer()),
        EvaluatedModel("two", OTHER, same, tiny_tokenizer()),
    ]
    found = compare(evaluated_models, rows.add_column("label", labels), "news", "test", latency=None)
    assert [row["metrics"]["accuracy"] for row in found["rows"]] == [1, 1]
    assert found["rows"][1]["fidelity"]["teacher_agreement"] == 1
    assert (found["data"]["examples"], found["data"]["scored"]) == (41, 27)
    jsonschema.validate(found, schema()["$defs"]["evaluation"] | {"$defs": schema()["$defs"]})
    with pytest.raises(ValueError, match="none of the 41 rows has a label"):
        compare(evaluated_models, rows.add_column("label", [None] * 40 + [-100]), "news", "test", latency=None)


def test_regression_is_measured_as_scipy_measures_it():
    rows, tokenizer = texts(kind="float"), tiny_tokenizer()
    models = [tiny_bert(32, 2, seed=1, num_labels=1), tiny_bert(16, 1, num_labels=1)]
    evaluated_models = [EvaluatedModel(*each, tokenizer) for each in zip("ab", (TEACHER, OTHER), models, strict=True)]
    found = compare(evaluated_models, rows, "scores", "test", latency=None)
    labels, predicted = np.array(rows["label"]), logits_one_by_one(models[1], rows)[:, 0]
    metrics = found["rows"][1]["metrics"]
    assert metrics["pearson"] == pytest.approx(pearsonr(labels, predicted).statistic, abs=1e-5)
    assert metrics["spearmanr"] == pytest.approx(spearmanr(labels, predicted).statistic, abs=1e-5)
    assert metrics["mse"] == pytest.approx(mean_squared_error(labels, predicted), rel=1e-4)
    assert "mcnemar_p" not in found["rows"][1]["against_teacher"] and "teacher_mse" in found["rows"][1]["fidelity"]
    assert "latency" not in found["rows"][0]


def sizes(**more):
    sizes = dict(vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return BertConfig(**sizes, max_position_embeddings=64, initializer_range=0.3, **more)


def test_words():
    names = ["O", "B-PER", "I-PER"]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    features = datasets.Features(
        tokens=datasets.List(datasets.Value("string")), ner_tags=datasets.List(datasets.ClassLabel(names=names))
    )
    generator = np.random.default_rng(0)
    lengths = generator.integers(2, 12, 15)
    rows = datasets.Dataset.from_dict(
        {
            "tokens": [[f"w{word}" for word in generator.integers(4, 100, length)] for length in lengths],
            "ner_tags": [generator.integers(0, 3, length).tolist() for length in lengths],
        },
        features=features,
    )
    teacher = BertForTokenClassification(sizes(**labels))
    perfect = EvaluatedModel("same", DISTILLED, teacher, tiny_tokenizer())
    found = compare([EvaluatedModel("big", TEACHER, teacher, tiny_tokenizer()), perfect], rows, "names", "test", FAST)
    assert found["metric"] == "f1" and found["rows"][1]["fidelity"]["teacher_agreement"] == 1
    assert found["rows"][1]["against_teacher"] == {"difference": 0, "low": 0, "high": 0, "mcnemar_p": 1}
    with torch.inference_mode():
        right = [
            (teacher.eval()(torch.tensor([tiny_tokenizer().convert_tokens_to_ids(row["tokens"])])).logits[0].argmax(-1)
             == torch.tensor(row["ner_tags"])).tolist()
            for row in rows
        ]  # fmt: skip
    assert found["rows"][0]["metrics"]["accuracy"] == pytest.approx(np.mean([each for row in right for each in row]))


def test_questions():
    contexts = [" ".join(f"w{10 + number + index}" for index in range(30)) for number in range(6)]
    rows = datasets.Dataset.from_list(
        [
            {"id": str(n), "question": f"w{n} w5", "context": context,
             "answers": {"text": [" ".join(context.split()[3:5])], "answer_start": [context.index(context.split()[3])]}}
            for n, context in enumerate(contexts)
        ]
    )  # fmt: skip
    torch.manual_seed(0)
    models = [BertForQuestionAnswering(sizes()), BertForQuestionAnswering(sizes())]
    evaluated_models = [
        EvaluatedModel(*each, tiny_tokenizer()) for each in zip("ab", (TEACHER, DISTILLED), models, strict=True)
    ]
    found = compare(evaluated_models, rows, "questions", "test", latency=None)
    assert found["metric"] == "f1" and 0 <= found["rows"][1]["fidelity"]["teacher_agreement"] <= 1
    assert {"exact_match", "f1"} <= found["rows"][0]["metrics"].keys()
    for row in found["rows"]:
        row["metrics"] |= {"HasAns_f1": 61.25, "NoAns_f1": 90.0}  # of data in which some have none
    assert {"f1 % with an answer", "without one"} <= {column.header for column in report_table(found).columns}


def test_images():
    names = {"id2label": {n: str(n) for n in range(10)}, "label2id": {str(n): n for n in range(10)}}
    size = dict(image_size=8, patch_size=4, num_channels=1, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    model = ViTForImageClassification(ViTConfig(**size, intermediate_size=32, **names))
    rows = load_digits_dataset()["test"].select(range(20))
    found = compare([EvaluatedModel("a", OTHER, model, None)], rows, "digits", "test", FAST)
    with torch.inference_mode():
        predicted = model.eval()(torch.tensor(np.array(rows["pixel_values"]))).logits.argmax(-1)
    assert found["rows"][0]["metrics"]["accuracy"] == pytest.approx(np.mean(predicted.numpy() == rows["label"]))
    assert {each["sequence_length"] for each in found["rows"][0]["latency"]} == {0}


class TestRefused:
    """Before anything is measured, with the value got."""

    def one(self, name="a", **config):
        return EvaluatedModel(name, OTHER, tiny_bert(**(NAMES | config)), tiny_tokenizer())

    def test_two_of_a_name(self):
        with pytest.raises(ValueError, match=r"each its own, got \['a', 'a'\]"):
            compare([self.one(), self.one()], texts(), "reviews", "test")

    def test_two_tasks(self):
        other = EvaluatedModel("b", OTHER, BertForTokenClassification(sizes()), tiny_tokenizer())
        with pytest.raises(ValueError, match=r"for one task, got .*'b': 'token_classification'"):
            compare([self.one(), other], texts(), "reviews", "test")

    def test_other_classes(self):
        other = self.one("b", id2label={0: "cold", 1: "warm"}, label2id={"cold": 0, "warm": 1})
        with pytest.raises(ValueError, match=r"the label 'bad'; allowed are .*'cold'"):
            compare([self.one(), other], texts(), "reviews", "test")

    def test_rows_without_labels(self):
        with pytest.raises(ValueError, match=r"the column label and one or two of texts, got \['text'\]"):
            compare([self.one()], texts().remove_columns("label"), "reviews", "test")

    def test_no_rows(self):
        with pytest.raises(
            ValueError, match=r"the split test of reviews holds 0 examples; a comparison needs at least 1"
        ):
            compare([self.one()], texts().select([]), "reviews", "test")

    def test_rows_longer_than_a_model_reads(self):
        long = texts().map(lambda row: {"text": " ".join(["w5"] * 40)})
        short = self.one()
        short.model.bert.embeddings.position_embeddings = torch.nn.Embedding(30, 16)
        with pytest.raises(ValueError, match=r"row 0 of the data is 40 tokens long, but the model \(Bert.* for 30"):
            compare([short], long, "reviews", "test", latency=None)


ROWS = [
    {"name": "big", "role": "teacher", "parameters": 40_000_000, "metrics": {"accuracy": 0.9}},
    {"name": "small", "role": "labels only", "parameters": 4_000_000, "metrics": {"accuracy": 0.8}},
    {"name": "small too", "role": "distilled", "parameters": 4_000_000, "metrics": {"accuracy": 0.85},
     "fidelity": {"teacher_agreement": 0.91},
     "against_teacher": {"difference": -0.05, "low": -0.07, "high": -0.03, "mcnemar_p": 0.004}},
]  # fmt: skip


@pytest.fixture
def evaluation():
    times = (20.0, 2.5, 2.5)
    timed = [
        row | {"latency": [{"format": "fp32", "batch_size": 1, "sequence_length": 32, "median_ms": each}]}
        for row, each in zip(copy.deepcopy(ROWS), times, strict=True)
    ]
    data = {"name": "reviews", "split": "test", "examples": 1000, "fingerprint": "f"}
    return {"task": "sequence_classification", "metric": "accuracy", "data": data, "rows": timed}


def test_table_and_plot(evaluation, tmp_path):
    console = Console(width=160, file=io.StringIO())
    console.print(report_table(evaluation))
    shown = console.file.getvalue()
    for said in (
        "85.0",
        "91.0",
        "4.0M",
        "10.0x",
        "8.0x",
        "labels only",
        "-5.0 (-7.0 to -3.0)",
        "0.004",
        "1,000 examples",
    ):
        assert said in shown, said
    with Image.open(report_plot(evaluation, tmp_path / "plot.png")) as image:
        assert image.size[0] >= 800 and len(image.convert("L").getcolors()) > 20


def test_a_table_says_how_many_examples_have_a_label(evaluation):
    console = Console(width=160, file=io.StringIO())
    evaluation["data"]["scored"] = 640
    console.print(report_table(evaluation))
    assert "640 examples with a label, of 1,000" in console.file.getvalue()


def test_without_latency_the_plot_is_over_parameters(evaluation, tmp_path):
    for row in evaluation["rows"]:
        del row["latency"]
    console = Console(width=160, file=io.StringIO())
    console.print(report_table(evaluation))
    assert "faster" not in console.file.getvalue()
    assert report_plot(evaluation, tmp_path / "plot.png").stat().st_size > 10_000


def test_names_of_others_are_no_markup_and_no_control_codes_on_the_terminal(evaluation):
    evaluation["rows"][1]["name"] = "[red]s[/red] \x1b]0;title\x07[/]"
    evaluation["data"]["name"] = "[bold]\x1b[31m"
    console = Console(width=160, file=io.StringIO())
    console.print(report_table(evaluation))
    shown = console.file.getvalue()
    assert "[red]s[/red]" in shown and "[bold]" in shown and "\x1b" not in shown and "\x07" not in shown


def test_no_number_is_cut_off_on_a_narrow_terminal(evaluation):
    console = Console(width=60, file=io.StringIO())
    console.print(report_table(evaluation))
    assert "…" not in console.file.getvalue()


def axes_of(evaluation, monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(plots, "_saved", lambda figure, path: figures.append(figure))
    report_plot(evaluation, tmp_path / "plot.png")
    return figures[0].axes[0]


def test_no_axis_of_shares_reaches_beyond_them(evaluation, monkeypatch, tmp_path):
    for row, share in zip(evaluation["rows"], (1.0, 0.01, 0.99), strict=True):
        row["metrics"]["accuracy"] = share
    assert axes_of(evaluation, monkeypatch, tmp_path).get_ylim() == (0, 100)
    evaluation["metric"] = "mse"
    for row in evaluation["rows"]:
        row["metrics"] = {"mse": 150.0}
    assert axes_of(evaluation, monkeypatch, tmp_path).get_ylim()[1] > 150


def test_many_models_are_drawn_and_few_named_in_a_moment(evaluation, monkeypatch, tmp_path):
    row = evaluation["rows"][2]
    rows = [row | {"name": "n" * 30_000, "metrics": {"accuracy": index / 400}} for index in range(300)]
    evaluation |= {"rows": [*evaluation["rows"], *rows], "this": 302}
    begin = time.perf_counter()
    names = [text.get_text() for text in axes_of(evaluation, monkeypatch, tmp_path).texts if text.get_text()]
    assert time.perf_counter() - begin < 20  # some 2 s; naming all takes minutes
    assert len(names) == 12 and max(map(len, names)) < 60 and "big\n40.0M" in names


def test_pareto_front():
    assert pareto_front([(20, 90), (2, 80), (2, 85), (5, 84), (7, 88), (7, 88)]) == [2, 4, 0]
    assert pareto_front([(1, 1)]) == [0]


def test_neither_of_two_marks_at_the_same_place_is_hidden(evaluation, monkeypatch, tmp_path):
    def halves():
        shapes = axes_of(evaluation, monkeypatch, tmp_path).collections
        return [
            paths[0].get_extents().width
            for each in shapes
            if len(paths := each.get_paths()) and len(each.get_offsets())
        ]

    assert halves() == pytest.approx([1.0, 1.0, 1.0])
    evaluation["rows"][1]["metrics"]["accuracy"] = evaluation["rows"][2]["metrics"]["accuracy"]
    assert halves() == pytest.approx([1.0, 0.5, 0.5])


def test_a_front_of_one_model_is_no_line(evaluation, monkeypatch, tmp_path):
    assert [line.get_label() for line in axes_of(evaluation, monkeypatch, tmp_path).lines] == ["Pareto front"]
    evaluation["rows"][2]["metrics"]["accuracy"] = 0.95
    assert not axes_of(evaluation, monkeypatch, tmp_path).lines


def test_one_model_is_not_compared_with_itself(evaluation):
    evaluation["rows"] = evaluation["rows"][:1]
    console = Console(width=160, file=io.StringIO())
    console.print(report_table(evaluation))
    assert "1.0x" not in console.file.getvalue() and "40.0M" in console.file.getvalue()
