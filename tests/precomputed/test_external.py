"""Outputs of a teacher from elsewhere train a student as a live teacher with these probabilities does."""

from __future__ import annotations

import json
import logging

import datasets
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax, softmax

from hf_distill import (
    DistillationTrainer,
    DistillationTrainingArguments,
    TeacherOutputs,
    label_transfer_set,
    load_teacher_outputs,
    teacher_outputs_from,
)
from hf_distill.objectives.logits import MASKED_LOGIT
from hf_distill.precomputed.provenance import provenances
from hf_distill.trainers.callbacks import _describe_teacher
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

LABELS = ["negative", "neutral", "positive", "mixed"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: index for index, name in enumerate(LABELS)}}
ROWS = 12


def probabilities(rows: int = ROWS, seed: int = 0) -> torch.Tensor:
    """Distributions over the labels, (rows, labels), double precision."""
    drawn = torch.randn(rows, len(LABELS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return softmax(2 * drawn, dim=-1)


def with_column(**columns) -> datasets.Dataset:
    size = len(next(iter(columns.values())))
    data = encoded_sentences(size, labels=None)
    return datasets.concatenate_datasets([data, datasets.Dataset.from_dict(columns)], axis=1)


def trainer_of(rows, folder, student, teacher_model=None, tokenizer=None, **arguments):
    args = DistillationTrainingArguments(
        str(folder), per_device_train_batch_size=ROWS, use_cpu=True, report_to="none", bf16=False, **arguments
    )
    return DistillationTrainer(
        student, args, train_dataset=rows, processing_class=tokenizer or tiny_tokenizer(), teacher_model=teacher_model
    )


def gradient(rows, folder, teacher_model=None, tokenizer=None, student=None, **arguments):
    """The gradient of the loss of all rows as one batch, and the loss."""
    student = student or tiny_bert(seed=3, num_labels=len(LABELS), **NAMES)
    trainer = trainer_of(rows, folder, student, teacher_model, tokenizer, **arguments)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(len(rows))])
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    found = [each.grad.flatten() for each in trainer.model.parameters() if each.grad is not None]
    return torch.cat(found), float(loss.detach())


class LiveTeacher:
    """Gives the distributions of rows whose first tokens it knows."""

    def __init__(self, logits, rows):
        self.logits = {tuple(row["input_ids"]): each for row, each in zip(rows, logits, strict=True)}

    def outputs(self, inputs):
        keys = [
            tuple(ids[mask.bool()].tolist())
            for ids, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)
        ]
        return TeacherOutputs(torch.stack([self.logits[key] for key in keys]).float())


def as_columns(p):
    return {name: p[:, index].tolist() for index, name in enumerate(LABELS)}


def as_dicts(p):
    return {"teacher_outputs": [dict(zip(LABELS, row, strict=True)) for row in p.tolist()]}


def as_pipeline(p):
    listed = [
        [{"label": name.upper(), "score": each} for name, each in zip(LABELS, row, strict=True)] for row in p.tolist()
    ]
    return {"teacher_outputs": [list(reversed(each)) for each in listed]}


def as_top_logprobs(p):
    """Tokens with the space before them, and each label by two spellings that share its probability."""
    spellings = ["{}", " {}"]
    return {
        "teacher_outputs": [
            [
                {"token": spelling.format(name), "logprob": float(np.log(each / 2)), "bytes": [1]}
                for name, each in zip(LABELS, row, strict=True)
                for spelling in spellings
            ]
            for row in p.tolist()
        ]
    }


def as_logits(p):
    return {
        "teacher_outputs": [
            [{"label": n, "logit": float(np.log(e)) + 3} for n, e in zip(LABELS, r, strict=True)] for r in p.tolist()
        ]
    }


@pytest.mark.parametrize("written", [as_columns, as_dicts, as_pipeline, as_top_logprobs, as_logits])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_gradient_is_that_of_a_live_teacher_with_these_probabilities(written, temperature, tmp_path):
    p = probabilities()
    rows = with_column(**written(p))
    recorded = teacher_outputs_from(rows, LABELS)
    plain = encoded_sentences(ROWS, labels=None)
    live = LiveTeacher(p.log(), plain)
    expected, loss = gradient(plain, tmp_path / "live", live, temperature=temperature)
    found, recorded_loss = gradient(recorded, tmp_path / "recorded", temperature=temperature)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert recorded_loss == pytest.approx(loss, abs=1e-6)


def buckets(p, named, logits):
    """The divergence of one row over its named labels and all others together, computed label by label."""
    log_student, total = log_softmax(logits.double(), dim=-1), 0.0
    for index in named:
        total = total + p[index] * (p[index].log() - log_student[index])
    others = [index for index in range(len(p)) if index not in named]
    tail = 1 - sum(p[index] for index in named)
    if tail > 1e-12:
        total = total + tail * (tail.log() - log_student[others].exp().sum().log())
    return total


def test_missing_labels_are_one_class_together(tmp_path):
    p = probabilities()
    named = [[0, 1, 2, 3], [2], [1, 3], [0, 1, 2], [3, 0], [1], [2, 1], [0], [3, 2, 1, 0], [1, 2], [3], [2, 0]]
    outputs = [{LABELS[index]: float(p[row, index]) for index in kept} for row, kept in enumerate(named)]
    recorded = teacher_outputs_from(with_column(teacher_outputs=outputs), LABELS)
    assert provenances(recorded)["teacher_provenance"].top_classes == {"top_k": 3, "temperature": 1.0}
    student = tiny_bert(seed=3, num_labels=len(LABELS), **NAMES)
    found, loss = gradient(recorded, tmp_path, student=student)
    student.zero_grad()
    batch = padded(recorded)
    expected = sum(
        buckets(p[row], kept, logits)
        for row, (kept, logits) in enumerate(zip(named, student(**batch).logits, strict=True))
    ) / len(named)
    expected.backward()
    explicit = torch.cat([each.grad.flatten() for each in student.parameters() if each.grad is not None])
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(found, explicit, rtol=0, atol=1e-6)


def padded(rows):
    inputs = [{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows]
    return dict(tiny_tokenizer().pad(inputs, return_tensors="pt"))


@pytest.mark.parametrize("confidence", [0.7, 1.0])
def test_a_hard_label_with_its_confidence(confidence, tmp_path):
    chosen = [LABELS[row % 4] for row in range(ROWS)]
    rows = with_column(teacher_label=chosen, teacher_confidence=[confidence] * ROWS)
    found, loss = gradient(teacher_outputs_from(rows, LABELS), tmp_path)
    student = tiny_bert(seed=3, num_labels=len(LABELS), **NAMES)
    p = torch.full((ROWS, 4), (1 - confidence) / 3, dtype=torch.float64)
    p[torch.arange(ROWS), torch.arange(ROWS) % 4] = confidence
    logits = student(**padded(rows)).logits
    expected = sum(buckets(p[row], [row % 4], logits[row]) for row in range(ROWS)) / ROWS
    expected.backward()
    explicit = torch.cat([each.grad.flatten() for each in student.parameters() if each.grad is not None])
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    torch.testing.assert_close(found, explicit, rtol=0, atol=1e-6)


def test_of_two_labels_the_other_has_the_rest():
    rows = with_column(teacher_label=["yes", "no"], teacher_confidence=[0.9, 0.6])
    found = teacher_outputs_from(rows)  # in alphabetical order
    expected = torch.tensor([[0.1, 0.9], [0.6, 0.4]]).log()
    torch.testing.assert_close(torch.tensor(found["teacher_logits"][:]), expected)
    assert provenances(found)["teacher_provenance"].labels == ["no", "yes"]


def test_independent_labels(tmp_path):
    p = torch.sigmoid(torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    p[0, 0], p[1, 1] = 0.0, 1.0
    names = ["cheap", "fast", "good"]
    outputs = [dict(zip(names, row, strict=True)) for row in p.tolist()]
    recorded = teacher_outputs_from(with_column(teacher_outputs=outputs), names, multi_label=True)
    config = {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}
    student = tiny_bert(seed=3, num_labels=3, **config)
    found, _ = gradient(recorded, tmp_path, student=student)
    assert student.config.problem_type == "multi_label_classification"
    student.zero_grad()
    logits = student(**padded(recorded)).logits.double()
    (binary_cross_entropy_with_logits(logits, p, reduction="none").mean(dim=-1).mean()).backward()
    explicit = torch.cat([each.grad.flatten() for each in student.parameters() if each.grad is not None])
    torch.testing.assert_close(found, explicit, rtol=0, atol=1e-6)


def test_independent_hard_labels():
    rows = with_column(teacher_label=[["good", "cheap"], []], teacher_confidence=[0.9, 0.8])
    found = teacher_outputs_from(rows, ["cheap", "fast", "good"], multi_label=True)
    expected = torch.tensor([[0.9, 0.1, 0.9], [0.2, 0.2, 0.2]]).logit()
    torch.testing.assert_close(torch.tensor(found["teacher_logits"][:]), expected)


def test_tokens_that_are_no_labels_do_not_count():
    answers = [
        {"A": -0.2231436, " The": -2.3025851, "b": -2.3025851},  # 0.8, 0.1 no label, 0.1
        {"A": -1.0, "B": -9999.0},
        {"The": -0.1, "A": -5.0},  # mostly no label
        {"Hm": -0.1},
    ]
    names = {"A": "negative", "B": "positive"}
    found = teacher_outputs_from(with_column(teacher_outputs=answers), kind="log_probabilities", names=names)
    assert len(found) == 2 and provenances(found)["teacher_provenance"].labels == ["negative", "positive"]
    values = torch.tensor(found["teacher_logits"][:])
    torch.testing.assert_close(values[0].exp(), torch.tensor([8 / 9, 1 / 9]), rtol=1e-5, atol=0)
    assert values[1].tolist() == [0.0, MASKED_LOGIT]


def test_rows_without_outputs_are_left_out_and_counted(caplog):
    outputs = [{"a": 0.5, "b": 0.5}, None, {}, {"a": 1.0, "b": 0.0}]
    rows = with_column(teacher_outputs=outputs)
    with caplog.at_level(logging.WARNING, "hf_distill"):
        found = teacher_outputs_from(rows)
    assert "2 of 4 rows have no teacher's outputs and are left out" in caplog.text
    assert found["input_ids"][:] == [rows[0]["input_ids"], rows[3]["input_ids"]]
    assert "teacher_outputs" not in found.column_names


def test_the_provenance_says_who_answered_as_far_as_it_is_told(tmp_path):
    path = tmp_path / "answers.jsonl"
    lines = [
        {"text": "w5 w6", "teacher_outputs": {"a": 0.25, "b": 0.75}},
        {"text": "w7", "teacher_outputs": {"b": 1.0}},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    told = {"name": "a large model", "date": "2026-05-01", "template": "Is this good? {text}"}
    found = load_teacher_outputs(path, teacher=told)
    (provenance,) = provenances(found).values()
    assert provenance.teacher == told | {
        "kind": "external", "outputs": "probabilities", "outputs_sha256": provenance.teacher["outputs_sha256"]
    }  # fmt: skip
    assert found["text"][:] == ["w5 w6", "w7"]
    found.save_to_disk(tmp_path / "saved")
    assert provenances(datasets.load_from_disk(tmp_path / "saved")) == provenances(found)
    texts = found.map(lambda batch: tiny_tokenizer()(batch["text"]), batched=True)
    config = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    trainer = trainer_of(texts, tmp_path / "student", tiny_bert(**config), max_steps=1)
    trainer.train()
    assert _describe_teacher(trainer.teacher)["date"] == "2026-05-01"
    with pytest.raises(ValueError, match="recorded elsewhere; there is a teacher_model too"):
        trainer_of(texts, tmp_path / "other", tiny_bert(**config), tiny_bert(seed=1, **config))
    with pytest.raises(ValueError, match=r"labels \['a', 'b'\]; the student's labels are \['b', 'a'\]"):
        turned = {"id2label": {0: "b", 1: "a"}, "label2id": {"b": 0, "a": 1}}
        trainer_of(texts, tmp_path / "other", tiny_bert(**turned))
    with pytest.raises(ValueError, match="have no logits of their own; soft_label_loss is logit_mse"):
        trainer_of(texts, tmp_path / "other", tiny_bert(**config), soft_label_loss="logit_mse")
    with pytest.raises(ValueError, match="have precomputed teacher outputs already"):
        teacher_outputs_from(found)


def test_a_truncated_distribution_is_compared_as_it_is(tmp_path):
    rows = teacher_outputs_from(with_column(teacher_outputs=[{"negative": 0.4}, {"mixed": 0.5}]), LABELS)
    for arguments, message in [
        (dict(temperature=2.0), "softened by temperature 1.0; temperature is 2.0"),
        (dict(soft_label_loss="reverse_kl"), "truncated to the top labels, which forward_kl alone compares"),
        (dict(soft_label_top_k=2), "truncated to 1 labels per row; soft_label_top_k is 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            trainer_of(rows, tmp_path, tiny_bert(num_labels=4, **NAMES), **arguments)
    trainer = trainer_of(rows, tmp_path, tiny_bert(num_labels=4, **NAMES))
    assert trainer.evaluate(rows)["eval_teacher_kl"] > 0


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        (as_dicts(0.5 * probabilities(2)), {}, r"row 1 sum to 0\.5; they must sum to 1, to within 0\.01"),
        ({"teacher_outputs": [{"a": 0.9, "b": 0.3}]}, {}, r"row 1 sum to 1\.2"),
        ({"teacher_outputs": [{"a": 1.0, "b": 0.0}, {"a": -0.1, "b": 1.1}]}, {}, r"row 2 has the probability -0\.1 for 'a'"),
        ({"a": [0.5], "b": [float("nan")]}, {}, r"row 1 has nan for 'b'"),
        ({"teacher_outputs": [{"a": "high", "b": "low"}]}, {}, r"row 1 has 'high' for 'a'"),
        ({"teacher_outputs": [{"good": 0.5, "bad": 0.5}]}, dict(labels=["pos", "neg"]),
         r"name \['good', 'bad'\], which are none of the labels \['pos', 'neg'\]"),
        ({"good": [0.5], "bad": [0.5]}, dict(labels=["pos", "neg"]), r"for each of the labels \['pos', 'neg'\]; .*\['good', 'bad'\]"),
        ({"teacher_outputs": [{"x": -0.5}]}, dict(labels=["pos", "neg"], kind="log_probabilities"), r"\['x'\], .*\['pos', 'neg'\]"),
        ({"teacher_outputs": [{"x": -0.5}]}, dict(kind="log_probabilities"), "pass the labels"),
        ({"teacher_outputs": [{"x": 1.0}]}, {}, r"at least 2 labels, the outputs name \['x'\]"),
        ({"teacher_label": ["a", "b"], "teacher_confidence": [0.5, 1.5]}, {}, r"between 0 and 1, row 2 has 1\.5"),
        ({"teacher_label": ["a", "b"], "teacher_confidence": [0.5, float("nan")]}, {}, "between 0 and 1, row 2 has nan"),
        ({"teacher_label": [["a"], ["b"]]}, {}, r"row 1 has several hard labels, \['a'\]"),
        ({"teacher_label": ["a", "c"]}, dict(labels=["a", "b"]), r"\['c'\], which are none of the labels \['a', 'b'\]"),
        ({"teacher_outputs": [{"a": 0.5}, {"a": 0.5, "b": 0.1}]}, dict(multi_label=True), "no finite number for the label 'b'"),
        ({"teacher_outputs": [{"a": 2.0, "b": 0.1}]}, dict(multi_label=True), "row 1 has the probability 2 for 'a'"),
        ({"teacher_outputs": [{"a": 2.0}, {"a": 1.0, "b": 0.1}]}, dict(kind="logits"), "logits need one for each of"),
        ({"teacher_outputs": [None, None]}, dict(labels=["a", "b"]), "none of the 2 rows has a teacher's outputs"),
        ({"other": ["x"]}, {}, "no teacher's outputs: neither a column 'teacher_outputs'"),
        ({"other": ["x"]}, dict(column="answers"), "no column 'answers'"),
        ({"teacher_outputs": [{"a": 0.5, "b": 0.5}]}, dict(kind="odds"), "kind must be one of"),
        ({"teacher_outputs": [{"a": 0.5, "b": 0.5}]}, dict(teacher={"kind": "mine"}), r"may not be called \['kind'\]"),
        ({"teacher_outputs": [[{"word": "a", "score": 1.0}]]}, {}, r"row 1 needs one of .* got the keys \['word', 'score'\]"),
        ({"teacher_outputs": [[0.5, 0.5]]}, {}, "lists 2 numbers without names"),
    ],
)  # fmt: skip
def test_what_is_refused(columns, options, message):
    with pytest.raises(ValueError, match=message):
        teacher_outputs_from(with_column(**columns), **options)


def test_a_file_that_is_not_there_and_one_of_another_type(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_teacher_outputs(tmp_path / "answers.jsonl")
    (tmp_path / "answers.xml").write_text("<a/>")
    with pytest.raises(ValueError, match=r"must be one of .*\.jsonl.*answers\.xml"):
        load_teacher_outputs(tmp_path / "answers.xml")
    label_transfer_set(
        encoded_sentences(2, labels=None), tiny_bert(), tiny_tokenizer(), tmp_path / "labeled", disable_tqdm=True
    )
    with pytest.raises(ValueError, match=r"\['labels'\] are for a file of outputs by label name"):
        load_teacher_outputs(tmp_path / "labeled", labels=["a", "b"])
