"""Every term is logged truthfully, in training and in evaluation."""

import pytest
import torch

from hf_distill import DistillationTrainer
from hf_distill.objectives.logits import as_binary, forward_kl
from hf_distill.objectives.objective import Objective
from tests.tiny_models import encoded_sentences, tiny_bert


def test_training_logs_the_terms_that_make_up_the_loss(arguments, student, teacher, sentences, tokenizer):
    args = arguments(soft_label_weight=0.25, hard_label_weight=0.75, temperature=3.0, logging_steps=3)
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(steps) == 2
    for entry in steps:
        parts = 0.25 * entry["soft_label_loss"] + 0.75 * entry["hard_label_loss"]
        assert entry["loss"] == pytest.approx(parts, rel=1e-5) and entry["soft_label_loss"] > 0


def test_training_pays_only_for_terms_with_a_weight(arguments, student, teacher, sentences, tokenizer):
    trainer = DistillationTrainer(
        student, arguments(), train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    trainer.train()
    assert all("hard_label_loss" not in entry for entry in trainer.state.log_history)


def test_evaluation_computes_every_term_once(arguments, student, teacher, sentences, tokenizer, monkeypatch):
    """Whatever is computed twice makes an evaluation of a small student dearer than its two forward passes."""
    args = arguments(hard_label_weight=0.5, per_device_eval_batch_size=5)
    trainer = DistillationTrainer(
        student, args, train_dataset=sentences, processing_class=tokenizer, teacher_model=teacher
    )
    means, computed = Objective.means, []
    monkeypatch.setattr(Objective, "means", lambda self, *given: computed.append(self) or means(self, *given))
    trainer.evaluate(sentences)
    assert len(computed) == -(-len(sentences) // 5)


@pytest.mark.parametrize("labels", ["class", "multi", "float"])
def test_evaluation_measures_loss_and_fidelity_over_all_examples(labels, arguments, tokenizer):
    dataset = encoded_sentences(29, labels)
    sizes = {"class": 2, "multi": 3, "float": 1}
    student, teacher = (tiny_bert(seed=seed, num_labels=sizes[labels]) for seed in (1, 2))
    args = arguments(hard_label_weight=0.5, soft_label_weight=2.0)
    trainer = DistillationTrainer(
        student, args, train_dataset=dataset, processing_class=tokenizer, teacher_model=teacher
    )
    metrics = trainer.evaluate(dataset)
    batch = tokenizer.pad(dataset.remove_columns("labels").to_list(), return_tensors="pt")
    with torch.no_grad():
        z_s, z_t = student.eval()(**batch).logits, teacher(**batch).logits
        hard = student(**batch, labels=torch.tensor(dataset["labels"])).loss.item()
    if labels == "float":
        soft = (z_s - z_t).square().mean().item()
        assert metrics["eval_teacher_mse"] == pytest.approx(soft, rel=1e-4)
    elif labels == "class":
        soft = forward_kl(z_s, z_t).mean().item()
        assert metrics["eval_teacher_kl"] == pytest.approx(soft, rel=1e-4)
        agreement = (z_s.argmax(-1) == z_t.argmax(-1)).float().mean().item()
        assert metrics["eval_teacher_agreement"] == pytest.approx(agreement)
    else:
        soft = forward_kl(as_binary(z_s), as_binary(z_t)).mean().item()
        assert metrics["eval_teacher_agreement"] == pytest.approx(((z_s > 0) == (z_t > 0)).float().mean().item())
    assert metrics["eval_soft_label_loss"] == pytest.approx(soft, rel=1e-4)
    assert metrics["eval_hard_label_loss"] == pytest.approx(hard, rel=1e-4)
    assert metrics["eval_loss"] == pytest.approx(2.0 * soft + 0.5 * hard, rel=1e-4)


def test_evaluation_without_labels_has_a_loss(arguments, student, teacher, tokenizer):
    unlabeled = encoded_sentences(29, labels=None)
    trainer = DistillationTrainer(
        student, arguments(), train_dataset=unlabeled, processing_class=tokenizer, teacher_model=teacher
    )
    metrics = trainer.evaluate(unlabeled)
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_teacher_kl"], rel=1e-5)
    assert "eval_hard_label_loss" not in metrics
    predictions = trainer.predict(unlabeled)
    assert predictions.predictions.shape == (29, 2) and predictions.label_ids is None


def test_training_reduces_the_distance_to_the_teacher(arguments, student, teacher, tokenizer):
    unlabeled = encoded_sentences(64, labels=None)
    trainer = DistillationTrainer(
        student, arguments(num_train_epochs=20), train_dataset=unlabeled, processing_class=tokenizer,
        teacher_model=teacher,
    )  # fmt: skip
    before = trainer.evaluate(unlabeled)
    trainer.train()
    after = trainer.evaluate(unlabeled)
    assert after["eval_teacher_kl"] < 0.5 * before["eval_teacher_kl"]
    assert after["eval_teacher_agreement"] > before["eval_teacher_agreement"]
