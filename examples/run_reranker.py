r"""Fine-tune or distill a reranker, which gives a pair of a query and a document one score, on CSV, JSON or Parquet files.

Accepts `ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Batches hold all candidates
of their queries, so --per_device_train_batch_size is at least the largest number of candidates. Fine-tune, then distill:

    python examples/run_reranker.py --model_name_or_path google-bert/bert-base-uncased --train_file queries.jsonl \
        --validation_file held_out.jsonl --do_train --do_eval --output_dir outputs/teacher

    python examples/run_reranker.py --model_name_or_path google/bert_uncased_L-4_H-256_A-4 --train_file queries.jsonl \
        --validation_file held_out.jsonl --teacher_model_name_or_path outputs/teacher --soft_label_loss margin_mse \
        --learning_rate 2e-4 --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from datasets import Dataset, concatenate_datasets
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainer, encode_for_teacher
from hf_distill.data.candidates import DOCUMENT, LABEL, QUERY, candidate_rows
from hf_distill.data.class_names import ClassIds, label_names
from hf_distill.data.files import load_files
from hf_distill.data.sequences import SequenceEncoder
from hf_distill.evaluation.ranking import ranking_metric
from hf_distill.files import atomic_write
from hf_distill.scripts.models import (
    FineTuningArguments,
    config_of_teacher,
    load_student,
    require_training_labels,
    teacher_options,
    token_type_ids_for_teacher,
)
from hf_distill.scripts.run import (
    ScriptTrainingArguments,
    make_trainer,
    parse_arguments,
    prepare_run,
    require_source,
    require_splits,
    run,
)
from hf_distill.scripts.user_errors import run_main

logger = transformers.logging.get_logger("transformers.examples.run_reranker")

FILE_TYPES = (".csv", ".json", ".jsonl", ".parquet")
# The flag that asks for a stage, its file, and its limit.
STAGES = {
    "train": ("do_train", "train_file", "max_train_queries"),
    "validation": ("do_eval", "validation_file", "max_eval_queries"),
    "test": ("do_predict", "test_file", "max_predict_queries"),
}


@dataclass
class ModelArguments(FineTuningArguments):
    """The models to start from."""

    teacher_tokenizer_name: str | None = HfArg(
        default=None, help="Tokenizer of a teacher with another vocabulary. None: the model's."
    )


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    train_file: str | None = HfArg(
        default=None,
        help="Training data, .csv, .json, .jsonl or .parquet, with the columns query, document, label (relevance, at least 0; "
        "not needed for the teacher's scores alone) and that of --query_column; or with query, positive and negatives (a list).",
    )
    validation_file: str | None = HfArg(
        default=None, help="Data for --do_eval; columns as in --train_file, with labels."
    )
    test_file: str | None = HfArg(default=None, help="Data for --do_predict; columns as in --train_file.")
    max_seq_length: int = HfArg(
        default=256, help="Maximum tokens of a query and a document; longer pairs are truncated."
    )
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    max_train_queries: int | None = HfArg(default=None, help="Use this many training queries. None: all.")
    max_eval_queries: int | None = HfArg(default=None, help="Use this many validation queries. None: all.")
    max_predict_queries: int | None = HfArg(default=None, help="Use this many test queries. None: all.")

    def __post_init__(self) -> None:
        require_source(self.files, FILE_TYPES)

    @property
    def files(self) -> dict[str, str | None]:
        return {file: getattr(self, file) for _, file, _ in STAGES.values()}


@dataclass
class RerankerTrainingArguments(ScriptTrainingArguments):
    """The training arguments, for data of queries."""

    query_column: str | None = HfArg(
        default="query_id",
        help="Column that says which query a row is a candidate of, numbers or texts; without it rows of the same query text "
        "are of one query. Every batch holds all candidates of its queries.",
    )


@dataclass
class Encoder:
    """Makes model inputs from pairs of texts, and the teacher's own inputs if it has any."""

    args: DataTrainingArguments
    tokenizer: Any
    teacher_tokenizer: Any
    segments: bool | None  # which of the two texts a token is of; None: where the model reads it

    def __call__(self, rows: Dataset, query_column: str) -> Dataset:
        """Model inputs from the columns query and document, with the number of the query."""
        length, texts = self.args.max_seq_length, [QUERY, DOCUMENT]
        encode = SequenceEncoder(
            self.tokenizer, ClassIds(), length, segments=self.segments, cached=not self.args.overwrite_cache
        )
        parts = [encode(rows, texts), rows.select_columns([query_column])]
        if self.teacher_tokenizer is not None:
            length = min(length, self.teacher_tokenizer.model_max_length)
            own = encode_for_teacher(rows.select_columns(texts), self.teacher_tokenizer, texts, max_length=length)
            parts.append(own.remove_columns(texts))
        return concatenate_datasets(parts, axis=1)


def prepare(rows: Dataset, stage: str, args: DataTrainingArguments, encode: Encoder, query_column: str) -> Dataset:
    """The model inputs of a stage; those to predict have no labels."""
    rows, limit = candidate_rows(rows, query_column), getattr(args, STAGES[stage][2])
    if limit is not None:
        if limit < 1:
            raise ValueError(f"{STAGES[stage][2]} must be at least 1, or None for all queries, got {limit}")
        rows = rows.select([row for row, query in enumerate(rows[query_column]) if query < limit])
    if stage == "validation" and LABEL not in rows.column_names:
        raise ValueError(f"--do_eval needs a column {LABEL!r} in --validation_file, got {rows.column_names}")
    if stage == "test" and LABEL in rows.column_names:
        rows = rows.remove_columns([LABEL])
    logger.info(f"{stage}: {len(rows)} candidates of {len(set(rows[query_column]))} queries")
    return encode(rows, query_column)


def load_model(args: ModelArguments, teacher_config: Any) -> tuple[Any, Any]:
    """A model with one output, named as the teacher's, and its tokenizer."""
    config = args.config()
    names = label_names(config if teacher_config is None else teacher_config)
    config.id2label = {0: names[0] if len(names) == 1 else "LABEL_0"}
    config.label2id = {name: index for index, name in config.id2label.items()}
    config.problem_type = "regression"
    tokenizer = AutoTokenizer.from_pretrained(args.tokenizer_name or args.model_name_or_path, **args.hub)
    sizes = {"ignore_mismatched_sizes": args.ignore_mismatched_sizes}
    model = load_student(
        AutoModelForSequenceClassification, args.model_name_or_path, config=config, **args.hub, **sizes
    )
    return model, tokenizer


def predict(trainer: DistillationTrainer, rows: Dataset, query_column: str) -> None:
    """Write the score of every candidate."""
    found = trainer.predict(rows, metric_key_prefix="predict").predictions
    scores = (found[0] if isinstance(found, tuple) else found).reshape(-1)
    if trainer.is_world_process_zero():
        lines = [
            f"{index}\t{query}\t{score:.4f}"
            for index, (query, score) in enumerate(zip(rows[query_column], scores, strict=True))
        ]
        header = "index\tquery\tscore"
        atomic_write(Path(trainer.args.output_dir, "predict_results.txt"), "\n".join([header, *lines]) + "\n")


def main() -> None:
    model_args, data_args, args = parse_arguments(
        ModelArguments, DataTrainingArguments, RerankerTrainingArguments, description=__doc__
    )
    checkpoint = prepare_run(args, model_args)
    raw = load_files(
        {split: path for split, (_, file, _) in STAGES.items() if (path := data_args.files[file])}, **model_args.source
    )
    require_splits(raw, args, do_train="train", do_eval="validation", do_predict="test")
    teacher, teacher_tokenizer = model_args.teacher_model_name_or_path, model_args.teacher_tokenizer_name
    first = {split: candidate_rows(rows.select(range(1)), args.query_column) for split, rows in raw.items()}
    require_training_labels(
        args, teacher, first, LABEL, "they are read from the column label, or positive and negatives"
    )
    model, tokenizer = load_model(model_args, config_of_teacher(teacher, args))
    if teacher_tokenizer:
        teacher_tokenizer = AutoTokenizer.from_pretrained(teacher_tokenizer, **teacher_options(args))
    segments = None if teacher_tokenizer else token_type_ids_for_teacher(model, teacher, args)
    encode = Encoder(data_args, tokenizer, teacher_tokenizer, segments)
    stages = [stage for stage, (flag, _, _) in STAGES.items() if getattr(args, flag)]
    with args.main_process_first(desc="tokenizing"):
        data = {stage: prepare(raw[stage], stage, data_args, encode, args.query_column) for stage in stages}
    trainer = make_trainer(
        model,
        args,
        teacher,
        teacher_processing_class=teacher_tokenizer,
        train_dataset=data.get("train"),
        eval_dataset=data.get("validation"),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=ranking_metric(data["validation"][args.query_column]) if args.do_eval else None,
    )
    run(
        trainer,
        checkpoint,
        "text-ranking",
        predict=lambda trainer: predict(trainer, data["test"], args.query_column),
    )


if __name__ == "__main__":
    run_main(main)
