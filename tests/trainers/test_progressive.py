"""Pro-KD: one checkpoint of the teacher after the other, then labels; in one run that may stop anywhere."""

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertForQuestionAnswering,
    DataCollatorWithPadding,
    RobertaConfig,
    RobertaForSequenceClassification,
    TrainerCallback,
)

from hf_distill import (
    FrozenTeacher,
    Objective,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    Stage,
    label_with_trajectory,
)
from hf_distill.files import FolderInUseError, folder_lock
from hf_distill.fingerprints import weights_sha256
from hf_distill.objectives.terms import soft_label_term
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.teachers.checkpoints import find_checkpoints
from hf_distill.teachers.trajectory import Trajectory
from hf_distill.trainers.progression import annealed_temperature
from tests.tiny_architectures import HEAD_OF, tiny_model
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

STEPS = (10, 20, 40)
ROWS = 29


def teacher_at(index):
    return tiny_bert(hidden_size=32, layers=2, seed=10 + index).eval()


@pytest.fixture
def checkpoints(tmp_path):
    folder = tmp_path / "teacher"
    for index, step in enumerate(STEPS):
        teacher_at(index).save_pretrained(folder / f"checkpoint-{step}")
    return str(folder)


@pytest.fixture
def progressive(tmp_path, checkpoints):
    """Makes a trainer; keywords are arguments."""

    def make(
        dataset=None,
        callbacks=None,
        compute_metrics=None,
        student=None,
        trainer=None,
        cls=ProgressiveTrainer,
        **overrides,
    ):
        defaults = dict(
            output_dir=str(tmp_path / "output"), teacher_checkpoints=[checkpoints], report_to="none", disable_tqdm=True,
            use_cpu=True, bf16=False, learning_rate=1e-2, per_device_train_batch_size=8, max_steps=9, save_steps=2,
            logging_steps=1, final_stage_steps=4, max_temperature=3,
            checkpoint_shares="equal",
        )  # fmt: skip
        return cls(
            tiny_bert() if student is None else student,
            ProgressiveTrainingArguments(**(defaults | overrides)),
            train_dataset=encoded_sentences(ROWS) if dataset is None else dataset,
            eval_dataset=encoded_sentences(11),
            processing_class=tiny_tokenizer(),
            callbacks=callbacks,
            compute_metrics=compute_metrics,
            **(trainer or {}),
        )

    return make


def logged(trainer, stage):
    return [entry for entry in trainer.state.log_history if "loss" in entry and entry["stage"] == stage]


def test_each_checkpoint_teaches_its_share_at_the_scale_that_is_due(progressive):
    trainer = progressive(per_device_train_batch_size=ROWS, learning_rate=0.0)
    trainer.train()
    general = logged(trainer, 1)
    assert [entry["teacher_step"] for entry in general] == [10] * 3 + [20] * 3 + [40] * 3
    assert [entry["logit_scale"] for entry in general] == pytest.approx([1 / 3] * 3 + [2 / 3] * 3 + [1] * 3)
    rows = encoded_sentences(ROWS)
    batch = tiny_tokenizer().pad(rows.remove_columns("labels").to_list(), return_tensors="pt")
    student = tiny_bert().eval()(**batch).logits
    for entry in general:
        teacher = teacher_at(STEPS.index(entry["teacher_step"]))(**batch).logits
        expected = (student - entry["logit_scale"] * teacher).square().mean()
        assert entry["loss"] == pytest.approx(float(expected), rel=1e-4)
    final = logged(trainer, 2)
    assert len(final) == 4 and all("teacher_step" not in entry for entry in final)
    expected = torch.nn.functional.cross_entropy(student, torch.tensor(rows["labels"][:]))
    assert final[0]["loss"] == pytest.approx(float(expected), rel=1e-4)


def test_answers_of_all_checkpoints_in_a_column_teach_as_the_checkpoints_do(progressive):
    rows, collator = encoded_sentences(ROWS), DataCollatorWithPadding(tiny_tokenizer())
    teachers = [FrozenTeacher(teacher_at(index)) for index in range(len(STEPS))]
    live, recorded = (
        progressive(dataset, optim="sgd", student=tiny_bert())
        for dataset in (rows, label_with_trajectory(rows, teachers, collator, disable_tqdm=True))
    )
    recorded.teacher.live.outputs = None  # no forward pass
    for trainer in (live, recorded):
        trainer.eval_dataset = None
        trainer.train()
    assert [entry["loss"] for entry in logged(recorded, 1)] == pytest.approx(
        [entry["loss"] for entry in logged(live, 1)], rel=1e-4
    )
    torch.testing.assert_close(parameters_of(recorded.model), parameters_of(live.model), rtol=1e-3, atol=1e-5)
    with pytest.raises(ValueError, match="outputs are from 2 checkpoints; teacher_checkpoints names 3"):
        progressive(label_with_trajectory(rows, teachers[:2], collator, disable_tqdm=True))


def test_answers_are_followed_at_the_positions_that_are_no_padding(progressive, tmp_path):
    def answering(seed, size):
        torch.manual_seed(seed)
        return BertForQuestionAnswering(tiny_bert(hidden_size=size, layers=1).config).eval()

    for seed, step in enumerate(STEPS, start=1):
        answering(seed, 32).save_pretrained(tmp_path / "qa" / f"checkpoint-{step}")
    rows = encoded_sentences(ROWS).remove_columns("labels")
    rows = rows.map(lambda row: {"start_positions": 0, "end_positions": len(row["input_ids"]) - 1})
    student = answering(0, 16)
    trainer = progressive(
        rows, student=copy.deepcopy(student), teacher_checkpoints=[str(tmp_path / "qa")], learning_rate=0.0,
        per_device_train_batch_size=ROWS, max_steps=3,
    )  # fmt: skip
    trainer.train()
    expected = []
    for row in rows:
        inputs = {name: torch.tensor([row[name]]) for name in ("input_ids", "attention_mask")}
        models = student, answering(1, 32)
        student_logits, teacher_logits = (torch.stack(list(model(**inputs).values())) for model in models)
        expected.append((student_logits - teacher_logits / 3).square().mean().item())
    assert logged(trainer, 1)[0]["loss"] == pytest.approx(sum(expected) / ROWS, rel=1e-4)


def test_an_optimizer_for_one_of_two_stages_is_refused(progressive):
    student = tiny_bert()
    own = {"optimizers": (torch.optim.SGD(student.parameters(), lr=0.1), None)}
    with pytest.raises(ValueError, match="final stage begins with new ones: pass optimizer_cls_and_kwargs"):
        progressive(student=student, trainer=own)
    progressive(student=student, trainer=own, final_stage_steps=0, final_stage_epochs=0).train()


class Halves(ProgressiveTrainer):
    """A schedule and a second stage of its own."""

    def temperature_at(self, step, total_steps):
        return 4.0 if step < total_steps / 2 else 1.0

    @property
    def training_objective(self):
        objective = super().training_objective
        if self.stage is Stage.GENERAL:
            return objective
        return Objective([*objective.terms, soft_label_term(0.5, "forward_kl", temperature=2.0)])


def test_a_schedule_and_a_final_stage_of_ones_own_are_followed_and_recorded(progressive, tmp_path):
    trainer = progressive(cls=Halves, general_stage_loss="forward_kl", max_temperature=4)
    trainer.train()
    assert [entry["temperature"] for entry in logged(trainer, 1)] == [4.0] * 5 + [1.0] * 4
    assert all(entry["soft_label_loss"] > 0 for entry in logged(trainer, 2))
    general, final = RunRecord.load(tmp_path / "output").stages
    assert general["training"]["temperatures"] == {"by": "Halves.temperature_at", "first": 4.0, "last": 1.0}
    assert [term["name"] for term in final["objective"]] == ["hard_label", "soft_label"]
    assert "temperatures" not in final["training"]


def test_divergence_at_a_falling_temperature(progressive):
    trainer = progressive(general_stage_loss="forward_kl", hidden_state_weight=0.5)
    trainer.train()
    general = logged(trainer, 1)
    assert [entry["temperature"] for entry in general] == [3.0] * 3 + [2.0] * 3 + [1.0] * 3
    assert {"soft_label_loss", "hidden_state_loss"} <= general[0].keys()  # any other term goes with it
    assert trainer.args.temperature == 1.0


@pytest.mark.parametrize(
    ("total", "most", "expected"),
    [
        (9, 3, [3, 3, 3, 2, 2, 2, 1, 1, 1]),
        (10, 10, list(range(10, 0, -1))),
        (5, 3, [3, 3, 2, 2, 1]),
        (4, 10, [10, 7, 4, 1]),
        (3, 10, [10, 6, 1]),
        (2, 10, [10, 1]),
        (1, 10, [1]),
        (4, 1, [1] * 4),
    ],
)
def test_the_temperature_falls_to_1_however_short_the_stage(total, most, expected):
    assert [annealed_temperature(step, total, most) for step in range(total)] == expected


def test_the_scale_reaches_1_in_a_short_stage(progressive):
    trainer = progressive(max_temperature=10)
    trainer.train()
    scales = [entry["logit_scale"] for entry in logged(trainer, 1)]
    assert len(scales) == 9 and scales == sorted(scales) and scales[-1] == 1.0


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ("late", [2, 2, 5]),
        ("equal", [3, 3, 3]),
        ("teacher_steps", [2, 2, 5]),
        ("1,1,7", [1, 1, 7]),
        ("100,1,1", [7, 1, 1]),
    ],
)
def test_shares_of_the_general_stage(progressive, shares, expected):
    trainer = progressive(checkpoint_shares=shares)
    trainer.train()
    seen = [entry["teacher_step"] for entry in logged(trainer, 1)]
    assert [seen.count(step) for step in STEPS] == expected


def test_a_single_checkpoint_teaches_alone(progressive, tmp_path):
    trainer = progressive(teacher_checkpoints=[str(tmp_path / "teacher" / "checkpoint-20")])
    trainer.train()
    assert [entry["teacher_step"] for entry in logged(trainer, 1)] == [20] * 9
    assert [entry["logit_scale"] for entry in logged(trainer, 1)] == pytest.approx([1 / 3] * 3 + [2 / 3] * 3 + [1] * 3)


class StopAt(TrainerCallback):
    """Ends a run after the save at a step of a stage."""

    def __init__(self, stage, step):
        self.where = (stage, step)

    def on_save(self, args, state, control, **kwargs):
        if (args.output_dir.rpartition("/")[2], state.global_step) == self.where:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "where", [("general_stage", 2), ("general_stage", 6), ("general_stage", 9), ("final_stage", 2), ("final_stage", 4)]
)
def test_stopped_anywhere_and_resumed_equals_undisturbed(progressive, where, tmp_path):
    whole = progressive()
    whole.train()
    expected, history = parameters_of(whole.model), whole.state.log_history
    with pytest.raises(KeyboardInterrupt):
        progressive(callbacks=[StopAt(*where)]).train()
    resumed = progressive()
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), expected)
    losses = [[entry["loss"] for entry in each if "loss" in entry] for each in (history, resumed.state.log_history)]
    assert losses[0] == losses[1]


def test_stopped_after_the_last_save_and_before_the_first_log(progressive):
    whole, resumed = progressive(logging_steps=500), progressive(logging_steps=500)
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        progressive(logging_steps=500, callbacks=[StopAt("general_stage", 9)]).train()
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))


def test_stopped_between_the_stages(progressive, tmp_path, monkeypatch):
    whole = progressive()
    whole.train()
    stopped = progressive()
    monkeypatch.setattr(stopped, "_train_final_stage", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stopped.train()
    resumed = progressive()
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))


def test_a_finished_run_without_a_final_stage_is_there_when_it_is_resumed(progressive):
    first, again = (progressive(final_stage_steps=-1, final_stage_epochs=0) for _ in range(2))
    first.train()
    output = again.train(resume_from_checkpoint=True)
    assert output.global_step == again.state.global_step == 9
    assert torch.equal(parameters_of(again.model), parameters_of(first.model))
    longer = progressive(final_stage_steps=-1, final_stage_epochs=0, max_steps=12)
    assert longer.train(resume_from_checkpoint=True).global_step == 12


@pytest.mark.parametrize("where", [("general_stage", 6), ("general_stage", 9), ("final_stage", 2)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "weights with sha256 is"),
        ({"max_steps": 8}, "max_steps is 9 there and 8 now"),
        ({"learning_rate": 1e-3}, "learning_rate is 0.01 there and 0.001 now"),
        ({"final_stage_steps": 6}, "final_stage_steps is 4 there and 6 now"),
    ],
    ids=["teacher", "length", "learning_rate", "final_stage"],
)
def test_another_run_is_not_continued_in_any_stage(progressive, checkpoints, where, change, message):
    with pytest.raises(KeyboardInterrupt):
        progressive(callbacks=[StopAt(*where)]).train()
    if change is None:  # another teacher with checkpoints of the same steps
        tiny_bert(hidden_size=32, layers=2, seed=99).save_pretrained(f"{checkpoints}/checkpoint-40")
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
        progressive(**(change or {})).train(resume_from_checkpoint=True)


def test_the_general_stage_is_not_made_longer_after_its_end(progressive, tmp_path):
    progressive().train()
    with pytest.raises(ValueError, match="max_steps is 9 there and 12 now"):
        progressive(max_steps=12).train(resume_from_checkpoint=True)


def test_the_final_stage_begins_from_the_best_of_the_general_stage(progressive, tmp_path):
    accuracies = iter([0.1, 0.9, 0.2, 0.3, *[0.5] * 9])
    trainer = progressive(
        eval_strategy="steps", eval_steps=2, metric_for_best_model="accuracy", final_stage_steps=1,
        final_stage_learning_rate=1e-30, compute_metrics=lambda _: {"accuracy": next(accuracies)},
    )  # fmt: skip
    trainer.train()
    folder = tmp_path / "output" / "general_stage"
    assert json.loads((folder / "finished.json").read_text())["best_checkpoint"].endswith("checkpoint-4")
    best = type(trainer.model).from_pretrained(folder / "checkpoint-4")
    torch.testing.assert_close(parameters_of(trainer.model), parameters_of(best), rtol=0, atol=1e-6)
    assert trainer.args.load_best_model_at_end is False and trainer.args.output_dir == str(tmp_path / "output")


@pytest.mark.parametrize(
    ("values", "arguments", "kept"),
    [
        ((0.8, 0.7), {}, "general_stage"),
        ((0.7, 0.8), {}, "final_stage"),
        ((0.7, 0.7), {}, "final_stage"),
        ((0.7, 0.8), {"metric_for_best_model": "accuracy", "greater_is_better": False}, "general_stage"),
        ((0.8, 0.7), {"metric_for_best_model": "eval_loss"}, None),
        ((0.8, 0.7), {"keep_better_stage": False}, None),
    ],
)
def test_the_better_student_of_the_two_stages_is_kept(progressive, tmp_path, values, arguments, kept):
    found = iter(values)
    trainer = progressive(compute_metrics=lambda _: {"accuracy": next(found)}, **arguments)
    trainer.train()
    general = type(trainer.model).from_pretrained(tmp_path / "output" / "general_stage")
    is_general = torch.equal(parameters_of(trainer.model), parameters_of(general))
    record = RunRecord.load(tmp_path / "output")
    if kept is None:
        assert not is_general and "kept_stage" not in record.training
        assert next(found) == values[0]  # nothing was evaluated in vain
        return
    assert is_general == (kept == "general_stage") and record.training["kept_stage"] == kept
    assert record.student["weights_sha256"] == weights_sha256(trainer.model)
    assert record.metrics["eval_accuracy"] == values[kept == "final_stage"]
    resumed = progressive(compute_metrics=lambda _: {"accuracy": values[1]}, **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(trainer.model))
    write_model_card(tmp_path / "output")
    sentence = f"The student is that of the {kept.replace('_', ' ')}"
    assert sentence in (tmp_path / "output" / "README.md").read_text()


def test_one_record_over_both_stages(progressive, tmp_path):
    trainer = progressive()
    trainer.train()
    metrics = trainer.evaluate()
    record = RunRecord.load(tmp_path / "output")
    assert [stage["name"] for stage in record.stages] == ["general_stage", "final_stage"]
    assert [stage["training"]["steps"] for stage in record.stages] == [9, 4]
    assert record.teacher["trajectory"] == list(STEPS) and record.trainer == "ProgressiveTrainer"
    assert record.metrics["eval_loss"] == pytest.approx(metrics["eval_loss"])
    assert "eval_teacher_agreement" in metrics


def test_without_a_final_stage_no_labels_are_needed(progressive):
    unlabeled = encoded_sentences(ROWS, labels=None)
    trainer = progressive(unlabeled, final_stage_steps=-1, final_stage_epochs=0)
    trainer.train()
    assert len(logged(trainer, 1)) == 9 and not logged(trainer, 2)
    with pytest.raises(ValueError, match=r"final stage learns from \['labels'\], but the training set has the columns"):
        progressive(unlabeled)


def test_adapters_of_one_base_teach_as_whole_models_do(progressive, tmp_path):
    peft = pytest.importorskip("peft")
    base = tiny_bert(hidden_size=32, layers=2, seed=1)
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"])
    for index, step in enumerate(STEPS):
        model = type(base).from_pretrained(tmp_path / "base")
        torch.manual_seed(index)
        adapted = peft.get_peft_model(model, config)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    parameter.normal_(std=0.3)
        adapted.save_pretrained(tmp_path / "adapters" / f"checkpoint-{step}")
        adapted.merge_and_unload().save_pretrained(tmp_path / "merged" / f"checkpoint-{step}")
    sizes = [
        sum(file.stat().st_size for file in (tmp_path / kind).rglob("*.safetensors")) for kind in ("adapters", "merged")
    ]
    assert sizes[0] < 0.5 * sizes[1]
    losses, weights = [], []
    for kind in ("adapters", "merged"):
        trainer = progressive(teacher_checkpoints=[str(tmp_path / kind)], optim="sgd")
        trainer.train()
        losses.append([entry["loss"] for entry in logged(trainer, 1)])
        weights.append(parameters_of(trainer.model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-5)
    assert len(set(losses[0])) == 9


def test_adapters_whose_head_has_parts_are_put_where_they_belong(tmp_path):
    peft = pytest.importorskip("peft")
    from peft.tuners.tuners_utils import BaseTunerLayer

    sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    torch.manual_seed(0)
    base = RobertaForSequenceClassification(RobertaConfig(vocab_size=100, max_position_embeddings=64, **sizes))
    base.save_pretrained(tmp_path / "base")
    config = peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value", "word_embeddings"])
    inputs, expected = torch.arange(4, 12)[None], []
    for step in (10, 20):
        adapted = peft.get_peft_model(
            RobertaForSequenceClassification.from_pretrained(tmp_path / "base"), config
        ).eval()
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name or "modules_to_save" in name:
                    parameter.normal_(std=0.3)
            expected.append(adapted(inputs).logits)
        adapted.save_pretrained(tmp_path / "adapters" / f"checkpoint-{step}")
    trajectory = Trajectory(find_checkpoints(str(tmp_path / "adapters")))
    teacher = trajectory.first_model(base).eval()
    weights = []
    for index in (0, 1, 0, 1):
        trajectory.move_to(index, teacher)
        weights.append(parameters_of(teacher))
        torch.testing.assert_close(teacher(inputs).logits, expected[index])
    assert torch.equal(weights[0], weights[2]) and torch.equal(weights[1], weights[3])  # folding leaves no trace
    assert all(layer.merged for layer in teacher.modules() if isinstance(layer, BaseTunerLayer))


def break_weights(folder):
    path = folder / "checkpoint-20" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("architecture", [name for name in HEAD_OF if name not in ("llama", "granite")])
def test_any_family_moves_along_its_trajectory(architecture, tmp_path):
    models = [tiny_model(architecture, seed=seed) for seed in range(2)]
    for step, model in enumerate(models, start=1):
        model.save_pretrained(tmp_path / f"checkpoint-{step}")
    trajectory, teacher = Trajectory(find_checkpoints(str(tmp_path))), copy.deepcopy(models[0])
    assert trajectory.move_to(1, teacher)
    assert torch.equal(parameters_of(teacher), parameters_of(models[1]))


def test_checkpoints_with_names_of_an_older_version(tmp_path):
    for index, folder in enumerate(["checkpoint-1", "checkpoint-2"]):
        teacher_at(index).save_pretrained(tmp_path / folder)
        file = tmp_path / folder / "model.safetensors"
        old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in load_file(file).items()}
        save_file(old, file, {"format": "pt"})
    trajectory, teacher = Trajectory(find_checkpoints(str(tmp_path))), teacher_at(0)
    trajectory.move_to(1, teacher)
    assert torch.equal(parameters_of(teacher), parameters_of(teacher_at(1)))


def test_revisions_of_a_repository_are_checkpoints(progressive, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--team--teacher"
    (repository / "refs").mkdir(parents=True)
    for index, step in enumerate(STEPS):
        commit = f"{index}" * 40
        teacher_at(index).save_pretrained(repository / "snapshots" / commit)
        (repository / "refs" / f"step-{step}").write_text(commit)
    revisions = [f"team/teacher@step-{step}" for step in STEPS]
    trainer = progressive(teacher_checkpoints=revisions, final_stage_epochs=0, final_stage_steps=-1)
    trainer.train()
    assert [entry["teacher_step"] for entry in logged(trainer, 1)] == [10] * 3 + [20] * 3 + [40] * 3
    assert torch.equal(parameters_of(trainer.teacher.model), parameters_of(teacher_at(2)))
    with pytest.raises(ValueError, match=r"checkpoint .*checkpoint-77 cannot be read: config\.json: .*No such file"):
        progressive(teacher_checkpoints=[str(tmp_path / "teacher" / "checkpoint-10"), str(tmp_path / "checkpoint-77")])


def test_a_half_written_checkpoint_is_refused_unless_it_may_be_left_out(progressive, tmp_path):
    break_weights(tmp_path / "teacher")
    with pytest.raises(ValueError, match=r"checkpoint-20 cannot be read: model.safetensors"):
        progressive()
    trainer = progressive(skip_unreadable_checkpoints=True)
    trainer.train()
    assert {entry["teacher_step"] for entry in logged(trainer, 1)} == {10, 40}


def other_shape(folder):
    tiny_bert(hidden_size=32, layers=1).save_pretrained(folder / "checkpoint-20")


def other_labels(folder):
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    tiny_bert(hidden_size=32, layers=2, **names).save_pretrained(folder / "checkpoint-20")


def other_tokenizer(folder):
    tiny_tokenizer().save_pretrained(folder / "checkpoint-10")
    tiny_tokenizer(prefix="v").save_pretrained(folder / "checkpoint-20")


def nothing(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_shape, r"of one teacher: num_hidden_layers is 2 in checkpoint-10 and 1 in checkpoint-20"),
        (other_labels, r"id2label is None in checkpoint-10 and .*bad.* in checkpoint-20"),
        (other_tokenizer, r"tokenizer is one tokenizer.json in checkpoint-10 and another in checkpoint-20"),
        (nothing, r"holds no checkpoint that can be read \(checkpoint-\*\)"),
    ],
)
def test_checkpoints_of_several_teachers_are_refused(progressive, tmp_path, spoil, message):
    spoil(tmp_path / "teacher")
    with pytest.raises(ValueError, match=message):
        progressive()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(max_steps=2), r"general stage has 2 steps for 3 teacher checkpoints"),
        (dict(checkpoint_shares="1,2"), r"checkpoint_shares has 2 numbers for 3 checkpoints"),
        (dict(checkpoint_shares="1,-2,1"), r"must be late, equal, teacher_steps or numbers above 0 .*got '1,-2,1'"),
        (dict(general_stage_loss="mse"), r"general_stage_loss must be one of \['logit_mse', 'forward_kl'\], got 'mse'"),
        (dict(max_temperature=0), r"max_temperature must be at least 1, got 0"),
        (dict(final_stage_epochs=-1), r"final_stage_epochs must be at least 0, got -1"),
        (dict(teacher_checkpoints=None), r"teacher_checkpoints=...\), got none there"),
        (dict(teacher_checkpoints=["nowhere"]), r"must be a folder with checkpoint-\* or a list, got 'nowhere'"),
    ],
)
def test_bad_input(progressive, overrides, message):
    with pytest.raises(ValueError, match=message):
        progressive(**overrides)


def test_shares_by_steps_need_steps_that_rise(progressive, checkpoints):
    backwards = [f"{checkpoints}/checkpoint-{step}" for step in reversed(STEPS)]
    with pytest.raises(ValueError, match=r"needs checkpoints whose steps rise, got \[40, 20, 10\]"):
        progressive(teacher_checkpoints=backwards, checkpoint_shares="teacher_steps")


def test_nothing_to_resume_from_is_said(progressive, tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint to resume from in .*general_stage"):
        progressive().train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"must be True or a checkpoint in \['general_stage', 'final_stage'\]"):
        progressive().train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_the_next_checkpoint_is_read_in_the_background(progressive):
    trainer = progressive()
    trainer.follow(0, 9)
    index, reading = trainer.trajectory._next
    assert index == 1 and reading.result(timeout=30).keys() == trainer.teacher.model.state_dict().keys()
    memory = [parameter.data_ptr() for parameter in trainer.teacher.model.parameters()]
    trainer.follow(3, 9)
    assert [parameter.data_ptr() for parameter in trainer.teacher.model.parameters()] == memory
    assert torch.equal(parameters_of(trainer.teacher.model), parameters_of(teacher_at(1)))


@pytest.mark.parametrize("resume", [None, True])
def test_stages_of_a_training_that_runs_are_not_removed(progressive, tmp_path, resume):
    trainer = progressive()
    trainer.train()
    before = {path: path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file()}
    with (
        folder_lock(tmp_path / "output", "training", timeout=0),
        pytest.raises(FolderInUseError, match="output is in use"),
    ):
        progressive().train(resume_from_checkpoint=resume)
    assert {path: path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file()} == before


def test_the_whole_training_is_alone_in_its_folder(progressive, tmp_path):
    said = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            with pytest.raises(FolderInUseError), folder_lock(tmp_path / "output", "training", timeout=0):
                pass
            said.append(state.global_step)

    progressive(callbacks=[Look()], max_steps=3, final_stage_steps=1).train()
    assert said == [1, 2, 3, 1]
