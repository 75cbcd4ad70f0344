"""Scripts under accelerate launch, torchrun and deepspeed, on two processes, with the files in examples/launch."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from transformers import AutoModelForSequenceClassification

from tests.distributed.scenarios import zero
from tests.distributed.two_lines import changed_script
from tests.examples.test_run_glue import QUIET, REVIEWS, save_bert

pytest.importorskip("deepspeed")

REPOSITORY = Path(__file__).parents[2]
LAUNCH = REPOSITORY / "examples" / "launch"
LAUNCHED = "tests/distributed/launched.py"
STEPS = ["--max_steps", "3", "--per_device_train_batch_size", "2", "--logging_steps", "1", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A teacher, a student and a file of reviews."""
    folder = tmp_path_factory.mktemp("given")
    labels = ["negative", "positive"]
    with open(folder / "reviews.csv", "w", newline="") as file:
        rows = [(text, labels.index(label)) for text, label in REVIEWS]
        csv.writer(file).writerows([("sentence", "label"), *rows])
    return dict(
        teacher=save_bert(folder / "teacher", 32, 2, seed=1, labels=labels),
        student=save_bert(folder / "student", 16, 1, seed=0, labels=labels),
        reviews=str(folder / "reviews.csv"),
    )


def launch(*command):
    result = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *map(str, command[1:])],
        capture_output=True, text=True, timeout=900, cwd=REPOSITORY, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result


def run_glue(given, output, *more):
    return [
        "examples/run_glue.py", "--model_name_or_path", given["student"], "--teacher_model_name_or_path",
        given["teacher"], "--train_file", given["reviews"], "--validation_file", given["reviews"], "--do_train",
        "--do_eval", "--output_dir", output, *QUIET, *STEPS, *more,
    ]  # fmt: skip


def record_of(output):
    AutoModelForSequenceClassification.from_pretrained(output)
    return json.loads((output / "run.json").read_text())


@pytest.mark.parametrize("path", sorted(LAUNCH.rglob("*.yaml")), ids=lambda path: path.stem)
def test_launch_files_say_what_their_names_say(path):
    config, name = load_config_from_file(str(path)), path.stem
    if name.startswith("zero"):
        assert config.distributed_type == "DEEPSPEED" and config.deepspeed_config["zero_stage"] == int(name[4])
        assert config.deepspeed_config["offload_optimizer_device"] == ("cpu" if "offload" in name else "none")
    elif name == "fsdp2":
        assert config.distributed_type == "FSDP" and config.fsdp_config["fsdp_version"] == 2
    else:
        assert config.distributed_type == "MULTI_GPU" and config.num_machines == (2 if name == "multi_node" else 1)
    assert config.use_cpu == (path.parent.name == "cpu" and name == "ddp") and config.num_processes > 1


def test_two_lines_of_a_stock_script_make_it_distil_under_zero2(given, tmp_path):
    (tmp_path / "script.py").write_text(changed_script(given["teacher"]))
    result = launch(
        "accelerate", "launch", "--config_file", LAUNCH / "cpu/zero2.yaml", LAUNCHED, tmp_path / "script.py",
        "--model_name_or_path", given["student"], "--train_file", given["reviews"], "--output_dir", tmp_path / "output",
        *QUIET, *STEPS,
    )  # fmt: skip
    assert result.stderr.count("trained by DistillationTrainer in DeepSpeedEngine 2") == 2
    record = record_of(tmp_path / "output")
    assert record["training"]["processes"] == 2 and record["teacher"]["hidden_size"] == 32


def test_an_example_runs_unchanged_under_accelerate(given, tmp_path):
    launch("accelerate", "launch", "--config_file", LAUNCH / "cpu/ddp.yaml", LAUNCHED, *run_glue(given, tmp_path))
    record = record_of(tmp_path)
    assert record["training"]["processes"] == 2 and record["training"]["steps"] == 3


def test_an_example_shrinks_its_student_under_torchrun(given, tmp_path):
    shrinking = ["--recipe", "homodistil", "--target_hidden_size", "16", "--pruning_events", "2"]
    glue = run_glue({**given, "student": given["teacher"]}, tmp_path, *shrinking)
    launch("torchrun", "--nproc_per_node=2", "--standalone", LAUNCHED, *glue)
    assert record_of(tmp_path)["student"]["hidden_size"] == 16


def test_an_example_follows_a_trajectory_under_the_deepspeed_launcher(given, tmp_path):
    (tmp_path / "zero2.json").write_text(json.dumps(zero(2)))
    glue = run_glue(given, tmp_path / "output", "--deepspeed", tmp_path / "zero2.json", "--final_stage_steps", "2")
    at = glue.index("--teacher_model_name_or_path")
    glue[at : at + 2] = ["--teacher_checkpoints", given["teacher"]]
    launch("deepspeed", "--num_accelerators", "2", "--master_port", "29533", LAUNCHED, *glue)
    assert [stage["name"] for stage in record_of(tmp_path / "output")["stages"]] == ["general_stage", "final_stage"]
