"""What users do with Trainer works with a teacher in place."""

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from hf_distill import DistillationTrainer
from hf_distill.publishing.run_record import RunRecord
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


@pytest.fixture
def make(arguments, teacher, tokenizer):
    def make_trainer(student=None, dataset=None, teacher_model=teacher, trainer=None, **overrides):
        dataset = encoded_sentences(29) if dataset is None else dataset
        keywords = dict(train_dataset=dataset, eval_dataset=encoded_sentences(13), processing_class=tokenizer)
        keywords |= trainer or {}
        if "model_init" not in keywords:
            keywords["model"] = student or tiny_bert()
        return DistillationTrainer(args=arguments(**overrides), teacher_model=teacher_model, **keywords)

    return make_trainer


class Counter(TrainerCallback):
    steps = 0

    def on_step_end(self, args, state, control, **kwargs):
        self.steps += 1


def test_compute_metrics_callbacks_and_predict(make):
    counter = Counter()
    trainer = make(trainer=dict(compute_metrics=accuracy, callbacks=[counter]), eval_strategy="epoch")
    trainer.train()
    assert counter.steps == 8
    test_set = encoded_sentences(29)
    answer = trainer.predict(test_set)
    assert {"test_accuracy", "test_loss", "test_teacher_agreement"} <= answer.metrics.keys()
    assert np.array_equal(answer.label_ids, np.array(test_set["labels"])), "predictions keep the order of the examples"


def test_load_best_model_at_end_by_agreement_with_the_teacher(make):
    trainer = make(
        eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, num_train_epochs=3,
        load_best_model_at_end=True, metric_for_best_model="teacher_kl", greater_is_better=False,
        trainer=dict(callbacks=[EarlyStoppingCallback(early_stopping_patience=2)]),
    )  # fmt: skip
    trainer.train()
    best = min(entry["eval_teacher_kl"] for entry in trainer.state.log_history if "eval_teacher_kl" in entry)
    assert trainer.state.best_metric == best
    assert trainer.evaluate()["eval_teacher_kl"] == pytest.approx(best, rel=1e-5)


def test_hyperparameter_search_over_the_temperature(make):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    seen = set()

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            seen.add(args.temperature)

    trainer = make(trainer=dict(model_init=lambda trial=None: tiny_bert(), callbacks=[Look()]), eval_strategy="epoch")
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"temperature": trial.suggest_float("temperature", 1.0, 4.0)},
        backend="optuna", n_trials=2, direction="minimize", compute_objective=lambda metrics: metrics["eval_teacher_kl"],
    )  # fmt: skip
    assert 1.0 <= best.hyperparameters["temperature"] <= 4.0
    assert len(seen) == 2 and best.hyperparameters["temperature"] in seen


def test_iterable_dataset(make):
    stream = encoded_sentences(29).to_iterable_dataset()
    trainer = make(dataset=stream, max_steps=5)
    trainer.train()
    assert trainer.state.global_step == 5


def test_plain_torch_dataset(make):
    class Rows(torch.utils.data.Dataset):
        rows = encoded_sentences(9).to_list()

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            return self.rows[index]

    trainer = make(dataset=Rows())
    trainer.train()
    assert trainer.state.global_step == 3


def test_label_smoothing(make):
    plain, smooth = (make(hard_label_weight=1.0, label_smoothing_factor=factor) for factor in (0.0, 0.3))
    for trainer in (plain, smooth):
        trainer.train()
    first, second = (trainer.state.log_history[0] for trainer in (plain, smooth))
    assert first["soft_label_loss"] == pytest.approx(second["soft_label_loss"], rel=1e-5)
    assert first["hard_label_loss"] != pytest.approx(second["hard_label_loss"], rel=1e-3)


def test_own_loss_function(make):
    def double(outputs, labels, num_items_in_batch=None):
        return 2 * torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="sum") / num_items_in_batch

    own = make(hard_label_weight=1.0, trainer=dict(compute_loss_func=double))
    plain = make(hard_label_weight=1.0)
    for trainer in (own, plain):
        trainer.train()
    first, second = (trainer.state.log_history[0]["hard_label_loss"] for trainer in (own, plain))
    assert first == pytest.approx(2 * second, rel=1e-5)


@pytest.mark.parametrize("option", ["bf16", "activation_checkpointing", "torch_compile"])
def test_precision_memory_and_compilation(make, option):
    plain, other = make(max_steps=3), make(max_steps=3, **{option: True})
    for trainer in (plain, other):
        trainer.train()
        trainer.evaluate()
    tolerance = 0.05 if option == "bf16" else 1e-3
    assert torch.allclose(parameters_of(plain.model), parameters_of(other.model), atol=tolerance)


def test_multi_label_and_regression_students_learn_from_soft_labels(make):
    for labels, size in (("multi", 3), ("float", 1)):
        unlabeled = encoded_sentences(64, labels).remove_columns("labels")
        trainer = make(
            student=tiny_bert(num_labels=size, problem_type="multi_label_classification" if size == 3 else None),
            dataset=unlabeled, teacher_model=tiny_bert(num_labels=size, seed=4), num_train_epochs=8,
        )  # fmt: skip
        before = trainer.evaluate(unlabeled)["eval_loss"]
        trainer.train()
        assert trainer.evaluate(unlabeled)["eval_loss"] < 0.5 * before


def test_student_trained_twice_and_evaluated_in_between(make):
    trainer = make()
    trainer.train()
    trainer.evaluate()
    trainer.train()
    assert trainer.state.global_step == 8


def test_several_evaluation_sets(make):
    sets = {"short": encoded_sentences(5), "long": encoded_sentences(9)}
    metrics = make(trainer=dict(eval_dataset=sets)).evaluate()
    assert metrics["eval_short_teacher_kl"] != metrics["eval_long_teacher_kl"]


def test_run_record(make, tmp_path):
    trainer = make(hard_label_weight=0.5, temperature=2.0)
    trainer.train()
    trainer.evaluate()
    record = RunRecord.load(trainer.args.output_dir)
    assert record.trainer == "DistillationTrainer"
    assert record.teacher["parameters"] == trainer.teacher.model.num_parameters()
    assert record.student["parameters"] == trainer.model.num_parameters()
    assert record.objective == [
        {"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0},
        {"name": "hard_label", "weight": 0.5},
    ]
    assert record.arguments["temperature"] == 2.0 and record.training["steps"] == 8
    assert "eval_teacher_kl" in record.metrics
    assert str(tmp_path) not in (tmp_path / "output" / "run.json").read_text()


def test_data_seed_and_padding_free_order_are_reproducible(make):
    orders = []
    for seed in (1, 1, 2):
        trainer = make(data_seed=seed)
        orders.append(list(trainer.get_train_dataloader().batch_sampler))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [(dict(recipe="minilmv2"), True), (dict(recipe="minilmv2", soft_label_weight=1.0), None), ({}, None)],
)
def test_a_head_that_learns_nothing_is_known_also_where_layers_are_left_out_at_random(make, overrides, expected):
    trainer = make(activation_checkpointing=True, **overrides)
    trainer.model.config.layerdrop = 0.1
    assert trainer.has_unused_parameters() is expected


@pytest.mark.parametrize("features", [{}, dict(hidden_state_weight=1.0)])
def test_an_own_loss_on_labels_is_told_the_number_of_labels(make, features):
    told = []

    def own(outputs, labels, num_items_in_batch=None):
        told.append(float(num_items_in_batch))
        return outputs["logits"].sum() * 0

    trainer = make(hard_label_weight=1.0, max_steps=1, trainer=dict(compute_loss_func=own), **features)
    trainer.train()
    rows = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    assert set(told) == {float(trainer.args.per_device_train_batch_size)} and sum(told) == rows


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (dict(recipe="minilmv2"), True),
        (dict(recipe="minilmv2", soft_label_weight=1.0), False),
        (dict(recipe="minilmv2", ddp_find_unused_parameters=False), False),
        (dict(ddp_find_unused_parameters=True), True),
        ({}, False),
    ],
)
def test_ddp_is_told_of_parameters_without_gradient_unless_the_user_decides(make, monkeypatch, overrides, expected):
    trainer = make(**overrides)
    monkeypatch.setattr(type(trainer.accelerator), "num_processes", property(lambda self: 2))
    monkeypatch.setattr(Trainer, "_prepare_for_training", lambda self, *args, **kwargs: None)
    trainer._prepare_for_training(1, None, None)
    assert trainer.accelerator.ddp_handler.find_unused_parameters is expected
