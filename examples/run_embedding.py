r"""Distill an embedder into a small one: layers of the teacher, and the tokens of your texts alone.

Accepts the arguments of `DistillationTrainingArguments` and of the output folder, on the command line or as one .json file:

    python examples/run_embedding.py --teacher_model_name_or_path intfloat/multilingual-e5-small --prefix "query: " \
        --student_shape 4/384 --trim_vocabulary --train_file texts.txt --do_train --do_eval --output_dir outputs/embedder

The folder is one that sentence-transformers, AutoModel and hf_distill.SentenceEncoder load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import datasets
import transformers
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.hf_argparser import HfArg

from hf_distill import SentenceEncoder, create_student, encode_for_teacher
from hf_distill.data.corpus import column_of_texts
from hf_distill.data.files import load_files, load_named
from hf_distill.pretrained.loading import SavedModel
from hf_distill.pruning import trim_vocabulary
from hf_distill.resources.built_in import UNLABELED_TEXTS, load_unlabeled
from hf_distill.scripts.models import TeacherArguments, teacher_options
from hf_distill.scripts.run import (
    ScriptTrainingArguments,
    first_rows,
    make_trainer,
    parse_arguments,
    prepare_run,
    require_source,
    require_splits,
    run,
)
from hf_distill.scripts.user_errors import run_main
from hf_distill.sentence_encoder import prompts_of

FILE_TYPES = (".txt", ".csv", ".json", ".jsonl")
SHUFFLING_SEED = 0


@dataclass
class ModelArguments(TeacherArguments):
    """The teacher and the student."""

    pooling: str | None = HfArg(
        default=None, help="How the teacher pools hidden states: mean, cls or last. None: as saved with it."
    )
    student_shape: str = HfArg(default="4/384", help="Layers and hidden size of the student, such as 4/384.")
    layers: str = HfArg(default="uniform", help="Layers of the teacher that it starts from: bottom, top or uniform.")
    trim_vocabulary: bool = HfArg(default=False, help="Keep only the tokens of the training texts.")
    student_name_or_path: str | None = HfArg(
        default=None, help="A student to start from in place of layers of the teacher, with a tokenizer of its own."
    )

    def __post_init__(self) -> None:
        if not self.teacher_model_name_or_path:
            raise ValueError("teacher_model_name_or_path must be a Hub id or a local path, got none")


@dataclass
class DataTrainingArguments:
    """The texts to train and evaluate on."""

    dataset_name: str | None = HfArg(
        default=None, help=f"A dataset of the Hub, a local folder with one, or built-in {', '.join(UNLABELED_TEXTS)}."
    )
    train_file: str | None = HfArg(
        default=None,
        help="Texts: .txt with one per line; .csv or .json with the column text or else the first of strings.",
    )
    validation_file: str | None = HfArg(default=None, help="Texts for --do_eval. None: a part of the others.")
    text_column_name: str | None = HfArg(default=None, help="Column of texts. None: text, else the first of strings.")
    validation_split_percentage: int = HfArg(default=5, help="Percentage of texts used for validation.")
    prefix: str | None = HfArg(
        default=None,
        help="What every text begins with, as the teacher expects it. None: its default prompt, as saved with it.",
    )
    max_seq_length: int = HfArg(default=128, help="Maximum tokens of a text; longer ones are truncated.")
    max_train_samples: int | None = HfArg(default=None, help="Use this many training texts. None: all.")
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation texts. None: all.")

    def __post_init__(self) -> None:
        files = {"train_file": self.train_file, "validation_file": self.validation_file}
        require_source(files, FILE_TYPES, dataset_name=self.dataset_name)
        if not 0 < self.validation_split_percentage < 100:
            raise ValueError(f"validation_split_percentage must be 1 to 99, got {self.validation_split_percentage}")


@dataclass
class EmbeddingTrainingArguments(ScriptTrainingArguments):
    """`ScriptTrainingArguments` whose recipe is "embedding" unless another is given."""

    def __post_init__(self) -> None:
        self.recipe = self.recipe or "embedding"
        super().__post_init__()


def load_texts(models: ModelArguments, args: DataTrainingArguments, prompt: str) -> dict[str, datasets.Dataset]:
    """Texts by split, each after the prompt, in the column text."""
    if args.dataset_name in UNLABELED_TEXTS:
        raw = {"train": load_unlabeled(args.dataset_name).shuffle(seed=SHUFFLING_SEED)}
    elif args.dataset_name:
        raw = dict(load_named(args.dataset_name, None, **models.source))
    else:
        files = {"train": args.train_file, "validation": args.validation_file}
        raw = load_files({split: path for split, path in files.items() if path}, **models.source)
    if "validation" not in raw and "train" in raw:
        count = max(1, len(raw["train"]) * args.validation_split_percentage // 100)
        raw["validation"] = raw["train"].select(range(count))
        raw["train"] = raw["train"].select(range(count, len(raw["train"])))
    limits = {"train": args.max_train_samples, "validation": args.max_eval_samples}
    return {
        split: prompted(first_rows(raw[split], limits[split]), args.text_column_name, prompt)
        for split in limits
        if split in raw
    }


def prompted(rows: datasets.Dataset, column: str | None, prompt: str) -> datasets.Dataset:
    column = column_of_texts(rows, column)
    transformers.logging.get_logger("transformers.examples").info(f"Texts are read from the column {column}")
    return datasets.Dataset.from_dict({"text": [prompt + text for text in rows[column]]})


def load_student(
    models: ModelArguments, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: datasets.Dataset
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The student with its tokenizer, which is the teacher's or has tokens of its own."""
    if models.student_name_or_path:
        own = SavedModel.find(models.student_name_or_path, **models.hub).needed_tokenizer()
        prompts = {"prompts": teacher.config.sentence_prompts, "default_prompt": teacher.config.sentence_default_prompt}
        return SentenceEncoder.from_pretrained(models.student_name_or_path, **prompts, **models.hub), own
    student = create_student(models.student_shape, teacher, layers=models.layers)
    if models.trim_vocabulary:
        student, tokenizer = trim_vocabulary(student, tokenizer, texts["text"])
    return student, tokenizer


def encode(rows: datasets.Dataset, tokenizer: Any, own: Any, length: int) -> datasets.Dataset:
    """The student's inputs, and the teacher's where it has a tokenizer of its own."""
    encoded = rows.map(
        lambda batch: dict(own(batch["text"], truncation=True, max_length=length)), batched=True, desc="Tokenizing"
    )
    return encoded if own is tokenizer else encode_for_teacher(encoded, tokenizer, "text", max_length=length)


def main() -> None:
    models, data, args = parse_arguments(
        ModelArguments, DataTrainingArguments, EmbeddingTrainingArguments, description=__doc__
    )
    checkpoint = prepare_run(args, models)
    name, options = models.teacher_model_name_or_path, teacher_options(args)
    prompts = {} if data.prefix is None else {"prompts": {"text": data.prefix}, "default_prompt": "text"}
    teacher = SentenceEncoder.from_pretrained(name, pooling=models.pooling, **prompts, **options)
    texts = load_texts(models, data, *prompts_of(teacher.config))
    splits = require_splits(texts, args, do_train="train", do_eval="validation")
    tokenizer = SavedModel.find(name, **options).needed_tokenizer()
    args.teacher_model_init_kwargs = args.teacher_revision = None  # they describe how to load by name
    student, own = load_student(models, teacher, tokenizer, texts.get("train", texts[splits[0]]))
    encoded = {split: encode(texts[split], tokenizer, own, data.max_seq_length) for split in splits}
    trainer = make_trainer(
        student,
        args,
        teacher,
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        processing_class=own,
        teacher_processing_class=None if own is tokenizer else tokenizer,
    )
    transformers.logging.get_logger("transformers.examples").info(f"{student.num_parameters():,} parameters")
    run(trainer, checkpoint, "sentence-similarity")


if __name__ == "__main__":
    run_main(main)
