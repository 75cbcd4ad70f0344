"""An optimizer of the user's own also trains what the trainer adds to the student."""

import pytest
import torch

from hf_distill import DistillationTrainer
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer


def make(arguments, student, optimizers, **overrides):
    return DistillationTrainer(
        student, arguments(hidden_state_weight=1.0, max_steps=5, **overrides), train_dataset=encoded_sentences(24),
        processing_class=tiny_tokenizer(), teacher_model=tiny_bert(hidden_size=32, seed=1), optimizers=optimizers,
    )  # fmt: skip


def test_projections_join_it_in_a_group_of_their_own(arguments):
    student = tiny_bert()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    trainer = make(arguments, student, (optimizer, None))
    (projection,) = trainer.feature_hooks.projections.parameters()
    before = projection.detach().clone()
    trainer.train()
    assert (projection - before).abs().max() > 1e-3
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(optimizer.param_groups) == 2 and optimizer.param_groups[1]["params"] == [projection]
    assert len(trained) == len({id(parameter) for parameter in trained}) == len(list(student.parameters()))
    trainer.train()
    assert len(optimizer.param_groups) == 2


def test_a_run_with_it_resumes(arguments, tmp_path):
    students = [tiny_bert(), tiny_bert()]
    for student, resume in zip(students, (None, str(tmp_path / "output" / "checkpoint-3")), strict=True):
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
        trainer = make(arguments, student, (optimizer, None), save_strategy="steps", save_steps=3)
        trainer.train(resume_from_checkpoint=resume)
    for first, second in zip(students[0].parameters(), students[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_scheduler_that_does_not_know_them_is_refused(arguments):
    student = tiny_bert()
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer)
    with pytest.raises(ValueError, match=r"scheduler of your own \(LinearLR\).*Pass optimizers=\(optimizer, None\)"):
        make(arguments, student, (optimizer, scheduler))
    make(arguments, tiny_bert(hidden_size=32), (optimizer, scheduler))  # of the teacher's width there are none
