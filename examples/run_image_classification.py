r"""Fine-tune or distill an image classifier on folders of images, a dataset of the Hub, or scikit-learn's digits.

Accepts the arguments of transformers' examples/pytorch/image-classification/run_image_classification.py and those of
`ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Without a download:

    small=image_size=8,patch_size=2,num_channels=1,num_attention_heads=4
    python examples/run_image_classification.py --dataset_name digits --model_type vit \
        --config_overrides $small,hidden_size=64,intermediate_size=128,num_hidden_layers=4 \
        --do_train --do_eval --num_train_epochs 30 --learning_rate 1e-3 --output_dir outputs/teacher
    python examples/run_image_classification.py --dataset_name digits --model_type vit \
        --config_overrides $small,hidden_size=32,intermediate_size=64,num_hidden_layers=1 \
        --teacher_model_name_or_path outputs/teacher --recipe vanilla_kd \
        --do_train --do_eval --num_train_epochs 30 --learning_rate 1e-3 --output_dir outputs/student
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from datasets import ClassLabel, Dataset, load_dataset
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    ViTImageProcessorPil,
    default_data_collator,
)
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainingArguments
from hf_distill.data.class_names import label_names, positions
from hf_distill.data.sequences import encode_label, label_ids, label_values
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.pretrained.origin import note_random_weights
from hf_distill.resources.built_in import IMAGES
from hf_distill.scripts.datasets import load_named_splits
from hf_distill.scripts.models import (
    AnyModelArguments,
    config_of_teacher,
    load_student,
    require_training_labels,
    teacher_options,
)
from hf_distill.scripts.run import (
    ScriptTrainingArguments,
    first_rows,
    make_trainer,
    parse_arguments,
    prepare_run,
    require_splits,
    run,
)
from hf_distill.scripts.user_errors import run_main

logger = transformers.logging.get_logger("transformers.examples.run_image_classification")

READY = "pixel_values"  # a column that needs no image processor
SPLIT_SEED = 0  # the same validation images whatever the seed of the run


@dataclass
class ModelArguments(AnyModelArguments):
    """The models to start from."""

    image_processor_name: str | None = HfArg(
        default=None,
        help="Hub id or path of the image processor. None: the model's, else the teacher's, else a default.",
    )
    ignore_mismatched_sizes: bool = HfArg(
        default=False, help="Initialize weights of other shapes at random, such as another head."
    )


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    dataset_name: str | None = HfArg(
        default=None, help=f"A dataset of the Hub, a local folder with one, or built-in {', '.join(IMAGES)}."
    )
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_dir: str | None = HfArg(default=None, help="Training images, one folder per class.")
    validation_dir: str | None = HfArg(default=None, help="Images for --do_eval, in the same form.")
    train_val_split: float = HfArg(
        default=0.15, help="Share of training images used for validation if there are no others."
    )
    image_column_name: str = HfArg(default="image", help="Column of images; pixel_values are used unprocessed.")
    label_column_name: str = HfArg(default="label", help="Column of classes; not needed for soft labels alone.")
    augment: bool = HfArg(default=True, help="Train on random crops and horizontal flips; not for pixel_values.")
    max_train_samples: int | None = HfArg(default=None, help="Use this many training images, at random. None: all.")
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation images, at random. None: all.")

    def __post_init__(self) -> None:
        self.folders = {"train": self.train_dir, "validation": self.validation_dir}
        self.folders = {split: folder for split, folder in self.folders.items() if folder}
        if bool(self.dataset_name) == bool(self.folders):
            given = {"dataset_name": self.dataset_name, **self.folders}
            raise ValueError(f"data must come from either dataset_name or train_dir and validation_dir, got {given}")
        for split, folder in self.folders.items():
            if not Path(folder).is_dir():
                raise ValueError(f"{split}_dir must be an existing folder, got {folder!r}")
        if not 0 < self.train_val_split < 1:
            raise ValueError(f"train_val_split must lie between 0 and 1, got {self.train_val_split}")


def load_raw(model_args: ModelArguments, args: DataTrainingArguments) -> dict[str, Dataset]:
    """Images by split; without a validation set, a part of the training set is split off."""
    shared = model_args.source
    if args.dataset_name:
        raw = load_named_splits(args.dataset_name, IMAGES, args.dataset_config_name, **shared)
    else:  # one call per folder: their classes may differ, and are matched by name
        files = {split: {"train": f"{glob.escape(folder)}/**"} for split, folder in args.folders.items()}
        raw = {split: load_dataset("imagefolder", data_files=files[split], split="train", **shared) for split in files}
    for split, images in raw.items():
        column = images.features.get(args.label_column_name)
        if column is not None and not isinstance(column, ClassLabel):
            raw[split] = images.class_encode_column(args.label_column_name)
    if "train" in raw and "validation" not in raw:
        parts = raw["train"].train_test_split(args.train_val_split, seed=SPLIT_SEED)
        raw |= {"train": parts["train"], "validation": parts["test"]}
    return raw


def find_classes(raw: dict[str, Dataset], column: str, own: PretrainedConfig, teacher: PretrainedConfig | None) -> list:
    """The classes of the training images, else of the teacher, else of the model; in the model's order if it has them."""
    feature = raw["train"].features.get(column) if "train" in raw else None
    known = label_names(own)
    others = known if teacher is None else label_names(teacher)
    names = others if feature is None else list(feature.names)
    return names if positions(names, known) is None else known


def load_model(
    model_args: ModelArguments, args: DistillationTrainingArguments, raw: dict[str, Dataset], label_column: str
) -> tuple[PreTrainedModel, Any]:
    """Model and image processor; the trainer matches the teacher's outputs by class name."""
    start, teacher = model_args.model_name_or_path, model_args.teacher_model_name_or_path
    config = model_args.config()
    names = find_classes(raw, label_column, config, config_of_teacher(teacher, args))
    config.problem_type = "single_label_classification"
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in enumerate(names)}
    if start:
        sizes = {"ignore_mismatched_sizes": model_args.ignore_mismatched_sizes}
        model = load_student(AutoModelForImageClassification, start, config=config, **model_args.hub, **sizes)
    else:
        code = {"trust_remote_code": model_args.trust_remote_code}
        model = AutoModelForImageClassification.from_config(config, **code, dtype=torch.float32)
        note_random_weights(model)
        logger.info(f"Training from scratch: {model.num_parameters():,} parameters with random weights")
    if all(READY in images.column_names for images in raw.values()):
        return model, None
    if model_args.image_processor_name or start:
        return model, AutoImageProcessor.from_pretrained(model_args.image_processor_name or start, **model_args.hub)
    if teacher:
        return model, AutoImageProcessor.from_pretrained(teacher, **teacher_options(args))
    size = getattr(config, "image_size", 224)
    logger.info(f"Images are scaled to {size} x {size} pixels from 0 to 1")
    return model, ViTImageProcessorPil(size={"height": size, "width": size}, do_normalize=False)


def random_view(image: Image.Image) -> Image.Image:
    """A random crop of 8 to 100 % of the area with an aspect ratio up to 4:3, flipped with probability one half.

    Source: Szegedy et al. 2014, arXiv 1409.4842, section 6.
    """
    area, stretch, left, top, mirror = torch.rand(5).tolist()
    side = (0.08 + 0.92 * area) ** 0.5
    ratio = (3 / 4) ** (0.5 - stretch)  # root of the aspect ratio, which is 3:4 to 4:3
    width = min(image.width, max(1, round(image.width * side * ratio)))
    height = min(image.height, max(1, round(image.height * side / ratio)))
    x, y = int(left * (image.width - width + 1)), int(top * (image.height - height + 1))
    view = image.crop((x, y, x + width, y + height))
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirror < 0.5 else view


def prepare(
    images: Dataset,
    split: str,
    limit: int | None,
    args: DataTrainingArguments,
    model: PreTrainedModel,
    processor: Any,
) -> Dataset:
    """Model inputs, computed when they are read; with labels if the data have them."""
    augment = args.augment and split == "train" and processor is not None
    if augment:
        logger.info("Training images are random crops, and flipped at random; --no_augment leaves them as they are.")
    if limit is not None:  # at random, because images come sorted by class
        images = first_rows(images.shuffle(SPLIT_SEED), limit)
    ids, feature = label_ids(model.config), images.features.get(args.label_column_name)
    if feature is not None:
        ids.require(feature.names)
    if processor is not None and args.image_column_name not in images.column_names:
        raise ValueError(f"image_column_name is {args.image_column_name!r}, columns are {images.column_names}")
    mode, value_of = "L" if getattr(model.config, "num_channels", 3) == 1 else "RGB", label_values(feature)

    def encode(rows: dict[str, list]) -> dict[str, list]:
        if processor is None:
            pixels = rows[READY]
        else:
            views = [random_view(image) if augment else image for image in rows[args.image_column_name]]
            pixels = processor([view.convert(mode) for view in views], return_tensors="np")[READY]
        encoded = {READY: [torch.as_tensor(np.asarray(image, dtype=np.float32)) for image in pixels]}
        if feature is not None:
            encoded["labels"] = [encode_label(value_of(label), ids) for label in rows[args.label_column_name]]
        return encoded

    return images.with_transform(encode)


def main() -> None:
    model_args, data_args, args = parse_arguments(
        ModelArguments, DataTrainingArguments, ScriptTrainingArguments, description=__doc__
    )
    checkpoint = prepare_run(args, model_args)
    raw = load_raw(model_args, data_args)
    splits = require_splits(raw, args, do_train="train", do_eval="validation")
    teacher, advice = model_args.teacher_model_name_or_path, "name that of classes with --label_column_name"
    require_training_labels(args, teacher, raw, data_args.label_column_name, advice)
    model, processor = load_model(model_args, args, raw, data_args.label_column_name)
    args.remove_unused_columns = False  # the images are made into model inputs when they are read
    limits = {"train": data_args.max_train_samples, "validation": data_args.max_eval_samples}
    data = {split: prepare(raw[split], split, limits[split], data_args, model, processor) for split in splits}
    trainer = make_trainer(
        model,
        args,
        teacher,
        train_dataset=data.get("train"),
        eval_dataset=data.get("validation"),
        data_collator=default_data_collator,
        processing_class=processor,
        compute_metrics=glue_metric(None),
    )
    run(trainer, checkpoint, "image-classification")


if __name__ == "__main__":
    run_main(main)
