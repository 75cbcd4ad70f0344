r"""Prune a fine-tuned text classifier: fewer tokens, fewer layers, and a smaller width step by step while it trains.

    python examples/run_glue.py --model_name_or_path google-bert/bert-base-uncased --task_name sst2 \
        --do_train --do_eval --output_dir outputs/teacher
    python examples/prune_classifier.py --model_name_or_path outputs/teacher --task_name sst2 \
        --target_hidden_size 384 --target_layers 9 --vocabulary_min_count 1 --recipe homodistil \
        --do_train --do_eval --output_dir outputs/pruned

The classifier is its own teacher (HomoDistil, Liang et al. 2023). The three ways can be combined, or used alone. Tokens
that the training texts do not use are removed first, from the teacher too. Then layers are removed, except those that the
loss depends on most. The width is reduced during the training. Accepts run_glue.py's data arguments and all
`PruningDistillTrainingArguments`. Saves a stock model, and a model card that shows its sizes over time.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import run_glue as glue
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, PreTrainedModel
from transformers.hf_argparser import HfArg

from hf_distill import DistillationTrainer, PruningDistillTrainer, PruningDistillTrainingArguments
from hf_distill.data.sequences import text_columns
from hf_distill.evaluation.metrics import glue_metric
from hf_distill.pruning import Criterion, highest_scoring_layers, keep_layers, score, trim_vocabulary
from hf_distill.publishing.model_card import write_model_card
from hf_distill.scripts.models import FineTuningArguments, load_student
from hf_distill.scripts.output_folder import OutputFolderArguments
from hf_distill.scripts.run import parse_arguments, prepare_run, require_splits, run
from hf_distill.scripts.user_errors import run_main

ROWS_TO_JUDGE_LAYERS = 512
BATCH_SIZE = 32


@dataclass
class PruningArguments(OutputFolderArguments, PruningDistillTrainingArguments):
    """The arguments of the trainer and of the output folder."""


@dataclass
class SizeArguments:
    """What is pruned before the training; the arguments of the trainer have the final width."""

    target_layers: int | None = HfArg(default=None, help="Number of layers to keep. None: all.")
    vocabulary_min_count: int | None = HfArg(
        default=None, help="Keep tokens that occur at least this often in the training texts. None: all tokens."
    )


def most_important_layers(model: PreTrainedModel, rows: Dataset, collator: Any, number: int) -> list[int]:
    """The layers with the most sensitive weights, by the gradients of a sample of labeled rows."""
    judged = copy.deepcopy(model).eval()
    rows = rows.shuffle(seed=0).select(range(min(len(rows), ROWS_TO_JUDGE_LAYERS)))
    for start in range(0, len(rows), BATCH_SIZE):
        batch = collator([rows[index] for index in range(start, min(start + BATCH_SIZE, len(rows)))])
        judged(**batch).loss.backward()
    return highest_scoring_layers(score(judged, Criterion.SENSITIVITY), number)


def main() -> None:
    groups = FineTuningArguments, glue.DataTrainingArguments, SizeArguments, PruningArguments
    model_args, data_args, sizes, args = parse_arguments(*groups, description=__doc__)
    if model_args.teacher_model_name_or_path is not None:
        raise ValueError("the classifier to prune, model_name_or_path, is its own teacher; pass no other")
    if not args.has_target and sizes.target_layers is None and sizes.vocabulary_min_count is None:
        raise ValueError("pass a target_... size, target_layers or vocabulary_min_count: nothing would become smaller")
    if not args.do_train:
        raise ValueError("pruning reads the training data: pass --do_train; to evaluate the result use run_glue.py")
    checkpoint = prepare_run(args, model_args)
    raw = glue.load_raw(model_args, data_args)
    suffix = "_matched" if data_args.task_name == "mnli" else ""
    require_splits(raw, args, do_train="train", do_eval="validation" + suffix, do_predict="test" + suffix)
    start, config = model_args.model_name_or_path, model_args.config()
    teacher = load_student(AutoModelForSequenceClassification, start, config=config, **model_args.hub)
    tokenizer = AutoTokenizer.from_pretrained(
        model_args.tokenizer_name or model_args.model_name_or_path, **model_args.hub
    )
    raw = glue.choose_columns(raw, data_args, teacher.config)
    names, ids = glue.find_labels(raw, teacher.config, teacher.config)
    if sizes.vocabulary_min_count is not None:
        columns = text_columns(raw["train"].features)
        texts = (text or "" for column in columns for text in raw["train"][column])
        teacher, tokenizer = trim_vocabulary(teacher, tokenizer, texts, sizes.vocabulary_min_count)
    encode = glue.Encoder(data_args, tokenizer, ids)
    stages = [stage for stage, (flag, _, _) in glue.STAGES.items() if getattr(args, flag)]
    with args.main_process_first(desc="tokenizing"):
        data = {stage: glue.prepare(raw, stage, data_args, encode) for stage in stages}
    student, collator = copy.deepcopy(teacher), DataCollatorWithPadding(tokenizer)
    if sizes.target_layers is not None:
        kept = most_important_layers(teacher, data["train"]["train"], collator, sizes.target_layers)
        glue.logger.warning(f"layers {kept} of 0 to {teacher.config.num_hidden_layers - 1} stay")
        student = keep_layers(teacher, kept)
    trainer = (PruningDistillTrainer if args.has_target else DistillationTrainer)(
        student.train(),
        args,
        teacher_model=teacher,
        train_dataset=data["train"]["train"],
        eval_dataset=next(iter(data["validation"].values())) if args.do_eval else None,
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=glue_metric(data_args.task_name),
    )
    run(
        trainer,
        checkpoint,
        "text-classification",
        evaluate=lambda trainer: glue.evaluate(trainer, data["validation"]),
        predict=lambda trainer: glue.predict(trainer, data["test"], data_args.task_name, names),
    )
    if args.should_save:
        write_model_card(args.output_dir)


if __name__ == "__main__":
    run_main(main)
