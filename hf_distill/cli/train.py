"""`hf-distill train`: distill a student from a trained teacher in one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import DatasetConfig, DatasetName, LabelColumn, MaxLength, TextColumns
from hf_distill.cli.train_summary import summary
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets import Dataset

    from hf_distill.scripts.finished_training import FinishedTraining
    from hf_distill.scripts.run import ScriptTrainingArguments


def train(
    context: typer.Context,
    teacher: Annotated[str, typer.Argument(help="A model trained on the task: a folder, or an id on the Hub.")],
    student: Annotated[
        str, typer.Option(help="Its size: tiny, mini, small, medium, base, or layers/hidden size such as 3/384.")
    ],
    dataset: DatasetName,
    output_dir: Annotated[Path, typer.Option(help="Folder for the student, its run record and its model card.")],
    initialization: Annotated[
        str | None,
        typer.Option(help="truncated, width, embeddings, random or pretrained. Default: the first that fits."),
    ] = None,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    as_json: Annotated[bool, typer.Option("--json", help="Print the student's run record.")] = False,
) -> None:
    """Distill a student from a teacher of texts, words, questions or images, and compare the two where there are labels.

    They are compared on the split test, else validation; without either a tenth of the training rows is held out.

    All other options are training arguments, such as --recipe patient_kd, --learning_rate 1e-4 or --max_steps 500;
    `python examples/run_glue.py --help` lists them. Without any the student learns soft labels for 3 epochs.

    Example: hf-distill train outputs/teacher --student 2/128 --initialization embeddings --dataset movie_reviews --output-dir outputs/student --max_steps 400
    """
    from transformers import set_seed

    from hf_distill.evaluation.loading import load_evaluated_model
    from hf_distill.scripts.datasets import load_splits, splits_with_columns
    from hf_distill.scripts.distillation import make_student_trainer, require_same_shape
    from hf_distill.scripts.finished_training import FinishedTraining
    from hf_distill.scripts.output_folder import resume_advice
    from hf_distill.scripts.run import checkpoint_to_resume
    from hf_distill.scripts.splits import training_splits
    from hf_distill.scripts.verbosity import set_verbosity
    from hf_distill.students.create import create_student
    from hf_distill.tasks import Task, task_of

    args = _training_arguments(context, output_dir)
    set_verbosity(args)
    checkpoint = checkpoint_to_resume(args)
    splits = splits_with_columns(load_splits(dataset, dataset_config), text_column, label_column)
    splits, held_out = training_splits(splits, args.seed)
    found = load_evaluated_model(teacher, Path(teacher).name, "teacher")
    set_seed(args.seed)
    model = create_student(student, found.model, initialization)
    require_same_shape(checkpoint, model, args)
    if text_column is None and task_of(model) is Task.SEQUENCE_CLASSIFICATION:
        typer.echo(printable(_default_columns(splits["train"])), err=True)
    trainer = make_student_trainer(model, args, found, splits, max_length)
    with advice_on_interrupt(lambda: resume_advice(args)):
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        metrics = {} if trainer.eval_dataset is None else trainer.evaluate()
        if args.should_save:
            finished = FinishedTraining(output_dir, teacher, dataset, splits, trainer.task, held_out)
            _report(finished, metrics, _column_options(text_column, label_column), max_length, as_json)


def _training_arguments(context: typer.Context, output_dir: Path) -> ScriptTrainingArguments:
    """Parse the training arguments: all that follows on the command line beside the command's own options."""
    from hf_distill.scripts.arguments import ScriptParser
    from hf_distill.scripts.run import ScriptTrainingArguments

    own = [option.lstrip("-") for parameter in context.command.params for option in parameter.opts]
    parser = ScriptParser((ScriptTrainingArguments,), also_known=own)
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", str(output_dir), "--do_train", "true", *context.args])
    return args


def _default_columns(rows: Dataset) -> str:
    """A sentence that says which columns are read where the user named none."""
    from hf_distill.data.sequences import text_columns

    texts = " and ".join(text_columns(rows.features))
    labels = "the column label" if "label" in rows.column_names else "nothing: there is no column label"
    return f"Texts are read from {texts} (--text-column), labels from {labels} (--label-column)."


def _column_options(texts: Sequence[str] | None, label: str | None) -> list[str]:
    options = [word for name in texts or () for word in ("--text-column", name)]
    return [*options, *(["--label-column", label] if label else [])]


def _report(
    finished: FinishedTraining,
    metrics: Mapping[str, float],
    column_options: Sequence[str],
    max_length: int,
    as_json: bool,
) -> None:
    """Compare the student with its teacher, and print the comparison, a summary and, on request, the run record."""
    from rich.console import Console

    from hf_distill.evaluation.report import report_table
    from hf_distill.files import read_json

    evaluation = finished.evaluate(max_length)
    if evaluation is not None and not as_json:
        Console(width=None if Console().is_terminal else 160).print(report_table(evaluation))
    typer.echo(printable(summary(finished, evaluation, metrics, column_options)), err=as_json)
    if as_json:
        print_json(read_json(finished.folder / "run.json", finite=False))
