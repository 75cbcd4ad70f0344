r"""Fine-tune or distill a model for extractive question answering, on SQuAD, a dataset of the Hub, or JSON files.

Accepts the arguments of transformers' examples/pytorch/question-answering/run_qa.py and those of
`ScriptTrainingArguments` (all three trainers), on the command line or as one .json file. Fine-tune, then distill:

    python examples/run_qa.py --model_name_or_path google-bert/bert-base-uncased --dataset_name rajpurkar/squad \
        --do_train --do_eval --num_train_epochs 2 --learning_rate 3e-5 --output_dir outputs/teacher

    python examples/run_qa.py --model_name_or_path distilbert/distilbert-base-uncased --dataset_name rajpurkar/squad \
        --teacher_model_name_or_path outputs/teacher --do_train --do_eval --output_dir outputs/student
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.hf_argparser import HfArg

from hf_distill.data.files import load_files, load_named
from hf_distill.data.questions import NO_INPUTS, WindowEncoder
from hf_distill.evaluation.question_answering import answers_from_logits, exact_match_and_f1
from hf_distill.files import atomic_write
from hf_distill.resources.squad import is_squad_file, load_squad_file
from hf_distill.scripts.models import (
    FineTuningArguments,
    load_student,
    require_training_labels,
    token_type_ids_for_teacher,
)
from hf_distill.scripts.run import (
    ScriptTrainingArguments,
    first_rows,
    make_trainer,
    parse_arguments,
    prepare_run,
    require_source,
    run,
)
from hf_distill.scripts.user_errors import run_main

FILE_TYPES = (".json", ".jsonl")
# The flag that asks for a stage, its file, its limit, and the columns it needs.
STAGES = {
    "train": ("do_train", "train_file", "max_train_samples", ["question", "context"]),
    "validation": ("do_eval", "validation_file", "max_eval_samples", ["question", "context", "id", "answers"]),
    "test": ("do_predict", "test_file", "max_predict_samples", ["question", "context", "id"]),
}


@dataclass
class DataTrainingArguments:
    """The data to train and evaluate on."""

    dataset_name: str | None = HfArg(default=None, help="A dataset of the Hub, or a local folder with one.")
    dataset_config_name: str | None = HfArg(default=None, help="The configuration of --dataset_name.")
    train_file: str | None = HfArg(
        default=None,
        help="Training data, .json in SQuAD's format, or .json or .jsonl with the columns question, context and answers "
        '({"text": [...], "answer_start": [...]}, not needed for the teacher\'s soft labels alone).',
    )
    validation_file: str | None = HfArg(default=None, help="Data for --do_eval, in the same form, with ids.")
    test_file: str | None = HfArg(default=None, help="Data for --do_predict, in the same form, with ids.")
    overwrite_cache: bool = HfArg(default=False, help="Tokenize again, even if a cached result exists.")
    preprocessing_num_workers: int | None = HfArg(default=None, help="Number of processes that tokenize. None: one.")
    max_seq_length: int = HfArg(
        default=384, help="Tokens of question and context; longer contexts are split into windows."
    )
    pad_to_max_length: bool = HfArg(
        default=False,
        help="Pad every window to --max_seq_length instead of to the longest of its batch. transformers' script does so by "
        "default, which wastes computation. Tokenizers that pad on the left always do.",
    )
    max_train_samples: int | None = HfArg(default=None, help="Use this many training questions. None: all.")
    max_eval_samples: int | None = HfArg(default=None, help="Use this many validation questions. None: all.")
    max_predict_samples: int | None = HfArg(default=None, help="Use this many test questions. None: all.")
    version_2_with_negative: bool = HfArg(default=False, help="Some questions have no answer, as in SQuAD 2.0.")
    null_score_diff_threshold: float = HfArg(
        default=0.0, help="Predict no answer if its score exceeds the best answer's by more than this; for SQuAD 2.0."
    )
    doc_stride: int | None = HfArg(
        default=None,
        help="Overlap of consecutive windows, in tokens. None: 128, or a third of shorter windows.",
    )
    n_best_size: int = HfArg(default=20, help="Number of best starts and ends that are combined into answers.")
    max_answer_length: int = HfArg(default=30, help="Maximum tokens of an answer.")

    def __post_init__(self) -> None:
        require_source(self.files, FILE_TYPES, dataset_name=self.dataset_name)
        if self.doc_stride is not None and not 0 <= self.doc_stride < self.max_seq_length:
            raise ValueError(
                f"doc_stride must be at least 0 and below max_seq_length ({self.max_seq_length}), got {self.doc_stride}"
            )
        if min(self.n_best_size, self.max_answer_length) < 1:
            given = (self.n_best_size, self.max_answer_length)
            raise ValueError(f"n_best_size and max_answer_length must be at least 1, got {given}")

    def encoder(self, tokenizer: PreTrainedTokenizerBase, segments: bool | None = None) -> WindowEncoder:
        """The encoder that makes windows."""
        length = min(self.max_seq_length, tokenizer.model_max_length)
        stride = min(WindowEncoder.doc_stride, length // 3) if self.doc_stride is None else self.doc_stride
        how = stride, self.pad_to_max_length, segments, not self.overwrite_cache, self.preprocessing_num_workers
        return WindowEncoder(tokenizer, length, *how)

    @property
    def files(self) -> dict[str, str | None]:
        return {file: getattr(self, file) for _, file, *_ in STAGES.values()}


def load_raw(model_args: FineTuningArguments, data_args: DataTrainingArguments) -> dict[str, Dataset]:
    if data_args.dataset_name:
        return load_named(data_args.dataset_name, data_args.dataset_config_name, **model_args.source)
    files = {split: path for split, (_, file, *_) in STAGES.items() if (path := data_args.files[file])}
    rows = {split: path for split, path in files.items() if not is_squad_file(path)}
    nested = {split: load_squad_file(files[split], model_args.cache_dir) for split in files.keys() - rows.keys()}
    return nested | load_files(rows, **model_args.source)


def load_model(args: FineTuningArguments) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    name = args.tokenizer_name or args.model_name_or_path
    tokenizer = AutoTokenizer.from_pretrained(name, **args.hub)
    if not tokenizer.is_fast:
        raise ValueError(
            f"answers are found by where in the text the tokens are, which only fast tokenizers know; that of {name} "
            f"is a {type(tokenizer).__name__}. Choose a model, or tokenizer_name, with a fast one."
        )
    sizes = {"ignore_mismatched_sizes": args.ignore_mismatched_sizes}
    return load_student(
        AutoModelForQuestionAnswering, args.model_name_or_path, config=args.config(), **args.hub, **sizes
    ), tokenizer


@dataclass
class Predictions:
    """Predicted answers to the questions of a split, from the logits of its windows, and their files."""

    args: DataTrainingArguments
    rows: Dataset
    windows: Dataset

    @classmethod
    def prepare(
        cls, raw: dict[str, Dataset], split: str, args: DataTrainingArguments, encode: WindowEncoder
    ) -> Predictions:
        flag, _, limit, columns = STAGES[split]
        given = raw[split].column_names if split in raw else []
        if not set(columns) <= set(given):
            raise ValueError(f"{flag} needs a split {split!r} with the columns {columns}, got {raw}")
        # Test answers are not read: they may be held back.
        wanted = columns if split == "test" or "answers" not in given else {*columns, "answers"}
        rows = first_rows(raw[split].select_columns(sorted(wanted)), getattr(args, limit))
        if "id" in wanted and len(set(rows["id"])) < len(rows):
            raise ValueError(f"the ids of {split} must all be different: predictions are kept by id")
        prepared = cls(args, rows, encode(rows, for_training=split == "train"))
        if split == "validation" and not (args.version_2_with_negative or all(prepared.gold)):
            raise ValueError("validation has questions without an answer: pass --version_2_with_negative")
        return prepared

    @property
    def inputs(self) -> Dataset:
        return self.windows.remove_columns([name for name in NO_INPUTS if name in self.windows.column_names])

    @property
    def gold(self) -> list[list[str]]:
        return [answers["text"] for answers in self.rows["answers"]]

    def read(self, logits: tuple[np.ndarray, ...], to_files: Path | None) -> list[str]:
        """Answers from start and end logits of all windows; `to_files` is the prefix of the files written."""
        arrays = self.windows.with_format("numpy")
        texts, differences = answers_from_logits(
            *logits[:2],
            offsets=arrays["offsets"],
            examples=arrays["example"],
            contexts=list(self.rows["context"]),
            null_positions=arrays["null_position"],
            n_best_size=self.args.n_best_size,
            max_answer_length=self.args.max_answer_length,
            version_2=self.args.version_2_with_negative,
            null_score_diff_threshold=self.args.null_score_diff_threshold,
        )
        files = {"predictions": texts} | ({"null_odds": differences} if self.args.version_2_with_negative else {})
        for name, values in files.items() if to_files else ():
            content = json.dumps(dict(zip(self.rows["id"], values, strict=True)), indent=4) + "\n"
            atomic_write(to_files.with_name(f"{to_files.name}_{name}.json"), content)
        return texts


def main() -> None:
    model_args, data_args, args = parse_arguments(
        FineTuningArguments, DataTrainingArguments, ScriptTrainingArguments, description=__doc__
    )
    if args.train_sampling_strategy == "group_by_length":  # Trainer puts the windows to evaluate in that order, too
        raise ValueError("train_sampling_strategy group_by_length mixes up the answers; --length_bucketing does not")
    checkpoint = prepare_run(args, model_args)
    raw = load_raw(model_args, data_args)
    teacher = model_args.teacher_model_name_or_path
    if "train" in raw:
        require_training_labels(args, teacher, raw, "answers", "they are read from the column answers")
    model, tokenizer = load_model(model_args)
    encode = data_args.encoder(tokenizer, token_type_ids_for_teacher(model, teacher, args))
    with args.main_process_first(desc="tokenizing"):
        data = {
            split: Predictions.prepare(raw, split, data_args, encode)
            for split, (flag, *_) in STAGES.items()
            if getattr(args, flag)
        }

    def read(split: str, prefix: str, logits: tuple[np.ndarray, ...]) -> list[str]:
        return data[split].read(logits, Path(args.output_dir, prefix) if args.should_save else None)

    def compute_metrics(evaluation: EvalPrediction) -> dict[str, float]:
        texts = read("validation", "eval", evaluation.predictions)
        return exact_match_and_f1(texts, data["validation"].gold, data_args.version_2_with_negative)

    trainer = make_trainer(
        model,
        args,
        teacher,
        train_dataset=data["train"].inputs if args.do_train else None,
        eval_dataset=data["validation"].inputs if args.do_eval else None,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
    )
    run(
        trainer,
        checkpoint,
        "question-answering",
        predict=lambda trainer: read("test", "predict", trainer.predict(data["test"].inputs).predictions),
    )


if __name__ == "__main__":
    run_main(main)
