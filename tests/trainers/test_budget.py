"""What a run spends is counted truly, and it ends when its budget does."""

import json
from pathlib import Path

import datasets
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import TrainerCallback, TrainerState

from hf_distill import (
    DistillationTrainer,
    ProgressiveTrainer,
    ProgressiveTrainingArguments,
    PruningDistillTrainer,
    PruningDistillTrainingArguments,
    label_transfer_set,
)
from hf_distill.compute.flops import batch_flops
from hf_distill.compute.peak import remember_peak
from hf_distill.teachers.frozen import FrozenTeacher
from tests.tiny_architectures import MASKED_LM, tiny_model
from tests.tiny_models import FixedMasks, encoded_sentences, parameters_of, tiny_bert, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def trainer_of(args, student=None, teacher=None, dataset=None, **keywords):
    return DistillationTrainer(
        tiny_bert() if student is None else student,
        args,
        teacher_model=teacher,
        train_dataset=encoded_sentences(29) if dataset is None else dataset,
        processing_class=TOKENIZER,
        **keywords,
    )


def a_teacher():
    return tiny_bert(hidden_size=32, layers=2, seed=1)


def counted_while_training(trainer):
    with FlopCounterMode(display=False) as counter:
        trainer.train()
    return counter.get_total_flops()


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if "loss" in entry and name in entry]


RECIPES = [
    "pre_trained_distillation", "vanilla_kd", "distilbert", "patient_kd", "tinybert_general", "tinybert_task", "minilm",
    "minilmv2", None,
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("head", ["SequenceClassification", "MaskedLM", "TokenClassification"])
def test_a_run_costs_what_torch_counts(recipe, head, arguments):
    sizes = dict(attn_implementation="eager")
    teacher = None if recipe is None else tiny_model("bert", head, seed=1, **sizes)
    wider = recipe in ("tinybert_general", "distilbert")
    student = tiny_model("bert", head, **sizes, num_hidden_layers=2, hidden_size=8 if wider else 16)
    dataset = encoded_sentences(29)
    collator = FixedMasks() if head == "MaskedLM" else None
    if head == "TokenClassification":
        dataset = dataset.map(lambda row: {"labels": [token % 2 for token in row["input_ids"]]})
        collator = TokensAndLabels()
    trainer = trainer_of(arguments(recipe=recipe), student, teacher, dataset, data_collator=collator)
    total = counted_while_training(trainer)
    spent = trainer.cost()
    assert spent["flops"] == pytest.approx(total, rel=0.01)
    assert spent["flops"] == spent["student_flops"] + spent["teacher_flops"]
    assert trainer.state.total_flos == spent["flops"]
    assert (spent["teacher_flops"] > 0) is (recipe is not None)


class TokensAndLabels:
    def __call__(self, rows):
        length = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": 0, "attention_mask": 0, "labels": -100}
        return {
            name: torch.tensor([row[name] + [value] * (length - len(row[name])) for row in rows])
            for name, value in fill.items()
        }


@pytest.mark.parametrize("architecture", [*MASKED_LM, "llama"])
@pytest.mark.parametrize("recipe", ["vanilla_kd", "tinybert_general", "minilmv2"])
def test_every_family_costs_what_torch_counts(architecture, recipe, arguments):
    if architecture == "llama" and recipe == "minilmv2":
        pytest.skip("one key head cannot be split into relation heads of the student's width")
    student, teacher = (
        tiny_model(architecture, "SequenceClassification", seed, attn_implementation="eager") for seed in (0, 1)
    )
    student.config.pad_token_id = teacher.config.pad_token_id = 0
    student.config.use_cache = teacher.config.use_cache = False
    trainer = trainer_of(arguments(recipe=recipe, per_device_train_batch_size=8), student, teacher)
    assert counted_while_training(trainer) == pytest.approx(trainer.cost()["flops"], rel=0.01)


def test_images(arguments):
    student, teacher = (tiny_model("vit", seed=seed, attn_implementation="eager") for seed in (0, 1))
    images = [{"pixel_values": torch.randn(3, 8, 8), "labels": index % 2} for index in range(10)]
    trainer = DistillationTrainer(student, arguments(), teacher_model=teacher, train_dataset=images)
    total = counted_while_training(trainer)
    spent = trainer.cost()
    assert spent["flops"] == pytest.approx(total, rel=0.01)
    assert (spent["tokens"], spent["padding_tokens"]) == (10 * 5, 0)


def test_padding_is_told_apart(arguments):
    teacher, dataset = a_teacher(), encoded_sentences(29)
    trainer = trainer_of(
        arguments(length_bucketing=False, train_sampling_strategy="sequential"), teacher=teacher, dataset=dataset
    )
    trainer.train()
    lengths = [len(row) for row in dataset["input_ids"]]
    batches = [lengths[start : start + 4] for start in range(0, 29, 4)]
    spent = trainer.cost()
    assert spent["tokens"] == sum(lengths)
    assert spent["padding_tokens"] == sum(len(batch) * max(batch) for batch in batches) - sum(lengths)
    expected = [
        batch_flops(config, batch, "sequence_classification", backward=backward)
        for batch in batches
        for config, backward in ((trainer.model.config, True), (teacher.config, False))
    ]
    assert spent["flops"] == sum(each.computed for each in expected)
    assert spent["padding_flops"] == sum(each.padding for each in expected)


def test_an_own_encoding_is_counted_as_the_teacher_reads_it(arguments):
    dataset, teacher = encoded_sentences(8), a_teacher()
    longer = [[5] * (len(row) + 3) for row in dataset["input_ids"]]
    dataset = dataset.add_column("teacher_input_ids", longer)
    dataset = dataset.add_column("teacher_attention_mask", [[1] * len(row) for row in longer])
    trainer = trainer_of(
        arguments(per_device_train_batch_size=8), None, teacher, dataset, teacher_processing_class=TOKENIZER
    )
    trainer.train()
    found = batch_flops(teacher.config, [len(row) for row in longer], "sequence_classification")
    assert trainer.cost()["teacher_flops"] == found.computed


def test_two_teachers_cost_twice_as_much(arguments):
    costs = []
    for teachers in (a_teacher(), [a_teacher(), a_teacher()]):
        trainer = trainer_of(arguments(), teacher=teachers)
        trainer.train()
        costs.append(trainer.cost())
    assert costs[1]["teacher_flops"] == 2 * costs[0]["teacher_flops"]
    assert costs[1]["student_flops"] == costs[0]["student_flops"]


def test_an_unknown_model_is_estimated_from_its_parameters(arguments, caplog):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.out = torch.nn.Embedding(100, 8), torch.nn.Linear(8, 2)

        def forward(self, input_ids, attention_mask=None, labels=None):
            logits = self.out(self.words(input_ids).mean(1))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    trainer = trainer_of(arguments(), Own())
    trainer.train()
    spent = trainer.cost()
    assert spent["student_flops"] == 3 * 2 * 18 * (spent["tokens"] + spent["padding_tokens"])
    assert "FLOPs of Own are estimated" in caplog.text


def test_a_run_ends_within_a_step_of_its_budget_and_its_rate_reaches_the_floor(arguments):
    limit = 3e7
    args = arguments(max_flops=limit, num_train_epochs=1, warmup_steps=0.1, lr_scheduler_type="linear")
    trainer = trainer_of(args, teacher=a_teacher())
    trainer.train()
    flops = logged(trainer, "spent_flops")
    steps = [after - before for before, after in zip([0, *flops], flops, strict=False)]
    assert flops[-2] < limit <= flops[-1] == trainer.cost()["flops"] and flops[-1] - limit < max(steps)
    assert trainer.state.epoch > 1 and trainer.state.max_steps == trainer.state.global_step == len(flops)
    shares = [spent / limit for spent in [0, *flops[:-1]]]
    expected = [1e-2 * (share / 0.1 if share < 0.1 else (1 - share) / 0.9) for share in shares]
    assert logged(trainer, "learning_rate") == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert trainer.lr_scheduler.get_last_lr() == [0.0, 0.0]
    assert logged(trainer, "budget_left")[:-1] == pytest.approx([1 - share for share in shares[1:]])
    metrics = next(entry for entry in trainer.state.log_history if "train_runtime" in entry)
    seen = metrics["train_samples_per_second"] * metrics["train_runtime"]
    assert seen == pytest.approx(4 * len(flops), rel=0.05)


def test_arms_get_equal_budgets(arguments):
    spent = {}
    for recipe, teacher in ((None, None), ("vanilla_kd", a_teacher()), ("minilmv2", a_teacher())):
        trainer = trainer_of(arguments(recipe=recipe, max_flops=3e8), teacher=teacher)
        trainer.train()
        spent[recipe] = trainer.cost()["flops"], trainer.state.global_step
    flops = [each for each, _ in spent.values()]
    assert max(flops) / min(flops) < 1.01
    assert spent[None][1] > spent["vanilla_kd"][1]


@pytest.mark.parametrize(
    ("schedule", "settings"),
    [
        ("cosine", {}),
        ("polynomial", {}),
        ("cosine_with_min_lr", {"min_lr": 1e-3}),
        ("warmup_stable_decay", {"num_decay_steps": 0.3}),
    ],
)
def test_schedules_end_at_their_floor(schedule, settings, arguments):
    args = arguments(max_tokens=700, lr_scheduler_type=schedule, lr_scheduler_kwargs=settings, warmup_steps=0.1)
    trainer = trainer_of(args)
    trainer.train()
    assert trainer.args.lr_scheduler_kwargs == settings
    assert 700 <= trainer.cost()["tokens"] < 700 + 4 * 20
    floor = {"cosine_with_min_lr": 1e-3, "polynomial": 1e-7}.get(schedule, 0.0)
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(floor, abs=1e-9)
    assert max(logged(trainer, "learning_rate")) == pytest.approx(1e-2, rel=0.2)


def test_seconds_leave_evaluations_out(arguments, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("hf_distill.compute.tracker.time.perf_counter", lambda: float(next(clock)))
    trainer = trainer_of(
        arguments(max_seconds=50, eval_strategy="steps", eval_steps=3), eval_dataset=encoded_sentences(5)
    )
    evaluate = trainer.evaluate

    def long_evaluation(*args, **kwargs):
        for _ in range(1000):
            next(clock)
        return evaluate(*args, **kwargs)

    trainer.evaluate = long_evaluation
    trainer.train()
    assert 50 <= trainer.cost()["seconds"] < 60 and trainer.state.global_step > 9


@pytest.mark.parametrize(("steps", "tokens"), [(3, 1e6), (1000, 400)])
def test_whichever_ends_first(steps, tokens, arguments):
    trainer = trainer_of(arguments(max_steps=steps, max_tokens=tokens))
    trainer.train()
    spent = trainer.cost()["tokens"]
    assert trainer.state.global_step == 3 and spent < 400 if steps == 3 else 400 <= spent < 480
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0


def test_data_of_unknown_length_begin_again(arguments):
    rows = encoded_sentences(10).to_list()
    stream = datasets.IterableDataset.from_generator(lambda: iter(rows))
    trainer = trainer_of(arguments(max_tokens=500), dataset=stream)
    trainer.train()
    assert 500 <= trainer.cost()["tokens"] < 600 and trainer.state.global_step > 5


@pytest.mark.parametrize("limit", [dict(max_flops=3e7), dict(max_tokens=600)])
@pytest.mark.parametrize("stop", [4, 9])
def test_stopped_and_resumed_equals_undisturbed(limit, stop, arguments, tmp_path):
    given = dict(save_strategy="steps", save_steps=1, lr_scheduler_type="cosine", **limit)
    whole = trainer_of(arguments(**given, output_dir=str(tmp_path / "whole")), teacher=a_teacher())
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(arguments(**given), teacher=a_teacher(), callbacks=[StopAt(stop)]).train()
    resumed = trainer_of(arguments(**given), teacher=a_teacher())
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    for name in ("student_flops", "teacher_flops", "padding_flops", "tokens", "padding_tokens", "flops"):
        assert resumed.cost()[name] == whole.cost()[name]
    assert logged(resumed, "learning_rate") == logged(whole, "learning_rate")
    assert resumed.state.total_flos == whole.state.total_flos == whole.cost()["flops"]


def test_the_account_is_in_the_checkpoint_also_where_callbacks_are_restored(arguments):
    given = dict(save_strategy="steps", save_steps=2, max_tokens=600, restore_callback_states_from_checkpoint=True)
    first = trainer_of(arguments(**given), callbacks=[StopAt(4)])
    with pytest.raises(KeyboardInterrupt):
        first.train()
    checkpoint = Path(first.args.output_dir, "checkpoint-4")
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    assert state.stateful_callbacks["CostCallback"]["attributes"]["cost"]["total"] == first.cost()
    resumed = trainer_of(arguments(**given))
    resumed.train(resume_from_checkpoint=True)
    assert 600 <= resumed.cost()["tokens"] < 680
    last = max(Path(first.args.output_dir).glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    saved = TrainerState.load_from_json(str(last / "trainer_state.json"))
    assert saved.stateful_callbacks["CostCallback"]["attributes"]["cost"]["total"]["tokens"] >= 600
    resumed.train()
    assert 600 <= resumed.cost()["tokens"] < 680  # a new training begins with nothing spent


@pytest.mark.parametrize("limit", [dict(max_tokens=320), dict(max_flops=1e7, max_steps=9)])
def test_of_a_budget_that_is_spent_nothing_is_left_to_do(limit, arguments):
    given = dict(save_strategy="steps", save_steps=4, **limit)
    first = trainer_of(arguments(**given))
    first.train()
    again = trainer_of(arguments(**given))
    output = again.train(resume_from_checkpoint=True)
    assert output.global_step == first.state.global_step == again.state.max_steps
    assert torch.equal(parameters_of(again.model), parameters_of(first.model))
    for name in ("flops", "tokens"):
        assert again.cost()[name] == first.cost()[name]
    assert logged(again, "loss") == logged(first, "loss")


def test_an_account_is_carried_from_one_trainer_to_the_next(arguments):
    first = trainer_of(arguments(max_flops=1e7, teacher_labeling_flops=2e6))
    first.train()
    then = trainer_of(arguments(max_flops=3e7, warmup_steps=0.1, lr_scheduler_type="linear"), teacher=a_teacher())
    then.continue_from(first.cost())
    positions = []
    noting = type(
        "Noting", (TrainerCallback,), {"on_step_end": lambda *a, **k: positions.append(then.budget_position())}
    )
    then.add_callback(noting())
    then.train()
    spent = then.cost()
    assert 3e7 <= spent["flops"] < 3.2e7 and spent["labeling_flops"] == 2e6
    assert spent["tokens"] > first.cost()["tokens"] and spent["seconds"] > first.cost()["seconds"]
    flops = [first.cost()["flops"], *logged(then, "spent_flops")]
    assert [position / parts for position, parts in positions] == pytest.approx(
        [min(f / 3e7, 1) for f in flops[1:]], abs=1e-4
    )
    rest = [(each - flops[0]) / (3e7 - flops[0]) for each in flops[:-1]]
    expected = [1e-2 * (share / 0.1 if share < 0.1 else (1 - share) / 0.9) for share in rest]
    assert logged(then, "learning_rate") == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_cached_answers_cost_what_is_charged(arguments):
    teacher, dataset = a_teacher(), encoded_sentences(29)
    labeled = label_transfer_set(dataset, FrozenTeacher(teacher), lambda rows: TOKENIZER.pad(rows, return_tensors="pt"))
    labeling = batch_flops(teacher.config, [len(row) for row in dataset["input_ids"]], "sequence_classification").real
    runs = []
    for charged in (None, labeling):
        args = arguments(max_flops=4e7, teacher_labeling_flops=charged, warmup_steps=0.1)
        runs.append(trainer_of(args, dataset=labeled))
        runs[-1].train()
    amortised, paid = runs
    assert amortised.cost()["teacher_flops"] == paid.cost()["teacher_flops"] == 0
    assert amortised.cost()["labeling_flops"] == 0 and paid.cost()["labeling_flops"] == labeling
    assert paid.cost()["flops"] == pytest.approx(amortised.cost()["flops"], rel=0.05)
    assert paid.state.global_step < amortised.state.global_step
    assert max(logged(paid, "learning_rate")) == pytest.approx(1e-2, rel=0.2)  # the warm-up follows what is left
    json.dumps(paid.cost())


def test_labeling_is_charged_in_seconds(arguments, monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("hf_distill.compute.tracker.time.perf_counter", lambda: float(next(clock)))
    steps = []
    for charged in (None, 30.0):
        trainer = trainer_of(arguments(max_seconds=60, teacher_labeling_seconds=charged, warmup_steps=0.2))
        trainer.train()
        assert 60 <= trainer.cost()["seconds"] < 65
        assert max(logged(trainer, "learning_rate")) == pytest.approx(1e-2, rel=0.2)  # the warm-up follows what is left
        steps.append(trainer.state.global_step)
    assert steps[1] == pytest.approx(steps[0] / 2, abs=2)


def test_utilization_is_logged_against_a_remembered_peak(arguments, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path))
    trainer = trainer_of(arguments())
    trainer.train()
    assert not logged(trainer, "flops_utilization") and min(logged(trainer, "tokens_per_second")) > 0
    remember_peak("cpu", torch.float32, 1e9)
    trainer = trainer_of(arguments(logging_steps=8))
    trainer.train()
    (utilization,) = logged(trainer, "flops_utilization")
    assert utilization == pytest.approx(trainer.cost()["flops"] / trainer.cost()["seconds"] / 1e9, rel=0.05)


class SaveOften(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % 4 == 0:
            control.should_save = True


@pytest.fixture
def trajectory(arguments, tmp_path):
    args = arguments(output_dir=str(tmp_path / "teacher"), max_steps=6, save_strategy="steps", save_steps=2)
    trainer_of(args, a_teacher()).train()
    return str(tmp_path / "teacher")


@pytest.fixture
def progressive(trajectory, tmp_path):
    def make(callbacks=None, **overrides):
        args = ProgressiveTrainingArguments(
            output_dir=str(tmp_path / "student"), teacher_checkpoints=[trajectory], report_to="none", disable_tqdm=True,
            use_cpu=True, bf16=False, learning_rate=1e-3, per_device_train_batch_size=4, logging_steps=1,
            save_strategy="no", **overrides,
        )  # fmt: skip
        return ProgressiveTrainer(
            tiny_bert(), args, train_dataset=encoded_sentences(29), processing_class=TOKENIZER, callbacks=callbacks
        )

    return make


def test_two_stages_share_a_budget(progressive):
    trainer = progressive(max_flops=6e7, final_stage_budget=0.25)
    trainer.train()
    by_stage = {stage: [e for e in trainer.state.log_history if e.get("stage") == stage] for stage in (1, 2)}
    general = by_stage[1][-1]["spent_flops"]
    step = batch_flops(trainer.model.config, [20] * 4, "sequence_classification", backward=True).computed
    step += batch_flops(a_teacher().config, [20] * 4, "sequence_classification").computed
    assert 4.5e7 <= general < 4.5e7 + step
    assert 6e7 <= trainer.cost()["flops"] < 6e7 + step
    assert trainer.cost()["flops"] == by_stage[2][-1]["spent_flops"] and len(by_stage[2]) > 3
    teachers = [entry["teacher_step"] for entry in by_stage[1]]
    assert sorted(teachers) == teachers and set(teachers) == {2, 4, 6}
    assert by_stage[2][0]["learning_rate"] > by_stage[2][-1]["learning_rate"]
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
    alone = progressive(max_flops=3e7, final_stage_epochs=0)
    alone.train()
    assert 3e7 <= alone.cost()["flops"] < 3e7 + step


@pytest.mark.parametrize("stage", ["general_stage", "final_stage"])
def test_two_stages_resume_within_their_budget(progressive, stage):
    whole = progressive([SaveOften()], max_flops=6e7)
    whole.train()

    class StopIn(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            if args.output_dir.endswith(stage) and state.global_step >= 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progressive([SaveOften(), StopIn()], max_flops=6e7).train()
    resumed = progressive([SaveOften()], max_flops=6e7)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))
    assert resumed.cost()["flops"] == whole.cost()["flops"]


@pytest.mark.parametrize("limit", [3e8, 6e7])
def test_a_student_that_shrinks_reaches_its_size_and_the_floor_within_the_budget(limit, tmp_path):
    args = PruningDistillTrainingArguments(
        str(tmp_path), recipe="homodistil", target_hidden_size=16, report_to="none", disable_tqdm=True, use_cpu=True,
        bf16=False, per_device_train_batch_size=8, logging_steps=1, pruning_events=4, save_strategy="no", max_flops=limit,
    )  # fmt: skip
    trainer = PruningDistillTrainer(
        None, args, teacher_model=a_teacher(), train_dataset=encoded_sentences(29), processing_class=TOKENIZER
    )
    trainer.train()
    flops, sizes = logged(trainer, "spent_flops"), logged(trainer, "hidden_size")
    assert trainer.model.config.hidden_size == 16
    assert flops[-2] < limit <= flops[-1]
    assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
    if limit == 3e8:
        assert len(set(sizes)) == 4 and sizes[0] == 32  # it begins as wide as its teacher
        shrunk = next(share for share, size in zip(flops, sizes, strict=True) if size == 16)
        assert shrunk == pytest.approx(0.5 * limit, rel=0.1)  # the third of four events, up to three quarters


def test_a_student_that_shrinks_is_stopped_and_resumed_within_its_budget(tmp_path):
    def shrinking(folder, *callbacks):
        args = PruningDistillTrainingArguments(
            str(tmp_path / folder), recipe="homodistil", target_hidden_size=16, report_to="none", disable_tqdm=True,
            use_cpu=True, bf16=False, per_device_train_batch_size=8, logging_steps=1, pruning_events=4, save_steps=2,
            pruning_start=0.0, max_flops=1.6e8,
        )  # fmt: skip
        return PruningDistillTrainer(
            None, args, teacher_model=a_teacher(), train_dataset=encoded_sentences(29), processing_class=TOKENIZER,
            callbacks=[*callbacks],
        )  # fmt: skip

    whole = shrinking("whole")
    whole.train()
    sizes = logged(whole, "hidden_size")
    with pytest.raises(KeyboardInterrupt):
        shrinking("stopped", StopAt(2)).train()
    with pytest.raises(KeyboardInterrupt):
        shrinking("stopped", StopAt(4)).train(resume_from_checkpoint=True)
    assert 32 > sizes[1] > sizes[3] > 16 and len(sizes) > 8  # stopped between events
    resumed = shrinking("stopped")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    for name in ("loss", "learning_rate", "hidden_size", "spent_flops"):
        assert logged(resumed, name) == logged(whole, name), name
    for name in ("student_flops", "teacher_flops", "pruning_flops", "tokens", "flops"):
        assert resumed.cost()[name] == whole.cost()[name], name
    assert torch.equal(parameters_of(resumed.model), parameters_of(whole.model))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(max_flops=0), "max_flops must be None or a finite number above 0, got 0"),
        (dict(max_seconds=-1.0), "max_seconds must be None or a finite number above 0, got -1.0"),
        (dict(max_tokens=float("nan")), "max_tokens must be None or a finite number above 0, got nan"),
        (dict(max_flops=1e9, warmup_steps=100), "warmup_steps must be at least 0 and below 1, got 100"),
        (dict(max_flops=1e9, save_steps=0.1), "save_steps 0.1 is a share of max_steps"),
        (dict(max_flops=1e9, teacher_labeling_flops=2e9), r"teacher_labeling_flops 2e\+09 leave nothing of max_flops 1e\+09"),
        (dict(teacher_labeling_flops=-1.0), "teacher_labeling_flops must be None or a finite number of at least 0, got -1.0"),
        (dict(max_seconds=9, teacher_labeling_seconds=9.0), "teacher_labeling_seconds 9 leave nothing of max_seconds 9"),
        (
            dict(teacher_labeling_seconds=float("inf")),
            "teacher_labeling_seconds must be None or a finite number of at least 0, got inf",
        ),
        (
            dict(max_flops=1e9, lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 50}),
            "num_decay_steps of lr_scheduler_kwargs is a share of it, 0 to 1, got 50",
        ),
    ],
)  # fmt: skip
def test_impossible_budgets_are_refused(overrides, message, arguments):
    with pytest.raises(ValueError, match=message):
        arguments(**overrides)


def test_impossible_shares_of_stages_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"final_stage_budget must be above 0 and below 1, got 1\.0"):
        ProgressiveTrainingArguments(str(tmp_path), final_stage_budget=1.0)
