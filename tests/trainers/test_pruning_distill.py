"""HomoDistil: a student that begins as its teacher and really gets smaller."""

import copy
import dataclasses
import gc
from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, TrainerCallback, ViTConfig, ViTForImageClassification

from hf_distill import PruningDistillTrainer, PruningDistillTrainingArguments
from hf_distill.compute.flops import batch_flops, score_cost
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from tests.tiny_architectures import tiny_model
from tests.tiny_models import encoded_sentences, named_as_here, parameters_of, tiny_bert, tiny_tokenizer


def teacher_of(seed=1):
    return tiny_bert(hidden_size=32, layers=2, seed=seed)


@pytest.fixture
def shrinking(tmp_path):
    """Makes a trainer; keywords are arguments."""

    def make(model=None, teacher=None, callbacks=None, **overrides):
        defaults = dict(
            output_dir=str(tmp_path / "output"), recipe="homodistil", target_hidden_size=16, report_to="none",
            disable_tqdm=True, use_cpu=True, bf16=False, learning_rate=1e-3, per_device_train_batch_size=8, max_steps=12,
            save_steps=2, logging_steps=1, pruning_events=4,
        )  # fmt: skip
        return PruningDistillTrainer(
            model,
            PruningDistillTrainingArguments(**named_as_here(defaults | overrides)),
            teacher_model=teacher_of() if teacher is None else teacher,
            train_dataset=encoded_sentences(29),
            eval_dataset=encoded_sentences(11),
            processing_class=tiny_tokenizer(),
            callbacks=callbacks,
        )

    return make


def step_flops(student, teacher, length):
    """Both models' passes over 29 sequences, with the scores of both layers that are compared."""
    passes = (batch_flops(student, [length] * 29, "sequence_classification", backward=True).computed,
              batch_flops(teacher, [length] * 29, "sequence_classification").computed)  # fmt: skip
    scores = 2 * (3 * score_cost(student.hidden_size).of(29, length) + score_cost(teacher.hidden_size).of(29, length))
    return sum(passes) + scores


def widths(trainer):
    return [entry["hidden_size"] for entry in trainer.state.log_history if "hidden_size" in entry]


def test_the_student_shrinks_to_its_target_and_learns_on_the_way(shrinking, tmp_path):
    trainer = shrinking(max_steps=40, learning_rate=5e-3, pruning_start=0.1)
    assert torch.equal(parameters_of(trainer.model), parameters_of(teacher_of()))  # it begins as its teacher
    begin = trainer.evaluate()
    compared = [begin[f"eval_{name}_loss"] for name in ("hidden_state", "attention", "soft_label")]
    assert compared == pytest.approx([0, 0, 0], abs=1e-6)
    trainer.train()
    seen = widths(trainer)
    assert seen[0] == 32 and seen[-1] == 16 and sorted(seen, reverse=True) == seen and len(set(seen)) >= 4
    config = trainer.model.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 2, 32)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    after = seen.index(16) + 1
    assert min(losses[after:]) < losses[after - 1]
    trainer.save_model(tmp_path / "student")
    student, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    batch = dict(input_ids=torch.tensor([[5, 6, 7, 8]]), attention_mask=torch.ones(1, 4, dtype=torch.long))
    assert torch.equal(parameters_of(student), parameters_of(trainer.model))
    torch.testing.assert_close(student.eval()(**batch).logits, trainer.model.eval()(**batch).logits)


def test_every_pruning_event_is_logged_unless_nothing_is(shrinking):
    trainer = shrinking(logging_steps=100)
    trainer.train()
    seen = widths(trainer)
    assert len(set(seen)) >= 3 and seen[-1] == 16 and seen == sorted(seen, reverse=True)
    trainer = shrinking(logging_strategy="no")
    trainer.train()
    assert widths(trainer) == [] and trainer.model.config.hidden_size == 16


def test_the_record_and_the_card_show_how_it_shrank(shrinking, tmp_path):
    trainer = shrinking(length_bucketing=False, per_device_train_batch_size=29)
    trainer.train()
    progress = RunRecord.load(tmp_path / "output").progress
    assert [entry["step"] for entry in progress] == list(range(1, 13))
    assert [entry["hidden_size"] for entry in progress] == widths(trainer) and progress[-1]["step_ms"] > 0
    length = max(len(row) for row in encoded_sentences(29)["input_ids"])
    first, last = (
        teacher_of().config,
        trainer.model.config,
    )  # importance is looked at until the student has its last size
    before, after = (step_flops(config, trainer.teacher.model.config, length) for config in (first, last))
    assert progress[0]["step_gflops"] == pytest.approx((before + 3 * teacher_of().num_parameters()) / 1e9)
    assert progress[-1]["step_gflops"] == pytest.approx(after / 1e9)
    spent = trainer.cost()
    gflops = sum(entry["step_gflops"] for entry in progress)
    assert spent["flops"] == pytest.approx(1e9 * gflops, rel=1e-3) and spent["pruning_flops"] > 0
    text = write_model_card(tmp_path / "output").read_text(encoding="utf-8")
    assert "It shrank while it was trained, to a hidden size of 16:" in text
    assert "](shrinking.png)" in text and (tmp_path / "output" / "shrinking.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    "overrides",
    [
        dict(per_device_train_batch_size=2, gradient_accumulation_steps=4),
        dict(activation_checkpointing=True),
        dict(torch_compile=True, torch_compile_backend="eager"),
    ],
    ids=["accumulation", "checkpointing", "compiled"],
)
def test_it_shrinks_the_same_in_every_kind_of_run(shrinking, overrides):
    short = dict(optim="sgd", max_steps=5, pruning_events=2)
    usual, other = shrinking(**short), shrinking(**short, **overrides)
    gc.disable()  # what is left of a step's graph stays until the student shrinks
    try:
        for trainer in (usual, other):
            trainer.train()
    finally:
        gc.enable()
    assert widths(other) == widths(usual) and widths(usual)[-1] == 16
    torch.testing.assert_close(parameters_of(other.model), parameters_of(usual.model), rtol=1e-4, atol=1e-5)


def test_it_shrinks_in_bfloat16(shrinking):
    trainer = shrinking(bf16=True)
    trainer.train()
    assert widths(trainer)[-1] == 16 and parameters_of(trainer.model).isfinite().all()


def test_hidden_states_are_compared_in_the_dimensions_that_are_left(shrinking):
    trainer = shrinking(learning_rate=0.0, pruning_events=1, max_steps=3, pruning_start=0.4, pruning_end=0.5)
    trainer.train()
    kept = trainer.shrinking.kept_hidden
    assert len(kept) == 16 and kept == sorted(set(kept)) and kept[-1] < 32
    words, teacher = trainer.model.get_input_embeddings().weight, teacher_of().get_input_embeddings().weight
    assert torch.equal(words, teacher[:, kept])


def test_every_checkpoint_on_the_way_is_a_stock_model(shrinking, tmp_path):
    shrinking(max_steps=8, save_steps=1, pruning_start=0.25).train()
    folders = sorted((tmp_path / "output").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    models = [AutoModelForSequenceClassification.from_pretrained(folder) for folder in folders]
    sizes = [model.num_parameters() for model in models]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 2
    files = [(folder / "model.safetensors").stat().st_size for folder in folders]
    assert files == sorted(files, reverse=True)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("step", [2, 4, 6, 8, 10])
@pytest.mark.parametrize("optim", ["adamw_torch", "sgd"])
def test_stopped_at_any_width_and_resumed_equals_undisturbed(shrinking, step, optim):
    whole = shrinking(optim=optim)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        shrinking(optim=optim, callbacks=[StopAt(step)]).train()
    resumed = shrinking(optim=optim)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    assert widths(resumed) == widths(whole)


@pytest.mark.parametrize("importance", ["sensitivity", "taylor", "magnitude", "random"])
@pytest.mark.parametrize("shape", ["linear", "one_shot"])
def test_criteria_and_schedules(shrinking, importance, shape):
    trainer = shrinking(importance=importance, shrinking=shape, gradient_accumulation_steps=2)
    trainer.train()
    assert trainer.model.config.hidden_size == 16 and trainer.shrinking.done == (1 if shape == "one_shot" else 4)


def test_units_without_effect_go_first(shrinking):
    teacher = teacher_of()
    with torch.no_grad():
        for layer in teacher.bert.encoder.layer:
            layer.output.dense.weight[:, 10:] = 0  # neurons that reach nothing
    trainer = shrinking(
        teacher=teacher, target_hidden_size=None, target_intermediate_size=10, learning_rate=0.0, pruning_events=1,
        recipe="pre_trained_distillation", hard_label_weight=1.0,
    )  # fmt: skip
    expected = trainer.evaluate()["eval_hard_label_loss"]
    trainer.train()
    assert trainer.model.config.intermediate_size == 10
    assert trainer.evaluate()["eval_hard_label_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "overrides", "first"),
    [
        (100, {}, 10),
        (8, dict(shrinking="one_shot"), 2),
        (3, dict(pruning_events=2), 1),
        (1, dict(shrinking="one_shot"), 1),
        (100, dict(pruning_start=0.0), 1),
    ],
)
def test_the_first_event_comes_when_the_student_has_left_its_teacher(shrinking, steps, overrides, first):
    trainer = shrinking(max_steps=100, **overrides)
    assert trainer.shrinking.events(steps)[0] == first


def taught_images(tmp_path, seed=0, dropout=0.0, **overrides):
    """A shrinking student of images without labels."""
    torch.manual_seed(seed)
    config = ViTConfig(
        image_size=8, patch_size=4, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        num_channels=1, num_labels=3, hidden_dropout_prob=dropout,
    )  # fmt: skip
    defaults = dict(
        output_dir=str(tmp_path / "output"), recipe="tinybert_general", shrinking="one_shot", target_hidden_size=16,
        max_steps=8, report_to="none", save_strategy="no", use_cpu=True, bf16=False, disable_tqdm=True, seed=seed,
    )  # fmt: skip
    images = [dict(pixel_values=torch.randn(1, 8, 8).tolist()) for _ in range(64)]
    return PruningDistillTrainer(
        None,
        PruningDistillTrainingArguments(**named_as_here(defaults | overrides)),
        teacher_model=ViTForImageClassification(config),
        train_dataset=Dataset.from_list(images).with_format("torch"),
    )


@pytest.mark.parametrize("shape", ["one_shot", "cubic"])
@pytest.mark.parametrize("importance", ["sensitivity", "taylor"])
def test_a_student_that_equals_its_teacher_is_not_judged_by_gradients(tmp_path, shape, importance):
    trainer = taught_images(tmp_path, shrinking=shape, importance=importance, pruning_events=4)
    with pytest.raises(
        ValueError, match=rf"cannot shrink by {importance}: .* about 0.*hard_label_weight above 0.*'magnitude'"
    ):
        trainer.train()


def test_rounding_errors_are_no_importance(shrinking, tmp_path):
    trainer = taught_images(tmp_path, optim="sgd", learning_rate=1e-5)
    asked = trainer.teacher.outputs

    def rounded(inputs):
        answer = asked(inputs)
        states = {index: state * (1 + 1e-7) for index, state in answer.hidden_states.items()}
        return dataclasses.replace(answer, hidden_states=states)

    trainer.teacher.outputs = rounded
    with pytest.raises(ValueError, match="gradients, which are all about 0"):
        trainer.train()


@pytest.mark.parametrize("overrides", [dict(dropout=0.1), dict(importance="magnitude")])
def test_units_stay_for_their_worth_and_not_for_their_place(tmp_path, overrides):
    kept = []
    for seed in range(3):
        trainer = taught_images(tmp_path, seed, **overrides)
        trainer.train()
        kept.append(trainer.shrinking.kept_hidden)
    assert kept[0] != kept[1] != kept[2] and all(each[-1] - each[0] > 15 for each in kept)


def test_gradients_that_overflow_do_not_count(shrinking):
    trainer = shrinking()
    student = trainer.shrinking
    for parameter in trainer.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    student.note_gradients(0)
    expected = {unit: values.clone() for unit, values in student.scores.items()}
    next(trainer.model.parameters()).grad[0] = float("inf")
    student.note_gradients(1)
    assert all(torch.equal(student.scores[unit], values) for unit, values in expected.items())


@pytest.mark.parametrize(("start", "label_weight", "warns"), [(0.0, 0.0, True), (0.0, 1.0, False), (0.1, 0.0, False)])
def test_a_start_at_the_first_step_without_labels_is_warned_of(shrinking, caplog, start, label_weight, warns):
    trainer = shrinking(pruning_start=start, hard_label_weight=label_weight)
    with pytest.raises(ValueError, match="about 0") if warns else nullcontext():
        trainer.train()
    assert ("first shrinks after step 1" in caplog.text) is warns


def test_heads_and_neurons_can_shrink_alone(shrinking):
    trainer = shrinking(
        target_hidden_size=16, target_num_attention_heads=1, target_intermediate_size=20, attention_weight=0.0,
        model=copy.deepcopy(teacher_of()),
    )  # fmt: skip
    trainer.train()
    config = trainer.model.config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (16, 1, 20)


def test_a_number_of_parameters_becomes_the_nearest_shape(shrinking):
    counts = {}
    for size in (14, 16, 18):
        trainer = shrinking(target_hidden_size=size, pruning_events=1, max_steps=2)
        trainer.train()
        counts[size] = trainer.model.num_parameters()
    between = (counts[16] + counts[18]) // 2
    for wanted, expected in ((counts[16], 16), (between - 20, 16), (between + 20, 18), (counts[14] + 1, 14)):
        trainer = shrinking(target_hidden_size=None, target_parameters=wanted, pruning_events=1, max_steps=2)
        assert (trainer.shrinking.target.hidden_size, trainer.shrinking.target.neurons) == (expected, 2 * expected)
    trainer.train()
    assert trainer.model.num_parameters() == counts[14]
    almost_all = shrinking(target_hidden_size=None, target_parameters=teacher_of().num_parameters() - 1)
    assert almost_all.shrinking.target.hidden_size == 30


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            dict(target_hidden_size=15),
            r"target_hidden_size 15 cannot be shared among 2 heads .* nearest that can are \[14, 16\]",
        ),
        (dict(target_hidden_size=64), r"the student has hidden_size 32 and cannot shrink to 64"),
        (dict(target_hidden_size=None), r"targets are the student's sizes.*nothing would shrink"),
        (dict(target_num_attention_heads=1), r"all 2 heads must stay, got target_num_attention_heads 1"),
        (dict(pruning_start=0.8), r"0 <= pruning_start < pruning_end <= 1 must hold, got 0.8 and 0.75"),
        (dict(pruning_events=50), r"50 events need as many steps from 1 to 9"),
        (dict(importance="size"), r"importance must be one of \['sensitivity'.* got 'size'"),
        (dict(importance_smoothing=1.0), r"importance_smoothing must be at least 0 and below 1, got 1.0"),
        (dict(target_intermediate_size=0), r"target_intermediate_size must be at least 1, got 0"),
        (
            dict(target_parameters=5000),
            r"target_parameters decides the width, so target_hidden_size and .* got \{'target_hidden_size': 16\}",
        ),
        (
            dict(target_parameters=10, target_hidden_size=None),
            r"target_parameters must be from [\d,]+ \(hidden size 2\) to below the student's [\d,]+, got 10",
        ),
        (dict(projection="always"), r"projection 'auto' or 'never', got .*'always'"),
    ],
)
def test_bad_input(shrinking, overrides, message):
    with pytest.raises(ValueError, match=message):
        shrinking(**overrides)


def test_students_of_another_shape_or_family_are_refused(shrinking):
    with pytest.raises(ValueError, match=r"a bert 16 wide, got bert 32 wide\. Start from a copy of the teacher"):
        shrinking(model=tiny_bert(hidden_size=16, layers=2), target_hidden_size=8, projection="auto")
    with pytest.raises(ValueError, match=r"the units of albert models"):
        shrinking(
            model=tiny_model("albert", "SequenceClassification"), teacher=tiny_model("albert", "SequenceClassification"),
            target_hidden_size=8,
        )  # fmt: skip
