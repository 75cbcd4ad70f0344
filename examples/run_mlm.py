r"""Train or distil an encoder by masked language modelling, on a dataset of the Hub or on text, CSV and JSON files.

Takes the arguments of transformers' examples/pytorch/language-modeling/run_mlm.py and those of
`DistillationTrainingArguments`, on the command line or as one .json file. Task-agnostic distillation:

    python examples/run_mlm.py --teacher_model_name_or_path google-bert/bert-base-uncased --recipe distilbert \
        --model_type bert --config_overrides num_hidden_layers=6 --train_file corpus.txt \
        --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import transformers
from datasets import Dataset, IterableDataset, load_dataset
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg, HfArgumentParser
from transformers.trainer_utils import get_last_checkpoint

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.teachers.alignment import require_same_vocabulary

logger = transformers.logging.get_logger("transformers.run_mlm")

FILE_TYPES = {".txt": "text", ".csv": "csv", ".json": "json", ".jsonl": "json"}
LONGEST_BLOCK = 1024  # for tokenizers without a limit of their own, as in transformers' script
Texts = Dataset | IterableDataset


@dataclass
class ModelArguments:
    """Which models to start from."""

    model_name_or_path: str | None = HfArg(default=None, help="Weights to start from: Hub id or path. None: random.")
    teacher_model_name_or_path: str | None = HfArg(
        default=None,
        help="A masked language model, or with --recipe minilmv2 or tinybert_general any encoder. None: no teacher.",
    )
    model_type: str | None = HfArg(default=None, help="Architecture of a model with random weights, such as bert.")
    config_name: str | None = HfArg(default=None, help="Hub id or path of the configuration. None: the model's.")
    config_overrides: str | None = HfArg(default=None, help="Changes to it: hidden_size=256,num_hidden_layers=4.")
    tokenizer_name: str | None = HfArg(default=None, help="Its Hub id or path. None: the model's, else the teacher's.")
    cache_dir: str | None = HfArg(default=None, help="Where downloads are kept. None: the libraries' own caches.")
    model_revision: str = HfArg(default="main", help="Branch, tag or commit of the model.")
    token: str | None = HfArg(default=None, help="Access token of the Hub, for the model and the teacher.")
    trust_remote_code: bool = HfArg(default=False, help="Run code that comes with the model. Read it first.")
    dtype: str | None = HfArg(default=None, help="Load the weights as float32, bfloat16 or float16. None: as saved.")

    def __post_init__(self) -> None:
        if not (self.model_name_or_path or self.model_type or self.config_name):
            raise ValueError("the model must come from model_name_or_path, model_type or config_name, got none of them")
        if self.model_type and self.model_type not in CONFIG_MAPPING:
            raise ValueError(f"model_type must be an architecture of transformers, got {self.model_type!r}")
        if self.config_overrides and (self.config_name or self.model_name_or_path or not self.model_type):
            raise ValueError("config_overrides changes the configuration of model_type only, not a given one")


@dataclass
class DataTrainingArguments:
    """What to train and evaluate on."""

    dataset_name: str | None = HfArg(default=None, help="A dataset of the Hub, or a local folder with one.")
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(default=None, help=".txt, a text per line; .csv, .json: column text or the first.")
    validation_file: str | None = HfArg(default=None, help="Texts for --do_eval, in the same form.")
    validation_split_percentage: int = HfArg(default=5, help="Percent of the training texts, if no other are given.")
    max_seq_length: int | None = HfArg(default=None, help="Of a block or line. None: the tokenizer's, at most 1024.")
    mlm_probability: float = HfArg(default=0.15, help="Share of the tokens to be predicted.")
    line_by_line: bool = HfArg(default=False, help="Every text is one example. False: blocks cut from joined texts.")
    pad_to_max_length: bool = HfArg(default=False, help="Pad lines to --max_seq_length, not to the longest of a batch.")
    max_train_samples: int | None = HfArg(default=None, help="Use only this many training examples (blocks or lines).")
    max_eval_samples: int | None = HfArg(default=None, help="Use only this many validation examples.")
    streaming: bool = HfArg(default=False, help="Read the data while training; needs --max_steps.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    preprocessing_num_workers: int | None = HfArg(default=None, help="Processes that tokenize. None: one.")

    def __post_init__(self) -> None:
        names = ("train_file", "validation_file")
        self.files = {name: getattr(self, name) for name in names if getattr(self, name)}
        if bool(self.dataset_name) == bool(self.files):
            given = {"dataset_name": self.dataset_name, **self.files}
            raise ValueError(f"data must come from either dataset_name or train_file and validation_file, got {given}")
        for name, path in self.files.items():
            if Path(path).suffix not in FILE_TYPES or not Path(path).is_file():
                raise ValueError(f"{name} must be an existing {' or '.join(FILE_TYPES)} file, got {path!r}")
        if not 0 < self.validation_split_percentage < 100:
            raise ValueError(f"validation_split_percentage must be 1 to 99, got {self.validation_split_percentage}")
        if self.max_seq_length is not None and self.max_seq_length < 1:
            raise ValueError(f"max_seq_length must be at least 1, got {self.max_seq_length}")


def parse_arguments() -> tuple[ModelArguments, DataTrainingArguments, DistillationTrainingArguments]:
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, DistillationTrainingArguments))
    from_file = len(sys.argv) == 2 and sys.argv[1].endswith(".json")
    parsed = parser.parse_json_file(sys.argv[1]) if from_file else parser.parse_args_into_dataclasses()
    _, data_args, training_args = parsed
    if not (training_args.do_train or training_args.do_eval):
        raise ValueError("nothing to do: pass at least one of --do_train and --do_eval")
    if training_args.do_train and data_args.files and not data_args.train_file:
        raise ValueError(f"do_train needs train_file, got only {data_args.files}")
    return parsed


def checkpoint_to_continue(args: DistillationTrainingArguments) -> str | bool | None:
    """What resume_from_checkpoint means: a folder; true, the last checkpoint; false, none; unset, the last if any."""
    wanted = str(args.resume_from_checkpoint).lower()
    if wanted != "none":
        return {"true": True, "false": None}.get(wanted, args.resume_from_checkpoint)
    found = get_last_checkpoint(args.output_dir) if args.do_train and Path(args.output_dir).is_dir() else None
    if found is not None:
        logger.warning(f"Continuing from {found}. To start afresh, pass --resume_from_checkpoint false.")
    return found


def load_raw(model_args: ModelArguments, args: DataTrainingArguments) -> dict[str, Texts]:
    """The texts by split; a validation set is taken off the training set where there is none."""
    options = {"cache_dir": model_args.cache_dir, "token": model_args.token, "streaming": args.streaming}
    if args.dataset_name:
        raw = dict(load_dataset(args.dataset_name, args.dataset_config_name, **options))
    else:
        raw = {}
        for name, path in args.files.items():
            kind = FILE_TYPES[Path(path).suffix]
            # Only an empty field is a missing value: "None" and "NA" are words.
            reading = {"keep_default_na": False, "na_values": [""]} if kind == "csv" else {}
            raw[name.removesuffix("_file")] = load_dataset(kind, data_files=path, split="train", **reading, **options)
    if "train" in raw and "validation" not in raw:
        raw |= split_off_validation(raw["train"], args.validation_split_percentage)
    return raw


def split_off_validation(texts: Texts, percentage: int) -> dict[str, Texts]:
    """The first texts for validation and the others for training; of a stream the first of every hundred."""
    if isinstance(texts, IterableDataset):
        for_validation = texts.filter(lambda _, index: index % 100 < percentage, with_indices=True)
        for_training = texts.filter(lambda _, index: index % 100 >= percentage, with_indices=True)
        return {"validation": for_validation, "train": for_training}
    count = max(1, len(texts) * percentage // 100)
    return {"validation": texts.select(range(count)), "train": texts.select(range(count, len(texts)))}


def load_model(
    model_args: ModelArguments, args: DistillationTrainingArguments
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Student and tokenizer; a student with random weights gets the vocabulary of its teacher."""
    code = {"trust_remote_code": model_args.trust_remote_code}
    hub = {"cache_dir": model_args.cache_dir, "token": model_args.token, "revision": model_args.model_revision, **code}
    dtype = {} if model_args.dtype is None else {"dtype": model_args.dtype}
    start, teacher = model_args.model_name_or_path, model_args.teacher_model_name_or_path
    teachers = {"revision": args.teacher_revision, **(args.teacher_model_init_kwargs or {})}
    if model_args.tokenizer_name or start:
        tokenizer = AutoTokenizer.from_pretrained(model_args.tokenizer_name or start, **hub)
    elif teacher:
        tokenizer = AutoTokenizer.from_pretrained(teacher, **teachers)
    else:
        raise ValueError("a model with random weights and no teacher needs tokenizer_name, which is None")
    if model_args.config_name or start:
        config = AutoConfig.from_pretrained(model_args.config_name or start, **hub)
    else:
        config = CONFIG_MAPPING[model_args.model_type]()
        # A teacher's embeddings may be padded beyond the tokenizer's words.
        config.vocab_size = AutoConfig.from_pretrained(teacher, **teachers).vocab_size if teacher else len(tokenizer)
        config.pad_token_id = tokenizer.pad_token_id
        if model_args.config_overrides:
            config.update_from_string(model_args.config_overrides)
    if start:
        model = AutoModelForMaskedLM.from_pretrained(start, config=config, **hub, **dtype)
    else:
        model = AutoModelForMaskedLM.from_config(config, **code, **dtype)
        logger.info(f"Training from scratch: {model.num_parameters():,} parameters with random weights")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer


def choose_teacher(
    name: str | None, args: DistillationTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> str | PreTrainedModel | None:
    """The teacher's name for the trainer to load; as a model if only its body was trained and no prediction is used."""
    if name is None or args.soft_label_weight != 0:
        return name
    kwargs = args.teacher_model_init_kwargs | {"revision": args.teacher_revision}
    teacher, report = AutoModelForMaskedLM.from_pretrained(name, output_loading_info=True, **kwargs)
    missing = sorted(report["missing_keys"])
    if not missing or any(key.startswith(f"{teacher.base_model_prefix}.") for key in missing):
        return name
    try:
        require_same_vocabulary(
            teacher.config, teacher.config, tokenizer, AutoTokenizer.from_pretrained(name, **kwargs)
        )
    except OSError:
        logger.warning(f"{name} comes without a tokenizer: only the sizes of the vocabularies are compared")
    logger.warning(f"{name} has no trained {missing}: its predictions are random, and nothing is learned from them")
    args.teacher_model_init_kwargs = args.teacher_revision = None  # they describe how to load by name
    return teacher


def encode(texts: Texts, tokenizer: PreTrainedTokenizerBase, args: DataTrainingArguments, limit: int | None) -> Texts:
    """Model inputs: one example per line, or blocks of equal length cut from all texts in a row."""
    length = min(args.max_seq_length or LONGEST_BLOCK, tokenizer.model_max_length)
    padding = "max_length" if args.pad_to_max_length else False
    columns = texts.column_names or list(next(iter(texts)))
    column = "text" if "text" in columns else columns[0]

    def encode_lines(rows: dict[str, list]) -> dict[str, list]:
        lines = [line for line in rows[column] if line and not line.isspace()]
        return (
            dict(tokenizer(lines, truncation=True, max_length=length, padding=padding)) if lines else {"input_ids": []}
        )

    def encode_blocks(rows: dict[str, list]) -> dict[str, list]:
        lines = [line for line in rows[column] if line and not line.isspace()]
        tokens = list(chain.from_iterable(tokenizer(lines, verbose=False)["input_ids"])) if lines else []
        starts = range(0, len(tokens) - length + 1, length)
        return {"input_ids": [tokens[start : start + length] for start in starts]}

    options = {"batched": True, "remove_columns": columns}
    if not args.streaming:
        options |= {"load_from_cache_file": not args.overwrite_cache, "num_proc": args.preprocessing_num_workers}
    encoded = texts.map(encode_lines if args.line_by_line else encode_blocks, **options)
    if args.streaming:
        return encoded if limit is None else encoded.take(limit)
    if len(encoded) == 0:
        raise ValueError(f"column {column!r} has no text, or fewer than max_seq_length ({length}) tokens: no example")
    return encoded.select(range(len(encoded))[:limit])


def report(trainer: DistillationTrainer, stage: str, metrics: dict[str, float], dataset: Texts) -> None:
    if isinstance(dataset, Dataset):
        metrics[f"{stage}_samples"] = len(dataset)
    trainer.log_metrics(stage, metrics)
    trainer.save_metrics(stage, metrics)


def evaluate(trainer: DistillationTrainer, teacher_predicts: bool) -> None:
    """Adds the perplexity over the masked tokens, from the loss that the labels give."""
    metrics = trainer.evaluate()
    if not teacher_predicts:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("eval_teacher_")}
    loss = metrics.get("eval_hard_label_loss", metrics["eval_loss"])
    metrics["perplexity"] = math.exp(loss) if loss < 700 else math.inf
    report(trainer, "eval", metrics, trainer.eval_dataset)


def main() -> None:
    model_args, data_args, args = parse_arguments()
    if args.should_log:
        transformers.logging.set_verbosity_info()
    transformers.logging.set_verbosity(args.get_process_log_level())
    checkpoint = checkpoint_to_continue(args)
    transformers.set_seed(args.seed)
    raw = load_raw(model_args, data_args)
    teacher_name = model_args.teacher_model_name_or_path
    source = {"cache_dir": model_args.cache_dir, "token": model_args.token}
    if teacher_name:
        args.teacher_model_init_kwargs = source | (args.teacher_model_init_kwargs or {})
    model, tokenizer = load_model(model_args, args)
    teacher = choose_teacher(teacher_name, args, tokenizer)
    stages = {"train": args.do_train, "validation": args.do_eval}
    limits = {"train": data_args.max_train_samples, "validation": data_args.max_eval_samples}
    wanted = [split for split, is_wanted in stages.items() if is_wanted]
    if not set(wanted) <= raw.keys():
        raise ValueError(f"the splits {wanted} are needed, got only {sorted(raw)}")
    with args.main_process_first(desc="tokenizing"):
        data = {split: encode(raw[split], tokenizer, data_args, limits[split]) for split in wanted}
    trainer = DistillationTrainer(
        model,
        args,
        teacher_model=teacher,
        train_dataset=data.get("train"),
        eval_dataset=data.get("validation"),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=data_args.mlm_probability),
        processing_class=tokenizer,
    )
    if args.do_train:
        result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        report(trainer, "train", result.metrics, trainer.train_dataset)
        trainer.save_state()
    if args.do_eval:
        evaluate(trainer, teacher_predicts=isinstance(teacher, str))
    if args.push_to_hub:
        trainer.push_to_hub(tasks="fill-mask")


if __name__ == "__main__":
    main()
