"""What a classifier's logits mean: taken over from the teacher, refused where two sides say different things."""

import datasets
import pytest
import torch
from datasets import IterableDataset
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss
from transformers import BertConfig, BertForTokenClassification, DataCollatorForTokenClassification

from hf_distill import DistillationTrainer, create_student, label_transfer_set
from hf_distill.objectives.logits import as_binary, forward_kl
from hf_distill.precomputed.provenance import provenances
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

MULTI = "multi_label_classification"


@pytest.fixture
def make(arguments):
    def make(student, teacher_model=None, dataset=None, eval_dataset=None, trainer=None, **overrides):
        return DistillationTrainer(
            student, arguments(**{"per_device_eval_batch_size": 64, "max_steps": 3} | overrides), train_dataset=dataset,
            eval_dataset=eval_dataset, processing_class=tiny_tokenizer(), teacher_model=teacher_model, **(trainer or {}),
        )  # fmt: skip

    return make


def says_yes_to_everything(**config):
    student = tiny_bert(num_labels=3, seed=1, hidden_size=32, **config)
    with torch.no_grad():
        student.classifier.bias += 20
    return student


def multi_label_teacher():
    return tiny_bert(num_labels=3, seed=1, hidden_size=32, problem_type=MULTI).eval()


def logits_of(model, rows):
    batch = tiny_tokenizer().pad(rows.select_columns(["input_ids", "attention_mask"]).to_list(), return_tensors="pt")
    with torch.no_grad():
        return model.eval()(**batch).logits


def test_a_stock_student_reads_its_logits_as_a_multi_label_teacher_does(make):
    texts, teacher, student = encoded_sentences(24, labels=None), multi_label_teacher(), says_yes_to_everything()
    trainer = make(student, teacher, texts, texts)
    assert trainer.problem_type == student.config.problem_type == MULTI
    metrics = trainer.evaluate()
    z, t = logits_of(student, texts), logits_of(teacher, texts)
    assert metrics["eval_teacher_agreement"] == pytest.approx(((z > 0) == (t > 0)).float().mean().item())
    assert metrics["eval_teacher_agreement"] < 0.9
    expected = forward_kl(as_binary(z), as_binary(t)).mean().item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-4) and expected > 1


def test_a_regression_teacher_of_several_numbers(make):
    student, teacher = tiny_bert(num_labels=3), tiny_bert(num_labels=3, seed=2, problem_type="regression")
    texts = encoded_sentences(8, labels=None)
    trainer = make(student, teacher, texts, texts)
    assert "eval_teacher_mse" in trainer.evaluate() and student.config.problem_type == "regression"


def test_a_contradiction_is_refused(make):
    student = tiny_bert(num_labels=3, problem_type="single_label_classification")
    with pytest.raises(
        ValueError, match=r"problem type of the teacher is 'multi_label_.*, the student's 'single_label_"
    ):
        make(student, multi_label_teacher(), encoded_sentences(8, labels=None))


def test_a_stream_of_multi_hot_labels(make):
    rows = encoded_sentences(24, "multi")
    stream = IterableDataset.from_generator(lambda: iter(rows.to_list()))
    student, teacher = tiny_bert(num_labels=3), tiny_bert(num_labels=3, seed=1, hidden_size=32)
    streamed = make(student, teacher, stream, hard_label_weight=1.0)
    streamed.train()
    assert streamed.problem_type == student.config.problem_type == MULTI
    other = tiny_bert(num_labels=3)
    whole = make(
        other, teacher, rows, hard_label_weight=1.0, train_sampling_strategy="sequential", length_bucketing=False
    )
    whole.train()
    torch.testing.assert_close(parameters_of(student), parameters_of(other))


def test_recorded_outputs_carry_it(make):
    texts, student = encoded_sentences(12, labels=None), says_yes_to_everything()
    labeled = label_transfer_set(texts, multi_label_teacher(), tiny_tokenizer(), disable_tqdm=True)
    assert provenances(labeled)["teacher_provenance"].problem_type == MULTI
    metrics = make(student, None, labeled, labeled).evaluate()
    assert student.config.problem_type == MULTI and metrics["eval_teacher_agreement"] < 0.9
    with pytest.raises(
        ValueError, match=r"problem type of the teacher of the precomputed outputs is 'multi_label.*student's 'single_l"
    ):
        make(tiny_bert(num_labels=3, problem_type="single_label_classification"), None, labeled)


def test_a_pretrained_student_gets_it(tmp_path):
    tiny_bert(layers=1, hidden_size=64).bert.save_pretrained(tmp_path)
    teacher = tiny_bert(num_labels=3, problem_type=MULTI)
    student = create_student("1/64", teacher, "pretrained", pretrained_model_name_or_path=str(tmp_path))
    assert student.config.problem_type == MULTI and student.config.num_labels == 3


def test_students_of_a_search_get_names_and_problem_type(make):
    names = {"id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}
    teacher = tiny_bert(num_labels=3, problem_type=MULTI, **names)
    trainer = make(
        None, teacher, encoded_sentences(8, labels=None), trainer={"model_init": lambda: tiny_bert(num_labels=3)}
    )
    trainer.train()
    assert trainer.model.config.problem_type == MULTI and trainer.model.config.id2label == names["id2label"]


@pytest.mark.parametrize(
    ("labels", "config", "message"),
    [
        (lambda n: float(n % 3), {}, r"one of 3 classes, the batch has labels of shape \(8,\) and type float32; class ids"),
        (lambda n: [1.0, 0.0, 1.0], {"problem_type": "single_label_classification"}, r"one of 3 classes.*several labels"),
        (lambda n: n % 3, {"problem_type": MULTI}, r"a row's labels are 3 floats.*got|labels of shape \(8,\) and type int64"),
        (lambda n: [1, 0, 1], {"problem_type": MULTI}, r"labels are 3 floats .*shape \(8, 3\) and type int64; cast them"),
        (lambda n: [1.0, 0.0], {"problem_type": MULTI}, r"labels are 3 floats .*shape \(8, 2\)"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_stream", [False, True])
def test_labels_of_another_kind_are_refused(make, labels, config, message, is_stream):
    rows = encoded_sentences(8, labels=None).add_column("labels", [labels(n) for n in range(8)])
    data = IterableDataset.from_generator(lambda: iter(rows.to_list())) if is_stream else rows
    with pytest.raises(ValueError, match=message):
        make(
            tiny_bert(num_labels=3, **config), tiny_bert(num_labels=3, seed=1, **config), data,
            per_device_train_batch_size=8,
        ).train()  # fmt: skip


@pytest.mark.parametrize("size", [1, 3])
def test_top_k_needs_classes(make, size):
    kind = {"problem_type": MULTI} if size == 3 else {}
    models = [tiny_bert(num_labels=size, seed=seed, **kind) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"soft_label_top_k cuts one distribution over classes, got 2 for a head"):
        make(*models, encoded_sentences(8, labels=None), soft_label_top_k=2)


def test_top_k_of_all_classes(make):
    with pytest.raises(ValueError, match="soft_label_top_k must be below the student's 2 classes, got 2"):
        make(tiny_bert(), tiny_bert(seed=1), encoded_sentences(8, labels=None), soft_label_top_k=2)


def partly_labeled(missing, labels):
    return encoded_sentences(24, labels=None).add_column("labels", [labels(n) if n % 2 else missing for n in range(24)])


def test_minus_100_does_not_count_in_a_multi_label_set(make):
    rows = partly_labeled([-100.0] * 3, lambda n: [1.0, -100.0, float(n % 3 == 0)])
    student = tiny_bert(num_labels=3, problem_type=MULTI)
    trainer = make(student, multi_label_teacher(), rows, rows, hard_label_weight=1.0)
    labels = torch.tensor(rows["labels"])
    known = labels != -100
    expected = binary_cross_entropy_with_logits(logits_of(student, rows)[known], labels[known]).item()
    assert trainer.evaluate()["eval_hard_label_loss"] == pytest.approx(expected, rel=1e-4)


def test_missing_numbers_do_not_count(make):
    """Nor do they spoil the student; -100 is a number like any other."""
    rows = partly_labeled(float("nan"), lambda n: -100.0 if n == 1 else float(n))
    student, labels = tiny_bert(num_labels=1), torch.tensor(rows["labels"])
    expected = mse_loss(logits_of(student, rows)[1::2, 0], labels[1::2]).item()
    trainer = make(student, tiny_bert(num_labels=1, seed=1), rows, rows, hard_label_weight=1.0)
    assert trainer.evaluate()["eval_hard_label_loss"] == pytest.approx(expected, rel=1e-4)
    trainer.train()
    assert parameters_of(student).isfinite().all()


def test_partly_labeled_rows_train_alike_however_they_are_split(make):
    rows = partly_labeled(float("nan"), float)
    students = []
    for split in ((8, 1), (4, 2)):
        students.append(tiny_bert(num_labels=1))
        make(
            students[-1], tiny_bert(num_labels=1, seed=1), rows, hard_label_weight=1.0,
            per_device_train_batch_size=split[0], gradient_accumulation_steps=split[1], length_bucketing=False,
            optim="sgd", learning_rate=1e-3,
        ).train()  # fmt: skip
    torch.testing.assert_close(parameters_of(students[0]), parameters_of(students[1]), atol=1e-5, rtol=1e-4)


def tagger(seed):
    torch.manual_seed(seed)
    return BertForTokenClassification(
        BertConfig(
            vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=3,
            initializer_range=0.3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, max_position_embeddings=64,
        )
    )  # fmt: skip


def test_rows_of_tokens_without_labels_teach(make):
    rows = encoded_sentences(12, labels=None)
    labels = [[-100, *[n % 3] * (len(row["input_ids"]) - 1)] if n < 4 else [-100] * len(row["input_ids"])
              for n, row in enumerate(rows)]  # fmt: skip
    rows = rows.add_column("labels", labels)
    student, teacher = tagger(2), tagger(1)
    collator = DataCollatorForTokenClassification(tiny_tokenizer())
    trainer = make(student, teacher, rows, rows, trainer={"data_collator": collator})
    divergence = forward_kl(logits_of(student, rows), logits_of(teacher, rows))
    counted = [[value != -100 or n >= 4 for value in row] for n, row in enumerate(labels)]
    values = [divergence[n, i] for n, row in enumerate(counted) for i, counts in enumerate(row) if counts]
    assert trainer.evaluate()["eval_soft_label_loss"] == pytest.approx(torch.stack(values).mean().item(), rel=1e-4)


def test_labels_of_datasets_keep_their_meaning_when_given_late(make):
    """An evaluation set of another kind than the training set is refused, not read as something else."""
    rows = encoded_sentences(8, "class")
    other = datasets.Dataset.from_list([{**row, "labels": float(row["labels"])} for row in rows])
    trainer = make(tiny_bert(), tiny_bert(seed=1), rows, other)
    with pytest.raises(ValueError, match="class ids must be integers"):
        trainer.evaluate()
