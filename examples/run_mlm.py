r"""Train or distill an encoder by masked language modeling, on a dataset of the Hub or on text, CSV and JSON files.

Accepts the arguments of transformers' examples/pytorch/language-modeling/run_mlm.py and those of
`ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Task-agnostic distillation:

    python examples/run_mlm.py --teacher_model_name_or_path google-bert/bert-base-uncased --recipe distilbert \
        --model_type bert --config_overrides num_hidden_layers=6 --train_file corpus.txt \
        --learning_rate 5e-4 --do_train --do_eval --output_dir outputs/student

Or prune a copy of the teacher while it is distilled (HomoDistil):

    python examples/run_mlm.py --model_name_or_path google-bert/bert-base-uncased --recipe homodistil \
        --teacher_model_name_or_path google-bert/bert-base-uncased --target_hidden_size 384 --train_file corpus.txt \
        --do_train --do_eval --output_dir outputs/narrow
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from datasets import IterableDataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.data.corpus import Texts, column_of_texts, packed
from hf_distill.data.files import load_files, load_named
from hf_distill.evaluation.metrics import perplexity
from hf_distill.pretrained.origin import note_random_weights
from hf_distill.pretrained.reports import from_pretrained
from hf_distill.resources.built_in import UNLABELED_TEXTS, load_unlabeled
from hf_distill.scripts.models import (
    AnyModelArguments,
    config_of_teacher,
    load_student,
    teacher_options,
    tokenizer_of_teacher,
)
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
from hf_distill.teachers.alignment import require_same_vocabulary
from hf_distill.trainers.objective_builder import has_trained_head

logger = transformers.logging.get_logger("transformers.examples.run_mlm")

FILE_TYPES = (".txt", ".csv", ".json", ".jsonl")
SHUFFLING_SEED = 0  # of built-in texts
LONGEST_BLOCK = 1024  # for tokenizers without a limit of their own, as in transformers' script


@dataclass
class ModelArguments(AnyModelArguments):
    """The models to start from; with --recipe minilmv2 or tinybert_general the teacher can be any encoder."""

    tokenizer_name: str | None = HfArg(
        default=None, help="Hub id or path of the tokenizer. None: the model's, else the teacher's."
    )
    dtype: str | None = HfArg(default=None, help="Load the weights as float32, bfloat16 or float16. None: float32.")


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    dataset_name: str | None = HfArg(
        default=None,
        help=f"A dataset of the Hub, a local folder with one, or built-in {', '.join(UNLABELED_TEXTS)}.",
    )
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(
        default=None,
        help="Texts: .txt with one per line; .csv or .json with the column text or else the first of strings.",
    )
    validation_file: str | None = HfArg(default=None, help="Texts for --do_eval, in the same form.")
    text_column_name: str | None = HfArg(default=None, help="Column of texts. None: text, else the first of strings.")
    validation_split_percentage: int = HfArg(
        default=5, help="Percentage of training texts used for validation if there are no others."
    )
    max_seq_length: int | None = HfArg(
        default=None, help="Maximum tokens of a block or line. None: the tokenizer's, at most 1024."
    )
    mlm_probability: float = HfArg(default=0.15, help="Share of the tokens that are masked and predicted.")
    line_by_line: bool = HfArg(
        default=False, help="Use every text as one example. False: blocks of concatenated texts."
    )
    pad_to_max_length: bool = HfArg(
        default=False, help="Pad lines to --max_seq_length instead of to the longest of the batch."
    )
    max_train_samples: int | None = HfArg(
        default=None, help="Use this many training examples (blocks or lines). None: all."
    )
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation examples. None: all.")
    streaming: bool = HfArg(default=False, help="Stream the data during training; needs --max_steps.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    preprocessing_num_workers: int | None = HfArg(default=None, help="Number of processes that tokenize. None: one.")

    def __post_init__(self) -> None:
        files = {"train_file": self.train_file, "validation_file": self.validation_file}
        require_source(files, FILE_TYPES, dataset_name=self.dataset_name)
        if not 0 < self.validation_split_percentage < 100:
            raise ValueError(f"validation_split_percentage must be 1 to 99, got {self.validation_split_percentage}")
        if self.max_seq_length is not None and self.max_seq_length < 1:
            raise ValueError(f"max_seq_length must be at least 1, got {self.max_seq_length}")


def load_raw(model_args: ModelArguments, args: DataTrainingArguments) -> dict[str, Texts]:
    """Texts by split; without a validation set, a part of the training set is split off."""
    options = model_args.source | {"streaming": args.streaming}
    if args.dataset_name in UNLABELED_TEXTS:  # in the order of their sources, of which validation needs all
        raw = {"train": load_unlabeled(args.dataset_name).shuffle(seed=SHUFFLING_SEED)}
    elif args.dataset_name:
        raw = dict(load_named(args.dataset_name, args.dataset_config_name, **options))
    else:
        files = {"train": args.train_file, "validation": args.validation_file}
        raw = load_files({split: path for split, path in files.items() if path}, **options)
    if "train" in raw and "validation" not in raw:
        raw |= split_off_validation(raw["train"], args.validation_split_percentage)
    return raw


def split_off_validation(texts: Texts, percentage: int) -> dict[str, Texts]:
    """The first texts for validation and the others for training; in a stream, the first of every hundred."""
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
    start, teacher = model_args.model_name_or_path, model_args.teacher_model_name_or_path
    if model_args.tokenizer_name or start:
        tokenizer = AutoTokenizer.from_pretrained(model_args.tokenizer_name or start, **model_args.hub)
    elif teacher:
        tokenizer = tokenizer_of_teacher(teacher, args)
    else:
        raise ValueError("a model with random weights and no teacher needs tokenizer_name, which is None")
    # A teacher's embeddings may be padded beyond the tokenizer's words.
    words = config_of_teacher(teacher, args).vocab_size if teacher else len(tokenizer)
    config = model_args.config(vocab_size=words, pad_token_id=tokenizer.pad_token_id)
    if start:
        model = load_student(AutoModelForMaskedLM, start, config=config, dtype=model_args.dtype, **model_args.hub)
    else:
        code = {"trust_remote_code": model_args.trust_remote_code}
        model = AutoModelForMaskedLM.from_config(config, **code, dtype=model_args.dtype or torch.float32)
        note_random_weights(model)
        logger.info(f"Training from scratch: {model.num_parameters():,} parameters with random weights")
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer


def choose_teacher(
    name: str | None, args: DistillationTrainingArguments, tokenizer: PreTrainedTokenizerBase
) -> str | PreTrainedModel | None:
    """The teacher's name for the trainer, or the loaded model if only its body is trained and no logits are used."""
    if name is None or args.soft_label_weight != 0:
        return name
    kwargs = teacher_options(args)
    teacher, report = from_pretrained(AutoModelForMaskedLM, name, **kwargs)
    missing = sorted(report["missing_keys"])
    if not missing or any(key.startswith(f"{teacher.base_model_prefix}.") for key in missing):
        return name
    try:
        require_same_vocabulary(
            teacher.config, teacher.config, tokenizer, AutoTokenizer.from_pretrained(name, **kwargs)
        )
    except OSError:
        logger.warning(f"{name} comes without a tokenizer: only the sizes of the vocabularies are compared")
    logger.info(
        f"{name} has no trained head for masked words, and needs none: the student learns from its layers alone"
    )
    args.teacher_model_init_kwargs = args.teacher_revision = None  # they describe how to load by name
    return teacher


def encode(texts: Texts, tokenizer: PreTrainedTokenizerBase, args: DataTrainingArguments, limit: int | None) -> Texts:
    """Model inputs: one example per line, or blocks of equal length of concatenated texts."""
    length = min(args.max_seq_length or LONGEST_BLOCK, tokenizer.model_max_length)
    padding = "max_length" if args.pad_to_max_length else False
    columns = texts.column_names or list(next(iter(texts)))
    column = column_of_texts(texts, args.text_column_name)
    if column != "text":
        logger.info(f"Texts are read from the column {column}")

    def encode_lines(rows: dict[str, list]) -> dict[str, list]:
        lines = [line for line in rows[column] if line and not line.isspace()]
        return (
            dict(tokenizer(lines, truncation=True, max_length=length, padding=padding)) if lines else {"input_ids": []}
        )

    options = {}
    if not args.streaming:
        options = {
            "load_from_cache_file": not args.overwrite_cache,
            "num_proc": args.preprocessing_num_workers,
            "desc": "Tokenizing",
        }
    if args.line_by_line:
        encoded = texts.map(encode_lines, batched=True, remove_columns=columns, **options)
    else:
        encoded = packed(texts, tokenizer, length, column, **options)
    if args.streaming:
        return encoded if limit is None else encoded.take(limit)
    if len(encoded) == 0:
        raise ValueError(f"column {column!r} has no text, or fewer than max_seq_length ({length}) tokens: no example")
    return first_rows(encoded, limit)


def evaluate(trainer: DistillationTrainer, teacher_predicts: bool) -> dict[str, float]:
    """Metrics with the perplexity over the masked tokens, from the loss on the labels, where the head is trained."""
    metrics = trainer.evaluate()
    if not has_trained_head(trainer):
        return metrics
    if not teacher_predicts:
        metrics = {name: value for name, value in metrics.items() if not name.startswith("eval_teacher_")}
    return metrics | {"perplexity": perplexity(metrics)}


def main() -> None:
    model_args, data_args, args = parse_arguments(
        ModelArguments, DataTrainingArguments, ScriptTrainingArguments, description=__doc__
    )
    checkpoint = prepare_run(args, model_args)
    raw = load_raw(model_args, data_args)
    splits = require_splits(raw, args, do_train="train", do_eval="validation")
    model, tokenizer = load_model(model_args, args)
    teacher = choose_teacher(model_args.teacher_model_name_or_path, args, tokenizer)
    limits = {"train": data_args.max_train_samples, "validation": data_args.max_eval_samples}
    with args.main_process_first(desc="tokenizing"):
        data = {split: encode(raw[split], tokenizer, data_args, limits[split]) for split in splits}
    trainer = make_trainer(
        model,
        args,
        teacher,
        train_dataset=data.get("train"),
        eval_dataset=data.get("validation"),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=data_args.mlm_probability),
        processing_class=tokenizer,
    )
    pipeline = "fill-mask" if has_trained_head(trainer) else "feature-extraction"
    run(trainer, checkpoint, pipeline, evaluate=lambda trainer: evaluate(trainer, isinstance(teacher, str)))


if __name__ == "__main__":
    run_main(main)
