"""What the example scripts share: where data come from, and the course of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import TrainingArguments
from transformers.hf_argparser import HfArgumentParser
from transformers.trainer import TRAINER_STATE_NAME

from hf_distill.data.files import similar_paths
from hf_distill.data.sequences import label_values
from hf_distill.objectives.reduction import IGNORE_INDEX
from hf_distill.scripts.arguments import ScriptParser
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.scripts.models import TeacherArguments
from hf_distill.scripts.output_folder import (
    OutputFolderArguments,
    has_stages,
    last_checkpoint,
    prepare_fresh_run,
    resume_advice,
)
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
    """Those of all trainers, of which `make_trainer` takes the one they ask for, and of the output folder."""


def parse_arguments(*groups: type, description: str | None = None) -> tuple[Any, ...]:
    """The groups of arguments, from the command line or from the one .json file named on it.

    Args:
        groups: The last is the training's.
        description: What the script does, with which its help begins.

    Raises:
        ValueError: No stage is asked for.
    """
    parser = ScriptParser(groups, description=description)
    from_file = len(sys.argv) == 2 and sys.argv[1].endswith(".json")
    parsed = parser.parse_json_file(sys.argv[1]) if from_file else parser.parse_args_into_dataclasses()
    training = parsed[-1]
    if not (training.do_train or training.do_eval or training.do_predict):
        raise ValueError("nothing to do: pass at least one of --do_train, --do_eval and --do_predict")
    return parsed


def require_source(files: Mapping[str, str | None], file_types: tuple[str, ...], **others: str | None) -> None:
    """Check that the data come from one place, and that files can be read.

    Args:
        files: Paths by argument, None where not given.
        file_types: Suffixes allowed.
        others: Other places, None where not given.

    Raises:
        ValueError: Data come from several places or from none, or a file is not there or of another type.
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


def require_splits(raw: Mapping[str, Any], args: TrainingArguments, **of_stage: str) -> list[str]:
    """The splits that the stages asked for need.

    Args:
        raw: The splits there are.
        args: Says which stages are asked for.
        of_stage: Split by stage, such as do_eval="validation".

    Raises:
        ValueError: One of them is not there.
    """
    wanted = {stage: split for stage, split in of_stage.items() if getattr(args, stage)}
    for stage, split in wanted.items():
        if split not in raw:
            raise ValueError(f"--{stage} needs the split {split!r}, got only {sorted(raw)}")
    return list(wanted.values())


def parsed_values(parser: HfArgumentParser, group: type) -> dict[str, Any]:
    """What the command line says of a group of arguments, for scripts of several trainings: each takes an object of its own.

    Trainer and accelerate write into the object, and under DeepSpeed refuse to take it twice.
    """
    values = vars(parser.parse_args())
    return {own.name: values[own.name] for own in fields(group) if own.init}


def run_on_main_process(work: Callable[[], Result]) -> Result:
    """What a function gives, called by the main process alone when all have come here; the others wait, and get the same.

    Scripts of several trainings decide, read and write with it between them, so that all processes do the same next.

    Args:
        work: Reads and writes files, and does not wait for other processes. What it gives can be pickled. Where it fails,
            the launcher ends the others.
    """
    state = PartialState()
    state.wait_for_everyone()
    return broadcast_object_list([work() if state.is_main_process else None])[0]


def first_rows(dataset: Dataset, limit: int | None) -> Dataset:
    """At most this many rows; None: all."""
    return dataset.select(range(len(dataset))[:limit])


def checkpoint_to_resume(args: TrainingArguments) -> str | bool | None:
    """What resume_from_checkpoint means: a folder; true, the last checkpoint; false, none; unset, the last if any.

    Of a run in stages True, which means the last of the last stage. With overwrite_output_dir the checkpoints there are
    deleted, and none is continued.

    Raises:
        ValueError: A checkpoint is asked for and is not there, or is to be deleted as well; or none is asked for, and
            output_dir has some.
    """
    wanted, overwrite = str(args.resume_from_checkpoint).lower(), getattr(args, "overwrite_output_dir", False)
    if not args.do_train:
        return None
    if overwrite and wanted not in ("none", "false"):
        raise ValueError(
            "pass either overwrite_output_dir, which begins anew, or resume_from_checkpoint, which continues, got both "
            f"({args.resume_from_checkpoint!r})"
        )
    if overwrite or wanted == "false":
        prepare_fresh_run(args, asked_for=True, overwrite=overwrite)
        return None
    searched = wanted in ("none", "true")
    folder = str(args.output_dir if searched else args.resume_from_checkpoint)
    found = None if not Path(folder).is_dir() else last_checkpoint(args) if searched else folder
    if found is None and wanted != "none":
        raise ValueError(
            f"resume_from_checkpoint must be a checkpoint's folder, false, or true where output_dir has a checkpoint, got "
            f"{args.resume_from_checkpoint!r} and output_dir {args.output_dir!r}"
        )
    if found is not None:
        logger.warning(f"Continuing from {found}. To begin anew, pass --overwrite_output_dir true.")
    elif wanted == "none":
        prepare_fresh_run(args, asked_for=False)
    return True if searched and found is not None and has_stages(args) else found


def prepare_run(args: DistillationTrainingArguments, models: TeacherArguments) -> str | None:
    """Set verbosity and seed, and let the teacher be fetched as the model is.

    Returns:
        The checkpoint to continue from.
    """
    set_verbosity(args)
    if models.teacher_model_name_or_path:
        args.teacher_model_init_kwargs = models.source | (args.teacher_model_init_kwargs or {})
    transformers.set_seed(args.seed)
    return checkpoint_to_resume(args)


def make_trainer(
    model: Any, args: ProgressiveTrainingArguments, teacher_model: Any, **trainer_kwargs: Any
) -> DistillationTrainer:
    """The trainer for the arguments.

    Returns:
        A `ProgressiveTrainer` where they name checkpoints of the teacher, a `PruningDistillTrainer` where they say what
        size the student shrinks to, else a `DistillationTrainer`.

    Raises:
        ValueError: Checkpoints are given beside a teacher or a size.
    """
    shrinks = isinstance(args, PruningDistillTrainingArguments) and args.has_target
    if shrinks and args.teacher_checkpoints:
        raise ValueError(f"a student that shrinks has one teacher, got teacher_checkpoints {args.teacher_checkpoints}")
    if not args.teacher_checkpoints:
        trainer_class = PruningDistillTrainer if shrinks else DistillationTrainer
        return trainer_class(model, args, teacher_model=teacher_model, **trainer_kwargs)
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
    """Train, evaluate, predict and publish, as the arguments ask for; leave model, metrics and state in output_dir.

    Args:
        trainer: Has the datasets of the stages asked for.
        checkpoint: To continue from.
        pipeline: What the model is for, as the Hub calls it.
        evaluate: Gives the metrics. None: `trainer.evaluate()`.
        predict: Makes the predictions and writes them; called with `do_predict`.
    """
    with advice_on_interrupt(lambda: resume_advice(trainer.args)):
        _run_stages(trainer, checkpoint, pipeline, evaluate, predict)


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


def sample_counts(dataset: Any) -> dict[str, int]:
    """How many examples there are, and how many of them have a label where it is not all; nothing where it is not known."""
    if not isinstance(dataset, Dataset):
        return {}
    labeled = sum(map(_has_label, _labels_of(dataset)))
    return {"samples": len(dataset)} | ({"labeled_samples": labeled} if 0 < labeled < len(dataset) else {})


def _labels_of(dataset: Dataset) -> Iterable[Any]:
    """The classes of the rows; nothing where there are none."""
    name = next((name for name in ("labels", "label") if name in dataset.column_names), None)
    if name is None or str(getattr(dataset.features[name], "dtype", "")).startswith("float"):
        return ()
    return map(label_values(dataset.features[name]), dataset.with_format(None, columns=[name])[name])


def _has_label(label: Any) -> bool:
    """Of a row or, in a list, of any of its words."""
    return any(map(_has_label, label)) if isinstance(label, list) else label not in (None, IGNORE_INDEX)


def report_training(trainer: Trainer, metrics: dict[str, float]) -> None:
    """Log and save what a training measured, and its state; of a run that was finished before those of then stay."""
    if metrics:
        report(trainer, "train", metrics, trainer.train_dataset)
    if metrics or not Path(trainer.args.output_dir, TRAINER_STATE_NAME).exists():
        trainer.save_state()


def report(trainer: Trainer, stage: str, metrics: dict[str, float], dataset: Any) -> None:
    """Log and save metrics, with the number of examples where it is known."""
    metrics |= {f"{stage}_{name}": count for name, count in sample_counts(dataset).items()} | metrics
    trainer.log_metrics(stage, metrics)
    trainer.save_metrics(stage, metrics)
