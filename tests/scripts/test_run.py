"""What the example scripts share."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import transformers
from datasets import Dataset
from transformers.hf_argparser import HfArgumentParser

from hf_distill import DistillationTrainingArguments, ProgressiveTrainingArguments
from hf_distill.files import FolderInUseError, folder_lock
from hf_distill.scripts import output_folder as used_folder
from hf_distill.scripts import run as scripts
from hf_distill.scripts.models import AnyModelArguments, FineTuningArguments, teacher_options
from hf_distill.scripts.output_folder import OutputFolderArguments
from hf_distill.trainers.resuming import training_lock


def test_checkpoints_are_found_unless_refused(tmp_path, arguments):
    def found(**options):
        return scripts.checkpoint_to_resume(arguments(**{"output_dir": str(tmp_path), "do_train": True} | options))

    assert found() is None
    with pytest.raises(ValueError, match=r"true where output_dir has a checkpoint, got True"):
        found(resume_from_checkpoint=True)
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-12").mkdir()  # its process died
    last, first = str(tmp_path / "checkpoint-10"), str(tmp_path / "checkpoint-2")
    assert found() == found(resume_from_checkpoint=True) == found(resume_from_checkpoint="True") == last
    assert found(resume_from_checkpoint=first) == first
    assert found(do_train=False) is None
    with pytest.raises(ValueError, match=r"must be a checkpoint's folder, .* got 'absent'"):
        found(resume_from_checkpoint="absent")


@pytest.mark.parametrize("logs", [True, False])
def test_a_run_in_stages_names_the_folder_and_the_stage_it_resumes_from_once(logs, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(ProgressiveTrainingArguments, "should_log", logs)  # of several processes one does
    monkeypatch.setattr(scripts.logger, "warning", said.append)
    for place in ("general_stage/checkpoint-9", "final_stage/checkpoint-2"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "trainer_state.json").write_text("{}")
    args = ProgressiveTrainingArguments(
        output_dir=str(tmp_path), do_train=True, teacher_checkpoints=["t"], report_to="none", use_cpu=True
    )
    assert scripts.checkpoint_to_resume(args) is True
    line = f"Resuming from {tmp_path}/final_stage/checkpoint-2. To start over, pass --overwrite_output_dir true."
    assert said == [line] * logs


def test_a_folder_in_use_is_refused_before_a_checkpoint_is_chosen_and_free_after_the_run(tmp_path, arguments):
    args, models = (
        arguments(output_dir=str(tmp_path / "output"), do_train=True),
        FineTuningArguments(model_name_or_path="a"),
    )
    (tmp_path / "output" / "checkpoint-2").mkdir(parents=True)
    (tmp_path / "output" / "checkpoint-2" / "trainer_state.json").write_text("{}")
    with (
        folder_lock(tmp_path / "output", "training", timeout=0),
        pytest.raises(FolderInUseError, match="output is in use by process"),
    ):
        scripts.prepare_run(args, models)
    assert scripts.prepare_run(args, models) == str(tmp_path / "output" / "checkpoint-2")
    with pytest.raises(FolderInUseError), folder_lock(tmp_path / "output", "training", timeout=0):
        pass
    with training_lock(args), ThreadPoolExecutor(1) as other, pytest.raises(FolderInUseError):
        other.submit(lambda: training_lock(args).__enter__()).result()  # the trainer may, another thread may not
    with used_folder.output_folder_in_use(arguments(output_dir=str(tmp_path / "empty"), do_train=True)):
        assert (tmp_path / "empty").is_dir()
    assert not (tmp_path / "empty").exists()
    trainer = Mock(args=args, **{"train.side_effect": ValueError("diverged")})
    with pytest.raises(ValueError, match="diverged"):
        scripts.run(trainer, None, "text-classification")
    with folder_lock(tmp_path / "output", "training", timeout=0):
        scripts.prepare_run(arguments(output_dir=str(tmp_path / "output"), do_eval=True), models)


@dataclasses.dataclass
class Arguments(OutputFolderArguments, DistillationTrainingArguments):
    """What scripts have."""


@pytest.fixture
def used(tmp_path):
    """An output folder with two checkpoints, one of them never finished, those of a stage, and other files."""
    for name in ("checkpoint-2", "checkpoint-10", "general_stage/checkpoint-5"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("checkpoint-2/trainer_state.json", "model.safetensors", "notes.txt", "checkpoint-old.txt"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_a_run_that_starts_over_does_not_mix_with_another(used):
    def found(**options):
        args = Arguments(output_dir=str(used), do_train=True, report_to="none", **options)
        return scripts.checkpoint_to_resume(args)

    before = sorted(used.rglob("*"))
    with pytest.raises(
        ValueError, match=r"checkpoint-10, 3 in all.*another --output_dir, or .* --overwrite_output_dir"
    ):
        found(resume_from_checkpoint="false")
    with pytest.raises(ValueError, match=r"either overwrite_output_dir, .* or resume_from_checkpoint, .* got both"):
        found(resume_from_checkpoint="true", overwrite_output_dir=True)
    with (
        folder_lock(used, "training", timeout=0),
        pytest.raises(FolderInUseError, match=r"in use by process .* training"),
    ):
        found(overwrite_output_dir=True)
    assert sorted(used.rglob("*")) == before
    assert found(overwrite_output_dir=True) is None
    assert {path.name for path in used.iterdir()} == {
        "general_stage",
        "model.safetensors",
        "notes.txt",
        "checkpoint-old.txt",
    }
    assert not list((used / "general_stage").iterdir())
    assert found(resume_from_checkpoint="false") is None


def test_what_was_never_finished_or_belongs_to_another_kind_of_run(used, arguments, monkeypatch):
    said = []
    monkeypatch.setattr(used_folder.logger, "warning", said.append)
    (used / "checkpoint-2" / "trainer_state.json").unlink()
    args = arguments(output_dir=str(used), do_train=True)
    assert scripts.checkpoint_to_resume(args) is None
    assert len(said) == 1 and "holds the model of an earlier run, which this run replaces" in said[0]
    (used / "general_stage" / "checkpoint-5" / "trainer_state.json").write_text("{}")
    with pytest.raises(ValueError, match="has checkpoints of an earlier run"):
        scripts.checkpoint_to_resume(args)


def test_splits_that_are_asked_for_must_be_there(arguments):
    stages = dict(do_train="train", do_eval="validation")
    assert scripts.require_splits({"train": 0}, arguments(do_train=True), **stages) == ["train"]
    with pytest.raises(ValueError, match=r"do_eval needs the split 'validation', got only \['test', 'train'\]"):
        scripts.require_splits({"train": 0, "test": 0}, arguments(do_train=True, do_eval=True), **stages)


def test_a_file_that_is_not_there_is_named_with_those_like_it(tmp_path):
    (tmp_path / "reviews[1].csv").write_text("text\n")
    scripts.require_source({"train_file": str(tmp_path / "reviews[1].csv")}, (".csv",), dataset_name=None)
    with pytest.raises(ValueError, match=r"existing .csv file, got '.*reviws\[1\].csv'; similar are \['.*reviews"):
        scripts.require_source({"train_file": str(tmp_path / "reviws[1].csv")}, (".csv",), dataset_name=None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "model_name_or_path, model_type or config_name, got none"),
        ({"model_type": "brt"}, r"an architecture of transformers, got 'brt'. Did you mean 'bert'\?"),
        ({"model_name_or_path": "x", "config_overrides": "hidden_size=1"}, "of model_type only"),
    ],
)
def test_a_model_must_come_from_somewhere(given, message):
    with pytest.raises(ValueError, match=message):
        AnyModelArguments(**given)
    with pytest.raises(ValueError, match="model_name_or_path must be a Hub id or a local path, got none"):
        FineTuningArguments()


def test_overrides_win_over_defaults():
    config = AnyModelArguments(model_type="bert", config_overrides="hidden_size=64").config(
        hidden_size=32, vocab_size=7
    )
    assert (config.hidden_size, config.vocab_size) == (64, 7)


def test_the_teacher_is_fetched_as_the_model_is(arguments, tmp_path):
    verbosity = transformers.logging.get_verbosity()
    try:
        models = FineTuningArguments(model_name_or_path="a", teacher_model_name_or_path="b", token="t", cache_dir="c")
        args = arguments(teacher_model_init_kwargs={"cache_dir": "own"}, teacher_revision="v1")
        scripts.prepare_run(args, models)
        assert teacher_options(args) == {"token": "t", "cache_dir": "own", "revision": "v1", "trust_remote_code": False}
        assert models.hub == {"token": "t", "cache_dir": "c", "revision": "main", "trust_remote_code": False}
    finally:
        transformers.logging.set_verbosity(verbosity)


def test_given_values_make_one_object_of_arguments_after_another(monkeypatch, tmp_path):
    command = ["script", "--output_dir", str(tmp_path), "--learning_rate", "0.5", "--recipe", "vanilla_kd"]
    monkeypatch.setattr("sys.argv", [*command, "--use_cpu", "--model_name_or_path", "a"])
    parser = HfArgumentParser((FineTuningArguments, DistillationTrainingArguments))
    given = scripts.parsed_values(parser, DistillationTrainingArguments)
    assert "model_name_or_path" not in given and given["learning_rate"] == 0.5
    args = DistillationTrainingArguments(**(given | {"max_steps": 3}))
    assert (args.learning_rate, args.max_steps, args.temperature) == (0.5, 3, 2.0)
    assert scripts.run_on_main_process(lambda: args.max_steps) == 3  # of one process the main one


@pytest.mark.parametrize("limit", [0, -2])
def test_a_limit_of_rows_is_not_counted_from_the_end(limit):
    rows = Dataset.from_dict({"text": ["a", "b", "c"]})
    assert [len(scripts.first_rows(rows, most)) for most in (None, 1, 9)] == [3, 1, 3]
    with pytest.raises(ValueError, match=rf"must be at least 1, or None for all, got {limit}"):
        scripts.first_rows(rows, limit)
