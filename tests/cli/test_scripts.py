"""What the example scripts share."""

import pytest
import transformers
from transformers.hf_argparser import HfArgumentParser

from hf_distill import DistillationTrainingArguments
from hf_distill.cli import scripts
from hf_distill.cli.script_models import AnyModelArguments, FineTuningArguments, teacher_options


def test_words_that_look_missing_are_read_as_words(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("text,label\nNA,None\nnull,some\n,\n", encoding="utf-8")
    raw = scripts.load_files({"train": str(path)}, cache_dir=str(tmp_path / "cache"))
    assert raw["train"]["label"][:] == ["None", "some", None]
    assert raw["train"]["text"][:] == ["NA", "null", None]


def test_checkpoints_are_found_unless_refused(tmp_path, arguments):
    def found(**options):
        return scripts.checkpoint_to_continue(arguments(**{"output_dir": str(tmp_path), "do_train": True} | options))

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
    assert found(resume_from_checkpoint="false") is None
    assert found(do_train=False) is None
    with pytest.raises(ValueError, match=r"must be a checkpoint's folder, .* got 'absent'"):
        found(resume_from_checkpoint="absent")


def test_splits_that_are_asked_for_must_be_there(arguments):
    stages = dict(do_train="train", do_eval="validation")
    assert scripts.require_splits({"train": 0}, arguments(do_train=True), **stages) == ["train"]
    with pytest.raises(ValueError, match=r"do_eval needs the split 'validation', got only \['test', 'train'\]"):
        scripts.require_splits({"train": 0, "test": 0}, arguments(do_train=True, do_eval=True), **stages)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "model_name_or_path, model_type or config_name, got none"),
        ({"model_type": "brt"}, "an architecture of transformers, got 'brt'"),
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
        scripts.begin(args, models)
        assert teacher_options(args) == {"token": "t", "cache_dir": "own", "revision": "v1", "trust_remote_code": False}
        assert models.hub == {"token": "t", "cache_dir": "c", "revision": "main", "trust_remote_code": False}
    finally:
        transformers.logging.set_verbosity(verbosity)


def test_given_values_make_one_object_of_arguments_after_another(monkeypatch, tmp_path):
    command = ["script", "--output_dir", str(tmp_path), "--learning_rate", "0.5", "--recipe", "vanilla_kd"]
    monkeypatch.setattr("sys.argv", [*command, "--use_cpu", "--model_name_or_path", "a"])
    parser = HfArgumentParser((FineTuningArguments, DistillationTrainingArguments))
    given = scripts.given_values(parser, DistillationTrainingArguments)
    assert "model_name_or_path" not in given and given["learning_rate"] == 0.5
    args = DistillationTrainingArguments(**(given | {"max_steps": 3}))
    assert (args.learning_rate, args.max_steps, args.temperature) == (0.5, 3, 2.0)
    assert scripts.once(lambda: args.max_steps) == 3  # of one process the main one
