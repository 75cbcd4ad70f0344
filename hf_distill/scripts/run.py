"""The stages of a script's run: parse arguments, check the data, make the trainer, train, evaluate, predict and publish."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import TrainingArguments
from transformers.hf_argparser import HfArgumentParser

from hf_distill.data.files import similar_paths
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.scripts.models import TeacherArguments, teacher_init_kwargs
from hf_distill.scripts.output_folder import (
    OutputFolderArguments,
    checkpoint_to_resume,
    keep_output_folder,
    leave_output_folders,
    resume_advice,
)
from hf_distill.scripts.reporting import report, report_training
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.trainers.distillation_arguments import DistillationTrainingArguments
from hf_distill.trainers.distillation_trainer import DistillationTrainer
from hf_distill.trainers.progressive_arguments import ProgressiveTrainingArguments
from hf_distill.trainers.progressive_trainer import ProgressiveTrainer
from hf_distill.trainers.pruning_distill_arguments import PruningDistillTrainingArguments
from hf_distill.trainers.pruning_distill_trainer import PruningDistillTrainer

if TYPE_CHECKING:
    from transformers import Trainer

logger = transformers.logging.get_logger("transformers.examples")

Result = TypeVar("Result")


@dataclass
class ScriptTrainingArguments(OutputFolderArguments, ProgressiveTrainingArguments, PruningDistillTrainingArguments):
    """The arguments of all trainers, from which `make_trainer` chooses one, and of the output folder."""


def parse_arguments(*groups: type, description: str | None = None) -> tuple[Any, ...]:
    """Parse dataclasses of arguments from the command line, or from a .json file if that is its only word.

    Args:
        *groups: The dataclasses; the last is the training arguments'.
        description: The beginning of the script's help, which says what the script does.

    Returns:
        An object of each dataclass.

    Raises:
        ValueError: Neither training nor evaluation nor prediction is requested.
    """
    parser = ScriptParser(groups, description=description)
    from_file = len(sys.argv) == 2 and sys.argv[1].endswith(".json")
    parsed = parser.parse_json_file(sys.argv[1]) if from_file else parser.parse_args_into_dataclasses()
    training = parsed[-1]
    if not (training.do_train or training.do_eval or training.do_predict):
        raise ValueError("nothing to do: pass at least one of --do_train, --do_eval and --do_predict")
    return parsed


def require_source(files: Mapping[str, str | None], file_types: tuple[str, ...], **others: str | None) -> None:
    """Check that the data come from one source, and that files can be read.

    Args:
        files: Paths by the name of their argument; None where it is not given.
        file_types: The allowed suffixes, such as ".csv".
        **others: Other sources by the name of their argument; None where it is not given.

    Raises:
        ValueError: The data come from several sources or from none, or a file does not exist or is of another type.
    """
    given_files = {name: path for name, path in files.items() if path}
    given = {name: source for name, source in {**others, "files": given_files}.items() if source}
    if len(given) != 1:
        allowed = f"exactly one of {', '.join(others)} and files ({', '.join(files)})"
        raise ValueError(f"data must come from {allowed}, got {given or 'none of them'}")
    for name, path in given_files.items():
        if Path(path).suffix not in file_types or not Path(path).is_file():
            allowed = f"{name} must be an existing {' or '.join(file_types)} file"
            raise ValueError(f"{allowed}, got {path!r}{'' if Path(path).exists() else similar_paths(path)}")


def require_splits(raw: Mapping[str, Any], args: TrainingArguments, **stages: str) -> list[str]:
    """Check that the data have the splits that the requested stages need.

    Args:
        raw: The data set's splits by name.
        args: The training arguments, which say which stages are requested.
        **stages: The split that each stage needs, such as do_eval="validation".

    Returns:
        The names of the splits that are needed.

    Raises:
        ValueError: One of them does not exist.
    """
    wanted = {stage: split for stage, split in stages.items() if getattr(args, stage)}
    for stage, split in wanted.items():
        if split not in raw:
            raise ValueError(f"--{stage} needs the split {split!r}, got only {sorted(raw)}")
    return list(wanted.values())


def parsed_values(parser: HfArgumentParser, group: type) -> dict[str, Any]:
    """Parse the command line for scripts of several trainings, each of which needs a new object of its arguments.

    Trainer and accelerate write into the object, and under DeepSpeed refuse to use it twice.

    Args:
        parser: A parser of dataclasses.
        group: The dataclass whose values are wanted.

    Returns:
        The values on the command line, and defaults, by the name of the dataclass's field.
    """
    values = vars(parser.parse_args())
    return {own.name: values[own.name] for own in fields(group) if own.init}


def run_on_main_process(work: Callable[[], Result]) -> Result:
    """Wait for all processes, run a function on the main process alone, and return its result on all of them.

    Scripts of several trainings decide, read and write with it between trainings, so that all processes do the same next.

    Args:
        work: Function that reads and writes files, and does not wait for other processes. Where it fails, the launcher ends the others.

    Returns:
        What `work` returned on the main process, pickled for the others.
    """
    state = PartialState()
    state.wait_for_everyone()
    return broadcast_object_list([work() if state.is_main_process else None])[0]


def first_rows(dataset: Dataset, limit: int | None) -> Dataset:
    """The first rows, at most this many; None: all.

    Args:
        dataset: The rows.
        limit: The value of an argument such as max_train_samples.

    Returns:
        The first rows.

    Raises:
        ValueError: The limit is below 1, which would be counted from the end.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"max_train_samples and other limits of rows must be at least 1, or None for all, got {limit}")
    return dataset.select(range(len(dataset))[:limit])


def prepare_run(args: DistillationTrainingArguments, models: TeacherArguments) -> str | bool | None:
    """Set verbosity and seed, let the teacher be loaded from where the model is, and find the checkpoint to resume from.

    From then on no other process trains into output_dir, until `run` returns or this process ends.

    Args:
        args: The training arguments; the teacher's keyword arguments of `from_pretrained` are written into them.
        models: The arguments that name the teacher.

    Returns:
        The checkpoint to resume from, see `checkpoint_to_resume`.
    """
    set_verbosity(args)
    if models.teacher_model_name_or_path:
        args.teacher_model_init_kwargs = models.source | teacher_init_kwargs(args)
    transformers.set_seed(args.seed)
    keep_output_folder(args)
    return checkpoint_to_resume(args)


def make_trainer(
    model: Any, args: ProgressiveTrainingArguments, teacher_model: Any, **trainer_kwargs: Any
) -> DistillationTrainer:
    """Make the trainer that the arguments select.

    Args:
        model: The student.
        args: The training arguments.
        teacher_model: The teacher, or its name. None: the arguments name its checkpoints, or there is none.
        **trainer_kwargs: Further keyword arguments of the trainer.

    Returns:
        A `ProgressiveTrainer` where the arguments name checkpoints of the teacher, a `PruningDistillTrainer` where they set
        the size that the student is pruned to, else a `DistillationTrainer`.

    Raises:
        ValueError: Checkpoints are given together with a teacher or a size.
    """
    if isinstance(args, PruningDistillTrainingArguments) and args.has_target:
        if args.teacher_checkpoints:
            raise ValueError(
                f"a student that is pruned has one teacher, got teacher_checkpoints {args.teacher_checkpoints}"
            )
        return PruningDistillTrainer(model, args, teacher_model=teacher_model, **trainer_kwargs)
    if not args.teacher_checkpoints:
        return DistillationTrainer(model, args, teacher_model=teacher_model, **trainer_kwargs)
    if teacher_model is not None:
        raise ValueError("pass either teacher_model_name_or_path or teacher_checkpoints, got both")
    return ProgressiveTrainer(model, args, **trainer_kwargs)


def run(
    trainer: Trainer,
    checkpoint: str | bool | None,
    pipeline: str,
    evaluate: Callable[[Trainer], dict[str, float]] | None = None,
    predict: Callable[[Trainer], None] | None = None,
) -> None:
    """Train, evaluate, predict and publish, as the arguments say; model, metrics and state are saved in output_dir.

    Args:
        trainer: A trainer with the data sets of the requested stages.
        checkpoint: The checkpoint to resume from, see `checkpoint_to_resume`.
        pipeline: The model's task as the Hub calls it, such as "text-classification".
        evaluate: Function that returns the metrics. None: `trainer.evaluate()`.
        predict: Function that predicts and writes the predictions, called with `do_predict`. None: nothing is predicted.
    """
    try:
        with advice_on_interrupt(lambda: resume_advice(trainer.args)):
            _run_stages(trainer, checkpoint, pipeline, evaluate, predict)
    finally:
        leave_output_folders()


def _run_stages(
    trainer: Trainer,
    checkpoint: str | bool | None,
    pipeline: str,
    evaluate: Callable[[Trainer], dict[str, float]] | None,
    predict: Callable[[Trainer], None] | None,
) -> None:
    args = trainer.args
    if args.do_train:
        metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
        trainer.save_model()
        report_training(trainer, metrics)
    # With "group_by_length" predictions, too, would come in another order than the data.
    args.train_sampling_strategy = "random"
    if args.do_eval:
        report(trainer, "eval", evaluate(trainer) if evaluate else trainer.evaluate(), trainer.eval_dataset)
    if args.do_predict and predict is not None:
        predict(trainer)
    if args.push_to_hub:
        trainer.push_to_hub(tasks=pipeline)
    if args.do_train and args.should_save:
        folder = args.output_dir
        logger.info(f"Model: {folder} (weights and run.json; `hf-distill card {folder}` writes its card)")
