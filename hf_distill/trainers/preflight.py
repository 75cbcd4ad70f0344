"""What can be found wrong before training starts, said in terms of what was given and what would do."""

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
from hf_distill.tasks import REGRESSION, Task

logger = logging.getLogger(__name__)

_PROBE_EXAMPLES = 64


def require_writable(args: TrainingArguments) -> None:
    """Refuse an output folder that cannot be made or written, on the process that will write.

    Raises:
        OSError: Names the folder and the reason.
    """
    if not args.should_save:
        return
    try:
        Path(args.output_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=args.output_dir):
            pass
    except OSError as error:
        raise OSError(
            f"output_dir {str(args.output_dir)!r} cannot be written ({error.strerror or error}); "
            "pass a folder this process may create or write to"
        ) from error


def require_nonempty(dataset: Any, name: str = "train_dataset", purpose: str = "training") -> None:
    """Refuse a data set of known length 0.

    Raises:
        ValueError: It has no example.
    """
    if hasattr(dataset, "__len__") and len(dataset) == 0:
        raise ValueError(f"{name} holds 0 examples; {purpose} needs at least 1")


def require_own_process_group(args: TrainingArguments) -> None:
    """Refuse one of several launched processes that would train alone, all of them into the same folder.

    Raises:
        ValueError: WORLD_SIZE says that there are several, and the arguments see one.
    """
    launched = int(os.environ.get("WORLD_SIZE") or 1)
    if launched > 1 and args.world_size == 1:
        raise ValueError(
            f"{launched} processes were launched (WORLD_SIZE), but this one trains alone, as each of them would, into the same "
            "output_dir: on machines without accelerator pass --use_cpu true (use_cpu=True), or launch one process"
        )


def require_findable_rows(dataset: Any, passes: int, checkpoint: str) -> None:
    """Refuse to resume on data of unknown length that were begun again: nobody knows how many batches a pass had.

    Args:
        dataset: The training set.
        passes: Over it, begun when the checkpoint was written.
        checkpoint: For the message.

    Raises:
        ValueError: Says what to do in its place.
    """
    if passes > 1 and not hasattr(dataset, "__len__"):
        raise ValueError(
            f"{checkpoint} was written in pass {passes} over a training set of unknown length, so the rows that come next "
            "cannot be found. Give the set a length (datasets.Dataset), make it one pass (IterableDataset.repeat(n)), or begin "
            "a new run from the weights there."
        )


def warn_of_unused(args: TrainingArguments, compute_loss_func: Any) -> None:
    """Say what of the loss on labels was given although no term learns from labels."""
    given = {"label_smoothing_factor": args.label_smoothing_factor, "compute_loss_func": compute_loss_func}
    if unused := [name for name, value in given.items() if value]:
        logger.warning(
            f"{' and '.join(unused)} only changes the loss on labels, of which hard_label_weight is "
            f"{args.hard_label_weight or 0:g}: it has no effect. Set hard_label_weight above 0 to learn from labels too."
        )


def require_no_scheduler(scheduler: Any) -> None:
    """Refuse a learning-rate scheduler that was made before its optimizer had the projections' parameter group.

    Raises:
        ValueError: There is one.
    """
    if scheduler is not None:
        raise ValueError(
            f"optimizers holds a scheduler of your own ({type(scheduler).__name__}), but hidden states of another width are "
            "compared through projections, whose parameters join the optimizer in a group that this scheduler does not know. "
            "Pass optimizers=(optimizer, None) and name the schedule by lr_scheduler_type, or use optimizer_cls_and_kwargs, "
            "or a student of the teacher's width"
        )


def require_gradients_under_zero3(args: TrainingArguments, objective: Objective) -> None:
    """Refuse a loss that DeepSpeed ZeRO-3 cannot go backward from under activation checkpoints.

    Raises:
        ValueError: It begins inside a layer, whose weights are taken apart again when its forward pass has been repeated.
    """
    checkpoints = args.gradient_checkpointing  # the older name, which every supported version of transformers sets
    if is_deepspeed_zero3_enabled() and checkpoints and reach_of(objective).vectors:
        raise ValueError(
            f"{[term.name for term in objective.terms]} alone cannot be learned under DeepSpeed ZeRO-3 with "
            "activation_checkpointing, because no term looks at what a layer puts out: set soft_label_weight or "
            "hidden_state_weight above 0, drop activation_checkpointing, or use ZeRO-2 or FSDP2"
        )


def first_batch(
    dataset: Any, collate: Callable[[list], dict[str, Any]]
) -> tuple[dict[str, Any] | None, frozenset[str]]:
    """The first examples of an indexable data set as model inputs, no random number generator moved.

    Args:
        dataset: Any data set.
        collate: Makes model inputs out of examples.

    Returns:
        A batch of up to 64 examples, and the names of what the first example holds; None and no names where looking
        would consume the data, or there is no data set.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        return None, frozenset()
    with random_state_kept():
        examples = [dataset[index] for index in range(min(_PROBE_EXAMPLES, len(dataset)))]
        names = frozenset(examples[0]) if isinstance(examples[0], Mapping) else frozenset()
        return collate(examples), names


def require_labels(batch: Mapping[str, Any], label_names: Sequence[str]) -> None:
    """Refuse a batch without the labels its objective learns from.

    Raises:
        ValueError: Names the inputs there are and the labels there should be.
    """
    if label_names and not has_labels(batch, label_names):
        raise ValueError(
            f"hard_label_weight is above 0 but the training examples carry no {list(label_names)}; they give "
            f"{sorted(batch)}. Add the labels (remove_unused_columns drops columns the model does not name; scripts read them "
            "from the column that --label_column_name names), or learn from soft labels alone (hard_label_weight 0 and a "
            "teacher)."
        )


def require_teacher_inputs(
    batch: Mapping[str, Any], given: frozenset[str], teacher: Any, label_names: Sequence[str]
) -> None:
    """Refuse a collator that drops what the teacher reads, and data that are not for the teacher at all.

    Args:
        batch: What the collator made.
        given: Names of what an example holds.
        teacher: Reads `input_names`, of which it needs `main_inputs`; others that do not say so are not checked.
        label_names: Names of labels, which no teacher is asked with.

    Raises:
        ValueError: Names the inputs that are missing.
    """
    read = getattr(teacher, "input_names", set()) - set(label_names)
    if dropped := sorted((given & read) - set(batch)):
        raise ValueError(
            f"the data collator drops {dropped}, which the teacher reads: it makes {sorted(batch)} of {sorted(given)}. "
            "Let it keep them, or take those columns out of the data set."
        )
    if missing := sorted(getattr(teacher, "main_inputs", set()) - set(batch)):
        raise ValueError(
            f"the teacher needs {missing}, the model inputs are {sorted(batch)}; give it its own with "
            "teacher_processing_class and encode_for_teacher (run_glue.py: --teacher_tokenizer_name)."
        )


def require_logits_of_task(teacher_logits: Tensor, task: Task | None) -> None:
    """Refuse teacher logits that are not one distribution per example, or, for token tasks, per position.

    Raises:
        ValueError: Names their shape.
    """
    per_token = task is not None and task.is_per_token
    if teacher_logits.dim() != (3 if per_token else 2):
        wanted = "(batch, sequence, classes)" if per_token else "(batch, classes), one row of logits per example"
        raise ValueError(f"soft labels need logits {wanted}; the teacher's have shape {tuple(teacher_logits.shape)}")


def soft_label_loss_for(chosen: str | None, problem_type: str) -> str:
    """The soft-label loss for a head: the chosen one, or the head's default.

    Raises:
        ValueError: A divergence between distributions was chosen for a regression head.
    """
    chosen = None if chosen is None else getattr(chosen, "value", chosen)
    if problem_type == REGRESSION:
        if chosen not in (None, "logit_mse"):
            raise ValueError(
                f"soft_label_loss is {chosen!r}, a divergence between class distributions, but the student has a "
                "regression head; use 'logit_mse' or leave it None"
            )
        return "logit_mse"
    return chosen or "forward_kl"
