"""`hf-distill train`: a student of a trained teacher, in one command."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.options import DatasetConfig, DatasetName, LabelColumn, MaxLength, TextColumns

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hf_distill.cli.scripts import ScriptTrainingArguments


def train(
    context: typer.Context,
    teacher: Annotated[str, typer.Argument(help="A model trained on the task: a folder, or an id on the Hub.")],
    student: Annotated[
        str, typer.Option(help="Its size: tiny, mini, small, medium, base, or layers/hidden size such as 3/384.")
    ],
    dataset: DatasetName,
    output_dir: Annotated[Path, typer.Option(help="For the student, its record and its card.")],
    initialisation: Annotated[
        str | None, typer.Option(help="random, embeddings, truncated, width or pretrained. Default: truncated.")
    ] = None,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    as_json: Annotated[bool, typer.Option("--json", help="Print the student's run record.")] = False,
) -> None:
    """Distil a student from a teacher of texts, words, questions or images, and compare the two where there are labels.

    All other options are training arguments, such as --recipe patient_kd, --learning_rate 1e-4 or --max_steps 500;
    `python examples/run_glue.py --help` lists them. Without any the student learns soft labels for 3 epochs.

    Example: hf-distill train outputs/teacher --student 2/128 --initialisation embeddings --dataset movie_reviews --output-dir outputs/student --max_steps 400
    """
    from transformers import set_seed
    from transformers.hf_argparser import HfArgumentParser

    from hf_distill.cli.raw_data import load_splits, with_columns
    from hf_distill.cli.scripts import ScriptTrainingArguments, make_trainer
    from hf_distill.evaluation.loading import load_contestant
    from hf_distill.students.create import create_student

    given = ["--output_dir", str(output_dir), "--do_train", *context.args]
    (args,) = HfArgumentParser((ScriptTrainingArguments,)).parse_args_into_dataclasses(given)
    splits = {
        name: with_columns(rows, text_column, label_column if label_column in rows.column_names else None)
        for name, rows in load_splits(dataset, dataset_config).items()
    }
    found = load_contestant(teacher, Path(teacher).name, "teacher")
    set_seed(args.seed)
    model = create_student(student, found.model, initialisation)
    name = "train" if "train" in splits else next(iter(splits))
    with args.main_process_first(desc="encoding"):
        data = {
            split: _encoded(splits[split], model, found.processing_class, max_length)
            for split in (name, "validation")
            if split in splits
        }
    trainer = make_trainer(
        model, args, found.model, train_dataset=data[name], eval_dataset=data.get("validation"),
        data_collator=_collator(model, found.processing_class), processing_class=found.processing_class,
    )  # fmt: skip
    checkpoint = _checkpoint_of(model, args)
    with redirect_stdout(sys.stderr if as_json else sys.stdout):  # Trainer prints its logs
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        if "validation" in data:
            trainer.evaluate()
    if args.should_save:
        _finish(output_dir, teacher, dataset, splits, max_length, as_json)


def _checkpoint_of(model: PreTrainedModel, args: ScriptTrainingArguments) -> str | bool | None:
    """What to continue from; the checkpoint of another student is refused."""
    from transformers import AutoConfig

    from hf_distill.cli.scripts import checkpoint_to_continue

    checkpoint = checkpoint_to_continue(args)
    if isinstance(checkpoint, str) and not args.has_target:
        earlier = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        shapes = [f"{config.num_hidden_layers}/{config.hidden_size}" for config in (earlier, model.config)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{Path(checkpoint).parent} holds checkpoints of a student of {shapes[0]}, asked for is one of "
                f"{shapes[1]}: choose another --output-dir, or start afresh with --resume_from_checkpoint false"
            )
    return checkpoint


def _finish(
    folder: Path, teacher: str, dataset: str, splits: dict[str, Dataset], max_length: int, as_json: bool
) -> None:
    """Compare with the teacher on the split held out, if there is one, and write the card."""
    from rich.console import Console

    from hf_distill.cli.raw_data import choose_split
    from hf_distill.evaluation.comparison import TEACHER, LatencySettings, compare
    from hf_distill.evaluation.loading import load_contestant
    from hf_distill.evaluation.report import report_table
    from hf_distill.publishing.model_card import add_evaluation, write_model_card
    from hf_distill.publishing.run_record import RunRecord

    record = RunRecord.load(folder)
    record.student["name"] = folder.name
    record.data["name"] = record.data.get("name") or Path(dataset).stem
    record.save(folder)
    write_model_card(folder)
    if "test" in splits or "validation" in splits:
        split, rows = choose_split(splits, None)
        both = [load_contestant(teacher, f"{Path(teacher).name}", TEACHER), load_contestant(str(folder), folder.name)]
        evaluation = compare(both, rows, Path(dataset).stem, split, LatencySettings(), max_length=max_length)
        add_evaluation(folder, evaluation, folder.name)
        if not as_json:
            Console(width=None if Console().is_terminal else 160).print(report_table(evaluation))
    if as_json:
        typer.echo((folder / "run.json").read_text(encoding="utf-8"))


def _encoded(rows: Dataset, model: PreTrainedModel, processing_class: Any, max_length: int) -> Dataset:
    """Model inputs, with labels where the data have them."""
    from hf_distill.encoding.images import encode_images
    from hf_distill.encoding.sequences import SequenceEncoder, label_ids, text_columns
    from hf_distill.encoding.windows import WindowEncoder
    from hf_distill.encoding.words import WordEncoder, word_columns, word_label_ids
    from hf_distill.tasks import Task, task_of

    task, ids = task_of(model), label_ids(model.config)
    if task is Task.SEQUENCE_CLASSIFICATION:
        return SequenceEncoder(processing_class, ids, max_length)(rows, text_columns(rows.features))
    if task is Task.TOKEN_CLASSIFICATION:
        return WordEncoder(processing_class, word_label_ids(model.config), max_length)(
            rows, *word_columns(rows.features)
        )
    if task is Task.QUESTION_ANSWERING:
        return WindowEncoder.fitting(processing_class)(rows, for_training=True)
    if task is Task.IMAGE_CLASSIFICATION:
        return encode_images(rows, processing_class, model.config)
    raise ValueError(
        f"the teacher must classify texts, words or images or answer questions, got a {type(model).__name__}"
    )


def _collator(model: PreTrainedModel, processing_class: Any) -> Any:
    from transformers import DataCollatorForTokenClassification, DataCollatorWithPadding, default_data_collator

    from hf_distill.tasks import Task, task_of

    task = task_of(model)
    if task is Task.IMAGE_CLASSIFICATION:
        return default_data_collator
    by_token = task is Task.TOKEN_CLASSIFICATION
    return (DataCollatorForTokenClassification if by_token else DataCollatorWithPadding)(processing_class)
