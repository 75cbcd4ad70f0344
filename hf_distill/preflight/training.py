"""Checks before training starts, whose error messages name what was given and what is needed."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainingArguments
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from hf_distill.compute.step_cost import reach_of
from hf_distill.data.random_state import random_state_kept
from hf_distill.objectives.objective import Objective
from hf_distill.objectives.reduction import has_labels
from hf_distill.tasks import Task
from hf_distill.teachers.base import Teacher

logger = logging.getLogger(__name__)

_PROBE_EXAMPLES = 64


def require_writable(args: TrainingArguments) -> None:
    """Refuse an output folder that cannot be created or written, on the process that will write.

    Args:
        args: The training arguments.

    Raises:
        OSError: The folder cannot be written; names it and the reason.
    """
    if not args.should_save:
        return
    try:
        Path(str(args.output_dir)).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.output_dir):
            pass
    except OSError as error:
        raise OSError(
            f"output_dir {str(args.output_dir)!r} cannot be written ({error.strerror or error}); "
            "pass a folder this process may create or write to"
        ) from error


def require_nonempty(dataset: Any, name: str = "train_dataset", purpose: str = "training") -> None:
    """Refuse a data set of known length 0.

    Args:
        dataset: The data set. None: there is none.
        name: The data set's name, for the error message.
        purpose: The use that needs an example, for the error message.

    Raises:
        ValueError: The data set has no example.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{name} holds 0 examples; {purpose} needs at least 1")


def require_own_process_group(args: TrainingArguments) -> None:
    """Refuse launched processes that would each train alone, all of them into the same folder.

    Args:
        args: The training arguments.

    Raises:
        ValueError: WORLD_SIZE is above 1, and the world size of the arguments is 1.
    """
    launched = int(os.environ.get("WORLD_SIZE") or 1)
    if launched > 1 and args.world_size == 1:
        raise ValueError(
            f"{launched} processes were launched (WORLD_SIZE), but this one trains alone, as each of them would, into the same "
            "output_dir: on machines without accelerator pass --use_cpu true (use_cpu=True), or launch one process"
        )


def require_findable_rows(dataset: Any, passes: int, checkpoint: str) -> None:
    """Refuse to resume after the first pass over data of unknown length, since the number of batches per pass is unknown.

    Args:
        dataset: The training set.
        passes: Number of passes over it that were started when the checkpoint was written.
        checkpoint: The checkpoint's folder, for the error message.

    Raises:
        ValueError: There was more than one pass; names what to do instead.
    """
    if passes > 1 and not hasattr(dataset, "__len__"):
        raise ValueError(
            f"{checkpoint} was written in pass {passes} over a training set of unknown length, so the rows that come next "
            "cannot be found. Give the set a length (datasets.Dataset), make it one pass (IterableDataset.repeat(n)), or begin "
            "a new run from the weights there."
        )


def warn_of_unused(args: Any, compute_loss_func: Any) -> None:
    """Warn of arguments that change the loss on labels where no term learns from labels."""
    given = {"label_smoothing_factor": args.label_smoothing_factor, "compute_loss_func": compute_loss_func}
    if unused := [name for name, value in given.items() if value]:
        logger.warning(
            f"{' and '.join(unused)} only changes the loss on labels, of which hard_label_weight is "
            f"{args.hard_label_weight or 0:g}: it has no effect. Set hard_label_weight above 0 to learn from labels too."
        )


def require_no_scheduler(scheduler: Any) -> None:
    """Refuse a learning-rate scheduler that was created before its optimizer had the projections' parameter group.

    Args:
        scheduler: The scheduler that the user passed. None: there is none.

    Raises:
        ValueError: There is a scheduler.
    """
    if scheduler is not None:
        raise ValueError(
            f"optimizers holds a scheduler of your own ({type(scheduler).__name__}), but hidden states of another width are "
            "compared through projections, whose parameters join the optimizer in a group that this scheduler does not know. "
            "Pass optimizers=(optimizer, None) and name the schedule by lr_scheduler_type, or use optimizer_cls_and_kwargs, "
            "or a student of the teacher's width"
        )


def require_gradients_under_zero3(args: TrainingArguments, objective: Objective) -> None:
    """Refuse a loss that DeepSpeed ZeRO-3 cannot backpropagate under activation checkpointing.

    Args:
        args: The training arguments.
        objective: The training objective.

    Raises:
        ValueError: The loss depends on queries, keys or values inside a layer alone, whose weights are sharded again when
            its forward pass has been repeated.
    """
    checkpoints = args.gradient_checkpointing  # the older name, which every supported version of transformers sets
    if is_deepspeed_zero3_enabled() and checkpoints and reach_of(objective).vectors:
        raise ValueError(
            f"{[term.name for term in objective.terms]} alone cannot be learned under DeepSpeed ZeRO-3 with "
            "activation_checkpointing, because no term depends on the output of a layer: set soft_label_weight or "
            "hidden_state_weight above 0, drop activation_checkpointing, or use ZeRO-2 or FSDP2"
        )


def first_batch(
    dataset: Any, collate: Callable[[list], dict[str, Any]]
) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """The first examples of an indexable data set as model inputs, without advancing random number generators.

    Args:
        dataset: Any data set. None: there is none.
        collate: Makes model inputs of examples.

    Returns:
        A batch of up to 64 examples, and the column names of the first example; None and no names where reading would
        consume the data, or there is no data set.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return None, frozenset()
    with random_state_kept():
        examples = [dataset[index] for index in range(min(_PROBE_EXAMPLES, len(dataset)))]
        names = frozenset(examples[0]) if isinstance(examples[0], Mapping) else frozenset()
        return collate(examples), names


def require_labels(batch: Mapping[str, Any], label_names: Sequence[str]) -> None:
    """Refuse a batch without the labels that the objective learns from.

    Args:
        batch: The model inputs.
        label_names: Names of the model inputs that hold labels.

    Raises:
        ValueError: There are no labels; names the inputs that are present and the labels that are missing.
    """
    if label_names and not has_labels(batch, label_names):
        raise ValueError(
            f"hard_label_weight is above 0 but the training examples carry no {list(label_names)}; they give "
            f"{sorted(batch)}. Add the labels (remove_unused_columns drops columns the model does not name; scripts read them "
            "from the column that --label_column_name names), or learn from soft labels alone (hard_label_weight 0 and a "
            "teacher)."
        )


def require_teacher_inputs(
    batch: Mapping[str, Any], given: frozenset[str], teacher: Teacher, label_names: Sequence[str]
) -> None:
    """Refuse a collator that drops the teacher's inputs, and data without them.

    Args:
        batch: The model inputs that the collator made.
        given: The column names of an example.
        teacher: The teacher, whose `input_names` and `main_inputs` are checked, as far as they are known.
        label_names: Names of the model inputs that hold labels, which no teacher reads.

    Raises:
        ValueError: An input of the teacher is missing; names the missing inputs.
    """
    read = set(teacher.input_names) - set(label_names)
    if dropped := sorted((given & read) - set(batch)):
        raise ValueError(
            f"the data collator drops {dropped}, which the teacher reads: it makes {sorted(batch)} of {sorted(given)}. "
            "Let it keep them, or take those columns out of the data set."
        )
    if missing := sorted(set(teacher.main_inputs) - set(batch)):
        raise ValueError(
            f"the teacher needs {missing}, the model inputs are {sorted(batch)}; give it its own with "
            "teacher_processing_class and encode_for_teacher (run_glue.py: --teacher_tokenizer_name)."
        )


def require_logits_of_task(teacher_logits: Tensor, task: Task | None) -> None:
    """Refuse teacher logits that are not one distribution per example, or, for token tasks, per position.

    Args:
        teacher_logits: The teacher's logits.
        task: The task of the student's head. None: unknown.

    Raises:
        ValueError: The logits have another shape; names it.
    """
    per_token = task is not None and task.is_per_token
    if teacher_logits.dim() != (3 if per_token else 2):
        wanted = "(batch, sequence, classes)" if per_token else "(batch, classes), one row of logits per example"
        raise ValueError(f"soft labels need logits {wanted}; the teacher's have shape {tuple(teacher_logits.shape)}")
