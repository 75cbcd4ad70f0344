"""Batches of 8, of 2 with accumulation 4 and of 1 with 8: the same gradient, the same weights."""

import pytest
import torch
from transformers import TrainerCallback

from hf_distill import DistillationTrainer
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

OBJECTIVES = {
    "soft": dict(),
    "hard": dict(hard_label_weight=1.0, soft_label_weight=0.0),
    "both": dict(hard_label_weight=0.5, soft_label_weight=0.5, temperature=2.0),
    "inside": dict(recipe="tinybert_task", relation_weight=1.0),  # with projections from 16 to 32
}


class GradientOfFirstStep(TrainerCallback):
    """Keeps the gradient as the first optimizer step sees it, clipped or not."""

    gradient = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.gradient is None:
            self.gradient = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def partly_labeled(dataset):
    """Labels of rows 0, 5, 10, ... are unknown (-100)."""
    return dataset.map(lambda row, index: {"labels": row["labels"] if index % 5 else -100}, with_indices=True)


def train(arguments, objective, batch_size, accumulation, teacher=True, **overrides):
    probe = GradientOfFirstStep()
    args = arguments(
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=2,
        max_grad_norm=0.0,
        optim="sgd",
        learning_rate=0.05,
        **OBJECTIVES[objective],
        **overrides,
    )
    trainer = DistillationTrainer(
        tiny_bert(),
        args,
        train_dataset=partly_labeled(encoded_sentences(29)),
        processing_class=tiny_tokenizer(),
        teacher_model=tiny_bert(hidden_size=32, layers=2, seed=1) if teacher else None,
        callbacks=[probe],
    )
    trainer.train()
    return trainer, probe.gradient


@pytest.mark.parametrize("bucketing", [True, False], ids=["bucketed", "random"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_accumulation_gives_the_gradient_of_the_whole_batch(arguments, objective, bucketing):
    whole, whole_gradient = train(arguments, objective, 8, 1, length_bucketing=bucketing)
    for batch_size, accumulation in ((2, 4), (1, 8)):
        split, gradient = train(arguments, objective, batch_size, accumulation, length_bucketing=bucketing)
        assert split.state.global_step == whole.state.global_step == 8  # 29 rows: the fourth step holds 5
        torch.testing.assert_close(gradient, whole_gradient, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)
        for ours, theirs in zip(split.state.log_history, whole.state.log_history, strict=True):
            for name in theirs.keys() & {"loss", "soft_label_loss", "hard_label_loss"}:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


def test_labels_alone_without_a_teacher_are_exact_too(arguments):
    """Stock Trainer multiplies this gradient by the number of accumulation steps."""
    whole, _ = train(arguments, "hard", 8, 1, teacher=False)
    split, _ = train(arguments, "hard", 2, 4, teacher=False)
    torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)
