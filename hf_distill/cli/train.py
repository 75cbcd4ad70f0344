"""`hf-distill train`: distill a student from a trained teacher in one command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    BaseModel,
    DatasetConfig,
    LabelColumn,
    LabelNames,
    LabelsAlone,
    MaxLength,
    MultiLabel,
    OutputsKind,
    Student,
    TeacherInfo,
    TeacherOutputs,
    TextColumns,
    TrainedOn,
    UnlabeledTexts,
)
from hf_distill.cli.train_summary import summary
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_distill.scripts.finished_training import FinishedTraining
    from hf_distill.scripts.run import ScriptTrainingArguments

# What the command's own arguments are before the user's.
_DEFAULTS = ("--do_train", "true", "--per_device_train_batch_size", "32", "--logging_steps", "0.05")


def train(
    context: typer.Context,
    student: Student,
    output_dir: Annotated[Path, typer.Option(help="Folder for the student, its run record and its model card.")],
    teacher: Annotated[
        str | None,
        typer.Argument(help="A model trained on the task: a folder, or an id on the Hub.", show_default=False),
    ] = None,
    dataset: TrainedOn = None,
    initialization: Annotated[
        str | None,
        typer.Option(help="truncated, width, embeddings, random or pretrained. Default: the first that fits."),
    ] = None,
    dataset_config: DatasetConfig = None,
    text_column: TextColumns = None,
    label_column: LabelColumn = None,
    max_length: MaxLength = 128,
    transfer_set: UnlabeledTexts = None,
    labels_alone: LabelsAlone = True,
    teacher_outputs: TeacherOutputs = None,
    base_model: BaseModel = None,
    labels: LabelNames = None,
    outputs_kind: OutputsKind = None,
    multi_label: MultiLabel = False,
    teacher_info: TeacherInfo = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the student's run record.")] = False,
) -> None:
    """Distill a student from a teacher of texts, words, questions, images or embeddings, and compare the two where there are labels.

    Embeddings are compared without labels, too, by the similarities of texts.

    With --teacher-outputs FILE the teacher is whoever gave the answers in the file, such as a language model.

    They are compared on the split test, else validation; without either a tenth of the training rows is held out.

    All other options are training arguments, those of transformers and of DistillationTrainingArguments, such as --recipe
    patient_kd, --learning_rate 1e-4 or --max_steps 500. Without any the student learns soft labels, in batches of 32, for 3
    epochs or 600 steps (1,800 of more than 20 classes), whichever is more, at a learning rate that fits its hidden size.

    Example: hf-distill train outputs/teacher --student 2/128 --dataset labeled.csv --transfer-set texts.txt --output-dir outputs/student
    """
    from hf_distill.scripts.external_teacher import ExternalOutputs
    from hf_distill.scripts.student_training import StudentRequest, train_student

    of_outputs = (base_model, labels, outputs_kind, multi_label, teacher_info or ())
    outputs = ExternalOutputs(teacher_outputs, *of_outputs) if teacher_outputs else None
    if outputs is None and any(of_outputs):
        raise typer.BadParameter(
            "--base-model, --labels, --outputs-kind, --multi-label and --teacher-info are for --teacher-outputs"
        )
    args = training_arguments(context, output_dir, *_recipe_for(teacher))
    request = StudentRequest(
        args, teacher, student, initialization, dataset, dataset_config, text_column, label_column, max_length,
        transfer_set, labels_alone, outputs,
    )  # fmt: skip
    finished, metrics = train_student(
        request, lambda remark: typer.echo(printable(remark), err=True) if args.should_log else None
    )
    if args.should_save:
        _report(args, finished, metrics, _column_options(text_column, label_column), max_length, as_json)


def training_arguments(context: typer.Context, output_dir: Path, *defaults: str) -> ScriptTrainingArguments:
    """Parse the training arguments: all that follows on the command line beside the command's own options.

    Args:
        context: The context of the command.
        output_dir: The folder of the training.
        *defaults: Words of a command line before the user's, such as "--save_total_limit", "1".

    Returns:
        The arguments.
    """
    from hf_distill.scripts.arguments import ScriptParser
    from hf_distill.scripts.run import ScriptTrainingArguments

    own = [option.lstrip("-") for parameter in context.command.params for option in parameter.opts]
    parser = ScriptParser((ScriptTrainingArguments,), also_known=own)
    (args,) = parser.parse_args_into_dataclasses(
        [*_DEFAULTS, *defaults, "--output_dir", str(output_dir), *context.args]
    )
    return args


def _recipe_for(teacher: str | None) -> tuple[str, ...]:
    """Training arguments that name the recipe of sentence encoders, if the teacher is one."""
    from hf_distill.pretrained.loading import SavedModel
    from hf_distill.tasks import Task

    is_encoder = teacher is not None and SavedModel.find(teacher).task is Task.SENTENCE_EMBEDDING
    return ("--recipe", "embedding") if is_encoder else ()


def _column_options(texts: Sequence[str] | None, label: str | None) -> list[str]:
    options = [word for name in texts or () for word in ("--text-column", name)]
    return [*options, *(["--label-column", label] if label else [])]


def _report(
    args: ScriptTrainingArguments,
    finished: FinishedTraining,
    metrics: Mapping[str, float],
    column_options: Sequence[str],
    max_length: int,
    as_json: bool,
) -> None:
    """Compare the student with its teacher, and print the comparison, a summary and, on request, the run record."""
    from hf_distill.cli.consoles import table_console
    from hf_distill.evaluation.report import report_table
    from hf_distill.files import read_json
    from hf_distill.scripts.interruption import advice_on_interrupt
    from hf_distill.scripts.output_folder import resume_advice

    if finished.evaluated_split is not None:
        rows = len(finished.splits[finished.evaluated_split])
        typer.echo(f"Comparing on {rows:,} rows of {printable(finished.evaluated_split)}, and timing", err=True)
    with advice_on_interrupt(lambda: resume_advice(args)):
        evaluation = finished.evaluate(max_length)
    if evaluation is not None and not as_json:
        table_console().print(report_table(evaluation))
    typer.echo(printable(summary(finished, evaluation, metrics, column_options)), err=as_json)
    if as_json:
        print_json(read_json(finished.folder / "run.json", finite=False))
