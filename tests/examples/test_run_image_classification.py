"""The image classification script, in this process: real 8x8 digits, and folders of a few drawn images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForImageClassification,
)

from hf_distill.resources.digits import load_digits_dataset

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
    """Images of one noisy color per class."""
    noise = np.random.default_rng(0)
    for name, color in classes.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.clip(noise.normal(color, 40, size=(20, 24, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return str(folder)


@pytest.fixture(scope="module")
def run(run_main):
    """Calls main for an output folder."""

    def call(output: Path, *arguments: str) -> Path:
        run_main("--output_dir", str(output), *arguments, *QUIET)
        return output

    return call


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
    assert read_json(digit_teacher, "run.json")["student"]["initialization"] == "random"
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


def test_a_folder_with_brackets_is_read_and_images_without_a_class_do_not_count(script, tmp_path):
    folder = draw(tmp_path / "photos[1]", {"crane": (255, 0, 0), "None": (0, 255, 0)}, count=2)
    draw(tmp_path / "photos1", {"other": (0, 0, 255)}, count=1)  # what the name would find as a pattern
    arguments = script.DataTrainingArguments(train_dir=folder, validation_dir=folder, augment=False)
    models = script.ModelArguments(model_type="vit", cache_dir=str(tmp_path / "cache"))
    raw = script.load_raw(models, arguments)["validation"]
    assert raw.features["label"].names == ["None", "crane"] and len(raw) == 4
    rows = raw.map(lambda row, index: {"label": None if index == 0 else row["label"]}, with_indices=True)
    names = ["Crane", "crane", "none"]
    config = AutoConfig.for_model("vit", id2label=dict(enumerate(names)), image_size=8, num_channels=3)
    student = type("Student", (), {"config": config})
    processor = script.ViTImageProcessorPil(size={"height": 8, "width": 8})
    encoded = script.prepare(rows, "validation", None, arguments, student, processor)
    assert [row["labels"] for row in encoded] == [-100, *({0: 2, 1: 1}[label] for label in raw["label"][1:])]
