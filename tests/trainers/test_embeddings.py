"""Sentence encoders are distilled: from live teachers and recorded embeddings, exactly, resumably, and recorded."""

from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import AutoModel, TrainerCallback

from hf_distill import (
    DistillationTrainer,
    FrozenTeacher,
    SentenceEncoder,
    TeacherOutputs,
    create_student,
    encode_for_teacher,
    label_transfer_set,
    load_teacher_outputs,
)
from hf_distill.objectives.embeddings import similarity_kl
from hf_distill.pretrained.origin import initialization_of
from hf_distill.publishing.run_record import RunRecord
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


class StopAt(TrainerCallback):
    """Ends a training after a step, as an interruption does."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == self.step


def encoder(hidden_size=16, layers=1, seed=0, **config):
    return SentenceEncoder.from_model(tiny_bert(hidden_size, layers, seed, **config))


@pytest.fixture
def teacher():
    return encoder(32, 2, seed=1)


def train(args, student, teacher=None, rows=None, **options):
    rows = encoded_sentences(29, None) if rows is None else rows
    trainer = DistillationTrainer(
        student, args, train_dataset=rows, eval_dataset=rows, processing_class=tiny_tokenizer(), teacher_model=teacher,
        **options,
    )  # fmt: skip
    before = trainer.evaluate()
    trainer.train()
    return trainer, before, trainer.evaluate()


@pytest.mark.parametrize("width", [16, 32], ids=["projected", "equal widths"])
@pytest.mark.parametrize(
    "objective",
    [
        dict(recipe="embedding"),
        dict(),
        dict(soft_label_loss="logit_mse"),
        dict(soft_label_weight=0.0, similarity_weight=100.0, temperature=0.1),
        dict(hidden_state_weight=1.0, layer_map="final"),
    ],
    ids=["recipe", "cosine", "mse", "similarity", "hidden states too"],
)
def test_a_student_learns_the_embeddings(arguments, teacher, width, objective):
    trainer, before, after = train(arguments(num_train_epochs=6, **objective), encoder(width), teacher)
    assert after["eval_loss"] < 0.8 * before["eval_loss"]
    assert {f"eval_{term.name}_loss" for term in trainer.training_objective.terms} <= after.keys()
    assert ("eval_teacher_cosine" in after) == (width == 32)
    if width == 32 and objective.get("soft_label_weight") is None:
        assert after["eval_teacher_cosine"] > before["eval_teacher_cosine"]


def test_the_recipe_sets_both_terms(arguments, teacher):
    trainer = train(arguments(recipe="embedding", max_steps=1), encoder(), teacher)[0]
    terms = {term.name: (term.weight, dict(term.settings)) for term in trainer.training_objective.terms}
    assert terms == {"soft_label": (1.0, {"loss": "cosine"}), "similarity": (100.0, {"temperature": 0.05})}
    record = RunRecord.load(trainer.args.output_dir)
    assert record.student["architecture"] == "BertModel" and record.metrics["eval_similarity_loss"] > 0
    trainer.create_model_card()
    card = Path(trainer.args.output_dir, "README.md").read_text(encoding="utf-8")
    assert "EmbedDistill" in card and "Hinton" not in card


def test_the_saved_student_is_a_stock_model_without_projection(arguments, teacher):
    trainer = train(arguments(), encoder(), teacher)[0]
    trainer.save_model()
    assert trainer.feature_hooks.projections.maps["sentence"].weight.shape == (32, 16)
    again, inputs = (
        SentenceEncoder.from_pretrained(trainer.args.output_dir).eval(),
        {"input_ids": torch.tensor([[5, 6]])},
    )
    with torch.no_grad():
        expected = trainer.model.eval()(**inputs).logits
        torch.testing.assert_close(again(**inputs).logits, expected)
    _, report = AutoModel.from_pretrained(trainer.args.output_dir, output_loading_info=True)
    assert not report["unexpected_keys"]


@pytest.mark.parametrize("loss", ["cosine", "logit_mse"])
def test_losses_of_single_texts_are_exact_under_accumulation(arguments, teacher, loss):
    weights = []
    for batch_size, accumulation in ((8, 1), (2, 4), (1, 8)):
        args = arguments(
            per_device_train_batch_size=batch_size, gradient_accumulation_steps=accumulation, num_train_epochs=2,
            soft_label_loss=loss, optim="sgd", learning_rate=0.05,
        )  # fmt: skip
        weights.append(parameters_of(train(args, encoder(), teacher)[0].model))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights[0], weights[2], rtol=1e-4, atol=1e-5)


def test_similarities_are_of_a_micro_batch_weighted_by_its_texts(arguments, teacher):
    rows = encoded_sentences(7, None)  # micro-batches of 4 and 3 texts
    args = arguments(
        per_device_train_batch_size=4, gradient_accumulation_steps=2, max_steps=1, soft_label_weight=0.0,
        similarity_weight=100.0, temperature=0.1, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant",
        max_grad_norm=0.0, length_bucketing=False, train_sampling_strategy="sequential",
    )  # fmt: skip
    start = encoder()
    expected = encoder()
    loss = 0
    for part in (rows.select(range(4)), rows.select(range(4, 7))):
        batch = tiny_tokenizer().pad(part[:], return_tensors="pt")
        values = similarity_kl(expected(**batch).logits, teacher.eval()(**batch).logits.detach(), 0.1)
        loss = loss + 100 * values.sum() / 7
    loss.backward()
    with torch.no_grad():
        for parameter in expected.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    trainer = DistillationTrainer(
        start, args, train_dataset=rows, processing_class=tiny_tokenizer(), teacher_model=teacher
    )
    trainer.train()
    torch.testing.assert_close(parameters_of(trainer.model), parameters_of(expected), rtol=1e-4, atol=1e-6)


def recorded(rows, teacher, kind, folder):
    if kind == "labeled":
        return label_transfer_set(rows, teacher, tiny_tokenizer(), disable_tqdm=True)
    if kind == "from a folder":
        label_transfer_set(rows, teacher, tiny_tokenizer(), folder, disable_tqdm=True)
        return load_teacher_outputs(folder)
    frozen = FrozenTeacher(teacher)
    batch = tiny_tokenizer().pad(rows[:], return_tensors="pt")
    return rows.add_column("teacher_logits", list(np.asarray(frozen.outputs(dict(batch)).logits)))


@pytest.mark.parametrize("kind", ["labeled", "from a folder", "a column of numbers"])
def test_recorded_embeddings_give_the_training_of_the_live_teacher(arguments, teacher, tmp_path, kind):
    rows, options = encoded_sentences(29, None), dict(recipe="embedding", optim="sgd", learning_rate=0.05)
    live = train(arguments(**options), encoder(), teacher, rows)[0]
    labeled = recorded(rows, teacher, kind, tmp_path / "labeled")
    assert len(labeled[0]["teacher_logits"]) == 32
    offline = train(arguments(**options), encoder(), None, labeled)[0]
    torch.testing.assert_close(parameters_of(offline.model), parameters_of(live.model), rtol=1e-4, atol=1e-5)


def test_a_teacher_with_another_tokenizer(arguments):
    sentences = encoded_sentences(21, None)
    texts = [" ".join(f"w{token}" for token in row) for row in sentences["input_ids"]]
    other = tiny_tokenizer(shift=7)
    rows = datasets.Dataset.from_dict({"text": texts}).map(
        lambda rows: dict(tiny_tokenizer()(rows["text"])), batched=True
    )
    rows = encode_for_teacher(rows, other, "text", max_length=30)
    teacher = encoder(32, 2, seed=1, vocab_size=110)
    args = arguments(recipe="embedding", num_train_epochs=4)
    _, before, after = train(args, encoder(), teacher, rows, teacher_processing_class=other)
    assert after["eval_loss"] < before["eval_loss"]


class Anything:
    """An embedder that is no transformers model, of a width of its own."""

    def outputs(self, inputs):
        counts = torch.nn.functional.one_hot(inputs["input_ids"], 100).sum(dim=1).float()
        return TeacherOutputs(counts[:, 4:28])


def test_any_object_that_embeds_is_a_teacher(arguments):
    trainer, before, after = train(arguments(recipe="embedding", num_train_epochs=6), encoder(), Anything())
    assert trainer.feature_hooks.projections.maps["sentence"].weight.shape == (24, 16)
    assert after["eval_loss"] < before["eval_loss"]


def test_a_folder_is_a_teacher(arguments, teacher, tmp_path):
    teacher.save_pretrained(tmp_path / "teacher")
    trainer = train(arguments(max_steps=2), encoder(), str(tmp_path / "teacher"))[0]
    assert isinstance(trainer.teacher.model, SentenceEncoder)


def test_a_resumed_run_is_the_uninterrupted_one(arguments, teacher, tmp_path):
    options = dict(recipe="embedding", num_train_epochs=2, save_strategy="steps", save_steps=5)
    whole = train(arguments(**options, output_dir=str(tmp_path / "whole")), encoder(), teacher)[0]
    half = arguments(**options, output_dir=str(tmp_path / "half"))
    stopped = DistillationTrainer(
        encoder(), half, train_dataset=encoded_sentences(29, None), processing_class=tiny_tokenizer(),
        teacher_model=teacher, callbacks=[StopAt(7)],
    )  # fmt: skip
    stopped.train()
    again = DistillationTrainer(
        encoder(),
        half,
        train_dataset=encoded_sentences(29, None),
        processing_class=tiny_tokenizer(),
        teacher_model=teacher,
    )
    again.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-5"))
    torch.testing.assert_close(parameters_of(again.model), parameters_of(whole.model), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (encoder, dict(hard_label_weight=1.0), "learns from a teacher's embeddings, not from labels"),
        (encoder, dict(soft_label_loss="forward_kl"), "student is a sentence encoder; use 'cosine' or 'logit_mse'"),
        (encoder, dict(projection="never"), "hidden size is 16, the teacher's 32, and projection is 'never'"),
        (tiny_bert, dict(soft_label_loss="cosine"), "compares the embeddings of sentence encoders"),
        (tiny_bert, dict(similarity_weight=1.0), "similarity_weight is 1.0, .* 'sequence_classification'"),
        (tiny_bert, dict(recipe="embedding"), "sentence encoders"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, teacher, make, options, message):
    other = teacher if make is encoder else tiny_bert(32, 2, seed=1)
    with pytest.raises(ValueError, match=message):
        DistillationTrainer(
            make(), arguments(**options), train_dataset=encoded_sentences(8, None), processing_class=tiny_tokenizer(),
            teacher_model=other,
        )  # fmt: skip


def test_a_base_model_is_refused_with_the_way_out(arguments, teacher):
    with pytest.raises(ValueError, match=r"with hf_distill\.SentenceEncoder for embeddings"):
        DistillationTrainer(
            tiny_bert().bert, arguments(), train_dataset=encoded_sentences(8, None), teacher_model=teacher
        )


def test_several_teachers_are_refused(arguments, teacher):
    with pytest.raises(ValueError, match="several teachers are averaged for classification and regression"):
        train(arguments(), encoder(), [teacher, encoder(32, 2, seed=2)])


def test_a_teacher_in_bfloat16_must_give_the_same_embeddings(teacher, monkeypatch):
    monkeypatch.setattr("hf_distill.teachers.frozen.fast_bfloat16", lambda device: True)
    batch = dict(tiny_tokenizer().pad(encoded_sentences(8, None)[:], return_tensors="pt"))
    for limit, dtype in ((1e-1, torch.bfloat16), (0.0, torch.float32)):
        monkeypatch.setattr("hf_distill.teachers.frozen.AUTO_DTYPE_MAX_COSINE_DISTANCE", limit)
        frozen = FrozenTeacher(teacher)
        frozen.resolve_dtype(batch)
        assert frozen.dtype == dtype


def test_a_pretrained_shape_is_truncated(teacher):
    student = create_student("1/32", teacher, layers="uniform")
    assert initialization_of(student) == "truncated" and isinstance(student, SentenceEncoder)
