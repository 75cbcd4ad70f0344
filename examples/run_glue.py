r"""Fine-tune or distill an encoder on a GLUE task, a dataset of the Hub, or CSV and JSON files.

Accepts the arguments of transformers' examples/pytorch/text-classification/run_glue.py and those of
`ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Fine-tune, then distill:

    python examples/run_glue.py --model_name_or_path google-bert/bert-base-uncased --task_name sst2 \
        --do_train --do_eval --output_dir outputs/teacher

    python examples/run_glue.py --model_name_or_path google/bert_uncased_L-4_H-256_A-4 --task_name sst2 \
        --teacher_model_name_or_path outputs/teacher --learning_rate 2e-4 --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from datasets import ClassLabel, Dataset, concatenate_datasets, load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.hf_argparser import HfArg

from hf_distill import (
    DistillationTrainer,
    encode_for_teacher,
)
from hf_distill.data.class_names import ClassIds, label_names, positions
from hf_distill.data.files import load_files
from hf_distill.data.sequences import LABEL_COLUMNS, SequenceEncoder, text_columns
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.files import atomic_write
from hf_distill.resources.built_in import TEXTS
from hf_distill.scripts.datasets import load_named_splits, recognized_label_column, splits_with_columns
from hf_distill.scripts.models import (
    FineTuningArguments,
    config_of_teacher,
    load_student,
    require_training_labels,
    teacher_options,
    token_type_ids_for_teacher,
)
from hf_distill.scripts.reporting import sample_counts
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

logger = transformers.logging.get_logger("transformers.examples.run_glue")

GLUE_TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
FILE_TYPES = (".csv", ".json", ".jsonl")
# The flag that asks for a stage, its file, and its limit.
STAGES = {
    "train": ("do_train", "train_file", "max_train_samples"),
    "validation": ("do_eval", "validation_file", "max_eval_samples"),
    "test": ("do_predict", "test_file", "max_predict_samples"),
}
LABELS_ADVICE = "no column is called label or labels, or has the model's classes; name it with --label_column_name"
Splits = dict[str, Dataset]
Config = transformers.PretrainedConfig


@dataclass
class ModelArguments(FineTuningArguments):
    """The models to start from."""

    teacher_tokenizer_name: str | None = HfArg(
        default=None, help="Tokenizer of a teacher with another vocabulary. None: the model's."
    )


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    task_name: str | None = HfArg(default=None, help=f"A GLUE task: {', '.join(GLUE_TASKS)}.")
    dataset_name: str | None = HfArg(
        default=None, help=f"A dataset of the Hub, a local folder with one, or built-in {', '.join(TEXTS)}."
    )
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(
        default=None,
        help="Training data, .csv, .json or .jsonl, with the column label (not needed for the teacher's soft labels alone), "
        "and the column text or else the first one or two columns of strings.",
    )
    validation_file: str | None = HfArg(default=None, help="Data for --do_eval; columns as in --train_file.")
    test_file: str | None = HfArg(default=None, help="Data for --do_predict; columns as in --train_file.")
    text_column_names: str | None = HfArg(
        default=None, help="Column of texts, or two columns a,b of text pairs. None: as described at --train_file."
    )
    label_column_name: str | None = HfArg(
        default=None,
        help="Column of labels. None: label or labels, else the only column whose values are the teacher's or the model's "
        "classes.",
    )
    max_seq_length: int = HfArg(default=128, help="Maximum tokens of an input; longer ones are truncated.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    pad_to_max_length: bool = HfArg(
        default=False,
        help="Pad every input to --max_seq_length instead of to the longest of its batch. transformers' script does so by "
        "default, which wastes most of the computation and changes no result.",
    )
    max_train_samples: int | None = HfArg(default=None, help="Use this many training examples. None: all.")
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation examples. None: all.")
    max_predict_samples: int | None = HfArg(default=None, help="Use this many test examples. None: all.")

    def __post_init__(self) -> None:
        self.task_name = self.task_name and self.task_name.lower()
        if self.task_name and self.task_name not in GLUE_TASKS:
            raise ValueError(f"task_name must be one of {GLUE_TASKS}, got {self.task_name!r}")
        require_source(self.files, FILE_TYPES, task_name=self.task_name, dataset_name=self.dataset_name)

    @property
    def files(self) -> dict[str, str | None]:
        return {file: getattr(self, file) for _, file, _ in STAGES.values()}

    @property
    def texts(self) -> list[str] | None:
        return self.text_column_names and [name.strip() for name in self.text_column_names.split(",")]


def load_raw(model_args: ModelArguments, data_args: DataTrainingArguments) -> Splits:
    if data_args.task_name:
        return load_dataset("nyu-mll/glue", data_args.task_name, **model_args.source)
    if data_args.dataset_name:
        name, config = data_args.dataset_name, data_args.dataset_config_name
        return load_named_splits(name, TEXTS, config, **model_args.source)
    files = {split: path for split, (_, file, _) in STAGES.items() if (path := data_args.files[file])}
    return load_files(files, **model_args.source)


def choose_columns(raw: Splits, args: DataTrainingArguments, known: Config) -> Splits:
    """The splits with their labels in the column label; `known` has the classes by which they are recognized."""
    names = {name for rows in raw.values() for name in rows.column_names}
    label = args.label_column_name or next((name for name in LABEL_COLUMNS if name in names), None)
    label = label or recognized_label_column(raw, known, "the teacher or the model (--label_column_name)")
    return splits_with_columns(raw, args.texts, label)


def find_labels(raw: Splits, own: Config, teacher: Config | None) -> tuple[list[str], ClassIds]:
    """Class names in the order of the outputs, and the class of each label; none for regression."""
    # The classes of the training data, else of the teacher, else of the model as it comes.
    column = raw["train"].features.get("label") if "train" in raw else None
    source = teacher or own
    names = label_names(source)
    if len(names) == 1 if column is None else str(column.dtype).startswith("float"):
        return [], ClassIds()
    if isinstance(column, ClassLabel):
        names = column.names
    elif column is not None:
        found = [str(value) for value in sorted(set(raw["train"].unique("label")) - {None})]
        if found != [str(number) for number in range(len(found))]:
            names = found
        elif teacher is None or teacher.num_labels != len(found):
            names = [f"LABEL_{number}" for number in found]
    # A head that knows these very classes may be trained: it keeps its order.
    order = positions(names, label_names(own)) or list(range(len(names)))
    in_order = [name for _, name in sorted(zip(order, names, strict=True))]
    return in_order, ClassIds.of(in_order, order)


def load_model(args: ModelArguments, raw: Splits, teacher_config: Config | None) -> tuple:
    """Model, tokenizer, and classes, by whose names the trainer matches the teacher's outputs."""
    config = args.config()
    names, ids = find_labels(raw, config, teacher_config)
    config.problem_type = "single_label_classification" if names else "regression"
    config.id2label = dict(enumerate(names or ["LABEL_0"]))
    config.label2id = {name: index for index, name in config.id2label.items()}
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path, **args.hub)
    sizes = {"ignore_mismatched_sizes": args.ignore_mismatched_sizes}
    model = load_student(
        AutoModelForSequenceClassification, args.model_name_or_path, config=config, **args.hub, **sizes
    )
    return model, tokenizer, names, ids


@dataclass
class Encoder:
    """Makes model inputs from texts, with labels if the data have them, and with the teacher's own inputs if it has any."""

    args: DataTrainingArguments
    tokenizer: Any
    ids: ClassIds
    teacher_tokenizer: Any = None
    segments: bool | None = None  # which of two texts a token is of; None: where the model reads it

    def __call__(self, raw: Dataset, texts: list[str]) -> Dataset:
        """Model inputs from the columns of texts."""
        length, args = self.args.max_seq_length, self.args
        encode = SequenceEncoder(
            self.tokenizer, self.ids, length, args.pad_to_max_length, self.segments, not args.overwrite_cache
        )
        inputs = encode(raw, texts)
        if self.teacher_tokenizer is None:
            return inputs
        length = min(length, self.teacher_tokenizer.model_max_length)
        own = encode_for_teacher(raw.select_columns(texts), self.teacher_tokenizer, texts, max_length=length)
        return concatenate_datasets([inputs, own.remove_columns(texts)], axis=1)


def prepare(raw: Splits, stage: str, args: DataTrainingArguments, encode: Encoder) -> Splits:
    """Model inputs by split; the first split of a stage is evaluated during training."""
    texts = text_columns((raw["train"] if "train" in raw else next(iter(raw.values()))).features)
    flag, _, limit = STAGES[stage]
    prepared = {}
    for suffix in ("_matched", "_mismatched") if args.task_name == "mnli" and stage != "train" else ("",):
        data = raw.get(stage + suffix)
        if not texts or data is None or not set(texts) <= set(data.column_names):
            raise ValueError(f"{flag} needs a split {stage + suffix!r} with columns {texts or 'of strings'}, got {raw}")
        if stage == "test":  # GLUE keeps its test labels secret: they read -1
            data = data.select_columns(texts)
        data = first_rows(data, getattr(args, limit))
        logger.info(f"{stage + suffix}: {len(data)} examples, read from the columns {texts}")
        prepared[stage + suffix] = encode(data, texts)
    return prepared


def evaluate(trainer: DistillationTrainer, splits: Splits) -> dict[str, float]:
    combined = {}
    # The run's record keeps the last evaluation: the matched split's.
    for split, dataset in reversed(splits.items()):
        counts = {f"eval_{name}": count for name, count in sample_counts(dataset).items()}
        metrics = trainer.evaluate(dataset) | counts
        suffix = "_mm" if split.endswith("mismatched") else ""
        combined |= {f"{name}{suffix}": value for name, value in metrics.items()}
    return combined


def predict(trainer: DistillationTrainer, splits: Splits, task_name: str | None, names: list[str]) -> None:
    for split, dataset in splits.items():
        logits = trainer.predict(dataset, metric_key_prefix="predict").predictions
        logits = logits[0] if isinstance(logits, tuple) else logits
        if names:
            answers = [names[index].removeprefix("LABEL_") for index in logits.argmax(axis=-1)]
        else:
            answers = [f"{value:.3f}" for value in logits.reshape(-1)]
        lines = ["index\tprediction", *(f"{index}\t{answer}" for index, answer in enumerate(answers))]
        suffix = (f"_{task_name}" if task_name else "") + ("-mm" if split.endswith("mismatched") else "")
        if trainer.is_world_process_zero():
            path = Path(trainer.args.output_dir, f"predict_results{suffix}.txt")
            atomic_write(path, "\n".join(lines) + "\n")


def main() -> None:
    model_args, data_args, args = parse_arguments(
        ModelArguments, DataTrainingArguments, ScriptTrainingArguments, description=__doc__
    )
    checkpoint = prepare_run(args, model_args)
    raw = load_raw(model_args, data_args)
    suffix = "_matched" if data_args.task_name == "mnli" else ""
    require_splits(raw, args, do_train="train", do_eval="validation" + suffix, do_predict="test" + suffix)
    teacher, teacher_tokenizer = model_args.teacher_model_name_or_path, model_args.teacher_tokenizer_name
    teacher_config = config_of_teacher(teacher, args)
    raw = choose_columns(raw, data_args, teacher_config or model_args.config())
    require_training_labels(args, teacher, raw, "label", LABELS_ADVICE)
    model, tokenizer, names, ids = load_model(model_args, raw, teacher_config)
    if teacher_tokenizer:
        teacher_tokenizer = AutoTokenizer.from_pretrained(teacher_tokenizer, **teacher_options(args))
    segments = None if teacher_tokenizer else token_type_ids_for_teacher(model, teacher, args)
    encode = Encoder(data_args, tokenizer, ids, teacher_tokenizer, segments)
    stages = [stage for stage, (flag, _, _) in STAGES.items() if getattr(args, flag)]
    with args.main_process_first(desc="tokenizing"):
        data = {stage: prepare(raw, stage, data_args, encode) for stage in stages}
    trainer = make_trainer(
        model,
        args,
        teacher,
        teacher_processing_class=teacher_tokenizer,
        train_dataset=data["train"]["train"] if args.do_train else None,
        eval_dataset=next(iter(data["validation"].values())) if args.do_eval else None,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=glue_metric(data_args.task_name),
    )
    run(
        trainer,
        checkpoint,
        "text-classification",
        evaluate=lambda trainer: evaluate(trainer, data["validation"]),
        predict=lambda trainer: predict(trainer, data["test"], data_args.task_name, names),
    )


if __name__ == "__main__":
    run_main(main)
