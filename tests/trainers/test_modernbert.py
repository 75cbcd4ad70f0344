"""ModernBERT, and Ettin, which is one, with a tokenizer of bytes: every recipe, all trainers, checkpoints and ONNX."""

import functools

import datasets
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_distill import (
    DistillationTrainer,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
    create_student,
    export_student,
)
from hf_distill.pruning import trim_vocabulary
from hf_distill.recipes import RECIPES
from tests.tiny_architectures import tiny_model
from tests.tiny_models import parameters_of
from tests.tiny_tokenizers import random_texts, tiny_tokenizer

TEXTS = random_texts(24, seed=3, words=14)  # longer than the window of local attention, and of different lengths
NAMES = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@functools.cache
def tokenizer():
    return tiny_tokenizer("BPE of bytes")


def modernbert(seed=0, **config):
    """With one global layer and two that see two tokens to each side."""
    padding = tokenizer().pad_token_id
    size = dict(vocab_size=len(tokenizer()), pad_token_id=padding, local_attention=4, max_position_embeddings=512)
    return tiny_model("modernbert", "SequenceClassification", seed, **size | NAMES | config)


def rows(own_tokenizer=None):
    encoded = [(own_tokenizer or tokenizer())(text) for text in TEXTS]
    return datasets.Dataset.from_list([{**each, "labels": row % 2} for row, each in enumerate(encoded)])


def parts(teacher):
    return dict(train_dataset=rows(), processing_class=tokenizer(), teacher_model=teacher)


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def options(folder, **overrides):
    defaults = dict(
        output_dir=str(folder), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, learning_rate=5e-3,
        per_device_train_batch_size=8, max_steps=6, save_steps=3, logging_steps=1,
    )  # fmt: skip
    return defaults | overrides


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"embedding"}))  # which is for sentence encoders
def test_a_truncated_student_learns_with_every_recipe_and_attention_gives_the_same(recipe, arguments):
    """Of padded batches; in the middle layers attention is local, and the mask is that of both kinds."""

    def trained(attention):
        teacher = modernbert(1, attn_implementation=attention)
        student = create_student("2/16", teacher, "truncated", layers="uniform")
        student.set_attn_implementation(attention)
        with torch.no_grad():  # apart from its teacher
            words = student.model.embeddings.tok_embeddings.weight
            words.add_(0.3 * torch.randn(words.shape, generator=torch.Generator().manual_seed(0)))
        args = arguments(recipe=recipe, max_steps=5, learning_rate=1e-3, per_device_train_batch_size=len(TEXTS))
        trainer = DistillationTrainer(student, args, **parts(teacher))
        trainer.train()
        return trainer

    trainer = trained("sdpa")
    assert min(losses(trainer)[1:]) < losses(trainer)[0]
    torch.testing.assert_close(
        parameters_of(trained("eager").model), parameters_of(trainer.model), rtol=1e-3, atol=1e-4
    )


def test_another_process_resumes_it_saves_loads_and_exports_with_the_same_answers(arguments, tmp_path):
    teacher = modernbert(1)

    def trainer():
        student = create_student("2/16", teacher, "truncated")
        args = arguments(recipe="tinybert_task", max_steps=6, save_strategy="steps", save_steps=3)
        return DistillationTrainer(student, args, **parts(teacher))

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=f"{whole.args.output_dir}/checkpoint-3")
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    whole.save_model(tmp_path / "student")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    assert loaded.config.layer_types == ["full_attention", "sliding_attention"]
    batch = AutoTokenizer.from_pretrained(tmp_path / "student")(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, whole.model.eval()(**batch).logits)
    report = export_student(
        tmp_path / "student", tmp_path / "export", datasets.Dataset.from_dict({"text": TEXTS}), latency=None,
        formats=("onnx", "onnx-fp16", "onnx-int8"), batch_size=5,
    )  # fmt: skip
    assert report["rows"][1]["agreement"] == 1 and report["rows"][1]["largest_difference"] < 1e-5
    assert all(row["agreement"] > 0.8 for row in report["rows"][1:])


def test_teachers_checkpoints_teach_one_after_the_other(tmp_path):
    for step in (10, 20):
        modernbert(step).save_pretrained(tmp_path / "teacher" / f"checkpoint-{step}")
    args = ProgressiveTrainingArguments(
        **options(tmp_path / "out", teacher_checkpoints=[str(tmp_path / "teacher")], final_stage_steps=2)
    )
    student = create_student("2/16", modernbert(20), "truncated")
    trainer = ProgressiveTrainer(student, args, train_dataset=rows(), processing_class=tokenizer())
    trainer.train()
    taught = [entry.get("teacher_step") for entry in trainer.state.log_history if "stage" in entry and "loss" in entry]
    assert taught == [10, 10, 10, 20, 20, 20, None, None]


def shrinking(folder, **overrides):
    settings = dict(target_hidden_size=8, pruning_events=2, hard_label_weight=1.0) | overrides
    args = PruningDistillTrainingArguments(**options(folder, **settings))
    return PruningDistillTrainer(None, args, **parts(modernbert(1)))


def test_it_shrinks_by_whole_heads_and_resumes(tmp_path):
    settings = dict(recipe="homodistil", attention_weight=0.0)
    whole, resumed = shrinking(tmp_path, **settings), shrinking(tmp_path, **settings)
    whole.train()
    config = whole.model.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (8, 1, 16)
    resumed.train(resume_from_checkpoint=f"{tmp_path}/checkpoint-3")
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    whole.save_model(tmp_path / "student")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert torch.equal(parameters_of(loaded), parameters_of(whole.model))


def test_neurons_alone_shrink_with_every_term(tmp_path):
    settings = dict(recipe="homodistil", target_hidden_size=None, target_intermediate_size=10)
    trainer = shrinking(tmp_path, **settings)
    trainer.train()
    assert trainer.model.config.intermediate_size == 10 and trainer.model.config.hidden_size == 16


def test_a_number_of_parameters_is_reached_by_the_number_of_heads(tmp_path):
    total = modernbert(1).num_parameters()
    trainer = shrinking(tmp_path, target_hidden_size=None, target_parameters=total // 2)
    assert trainer.shrinking.target.hidden_size == 8 and trainer.shrinking.target.heads == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(target_hidden_size=12), r"heads of modernbert models cannot become narrower.* 8 dimensions .*\[8, 16\] keep"),
        (dict(target_num_attention_heads=2), r"heads of modernbert models cannot become narrower.*got 4\. Remove whole heads"),
        (dict(recipe="homodistil"), r"all 2 heads must stay, got target_num_attention_heads 1; set attention_weight to 0"),
        (
            dict(target_hidden_size=None, target_parameters=9000, target_num_attention_heads=1),
            r"target_parameters decides their number: leave target_num_attention_heads out, got 1",
        ),
    ],
)  # fmt: skip
def test_what_its_heads_do_not_allow_is_refused_before_training(overrides, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        shrinking(tmp_path, **overrides)


def test_with_fewer_layers_heads_and_tokens_it_still_learns(arguments):
    teacher = modernbert(1)
    narrow = create_student("2/8", teacher, "width")
    student, trimmed = trim_vocabulary(narrow, tokenizer(), TEXTS)
    assert (student.config.hidden_size, student.config.num_attention_heads) == (8, 1)
    assert student.config.vocab_size == len(trimmed) < len(tokenizer())
    args = arguments(max_steps=6, learning_rate=2e-3, per_device_train_batch_size=len(TEXTS))
    trainer = DistillationTrainer(
        student, args, train_dataset=rows(own_tokenizer=trimmed), processing_class=trimmed, teacher_model=None
    )
    trainer.train()
    assert losses(trainer)[-1] < losses(trainer)[0]
