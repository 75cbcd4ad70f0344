"""A checkpoint is resumed as the run it belongs to; a record tells what ran."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
from datasets import IterableDataset

from hf_distill import DistillationTrainer, DistillationTrainingArguments, label_transfer_set
from hf_distill.files import FolderInUseError, folder_lock
from hf_distill.fingerprints import weights_sha256
from hf_distill.objectives.objective import Objective
from hf_distill.trainers.checkpoints import last_complete_checkpoint
from tests.tiny_models import encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer


def a_teacher():
    return tiny_bert(hidden_size=32, layers=2, seed=1)


@pytest.fixture
def make(arguments):
    """Makes a trainer that saves every 4 of 8 steps; keywords are arguments."""

    def make(cls=DistillationTrainer, teacher_model="live", dataset=None, student=None, trainer=None, **overrides):
        settings = dict(max_steps=8, save_strategy="steps", save_steps=4, lr_scheduler_type="constant")
        return cls(
            student or tiny_bert(), arguments(**(settings | overrides)),
            train_dataset=encoded_sentences(29) if dataset is None else dataset, eval_dataset=encoded_sentences(13),
            processing_class=tiny_tokenizer(), teacher_model=a_teacher() if teacher_model == "live" else teacher_model,
            **(trainer or {}),
        )  # fmt: skip

    return make


def record(tmp_path):
    return json.loads((tmp_path / "output" / "run.json").read_text())


def test_a_finished_run_takes_no_further_step_and_says_so_once(make, caplog, monkeypatch):
    first = make()
    first.train()
    for _ in range(2):
        again = make()
        with caplog.at_level(logging.WARNING):
            output = again.train(resume_from_checkpoint=True)
        assert output.global_step == again.state.global_step == 8
        assert weights_sha256(again.model) == weights_sha256(first.model)
        assert "is finished: it made all of its 8 steps" in caplog.text
    caplog.clear()
    monkeypatch.setattr(DistillationTrainingArguments, "should_log", False)  # as in all processes but the first
    make().train(resume_from_checkpoint=True)
    assert "is finished" not in caplog.text


def test_the_end_of_a_finished_run_has_its_projections_too(make):
    first, again = (make(recipe="tinybert_task") for _ in range(2))
    first.train()
    again.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(first.model), parameters_of(again.model))  # those of projections among them


def test_a_longer_run_is_the_same_and_its_record_says_so(make, caplog, tmp_path):
    make().train()
    longer = make(max_steps=12)
    longer.train(resume_from_checkpoint=True)
    whole = make(max_steps=12, output_dir=str(tmp_path / "whole"))
    whole.train()
    assert torch.equal(parameters_of(longer.model), parameters_of(whole.model))
    lengths = {
        "step": 8,
        "from": {"max_steps": 8, "num_train_epochs": 1},
        "to": {"max_steps": 12, "num_train_epochs": 1},
    }
    assert record(tmp_path)["training"]["extensions"] == [lengths] and record(tmp_path)["training"]["steps"] == 12
    assert "is resumed as a longer run" in caplog.text
    assert "extensions" not in json.loads((tmp_path / "whole" / "run.json").read_text())["training"]


class WithASchedule(DistillationTrainer):
    """Its objective has a function among its settings, which lies elsewhere in the memory of every process."""

    @property
    def training_objective(self):
        first, *others = super().training_objective.terms
        settings = {**first.settings, "schedule": lambda step: 1.0}
        return Objective([replace(first, settings=settings), *others])


def test_settings_that_are_functions_are_the_same_in_another_process(make, tmp_path):
    first, longer = make(WithASchedule), make(WithASchedule, max_steps=12)
    first.train()
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 12
    schedules = [term["schedule"] for term in record(tmp_path)["objective"] if "schedule" in term]
    assert len(schedules) == 1 and "lambda" in schedules[0] and " at 0x" not in schedules[0]


OTHERS = [
    (dict(recipe="vanilla_kd"), "objective is .*soft_label.* there and .*hard_label"),
    (dict(temperature=2.0), "objective is .*temperature is 1.0 there and 2.0 now"),
    (dict(learning_rate=1e-4), "learning_rate is 0.01 there and 0.0001 now"),
    (dict(seed=3), "seed is 42 there and 3 now"),
    (dict(max_steps=6), "max_steps is 8 there and 6 now"),
    (dict(dataset=encoded_sentences(17)), "rows is 29 there and 17 now"),
    (dict(teacher_model=tiny_bert(seed=9)), "teacher is|weights with sha256 is"),
]


@pytest.mark.parametrize(("changes", "message"), OTHERS, ids=[str(next(iter(changes))) for changes, _ in OTHERS])
def test_another_run_is_not_continued(make, tmp_path, changes, message):
    make().train()
    before = {path: path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file()}
    with pytest.raises(
        ValueError, match=rf"(?s)checkpoint-8 belongs to another run: .*{message}.*choose another output_dir"
    ):
        make(**changes).train(resume_from_checkpoint=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "output").rglob("*") if path.is_file()}


def test_a_teacher_and_its_recorded_outputs_are_the_same_run(make):
    make().train()
    labeled = label_transfer_set(encoded_sentences(29), a_teacher(), tiny_tokenizer(), disable_tqdm=True)
    with pytest.raises(ValueError, match="sample of rows is"):  # the columns are data, too
        make(dataset=labeled, teacher_model=None).train(resume_from_checkpoint=True)


@pytest.mark.parametrize(("split", "warns"), [((2, 2), False), ((4, 2), True)])
def test_another_total_batch_is_said(make, caplog, split, warns):
    make(max_steps=8).train()
    other = make(per_device_train_batch_size=split[0], gradient_accumulation_steps=split[1], max_steps=10)
    other.train(resume_from_checkpoint=True)
    assert ("with 4 examples in an optimizer step" in caplog.text and "now it is 8" in caplog.text) is warns


def test_a_checkpoint_without_the_random_state_of_every_process_is_passed_over(make, tmp_path):
    make().train()
    output = tmp_path / "output"
    (output / "checkpoint-8" / "rng_state.pth").unlink()
    assert last_complete_checkpoint(output) == str(output / "checkpoint-4")
    state = json.loads((output / "checkpoint-4" / "trainer_state.json").read_text())
    state["stateful_callbacks"]["RunSettingsCallback"]["attributes"]["settings"]["random_states"] = 2
    (output / "checkpoint-4" / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(
        ValueError, match=r"those it holds, \['checkpoint-4', 'checkpoint-8'\], were not written to their"
    ):
        make().train(resume_from_checkpoint=True)
    (output / "checkpoint-4" / "rng_state_0.pth").touch()
    (output / "checkpoint-4" / "rng_state_1.pth").touch()
    assert last_complete_checkpoint(output) == str(output / "checkpoint-4")


@pytest.mark.parametrize("left", [["config.json"], ["config.json", "model.safetensors", "optimizer.pt"]])
def test_only_half_written_checkpoints(make, tmp_path, left):
    make(max_steps=4).train()
    for path in (tmp_path / "output" / "checkpoint-4").iterdir():
        if path.name not in left:
            path.unlink()
    with pytest.raises(ValueError, match=r"were not written to their end\. Start afresh"):
        make(max_steps=4).train(resume_from_checkpoint=True)
    shutil.rmtree(tmp_path / "output" / "checkpoint-4")
    with pytest.raises(ValueError, match="it holds none"):
        make(max_steps=4).train(resume_from_checkpoint=True)
    with pytest.raises(
        ValueError, match=r"must be a checkpoint's folder, got '.*elsewhere' without trainer_state.json"
    ):
        make(max_steps=4).train(resume_from_checkpoint=str(tmp_path / "elsewhere"))


def a_stream(rows=12):
    return IterableDataset.from_generator(lambda: iter(encoded_sentences(rows).to_list()))


def test_a_stream_goes_on_in_its_first_pass_and_not_in_a_later_one(make, tmp_path):
    make(dataset=a_stream(40), save_steps=6).train()
    undisturbed = parameters_of(make(dataset=a_stream(40), output_dir=str(tmp_path / "whole")).model)
    resumed = make(dataset=a_stream(40), save_steps=6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-6"))
    whole = make(dataset=a_stream(40), output_dir=str(tmp_path / "whole"))
    whole.train()
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    assert not torch.equal(undisturbed, parameters_of(whole.model))
    shutil.rmtree(tmp_path / "output")
    make(dataset=a_stream(), save_steps=4).train()  # three steps a pass
    with pytest.raises(
        ValueError, match=r"checkpoint-4 was written in pass 2 over a training set of unknown length.*repeat"
    ):
        make(dataset=a_stream()).train(resume_from_checkpoint=str(tmp_path / "output" / "checkpoint-4"))


class OnLabelsAlone(DistillationTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss


class WithAnOwnTerm(DistillationTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss = loss + outputs["logits"].square().mean()
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("steps", [1, 8])
def test_a_loss_that_leaves_the_objective_out_is_refused(make, tmp_path, steps):
    with pytest.raises(
        ValueError, match=r"OnLabelsAlone.compute_loss never .* \['soft_label'\]: .* compute_loss_func with"
    ):
        make(OnLabelsAlone, max_steps=steps).train()
    assert not (tmp_path / "output" / "run.json").exists()
    make(OnLabelsAlone, teacher_model=None).train()


def test_what_is_added_to_the_objective_is_in_the_loss_of_an_evaluation(make):
    own, plain = make(WithAnOwnTerm, per_device_eval_batch_size=5), make(per_device_eval_batch_size=5)
    rows = encoded_sentences(13)
    batch = tiny_tokenizer().pad(rows.remove_columns("labels").to_list(), return_tensors="pt")
    added = tiny_bert().eval()(**batch).logits.square().mean().item()
    losses = [trainer.evaluate()["eval_loss"] for trainer in (own, plain)]
    assert losses[0] == pytest.approx(losses[1] + added, rel=1e-4)
    assert set(own.evaluate()) == set(plain.evaluate())


def test_trials_of_a_search_train_the_recipe_they_chose(make, tmp_path):
    objectives = []
    trainer = DistillationTrainer(
        None, make(max_steps=1, save_strategy="no", temperature=3.0).args, model_init=lambda: tiny_bert(),
        train_dataset=encoded_sentences(8), eval_dataset=encoded_sentences(8), processing_class=tiny_tokenizer(),
        teacher_model=a_teacher(),
    )  # fmt: skip
    names = iter(["vanilla_kd", "distilbert", "pre_trained_distillation"])

    def objective(metrics):
        objectives.append({term.name: term.weight for term in trainer.training_objective.terms})
        assert record(tmp_path)["objective"][0]["temperature"] == 3.0
        return metrics["eval_loss"]

    trainer.hyperparameter_search(
        hp_space=lambda trial: {"recipe": next(names)}, n_trials=3, backend="optuna", compute_objective=objective
    )
    assert [set(each) for each in objectives] == [
        {"soft_label", "hard_label"}, {"soft_label", "hard_label", "hidden_state"}, {"soft_label"},
    ]  # fmt: skip


def test_what_changes_the_loss_on_labels_alone_is_said_to_have_no_effect(make, caplog):
    make(label_smoothing_factor=0.1, trainer={"compute_loss_func": lambda *args, **kwargs: 0})
    assert "label_smoothing_factor and compute_loss_func only changes the loss on labels" in caplog.text
    caplog.clear()
    make(label_smoothing_factor=0.1, hard_label_weight=0.5)
    assert "no effect" not in caplog.text


def test_several_launched_processes_that_would_train_alone(make, monkeypatch):
    trainer = make()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        ValueError, match=r"2 processes were launched \(WORLD_SIZE\), but this one trains alone.*use_cpu"
    ):
        DistillationTrainer(
            tiny_bert(), trainer.args, train_dataset=trainer.train_dataset, processing_class=tiny_tokenizer(),
            teacher_model=a_teacher(),
        )  # fmt: skip


def test_a_folder_that_another_training_uses_is_refused(make, tmp_path):
    trainer = make()
    refused = pytest.raises(FolderInUseError, match=r"output is in use by process \d+ on .*, training since")
    with folder_lock(tmp_path / "output", "training", timeout=0), refused:
        trainer.train()
    trainer.train()
    assert not [path.name for path in (tmp_path / "output").iterdir() if path.name.startswith(".lock")]


def test_shares_of_all_steps_are_no_other_settings(student, sentences, tokenizer, arguments, caplog):
    shares = {"logging_steps": 0.3, "save_steps": 0.5, "eval_steps": None}
    args = arguments(max_steps=4, save_strategy="steps", **shares)
    DistillationTrainer(student, args, train_dataset=sentences, processing_class=tokenizer).train()
    again = DistillationTrainer(student, args, train_dataset=sentences, processing_class=tokenizer)
    again.train(resume_from_checkpoint=f"{args.output_dir}/checkpoint-2")
    assert "do not match" not in caplog.text and {name: getattr(args, name) for name in shares} == shares
    assert [entry["step"] for entry in again.state.log_history if "loss" in entry] == [2, 4]
