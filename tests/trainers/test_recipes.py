"""Every recipe trains: exact under any partition, resumable, and nothing of it left in what is exported."""

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, BertForSequenceClassification

from hf_distill import DistillationTrainer
from hf_distill.features.projections import PROJECTIONS
from hf_distill.recipes import RECIPES
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

OF_HEADS = [name for name in RECIPES if name != "embedding"]  # which test_embeddings trains
WIDTH_DIFFERS = dict(hidden_size=32, layers=4, seed=1)


def trainer_for(arguments, recipe, student=None, teacher=None, **overrides):
    return DistillationTrainer(
        tiny_bert(layers=2) if student is None else student,
        arguments(recipe=recipe, **overrides),
        train_dataset=encoded_sentences(29),
        eval_dataset=encoded_sentences(11),
        processing_class=tiny_tokenizer(),
        teacher_model=tiny_bert(**WIDTH_DIFFERS) if teacher is None else teacher,
    )


@pytest.mark.parametrize("recipe", OF_HEADS)
def test_recipe_learns_and_says_its_terms(arguments, recipe):
    trainer = trainer_for(arguments, recipe, num_train_epochs=8, learning_rate=5e-3)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    names = [term.name for term in trainer.training_objective.terms]
    assert {f"eval_{name}_loss" for name in names} <= after.keys()
    assert after["eval_loss"] < 0.95 * before["eval_loss"]
    weighted = sum(term.weight * after[f"eval_{term.name}_loss"] for term in trainer.training_objective.terms)
    assert after["eval_loss"] == pytest.approx(weighted)
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all({f"{name}_loss" for name in names} <= entry.keys() for entry in steps)


@pytest.mark.parametrize("recipe", OF_HEADS)
def test_recipe_is_exact_under_accumulation(arguments, recipe):
    weights = []
    for batch_size, accumulation in ((8, 1), (2, 4)):
        trainer = trainer_for(
            arguments,
            recipe,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            optim="sgd",
            learning_rate=0.02,
            num_train_epochs=2,
        )
        trainer.train()
        weights.append(parameters_of(trainer.model))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)


def test_explicit_arguments_win_over_the_recipe(arguments):
    args = arguments(recipe="distilbert", temperature=3.0, hidden_state_weight=0.0)
    assert (args.temperature, args.hidden_state_weight, args.soft_label_weight) == (3.0, 0.0, 5.0)


def test_arguments_survive_their_own_json(arguments):
    args = arguments(recipe="tinybert_task", attention_weight=0.5)
    again = type(args)(
        **{name: args.to_dict()[name] for name in ("output_dir", "recipe", "attention_weight", "layer_map")}
    )
    assert again.attention_weight == 0.5 and again.embedding_weight == 1.0


def test_projections_resume_exactly_and_are_not_exported(arguments, tmp_path):
    options = dict(save_strategy="steps", save_steps=3, max_steps=6)
    whole = trainer_for(arguments, "tinybert_general", **options)
    first_maps = parameters_of(whole.model.get_submodule(PROJECTIONS)).clone()
    whole.train()
    assert not torch.equal(first_maps, parameters_of(whole.model.get_submodule(PROJECTIONS)))
    resumed = trainer_for(arguments, "tinybert_general", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-3"))
    assert torch.equal(parameters_of(whole.model), parameters_of(resumed.model))
    whole.save_model(tmp_path / "student")
    with safe_open(tmp_path / "student" / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if PROJECTIONS in name]  # noqa: SIM118 -- safe_open is no mapping
    student, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert student.config._attn_implementation == "sdpa"
    assert isinstance(student, BertForSequenceClassification)


def test_resume_without_the_projections_is_refused(arguments, tmp_path):
    trainer_for(arguments, "tinybert_general", save_strategy="steps", save_steps=2, max_steps=2).train()
    (tmp_path / "output" / "checkpoint-2" / "distillation_projections.safetensors").unlink()
    trainer = trainer_for(arguments, "tinybert_general", max_steps=4)
    with pytest.raises(FileNotFoundError, match=r"distillation_projections\.safetensors"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-2"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(recipe="bert_pkd"), r"recipe must be one of .*patient_kd.*, got 'bert_pkd'"),
        (dict(hidden_state_weight=1.0, layer_map="0:9"), r"names teacher layer 9; there are 0 to 3"),
        (dict(hidden_state_weight=1.0, projection="never"), r"hidden size is 16, the teacher's 32.*'never'"),
        (
            dict(relation_weight=1.0, relation_heads=3),
            r"3 relation heads do not divide the student's queries, keys and values, \[16\] wide",
        ),
        (dict(relation_weight=1.0, relations="queries,heads"), r"relations must be some of .*got 'queries,heads'"),
        (dict(soft_label_top_k=0), r"soft_label_top_k must be None or at least 1, got 0"),
        (dict(soft_label_top_k=1, soft_label_loss="reverse_kl"), r"works with forward_kl only, got .*reverse_kl"),
        (dict(attention_weight=-1.0), r"attention_weight must be .* at least 0 .*, got -1.0"),
    ],
)
def test_bad_input(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        trainer_for(arguments, overrides.pop("recipe", None), **overrides)


def test_different_numbers_of_heads_are_refused_for_attention_but_not_for_relations(arguments):
    teacher = tiny_bert(hidden_size=32, layers=2, seed=1)
    teacher = BertForSequenceClassification(
        type(teacher.config)(**(teacher.config.to_dict() | {"num_attention_heads": 4}))
    )
    with pytest.raises(ValueError, match=r"student has 2 heads and the teacher 4"):
        trainer_for(arguments, "tinybert_general", teacher=teacher)
    trainer_for(arguments, "minilmv2", teacher=teacher, max_steps=2).train()


def test_features_need_a_live_teacher(arguments, sentences):
    labeled = sentences.add_column("teacher_logits", [[0.0, 1.0]] * len(sentences))
    with pytest.raises(ValueError, match=r"two live transformers models"):
        DistillationTrainer(
            tiny_bert(), arguments(hidden_state_weight=1.0), train_dataset=labeled, processing_class=tiny_tokenizer()
        )


def test_the_model_is_its_ordinary_self_outside_training(arguments):
    trainer = trainer_for(arguments, "tinybert_task", max_steps=1)
    trainer.train()
    inputs = trainer._prepare_inputs(trainer.data_collator([encoded_sentences(2, labels=None)[0]]))
    assert trainer.model(**inputs).hidden_states is None
    assert trainer.predict(encoded_sentences(5)).predictions.shape == (5, 2)
