r"""Fine-tune or distill an encoder for token classification (entities, parts of speech, chunks), on a dataset or files.

Accepts the arguments of transformers' examples/pytorch/token-classification/run_ner.py and those of
`ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Fine-tune, then distill:

    python examples/run_ner.py --model_name_or_path google-bert/bert-base-cased --dataset_name lhoestq/conll2003 \
        --do_train --do_eval --output_dir outputs/teacher

    python examples/run_ner.py --model_name_or_path distilbert/distilbert-base-cased --dataset_name lhoestq/conll2003 \
        --teacher_model_name_or_path outputs/teacher --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from datasets import ClassLabel, Dataset
from transformers import AutoModelForTokenClassification, AutoTokenizer, DataCollatorForTokenClassification
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainer
from hf_distill.data.class_names import ClassIds, label_names, positions
from hf_distill.data.files import load_files
from hf_distill.data.sequences import STRINGS
from hf_distill.data.words import FIRST_TOKENS, MISSING, WordEncoder, word_label_column
from hf_distill.evaluation.token_classification import entity_metric, predicted_classes
from hf_distill.files import atomic_write
from hf_distill.resources.built_in import WORDS
from hf_distill.scripts.datasets import load_named_splits
from hf_distill.scripts.models import FineTuningArguments, config_of_teacher, load_student, require_training_labels
from hf_distill.scripts.reporting import report
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

logger = transformers.logging.get_logger("transformers.examples.run_ner")

FILE_TYPES = (".csv", ".json", ".jsonl")
# Models whose tokenizers read a word otherwise behind a space than without: every word of a list gets one.
PREFIX_SPACE = ("bart", "bloom", "deberta", "gpt2", "led", "longformer", "roberta")
STAGES = {"train": "train", "validation": "eval", "test": "predict"}  # as the arguments call them, by split
Splits = dict[str, Dataset]
Config = transformers.PretrainedConfig


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    task_name: str = HfArg(
        default="ner", help="ner, pos or chunk; the labels are in the column ner_tags, pos_tags or chunk_tags."
    )
    dataset_name: str | None = HfArg(
        default=None, help=f"A dataset of the Hub, a local folder with one, or built-in {', '.join(WORDS)}."
    )
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(default=None, help="Training data: .json, .jsonl, or .csv with lists in JSON.")
    validation_file: str | None = HfArg(default=None, help="Data for --do_eval; columns as in --train_file.")
    test_file: str | None = HfArg(default=None, help="Data for --do_predict; columns as in --train_file.")
    text_column_name: str | None = HfArg(
        default=None, help="Column of words. None: tokens, else the first column of lists."
    )
    label_column_name: str | None = HfArg(
        default=None, help="Column of labels. None: label, TASK_tags or labels, else the only other column of lists."
    )
    max_seq_length: int | None = HfArg(
        default=None, help="Maximum tokens of an input; longer ones are truncated. None: the model's maximum."
    )
    pad_to_max_length: bool = HfArg(
        default=False, help="Pad to --max_seq_length instead of to the longest of the batch."
    )
    label_all_tokens: bool = HfArg(
        default=False, help="Label all tokens of a word (I- after B-). False: the first token only."
    )
    return_entity_level_metrics: bool = HfArg(
        default=False, help="Also report precision, recall, F1 and number of each type of entity."
    )
    max_train_samples: int | None = HfArg(default=None, help="Use this many training examples. None: all.")
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation examples. None: all.")
    max_predict_samples: int | None = HfArg(default=None, help="Use this many test examples. None: all.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    preprocessing_num_workers: int | None = HfArg(default=None, help="Number of processes that tokenize. None: one.")

    def __post_init__(self) -> None:
        self.files = {f"{split}_file": getattr(self, f"{split}_file") for split in STAGES}
        require_source(self.files, FILE_TYPES, dataset_name=self.dataset_name)
        if self.max_seq_length is not None and self.max_seq_length < 1:
            raise ValueError(f"max_seq_length must be at least 1, got {self.max_seq_length}")

    def encoder(self, tokenizer: Any, ids: ClassIds) -> WordEncoder:
        """The encoder that makes model inputs."""
        how = self.max_seq_length, self.pad_to_max_length, self.label_all_tokens
        return WordEncoder(tokenizer, ids, *how, not self.overwrite_cache, self.preprocessing_num_workers)


def load_raw(model_args: FineTuningArguments, args: DataTrainingArguments) -> Splits:
    if args.dataset_name:
        return load_named_splits(args.dataset_name, WORDS, args.dataset_config_name, **model_args.source)
    files = {split: path for split in STAGES if (path := args.files[f"{split}_file"])}
    raw = load_files(files, **model_args.source)
    return {split: read_lists(data) if files[split].endswith(".csv") else data for split, data in raw.items()}


def read_lists(table: Dataset) -> Dataset:
    """The table of a .csv file, with columns of lists parsed from JSON."""
    firsts = {name: next((value for value in table[name] if value is not None), None) for name in table.column_names}
    columns = [name for name, value in firsts.items() if str(value).startswith("[")]

    def read(row: dict[str, str | None]) -> dict[str, list]:
        try:
            return {name: json.loads(row[name] or "[]") for name in columns}
        except ValueError as error:
            raise ValueError(f'lists must be written as JSON, such as ["EU", "rejects"], got {row}') from error

    return table.map(read, remove_columns=columns, desc="Reading lists")


def find_columns(raw: Splits, splits: list[str], args: DataTrainingArguments) -> tuple[str, str | None]:
    """The column of words, which every split has, and that of labels; None if no split has labels."""
    features = {name: feature for split in splits for name, feature in raw[split].features.items()}
    lists = [name for name, feature in features.items() if hasattr(feature, "feature")]
    text = args.text_column_name or next((name for name in ("tokens", *lists) if name in lists), None)
    for split in splits:
        found = raw[split].features
        if getattr(getattr(found.get(text), "feature", None), "dtype", None) not in STRINGS:
            raise ValueError(f"text_column_name must be lists of words, got {text!r}; {split} has {found}")
    given = args.label_column_name
    if given is not None and given not in {*lists} - {text}:
        raise ValueError(f"label_column_name must be lists of labels, got {given!r}; the columns are {features}")
    advice = "name the right one with --label_column_name"
    return text, given or word_label_column(features, text, args.task_name.lower(), advice)


def find_labels(raw: Splits, column: str | None, own: Config, teacher: Config | None) -> tuple[list[str], ClassIds]:
    """Class names in the order of the outputs, and the class of each name or number."""
    # The classes of the training data, else of the teacher, else of the model as it comes.
    source = teacher or own
    names = label_names(source)
    if "train" in raw and column in raw["train"].column_names:
        feature = raw["train"].features[column].feature
        rows = [] if isinstance(feature, ClassLabel) else raw["train"][column]
        found = {label for labels in rows for label in labels or () if label not in MISSING}
        if isinstance(feature, ClassLabel):
            names = feature.names
        elif not all(isinstance(label, int) for label in found):
            # A small training set may lack some of the teacher's classes.
            names = sorted(names if teacher is not None and found <= set(names) else found)
        elif max(found, default=0) >= len(names):
            names = [f"LABEL_{number}" for number in range(max(found) + 1)]
    # A head that knows these very classes may be trained: it keeps its order.
    order = positions(names, label_names(own)) or list(range(len(names)))
    in_order = [name for _, name in sorted(zip(order, names, strict=True))]
    return in_order, ClassIds.of(in_order, order)


def load_model(args: FineTuningArguments, names: list[str], config: Config) -> tuple:
    """Model and tokenizer; the trainer matches the teacher's outputs by class name."""
    config.id2label = dict(enumerate(names))
    config.label2id = {name: index for index, name in config.id2label.items()}
    tokenizer_name = args.tokenizer_name or args.model_name_or_path
    prefix = {"add_prefix_space": True} if config.model_type in PREFIX_SPACE else {}
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_name, **args.hub, **prefix)
    if not tokenizer.is_fast:
        raise ValueError(
            f"the tokenizer must be a fast one, {tokenizer_name!r} has the slow {type(tokenizer).__name__}"
        )
    sizes = {"ignore_mismatched_sizes": args.ignore_mismatched_sizes}
    model = load_student(AutoModelForTokenClassification, args.model_name_or_path, config=config, **args.hub, **sizes)
    return model, tokenizer


def predict(trainer: DistillationTrainer, dataset: Dataset, names: list[str]) -> None:
    """Write a line per sentence with a label per word; truncated words and words without a token get O."""
    output = trainer.predict(dataset.remove_columns(FIRST_TOKENS), metric_key_prefix="predict")
    report(trainer, "predict", output.metrics, dataset)
    lines = []
    for classes, starts in zip(predicted_classes(output.predictions, len(names)), dataset[FIRST_TOKENS], strict=True):
        lines.append(" ".join("O" if start is None else names[classes[start]] for start in starts))
    if unread := sum(starts.count(None) for starts in dataset[FIRST_TOKENS]):
        logger.warning(f"{unread} words are beyond max_seq_length or have no token: predictions.txt labels them O")
    if trainer.is_world_process_zero():
        atomic_write(Path(trainer.args.output_dir, "predictions.txt"), "\n".join([*lines, ""]))


def main() -> None:
    groups = FineTuningArguments, DataTrainingArguments, ScriptTrainingArguments
    model_args, data_args, args = parse_arguments(*groups, description=__doc__)
    checkpoint = prepare_run(args, model_args)
    raw = load_raw(model_args, data_args)
    splits = require_splits(raw, args, **{f"do_{stage}": split for split, stage in STAGES.items()})
    text, label = find_columns(raw, splits, data_args)
    teacher, config = model_args.teacher_model_name_or_path, model_args.config()
    require_training_labels(args, teacher, raw, label, "name the lists of labels with --label_column_name")
    teacher_config = config_of_teacher(teacher, args)
    names, ids = find_labels(raw, label, config, teacher_config)
    model, tokenizer = load_model(model_args, names, config)
    encode = data_args.encoder(tokenizer, ids)

    def prepare(split: str) -> Dataset:
        rows = first_rows(raw[split], getattr(data_args, f"max_{STAGES[split]}_samples"))
        return encode(rows, text, label, first_tokens=split == "test")

    with args.main_process_first(desc="tokenizing"):
        data = {split: prepare(split) for split in splits}
    trainer = make_trainer(
        model,
        args,
        teacher,
        train_dataset=data.get("train"),
        eval_dataset=data.get("validation"),
        data_collator=DataCollatorForTokenClassification(tokenizer),
        processing_class=tokenizer,
        compute_metrics=entity_metric(names, per_type=data_args.return_entity_level_metrics),
    )
    run(trainer, checkpoint, "token-classification", predict=lambda trainer: predict(trainer, data["test"], names))


if __name__ == "__main__":
    run_main(main)
