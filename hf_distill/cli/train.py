"""`hf-distill train`: a student of a trained teacher, in one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import DatasetConfig, DatasetName, LabelColumn, MaxLength, TextColumns
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

    from hf_distill.cli.train_outcome import Finished
    from hf_distill.evaluation.comparison import EvaluatedModel
    from hf_distill.scripts.run import ScriptTrainingArguments
    from hf_distill.trainers.distillation_trainer import DistillationTrainer


def train(
    context: typer.Context,
    teacher: Annotated[str, typer.Argument(help="A model trained on the task: a folder, or an id on the Hub.")],
    student: Annotated[
        str, typer.Option(help="Its size: tiny, mini, small, medium, base, or layers/hidden size such as 3/384.")
    ],
    dataset: DatasetName,
    output_dir: Annotated[Path, typer.Option(help="For the student, its record and its card.")],
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

    from hf_distill.cli.train_outcome import Finished
    from hf_distill.evaluation.loading import load_evaluated_model
    from hf_distill.scripts.datasets import load_splits, splits_with_columns
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
    _require_same_shape(checkpoint, model, args)
    if text_column is None and task_of(model) is Task.SEQUENCE_CLASSIFICATION:
        typer.echo(printable(_what_is_read(splits["train"])), err=True)
    trainer = _trainer(model, args, found, splits, max_length)
    with advice_on_interrupt(lambda: resume_advice(args)):
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()
        metrics = {} if trainer.eval_dataset is None else trainer.evaluate()
        if args.should_save:
            columns = [word for name in text_column or () for word in ("--text-column", name)]
            columns += ["--label-column", label_column] if label_column else []
            finished = Finished(output_dir, teacher, dataset, splits, trainer.task, held_out, columns, metrics)
            _finish(finished, max_length, as_json)


def _what_is_read(rows: Dataset) -> str:
    """The columns that are taken where the user named none."""
    from hf_distill.data.sequences import text_columns

    texts = " and ".join(text_columns(rows.features))
    labels = "the column label" if "label" in rows.column_names else "nothing: there is no column label"
    return f"Texts are read from {texts} (--text-column), labels from {labels} (--label-column)."


def _training_arguments(context: typer.Context, output_dir: Path) -> ScriptTrainingArguments:
    """What the command line says beside the command's own options."""
    from hf_distill.scripts.arguments import ScriptParser
    from hf_distill.scripts.run import ScriptTrainingArguments

    own = [option.lstrip("-") for parameter in context.command.params for option in parameter.opts]
    parser = ScriptParser((ScriptTrainingArguments,), also_known=own)
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", str(output_dir), "--do_train", "true", *context.args])
    return args


def _require_same_shape(checkpoint: str | bool | None, model: PreTrainedModel, args: ScriptTrainingArguments) -> None:
    """Refuse to continue from the checkpoint of another student."""
    from transformers import AutoConfig

    if isinstance(checkpoint, str) and not args.has_target:
        earlier = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
        shapes = [f"{config.num_hidden_layers}/{config.hidden_size}" for config in (earlier, model.config)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{Path(checkpoint).parent} holds checkpoints of a student of {shapes[0]}, asked for is one of "
                f"{shapes[1]}: choose another --output-dir, or delete them with --overwrite_output_dir true"
            )


def _trainer(
    model: PreTrainedModel,
    args: ScriptTrainingArguments,
    teacher: EvaluatedModel,
    splits: dict[str, Dataset],
    max_length: int,
) -> DistillationTrainer:
    """With the split train, and one to watch: validation, or a test set without labels, which no comparison is for."""
    from hf_distill.cli.train_outcome import is_labeled
    from hf_distill.scripts.run import make_trainer
    from hf_distill.tasks import task_of

    processing, watched = teacher.processing_class, "validation"
    if "validation" not in splits and "test" in splits and not is_labeled(splits["test"], task_of(model)):
        watched = "test"
    with args.main_process_first(desc="encoding"):
        data = {
            split: _encoded(splits[split], model, processing, max_length)
            for split in ("train", watched)
            if split in splits
        }
    return make_trainer(
        model, args, teacher.model, train_dataset=data["train"], eval_dataset=data.get(watched),
        data_collator=_collator(model, processing), processing_class=processing,
    )  # fmt: skip


def _finish(finished: Finished, max_length: int, as_json: bool) -> None:
    """Compare with the teacher on a split for that, write the card, and say what has come of it."""
    from rich.console import Console

    from hf_distill.evaluation.report import report_table

    evaluation = finished.compare(max_length)
    if evaluation is not None and not as_json:
        Console(width=None if Console().is_terminal else 160).print(report_table(evaluation))
    typer.echo(printable("\n".join(finished.lines(evaluation))), err=as_json)
    if as_json:
        print_json(json.loads((finished.folder / "run.json").read_text(encoding="utf-8")))


def _encoded(rows: Dataset, model: PreTrainedModel, processing_class: Any, max_length: int) -> Dataset:
    """Model inputs, with labels where the data have them; rows with recorded teacher outputs are model inputs already."""
    from hf_distill.data.images import encode_images
    from hf_distill.data.questions import WindowEncoder
    from hf_distill.data.sequences import SequenceEncoder, label_ids, text_columns
    from hf_distill.data.words import WordEncoder, word_columns, word_label_ids
    from hf_distill.tasks import Task, task_of
    from hf_distill.teachers.column_names import has_teacher_logits

    if has_teacher_logits(rows.column_names):
        return rows.remove_columns([name for name in ("label",) if name in rows.column_names])
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
