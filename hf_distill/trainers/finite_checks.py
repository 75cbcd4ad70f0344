"""Find NaN and infinity in losses, weights and teacher logits without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

# GradScaler leaves out steps whose gradients overflow while it looks for its scale; a lasting overflow is none of these.
_TOLERATED_UNDER_FP16 = 20


class FiniteChecks:
    """The checks of a training: of the student's losses and weights, and of the teacher's logits.

    Args:
        processing_class: The student's tokenizer, which decodes the first bad text for the error.
        is_scaled: Gradients are scaled as for fp16.

    Attributes:
        losses: The check of losses.
        logits: The check of teacher logits.
    """

    def __init__(self, processing_class: Any = None, is_scaled: bool = False):
        self.losses, self.logits = FiniteLossCheck(is_scaled), FiniteLogitsCheck(processing_class)

    def require(self, step: int, model: nn.Module | None = None) -> None:
        """Refuse to continue after what was not finite; waits for the device.

        Args:
            step: The optimizer steps made.
            model: The student, whose weights are looked at too. None: they are not.

        Raises:
            FloatingPointError: Names what is not finite, and since when.
        """
        self.logits.require_finite(step)
        self.losses.require_finite_loss()
        if model is not None:
            require_finite_weights(model)


class FiniteLossCheck:
    """Counts how many losses in a row were not finite; the count is read at logs and before anything is saved.

    Args:
        is_scaled: Gradients are scaled as for fp16, where single losses that overflow do no harm.
    """

    def __init__(self, is_scaled: bool):
        self._tolerated = _TOLERATED_UNDER_FP16 if is_scaled else 0
        self._in_a_row: Tensor | None = None
        self._last_finite = torch.zeros(())

    def add(self, loss: Tensor, step: int) -> None:
        """Note one loss; nothing waits for the device.

        Args:
            loss: The loss, scalar.
            step: The optimizer step it belongs to, from 1.
        """
        if self._in_a_row is None:
            self._in_a_row = torch.zeros((), device=loss.device)
            self._last_finite = torch.zeros((), device=loss.device)
        finite = loss.detach().isfinite()
        self._in_a_row = torch.where(finite, 0, self._in_a_row + 1)
        self._last_finite = torch.where(finite, step, self._last_finite)

    def require_finite_loss(self) -> None:
        """Raise where the last losses were not finite; waits for the device.

        Raises:
            FloatingPointError: Names the step up to which they were.
        """
        if self._in_a_row is not None and self._in_a_row > self._tolerated:
            last = int(self._last_finite)
            raise FloatingPointError(
                f"the loss has not been finite since optimizer step {last + 1}, and the student's weights are spoiled by it; "
                "nothing was saved after that. Look for labels or inputs that are NaN or far too large, lower learning_rate, "
                "or train in float32 or bfloat16 in place of fp16; then go on from the last checkpoint."
            )


class FiniteLogitsCheck:
    """Refuses teacher logits that are not finite: on a CPU at once, elsewhere at the next log or checkpoint.

    Args:
        processing_class: The student's tokenizer, which decodes the first bad text for the error.
    """

    def __init__(self, processing_class: Any = None):
        self._processing_class = processing_class
        self._finite_so_far: Tensor | None = None

    def add(self, teacher_logits: Tensor, inputs: Mapping[str, Any], step: int) -> None:
        """Check one batch.

        Args:
            teacher_logits: The teacher's logits, (batch, ...).
            inputs: The batch of model inputs.
            step: The optimizer step being made.

        Raises:
            FloatingPointError: On a CPU, naming step, rows and text.
        """
        finite = teacher_logits.isfinite().all()
        if teacher_logits.device.type != "cpu":
            self._finite_so_far = finite if self._finite_so_far is None else self._finite_so_far & finite
        elif not finite:
            raise FloatingPointError(self._description(teacher_logits, inputs, step))

    def require_finite(self, step: int) -> None:
        """Raise for what was seen since the start; waits for the device.

        Raises:
            FloatingPointError: Some batch up to this step was bad.
        """
        if self._finite_so_far is not None and not self._finite_so_far:
            raise FloatingPointError(
                f"the teacher's logits were not finite for some batch up to optimizer step {step}, after the last log "
                "without this error. Check the teacher's weights, try teacher_dtype=float32, or find the batch with "
                "logging_steps=1."
            )

    def _description(self, logits: Tensor, inputs: Mapping[str, Any], step: int) -> str:
        bad_rows = (~logits.isfinite()).reshape(len(logits), -1).any(dim=1).nonzero().flatten().tolist()
        message = (
            f"the teacher's logits are not finite in {len(bad_rows)} of {len(logits)} rows of a batch of optimizer step "
            f"{step} (rows {bad_rows[:8]})"
        )
        is_per_row = len(logits) == len(inputs.get("input_ids", ()))
        if hasattr(self._processing_class, "decode") and is_per_row:
            text = self._processing_class.decode(inputs["input_ids"][bad_rows[0]], skip_special_tokens=True)
            message += f"; the first of them reads {text[:120]!r}"
        return f"{message}. Check the teacher's weights, or try teacher_dtype=float32."


def require_finite_weights(model: nn.Module) -> None:
    """Refuse weights of which some are NaN or infinite; of a sharded model those of this process.

    Raises:
        FloatingPointError: Names the first parameters that hold such values.
    """
    bad = [name for name, each in model.named_parameters() if not bool(_local(each).isfinite().all())]
    if bad:
        raise FloatingPointError(
            f"the student's weights are not finite in {len(bad)} parameters ({', '.join(bad[:3])}): the last optimizer steps "
            "spoiled them. Lower learning_rate or max_grad_norm, or train in another precision, and go on from an earlier "
            "checkpoint."
        )


def _local(parameter: Tensor) -> Tensor:
    parameter = parameter.detach()
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
