"""Recipes that look inside the models, on every architecture the library speaks of."""

import datasets
import pytest
import torch
from transformers import default_data_collator

from hf_distill import DistillationTrainer
from tests.tiny_architectures import tiny_batch, tiny_model
from tests.tiny_models import parameters_of

TEXT = ["bert", "roberta", "electra", "distilbert", "modernbert", "albert", "llama"]
INSIDE = dict(recipe="tinybert_task", relation_weight=1.0)  # hidden states, embeddings, attention, relations


def trainer_for(arguments, student, teacher, **overrides):
    architecture = student.config.model_type
    rows = [tiny_batch(architecture) | {"labels": torch.tensor([0, 1])}] * 4
    columns = {name: torch.cat([row[name] for row in rows]).tolist() for name in rows[0]}
    return DistillationTrainer(
        student,
        arguments(**dict(max_steps=6, learning_rate=5e-3, logging_steps=1, length_bucketing=False) | overrides),
        data_collator=default_data_collator,
        train_dataset=datasets.Dataset.from_dict(columns),
        teacher_model=teacher,
    )


def classifier(architecture, seed, **config):
    head = "ImageClassification" if architecture == "vit" else "SequenceClassification"
    config |= {"pad_token_id": 0} if architecture == "llama" else {}
    return tiny_model(architecture, head, seed, **config)


def weights_after(arguments, architecture, **overrides):
    trainer = trainer_for(arguments, classifier(architecture, 0), classifier(architecture, 1), **INSIDE | overrides)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    return parameters_of(trainer.model)


@pytest.mark.parametrize("architecture", [*TEXT, "vit"])
def test_architecture_learns_from_inside_its_teacher(arguments, architecture):
    weights = weights_after(arguments, architecture)
    if architecture == "albert":  # transformers does not checkpoint it
        return
    checkpointed = dict(activation_checkpointing=True, activation_checkpointing_kwargs={"use_reentrant": False})
    torch.testing.assert_close(weights_after(arguments, architecture, **checkpointed), weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "vit"])
def test_a_compiled_student_learns_the_same(arguments, architecture):
    torch.compiler.reset()
    compiled = weights_after(arguments, architecture, torch_compile=True, torch_compile_backend="eager")
    torch.testing.assert_close(compiled, weights_after(arguments, architecture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "teacher"), [("bert", "modernbert"), ("distilbert", "roberta"), ("electra", "bert"), ("bert", "llama")]
)
def test_another_architecture_teaches(arguments, student, teacher):
    trainer = trainer_for(arguments, classifier(student, 0), classifier(teacher, 1), **INSIDE)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]


def test_disentangled_attention_teaches_by_logits_and_hidden_states_only(arguments):
    trainer_for(arguments, classifier("bert", 0), classifier("deberta-v2", 1), recipe="patient_kd").train()
    with pytest.raises(ValueError, match=r"DebertaV2ForSequenceClassification handed over no queries, keys and values"):
        trainer_for(arguments, classifier("bert", 0), classifier("deberta-v2", 1), recipe="minilmv2")


def test_relation_heads_must_divide_shared_keys_too(arguments):
    student, teacher = classifier("bert", 0), classifier("llama", 1, num_key_value_heads=1)
    with pytest.raises(
        ValueError, match=r"16 relation heads do not divide the teacher's .* \[8, 16\] wide.*\[1, 2, 4, 8\]"
    ):
        trainer_for(arguments, student, teacher, recipe="minilmv2", relation_heads=16)


def test_data_that_are_not_for_the_teacher_are_refused(arguments):
    with pytest.raises(
        ValueError, match=r"teacher needs \['pixel_values'\], the model inputs are \['attention_mask', "
    ):
        trainer_for(arguments, classifier("bert", 0), classifier("vit", 1))


def test_a_collator_that_drops_what_the_teacher_reads_is_refused(arguments):
    def drop_mask(examples):
        batch = default_data_collator(examples)
        return {name: value for name, value in batch.items() if name != "attention_mask"}

    trainer = trainer_for(arguments, classifier("bert", 0), classifier("bert", 1))
    with pytest.raises(
        ValueError, match=r"drops \['attention_mask'\], which the teacher reads: it makes \['input_ids', "
    ):
        DistillationTrainer(
            classifier("bert", 0), arguments(), drop_mask, trainer.train_dataset, teacher_model=classifier("bert", 1)
        )
