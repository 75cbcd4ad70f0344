"""Checks that precomputed teacher outputs belong to this teacher, tokenizer and order of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import DataCollatorForLanguageModeling

from hf_distill.data.class_names import in_same_order, label_names
from hf_distill.precomputed.provenance import EXTERNAL, Provenance
from hf_distill.tasks import class_of, unwrapped
from hf_distill.teachers.alignment import processing_sha256, take_over_problem_type
from hf_distill.teachers.base import Teacher
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.trajectory import Trajectory


def require_matching_outputs(provenance: Provenance, trainer: Any) -> None:
    """Refuse outputs for another task, tokenizer or image processor, label order, problem type, temperature or loss.

    A student whose configuration has no problem type takes over that of the outputs.

    Args:
        provenance: The provenance of the precomputed teacher outputs.
        trainer: A `DistillationTrainer` with its student, processing class, data collator and arguments.

    Raises:
        ValueError: The outputs do not match; names what they were computed for and what is given.
    """
    if trainer.task is not None and trainer.task.value != provenance.task:
        raise refusal(f"for the task {provenance.task}", f"the student's is {trainer.task.value}")
    own = processing_sha256(trainer.processing_class)
    recorded = provenance.processing_class
    if own is not None and recorded is not None and own != recorded["sha256"]:
        name = getattr(trainer.processing_class, "name_or_path", "") or type(trainer.processing_class).__name__
        raise refusal(
            f"for inputs made by {recorded['name']} (sha256 {recorded['sha256'][:16]})",
            f"processing_class is {name} (sha256 {own[:16]})",
        )
    config = getattr(unwrapped(trainer.model), "config", None)
    if provenance.labels is not None and config is not None:
        _require_same_labels(provenance.labels, label_names(config))
    if config is not None:
        take_over_problem_type(config, provenance.problem_type, "the teacher of the precomputed outputs")
    _require_same_comparison(provenance, trainer.args)
    collator = trainer.data_collator
    while hasattr(collator, "data_collator"):
        collator = collator.data_collator
    if isinstance(collator, DataCollatorForLanguageModeling):
        given = "fixed masks" if provenance.top_classes is not None else "inputs without masks"
        raise refusal(
            f"for {given}",
            f"data_collator is a {type(collator).__name__}, which makes masks or labels of its own at every epoch; use "
            "DataCollatorForTokenClassification, which only pads",
        )


def require_same_teacher(recorded: Sequence[Provenance], teacher: Teacher) -> None:
    """Refuse outputs of another teacher than a live one.

    Args:
        recorded: The provenances of the precomputed outputs, at least one.
        teacher: The live teacher.

    Raises:
        ValueError: The outputs are from another teacher; names both.
    """
    if len(teacher.members) != 1:
        raise refusal(f"from {recorded[0].teacher['name']}", f"teacher_model is a {teacher.kind}")
    (member,) = teacher.members
    sha256 = member.weights_sha256
    for provenance in recorded:
        theirs = provenance.teacher
        if theirs.get("kind") == EXTERNAL:
            raise refusal(
                f"from {theirs['name']}, recorded elsewhere", "there is a teacher_model too: pass one of the two"
            )
        if theirs["weights_sha256"] != sha256:
            name = (
                getattr(getattr(member.model, "config", None), "_name_or_path", "") or class_of(member.model).__name__
            )
            raise refusal(
                f"from {theirs['name']} (weights with sha256 {theirs['weights_sha256'][:16]})",
                f"teacher_model is {name} (weights with sha256 {sha256[:16]})",
            )


def require_same_trajectory(found: Mapping[str, Provenance], trajectory: Trajectory, teacher: FrozenTeacher) -> None:
    """Refuse outputs of other checkpoints than those of a trajectory, or outputs truncated to the top tokens.

    Only the number of checkpoints is compared for adapters, and for teachers in another precision than their checkpoints.

    Args:
        found: The provenances of the precomputed outputs, by column.
        trajectory: The teacher's checkpoints; it is at the first one before and after the call.
        teacher: The teacher that loads the weights of the checkpoints.

    Raises:
        ValueError: The outputs are from other checkpoints or truncated; names both sides.
    """
    recorded = [found[column] for column in sorted(found, key=lambda name: (len(name), name))]
    if len(recorded) != len(trajectory.checkpoints):
        raise refusal(f"from {len(recorded)} checkpoints", f"teacher_checkpoints names {len(trajectory.checkpoints)}")
    if recorded[0].top_classes is not None:
        raise refusal("truncated to the top tokens at one temperature", "a trajectory is followed at changing ones")
    if trajectory.checkpoints[0].is_adapter or teacher.is_converted:
        return
    for index, provenance in enumerate(recorded):
        trajectory.move_to(index, teacher.model)
        require_same_teacher([provenance], teacher)
    trajectory.move_to(0, teacher.model)


def _require_same_labels(recorded: list[str], own: list[str]) -> None:
    if len(recorded) != len(own) or (
        not in_same_order(recorded, own)
        and not any(all(name.startswith("LABEL_") for name in names) for names in (recorded, own))
    ):
        raise refusal(
            f"in the order of the labels {recorded}",
            f"the student's labels are {own}; make the student of the "
            "teacher's labels in their order (`hf-distill train` and create_student do), label the rows with a teacher "
            "made by load_teacher for this student, or read outputs from elsewhere with labels in the student's order",
        )


def _require_same_comparison(provenance: Provenance, args: Any) -> None:
    kept, loss = provenance.top_classes, getattr(args.soft_label_loss, "value", args.soft_label_loss)
    of = provenance.teacher.get("outputs")
    if loss == "logit_mse" and of not in (None, "logits"):
        raise refusal(
            f"made of {of}, which have no logits of their own", f"soft_label_loss is {loss}, which compares logits"
        )
    if kept is None:
        return
    if args.temperature != kept["temperature"]:
        raise refusal(f"softened by temperature {kept['temperature']}", f"temperature is {args.temperature}")
    if args.soft_label_top_k not in (None, kept["top_k"]):
        what = "labels per row" if of else "tokens per masked position"
        raise refusal(f"truncated to {kept['top_k']} {what}", f"soft_label_top_k is {args.soft_label_top_k}")
    if loss not in (None, "forward_kl"):
        what = "labels" if of else "tokens"
        raise refusal(f"truncated to the top {what}, which forward_kl alone compares", f"soft_label_loss is {loss}")


def refusal(recorded: str, given: str) -> ValueError:
    """The error for precomputed teacher outputs that do not match.

    Args:
        recorded: What the outputs are, or were computed for, such as "for the task fill-mask".
        given: What they would be used for.

    Returns:
        The error, to be raised.
    """
    return ValueError(f"the transfer set's precomputed teacher outputs are {recorded}; {given}")
