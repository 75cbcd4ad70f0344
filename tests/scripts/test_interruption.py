"""Ctrl-C ends a script with one line that says how to resume and exit code 130, without a traceback."""

from __future__ import annotations

import pytest

from hf_distill.scripts.interruption import EXIT_CODE, RESUME_SEVERAL_TRAININGS
from hf_distill.scripts.run import ScriptTrainingArguments, run
from hf_distill.scripts.user_errors import run_main
from tests.cli.commands import invoke
from tests.tiny_models import tiny_bert, tiny_tokenizer


def stopped(*_, **__):
    raise KeyboardInterrupt


def said(capsys) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.count("Interrupted.") == 1
    return err.strip()


@pytest.mark.parametrize(
    ("options", "advice"),
    [({}, "The same command starts over."), ({"trains_several": True}, RESUME_SEVERAL_TRAININGS)],
)
def test_a_script_says_how_to_resume(options, advice, capsys):
    with pytest.raises(SystemExit) as ended:
        run_main(stopped, **options)
    assert ended.value.code == EXIT_CODE == 130
    assert said(capsys) == f"Interrupted. {advice}"


def test_of_several_processes_one_says_so(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SystemExit) as ended:
        run_main(stopped)
    assert ended.value.code == 130 and capsys.readouterr().err == ""


class Stopped:
    """A trainer that is interrupted."""

    train = staticmethod(stopped)

    def __init__(self, args):
        self.args = args


@pytest.mark.parametrize(
    ("checkpoints", "options", "advice"),
    [
        ([], {}, r"output has no checkpoint to resume from, so the same command starts over; --save_steps sets after"),
        (["checkpoint-4"], {}, r"The same command resumes from .*output/checkpoint-4\."),
        (["checkpoint-4"], {"resume_from_checkpoint": "true"}, r"The same command resumes from .*checkpoint-4\."),
        (
            ["checkpoint-4"],
            {"resume_from_checkpoint": "elsewhere"},
            r"The same command with --resume_from_checkpoint true resumes from .*output/checkpoint-4\.",
        ),
        (
            ["checkpoint-4"],
            {"overwrite_output_dir": True},
            r"The same command without --overwrite_output_dir resumes from .*output/checkpoint-4\.",
        ),
        (
            ["general_stage/checkpoint-9", "final_stage/checkpoint-2"],
            {"teacher_checkpoints": ["t"]},
            r"resumes from .*output/final_stage/checkpoint-2\.",
        ),
    ],
)
def test_a_training_names_its_checkpoint_and_the_option(checkpoints, options, advice, tmp_path):
    folder = tmp_path / "output"
    for name in checkpoints:
        (folder / name).mkdir(parents=True)
        (folder / name / "trainer_state.json").write_text("{}")
    args = ScriptTrainingArguments(output_dir=str(folder), do_train=True, report_to="none", use_cpu=True, **options)
    with pytest.raises(KeyboardInterrupt, match=advice):
        run(Stopped(args), None, "text-classification")


@pytest.fixture
def teacher(tmp_path):
    """A folder with one, and texts for it."""
    tiny_bert(16, 1).save_pretrained(tmp_path / "teacher")
    tiny_tokenizer().save_pretrained(tmp_path / "teacher")
    (tmp_path / "texts.csv").write_text("text,label\n" + "w5 w6,0\nw7 w8 w9,1\n" * 4)
    return tmp_path / "teacher"


def test_labeling_says_that_it_resumes(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_distill.precomputed.label.label_transfer_set", stopped)
    command = ["label", tmp_path / "texts.csv", "--teacher", teacher, "--output-dir", tmp_path / "labeled"]
    assert (
        "Interrupted. The same command resumes with the file that was not finished"
        in invoke(*command, exit_code=130).stderr
    )


def test_a_distillation_says_how_to_resume(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_distill.trainers.distillation_trainer.DistillationTrainer.train", stopped)
    command = ["train", teacher, "--student", "1/16", "--dataset", tmp_path / "texts.csv", "--use_cpu"]
    result = invoke(*command, "--output-dir", tmp_path / "student", "--report_to", "none", exit_code=130)
    assert "student has no checkpoint to resume from" in result.stderr and "Aborted" not in result.output
