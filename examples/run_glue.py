r"""Fine-tune or distil an encoder on a GLUE task, a dataset of the Hub, or CSV and JSON files.

Takes the arguments of transformers' examples/pytorch/text-classification/run_glue.py and those of
`DistillationTrainingArguments`, on the command line or as one .json file. Fine-tune, then distil:

    python examples/run_glue.py --model_name_or_path google-bert/bert-base-uncased --task_name sst2 \
        --do_train --do_eval --output_dir outputs/teacher

    python examples/run_glue.py --model_name_or_path google/bert_uncased_L-4_H-256_A-4 --task_name sst2 \
        --teacher_model_name_or_path outputs/teacher --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from datasets import ClassLabel, Dataset, load_dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.hf_argparser import HfArg, HfArgumentParser
from transformers.trainer_utils import get_last_checkpoint

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.evaluation.metrics import glue_metric

logger = transformers.logging.get_logger("transformers.run_glue")

GLUE_TASKS = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
FILE_TYPES = {".csv": "csv", ".json": "json", ".jsonl": "json"}
STRINGS = ("string", "large_string")
# The flag that asks for a stage, its file, and its limit.
STAGES = {
    "train": ("do_train", "train_file", "max_train_samples"),
    "validation": ("do_eval", "validation_file", "max_eval_samples"),
    "test": ("do_predict", "test_file", "max_predict_samples"),
}
Splits = dict[str, Dataset]
Config = transformers.PretrainedConfig


@dataclass
class ModelArguments:
    """Which models to start from."""

    model_name_or_path: str = HfArg(help="The model to train: a Hub id or a local path.")
    teacher_model_name_or_path: str | None = HfArg(default=None, help="A model trained on the task. None: no teacher.")
    config_name: str | None = HfArg(default=None, help="Hub id or path of the configuration. None: the model's.")
    tokenizer_name: str | None = HfArg(default=None, help="Hub id or path of the tokenizer. None: the model's.")
    cache_dir: str | None = HfArg(default=None, help="Where downloads are kept. None: the libraries' own caches.")
    model_revision: str = HfArg(default="main", help="Branch, tag or commit of the model.")
    token: str | None = HfArg(default=None, help="Access token of the Hub, for the model and the teacher.")
    trust_remote_code: bool = HfArg(default=False, help="Run code that comes with the model. Read it first.")
    ignore_mismatched_sizes: bool = HfArg(default=False, help="Replace weights of other shapes, such as another head.")


@dataclass
class DataTrainingArguments:
    """What to train and evaluate on."""

    task_name: str | None = HfArg(default=None, help=f"A GLUE task: {', '.join(GLUE_TASKS)}.")
    dataset_name: str | None = HfArg(default=None, help="A dataset of the Hub, or a local folder with one.")
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(
        default=None,
        help="Training data, .csv, .json or .jsonl: the columns label (not needed to learn from a teacher's soft labels "
        "alone), and text or else the first one or two of strings.",
    )
    validation_file: str | None = HfArg(default=None, help="Data for --do_eval; columns as in --train_file.")
    test_file: str | None = HfArg(default=None, help="Data for --do_predict; columns as in --train_file.")
    max_seq_length: int = HfArg(default=128, help="Longer inputs are cut to this many tokens.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    pad_to_max_length: bool = HfArg(
        default=False,
        help="Pad every input to --max_seq_length, not to the longest of its batch. transformers' script does so by "
        "default, which wastes most of the computation and changes no result.",
    )
    max_train_samples: int | None = HfArg(default=None, help="Use only this many training examples.")
    max_eval_samples: int | None = HfArg(default=None, help="Use only this many validation examples.")
    max_predict_samples: int | None = HfArg(default=None, help="Use only this many test examples.")

    def __post_init__(self) -> None:
        self.files = {name: getattr(self, name) for _, name, _ in STAGES.values() if getattr(self, name)}
        self.task_name = self.task_name and self.task_name.lower()
        if self.task_name and self.task_name not in GLUE_TASKS:
            raise ValueError(f"task_name must be one of {GLUE_TASKS}, got {self.task_name!r}")
        sources = {"task_name": self.task_name, "dataset_name": self.dataset_name, "files": self.files}
        given = {name: source for name, source in sources.items() if source}
        if len(given) != 1:
            allowed = "exactly one of task_name, dataset_name and files (train_file, validation_file, test_file)"
            raise ValueError(f"data must come from {allowed}, got {given or 'none of them'}")
        for name, path in self.files.items():
            if Path(path).suffix not in FILE_TYPES or not Path(path).is_file():
                raise ValueError(f"{name} must be an existing {' or '.join(FILE_TYPES)} file, got {path!r}")


def parse_arguments() -> tuple[ModelArguments, DataTrainingArguments, DistillationTrainingArguments]:
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, DistillationTrainingArguments))
    from_file = len(sys.argv) == 2 and sys.argv[1].endswith(".json")
    parsed = parser.parse_json_file(sys.argv[1]) if from_file else parser.parse_args_into_dataclasses()
    model_args, data_args, training_args = parsed
    if not (training_args.do_train or training_args.do_eval or training_args.do_predict):
        raise ValueError("nothing to do: pass at least one of --do_train, --do_eval and --do_predict")
    for flag, file, _ in STAGES.values():
        if getattr(training_args, flag) and data_args.files and file not in data_args.files:
            raise ValueError(f"{flag} needs {file}, got only {data_args.files}")
    return model_args, data_args, training_args


def checkpoint_to_continue(args: DistillationTrainingArguments) -> str | None:
    """What resume_from_checkpoint means: a folder; true, the last checkpoint; false, none; unset, the last if any."""
    wanted = str(args.resume_from_checkpoint).lower()
    if not args.do_train or wanted == "false":
        return None
    searched = wanted in ("none", "true")
    folder = str(args.output_dir if searched else args.resume_from_checkpoint)
    found = None if not Path(folder).is_dir() else get_last_checkpoint(folder) if searched else folder
    if found is None and wanted != "none":
        raise ValueError(
            f"resume_from_checkpoint must be a checkpoint's folder, false, or true where output_dir has a checkpoint, got "
            f"{args.resume_from_checkpoint!r} and output_dir {args.output_dir!r}"
        )
    if found is not None:
        logger.warning(f"Continuing from {found}. To start afresh, pass --resume_from_checkpoint false.")
    return found


def load_raw(model_args: ModelArguments, data_args: DataTrainingArguments) -> Splits:
    shared = {"cache_dir": model_args.cache_dir, "token": model_args.token}
    if data_args.task_name:
        return load_dataset("nyu-mll/glue", data_args.task_name, **shared)
    if data_args.dataset_name:
        return load_dataset(data_args.dataset_name, data_args.dataset_config_name, **shared)
    raw = {}
    # One call per file: files loaded together must have the same columns, and a training set may lack labels.
    for split, (_, file, _) in STAGES.items():
        if path := data_args.files.get(file):
            file_type = FILE_TYPES[Path(path).suffix]
            # Only an empty field is a missing value: "None" and "NA" are words, and may be labels.
            reading = {"keep_default_na": False, "na_values": [""]} if file_type == "csv" else {}
            raw[split] = load_dataset(file_type, data_files=path, split="train", **reading, **shared)
    return raw


def find_labels(raw: Splits, own: Config, teacher: Config | None) -> tuple[list[str], dict[str, int]]:
    """Names of the classes in the order of the outputs, and the index each string stands for; none for regression."""
    # The classes of the training data, else of the teacher, else of the model as it comes.
    column = raw["train"].features.get("label") if "train" in raw else None
    source = teacher or own
    names = [str(source.id2label[index]) for index in range(source.num_labels)]
    if len(names) == 1 if column is None else str(column.dtype).startswith("float"):
        return [], {}
    if isinstance(column, ClassLabel):
        names = column.names
    elif column is not None:
        found = [str(value) for value in sorted(set(raw["train"].unique("label")) - {None})]
        if found != [str(number) for number in range(len(found))]:
            names = found
        elif teacher is None or teacher.num_labels != len(found):
            names = [f"LABEL_{number}" for number in found]
    ids = {name.casefold(): index for index, name in enumerate(names)}
    # A head that knows these very classes may be trained: it keeps its order.
    own_ids = {str(name).casefold(): index for index, name in own.id2label.items()}
    order = own_ids if own_ids.keys() == ids.keys() else ids
    by_number = {str(index): order[name] for name, index in ids.items()}
    return sorted(names, key=lambda name: order[name.casefold()]), by_number | order


def encode_label(value: Any, ids: dict[str, int]) -> int | float:
    """What a label is trained as: its class, for regression its value; a missing class as -100, which does not count."""
    key = str(value).casefold()
    if value is None and ids:
        return -100
    if value is None or (ids and key not in ids):
        allowed = list(ids) or "numbers, because the first are floats (in CSV files also integers with gaps)"
        raise ValueError(f"a row has the label {value!r}; allowed are {allowed}")
    return ids[key] if ids else float(value)


def load_model(args: ModelArguments, raw: Splits, teacher_revision: str | None) -> tuple:
    """Model, tokenizer, and classes; by the classes' names the trainer puts a teacher's outputs in order."""
    hub = {"cache_dir": args.cache_dir, "token": args.token, "trust_remote_code": args.trust_remote_code}
    teacher = args.teacher_model_name_or_path
    teacher_config = teacher and AutoConfig.from_pretrained(teacher, revision=teacher_revision, **hub)
    hub["revision"] = args.model_revision
    config = AutoConfig.from_pretrained(args.config_name or args.model_name_or_path, **hub)
    names, ids = find_labels(raw, config, teacher_config)
    config.problem_type = "single_label_classification" if names else "regression"
    config.id2label = dict(enumerate(names or ["LABEL_0"]))
    config.label2id = {name: index for index, name in config.id2label.items()}
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path, **hub)
    hub["ignore_mismatched_sizes"] = args.ignore_mismatched_sizes
    model = AutoModelForSequenceClassification.from_pretrained(args.model_name_or_path, config=config, **hub)
    return model, tokenizer, names, ids


def encode(raw: Dataset, texts: list[str], ids: dict[str, int], tokenizer: Any, args: DataTrainingArguments) -> Dataset:
    """Model inputs from the columns of texts, with labels where the data have them."""
    name_of = getattr(raw.features.get("label"), "int2str", lambda value: value)
    padding = "max_length" if args.pad_to_max_length else False
    max_length = min(args.max_seq_length, tokenizer.model_max_length)

    def encode_rows(rows: dict[str, list]) -> dict[str, list]:
        columns = [[text or "" for text in rows[name]] for name in texts]
        inputs = dict(tokenizer(*columns, truncation=True, max_length=max_length, padding=padding))
        if "label" in rows:
            inputs["labels"] = [encode_label(name_of(value), ids) for value in rows["label"]]
        return inputs

    cached = not args.overwrite_cache
    return raw.map(encode_rows, batched=True, remove_columns=raw.column_names, load_from_cache_file=cached)


def prepare(raw: Splits, stage: str, args: DataTrainingArguments, tokenizer: Any, ids: dict[str, int]) -> Splits:
    """Model inputs by split; the first split of a stage is the one watched during training."""
    features = (raw["train"] if "train" in raw else next(iter(raw.values()))).features
    strings = [name for name in features if name != "label" and getattr(features[name], "dtype", None) in STRINGS]
    texts = ["text"] if "text" in strings else strings[:2]
    flag, _, limit = STAGES[stage]
    prepared = {}
    for suffix in ("_matched", "_mismatched") if args.task_name == "mnli" and stage != "train" else ("",):
        data = raw.get(stage + suffix)
        if not texts or data is None or not set(texts) <= set(data.column_names):
            raise ValueError(f"{flag} needs a split {stage + suffix!r} with columns {texts or 'of strings'}, got {raw}")
        if stage == "test":  # GLUE keeps its test labels secret: they read -1
            data = data.select_columns(texts)
        data = data.select(range(len(data))[: getattr(args, limit)])
        logger.info(f"{stage + suffix}: {len(data)} examples, read from the columns {texts}")
        prepared[stage + suffix] = encode(data, texts, ids, tokenizer, args)
    return prepared


def evaluate(trainer: DistillationTrainer, splits: Splits) -> None:
    combined = {}
    # The run's record keeps the last evaluation: the matched split's.
    for split, dataset in reversed(splits.items()):
        metrics = trainer.evaluate(dataset) | {"eval_samples": len(dataset)}
        suffix = "_mm" if split.endswith("mismatched") else ""
        combined |= {f"{name}{suffix}": value for name, value in metrics.items()}
    trainer.log_metrics("eval", combined)
    trainer.save_metrics("eval", combined)


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
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    model_args, data_args, args = parse_arguments()
    if args.should_log:
        transformers.logging.set_verbosity_info()
    transformers.logging.set_verbosity(args.get_process_log_level())
    checkpoint = checkpoint_to_continue(args)
    transformers.set_seed(args.seed)
    raw = load_raw(model_args, data_args)
    model, tokenizer, names, ids = load_model(model_args, raw, args.teacher_revision)
    source = {"cache_dir": model_args.cache_dir, "token": model_args.token}
    if model_args.teacher_model_name_or_path:
        args.teacher_model_init_kwargs = source | (args.teacher_model_init_kwargs or {})
    stages = [stage for stage, (flag, _, _) in STAGES.items() if getattr(args, flag)]
    with args.main_process_first(desc="tokenizing"):
        data = {stage: prepare(raw, stage, data_args, tokenizer, ids) for stage in stages}
    trainer = DistillationTrainer(
        model,
        args,
        teacher_model=model_args.teacher_model_name_or_path,
        train_dataset=data["train"]["train"] if args.do_train else None,
        eval_dataset=next(iter(data["validation"].values())) if args.do_eval else None,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=glue_metric(data_args.task_name),
    )
    if args.do_train:
        metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
        metrics["train_samples"] = len(trainer.train_dataset)
        trainer.save_model()
        trainer.log_metrics("train", metrics)
        trainer.save_metrics("train", metrics)
        trainer.save_state()
    if args.do_eval:
        evaluate(trainer, data["validation"])
    if args.do_predict:
        predict(trainer, data["test"], data_args.task_name, names)
    if args.push_to_hub:
        trainer.push_to_hub(tasks="text-classification")


if __name__ == "__main__":
    main()
