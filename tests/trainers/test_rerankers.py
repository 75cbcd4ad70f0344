"""Rerankers: the candidates of a query are compared with each other, exactly, whatever the batches are."""

from __future__ import annotations

import itertools

import datasets
import pytest
import torch
from transformers import DataCollatorWithPadding

from hf_distill import DistillationTrainer, label_transfer_set
from hf_distill.evaluation.ranking import ranking_metric
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer
from tests.trainers.test_partition import GradientOfFirstStep

ROWS = 29
RANKING = ("margin_mse", "listwise_kl")
SIZES = [4, 2, 3, 2, 4, 3, 2, 4, 2, 3]  # candidates of ten queries, of which 4 fit into a batch of 16


def candidates() -> datasets.Dataset:
    """Rows of mixed queries with relevance 0, 1 or 2."""
    ids = [10 * query for query, size in enumerate(SIZES) for _ in range(size)]
    rows = encoded_sentences(ROWS).remove_columns("labels").add_column("query_id", ids)
    rows = rows.add_column("labels", [float(row % 3) for row in range(ROWS)])
    return rows.select(torch.randperm(ROWS, generator=torch.Generator().manual_seed(5)).tolist())


def teacher():
    return tiny_bert(hidden_size=32, layers=2, seed=1, num_labels=1)


def make_trainer(arguments, loss, rows=None, with_teacher=True, batch_size=16, accumulation=1, **overrides):
    trainer = overrides.pop("trainer", {})
    defaults = dict(
        soft_label_loss=loss, query_column="query_id", per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation, num_train_epochs=2, max_grad_norm=0.0, optim="sgd", learning_rate=0.02,
    )  # fmt: skip
    return DistillationTrainer(
        trainer.pop("model", None) or tiny_bert(num_labels=1),
        arguments(**defaults | overrides),
        train_dataset=candidates() if rows is None else rows,
        processing_class=tiny_tokenizer(),
        teacher_model=teacher() if with_teacher else None,
        **trainer,
    )


def train(arguments, loss, **options):
    probe = GradientOfFirstStep()
    trainer = make_trainer(arguments, loss, trainer={"callbacks": [probe]}, **options)
    trainer.train()
    return trainer, probe.gradient


@pytest.mark.parametrize("bucketing", [True, False], ids=["bucketed", "random"])
@pytest.mark.parametrize("loss", RANKING)
def test_accumulation_gives_the_gradient_of_the_whole_batch(arguments, loss, bucketing):
    mixed = dict(hard_label_weight=0.5, soft_label_weight=0.5, temperature=2.0, length_bucketing=bucketing)
    whole, gradient = train(arguments, loss, **mixed)
    split, split_gradient = train(arguments, loss, batch_size=4, accumulation=4, **mixed)
    assert whole.state.global_step == split.state.global_step == 6  # 10 queries: the third step holds 2
    torch.testing.assert_close(split_gradient, gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(parameters_of(split.model), parameters_of(whole.model), rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(split.state.log_history, whole.state.log_history, strict=True):
        for name in theirs.keys() & {"loss", "soft_label_loss", "hard_label_loss"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4)


@pytest.mark.parametrize("loss", [*RANKING, None])
def test_recorded_scores_give_the_live_teachers_gradient(arguments, loss, tmp_path):
    rows = candidates()
    collator = DataCollatorWithPadding(tiny_tokenizer())
    labeled = label_transfer_set(rows, teacher(), collator, tmp_path / "labeled", dtype="float32", disable_tqdm=True)
    assert len(labeled[0]["teacher_logits"]) == 1
    recorded, gradient = train(arguments, loss, rows=labeled, with_teacher=False, max_steps=2)
    live, expected = train(arguments, loss, max_steps=2)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parameters_of(recorded.model), parameters_of(live.model), rtol=1e-4, atol=1e-5)


def scores_by_query(model, rows):
    scores = {}
    for row in rows:
        with torch.no_grad():
            score = float(model.eval()(torch.tensor([row["input_ids"]])).logits)
        scores.setdefault(row["query_id"], []).append((score, row["labels"]))
    return scores


def test_an_evaluation_compares_all_candidates_of_a_query_and_ranks_them(arguments):
    """Also in batches of 3 rows, in which no query is whole."""
    rows = candidates()
    trainer = make_trainer(
        arguments, "margin_mse", per_device_eval_batch_size=3,
        trainer=dict(eval_dataset=rows, compute_metrics=ranking_metric(rows["query_id"])),
    )  # fmt: skip
    ours, theirs = scores_by_query(trainer.model, rows), scores_by_query(trainer.teacher.model, rows)
    errors = [
        ((ours[query][i][0] - ours[query][j][0]) - (theirs[query][i][0] - theirs[query][j][0])) ** 2
        for query in ours
        for i, j in itertools.combinations(range(len(ours[query])), 2)
    ]
    metrics = trainer.evaluate()
    assert metrics["eval_soft_label_loss"] == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    assert metrics["eval_loss"] == metrics["eval_soft_label_loss"]
    first = [1 + sum(s > max(s for s, label in found if label) for s, _ in found) for found in ours.values()]
    assert metrics["eval_mrr"] == pytest.approx(sum(1 / rank for rank in first) / len(first))
    assert 0 < metrics["eval_ndcg@10"] <= 1
    assert trainer.evaluate()["eval_loss"] == metrics["eval_loss"]  # nothing is left of the first one


def test_rows_are_grouped_for_labels_alone_too(arguments):
    trainer = make_trainer(arguments, None, with_teacher=False, batch_size=8)
    ids = trainer.train_dataset["query_id"][:]
    for batch in trainer.get_train_dataloader().batch_sampler:
        assert all(ids.count(ids[row]) == sum(ids[other] == ids[row] for other in batch) for row in batch)
    trainer.train()
    assert trainer.state.global_step == 10  # of 2 queries each


def test_a_resumed_run_has_the_batches_of_the_whole_one(arguments):
    whole, _ = train(arguments, "listwise_kl", batch_size=8, save_strategy="steps", save_steps=3, max_steps=7)
    weights = parameters_of(whole.model)
    resumed = make_trainer(arguments, "listwise_kl", batch_size=8, save_strategy="steps", save_steps=3, max_steps=7)
    resumed.train(resume_from_checkpoint=f"{resumed.args.output_dir}/checkpoint-3")
    torch.testing.assert_close(parameters_of(resumed.model), weights, rtol=1e-5, atol=1e-7)


def without(column):
    return lambda rows: rows.remove_columns(column)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (without("query_id"), {}, r"got 'query_id' and the columns \['input_ids'"),
        (None, dict(batch_size=3), r"has 4: set per_device_train_batch_size to at least 4, got 3"),
        (lambda rows: rows.select(range(12)), {}, r"queries have one candidate, the first that of row \d+: margin_mse"),
        (lambda rows: rows.select([]), {}, "train_dataset holds 0 examples"),
        (None, dict(query_column=None), "pass query_column, .* got None"),
        (None, dict(train_sampling_strategy="sequential"), "leave train_sampling_strategy at 'random', got 'sequential'"),
        (None, dict(dataloader_drop_last=True, batch_size=64), "nothing would be trained"),
        (None, dict(trainer=dict(data_collator=lambda rows: {"input_ids": torch.ones(len(rows), 3).long()})),
         r"query_column 'query_id' names, but the batch has \['input_ids'\]"),
        (None, dict(trainer=dict(eval_dataset=candidates().remove_columns("query_id"))), "got 'query_id' and the columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused_before_training(arguments, change, options, message):
    rows = candidates() if change is None else change(candidates())
    with pytest.raises(ValueError, match=message):
        make_trainer(arguments, "margin_mse", rows, **options)


def test_a_head_of_several_outputs_is_refused(arguments):
    rows, two = candidates().remove_columns("labels"), dict(num_labels=2, problem_type="regression")
    with pytest.raises(ValueError, match=r"'margin_mse' compares one score per row, .* has num_labels 2"):
        DistillationTrainer(
            tiny_bert(**two), arguments(soft_label_loss="margin_mse", query_column="query_id"),
            train_dataset=rows, processing_class=tiny_tokenizer(), teacher_model=tiny_bert(seed=1, **two),
        )  # fmt: skip


def test_a_divergence_between_classes_is_refused_with_the_losses_that_there_are(arguments):
    with pytest.raises(ValueError, match="use 'logit_mse', for rerankers 'margin_mse' or 'listwise_kl'"):
        make_trainer(arguments, "forward_kl")
