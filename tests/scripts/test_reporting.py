"""Examples are counted, and labeled ones where not all have a label."""

from __future__ import annotations

import datasets
import pytest

from hf_distill import DistillationTrainer
from hf_distill.scripts.reporting import report_training, sample_counts


def test_labeled_examples_are_counted_where_it_is_not_all():
    def counts(**columns):
        return sample_counts(datasets.Dataset.from_dict(columns))

    assert counts(labels=[0, -100, 2]) == {"samples": 3, "labeled_samples": 2}
    assert counts(labels=[[0, -100], [-100, -100]]) == {"samples": 2, "labeled_samples": 1}
    assert counts(labels=[0, 1]) == counts(labels=[-100.0, 1.5]) == counts(input_ids=[1, 2]) == {"samples": 2}
    rows = datasets.Dataset.from_dict({"label": [0, None, -1]})
    rows = rows.cast_column("label", datasets.ClassLabel(names=["a", "b"])).with_transform(dict)
    assert sample_counts(rows) == {"samples": 3, "labeled_samples": 1}
    assert sample_counts(rows.with_format(None).to_iterable_dataset()) == {}


@pytest.mark.parametrize(
    ("loss", "weights", "warned"),
    [(0.69, {}, True), (0.5, {}, False), (0.69, {"hard_label_weight": 1.0, "soft_label_weight": 1.0}, False)],
)
def test_a_classifier_that_learned_next_to_nothing_is_warned_of(
    loss, weights, warned, student, teacher, tokenizer, arguments, caplog
):
    taught = {"teacher_model": teacher} if weights else {}
    trainer = DistillationTrainer(student, arguments(**weights), processing_class=tokenizer, **taught)
    trainer.train_dataset = None
    report_training(trainer, {"train_loss": loss})
    assert ("a guess among 2 classes has 0.693" in caplog.text) is warned
