"""The image classification script, in this process: real 8x8 digits, and folders of a few drawn images."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
)

from hf_distill.resources.digits import load_digits_dataset

SCRIPT = Path(__file__).parents[2] / "examples" / "run_image_classification.py"
QUIET = ["--use_cpu", "true", "--bf16", "false", "--report_to", "none", "--disable_tqdm", "true"]
TRAINING = ["--learning_rate", "3e-3", "--save_strategy", "no", "--logging_steps", "10"]
EIGHT = "image_size=8,patch_size=4,num_channels=1,num_attention_heads=2"
TEACHER = f"{EIGHT},hidden_size=32,intermediate_size=64,num_hidden_layers=2"
STUDENT = f"{EIGHT},hidden_size=16,intermediate_size=32,num_hidden_layers=1"
DIGITS = ["--dataset_name", "digits", "--model_type", "vit", "--do_train", "--do_eval"]


def read_json(*parts: str | Path) -> dict:
    return json.loads(Path(*parts).read_text(encoding="utf-8"))


def losses_of(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_json(folder, "trainer_state.json")["log_history"] if "loss" in entry]


def draw(folder: Path, classes: dict[str, tuple], count: int = 12) -> str:
    """Images of one noisy colour per class."""
    noise = np.random.default_rng(0)
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(noise.normal(colour, 40, size=(20, 24, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return str(folder)


@pytest.fixture(scope="module", autouse=True)
def _caches_of_their_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("run_image_classification", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_image_classification"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["run_image_classification"]


@pytest.fixture(scope="module")
def run(script):
    """Calls main for an output folder."""

    def call(output: Path, *arguments: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["run_image_classification.py", "--output_dir", str(output), *arguments, *QUIET])
            script.main()
        return output

    verbosity = transformers.logging.get_verbosity()
    yield call
    transformers.logging.set_verbosity(verbosity)


@pytest.fixture(scope="module")
def digit_teacher(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("digits") / "teacher"
    return run(output, *DIGITS, "--config_overrides", TEACHER, "--num_train_epochs", "6", *TRAINING)


def test_digits_are_split_for_good_and_scaled():
    digits = load_digits_dataset()
    assert {split: len(images) for split, images in digits.items()} == {"train": 1197, "validation": 300, "test": 300}
    assert digits["train"].features["label"].names == list("0123456789")
    pixels = digits.with_format("numpy")["test"]["pixel_values"][:]
    assert (pixels.shape, pixels.dtype, pixels.min(), pixels.max()) == ((300, 1, 8, 8), np.float32, 0, 1)
    assert load_digits_dataset()["validation"]["label"][:] == digits["validation"]["label"][:]


def test_a_tiny_vit_learns_digits_from_labels(digit_teacher):
    results = read_json(digit_teacher, "all_results.json")
    assert results["eval_accuracy"] > 0.6  # chance is 0.1
    assert (results["train_samples"], results["eval_samples"]) == (1197, 300)
    assert "eval_teacher_agreement" not in results
    losses = losses_of(digit_teacher)
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("recipe", ["vanilla_kd", "minilmv2"])
def test_a_student_distils_digits_from_it(run, tmp_path, digit_teacher, recipe):
    student = run(tmp_path / "student", *DIGITS, "--config_overrides", STUDENT, "--num_train_epochs", "4", *TRAINING,
                  "--teacher_model_name_or_path", str(digit_teacher), "--recipe", recipe)  # fmt: skip
    losses = losses_of(student)
    assert losses[-1] < losses[0]
    results = read_json(student, "eval_results.json")
    assert {"eval_accuracy", "eval_teacher_agreement", "eval_teacher_kl", "eval_hard_label_loss"} <= results.keys()
    if recipe == "vanilla_kd":
        assert results["eval_accuracy"] > 0.4 and results["eval_teacher_agreement"] > 0.4
    else:
        assert results["eval_relation_loss"] == pytest.approx(results["eval_loss"])
    assert AutoModelForImageClassification.from_pretrained(student).config.hidden_size == 16
    assert AutoModel.from_pretrained(student)(torch.zeros(1, 1, 8, 8)).last_hidden_state.shape == (1, 5, 16)
