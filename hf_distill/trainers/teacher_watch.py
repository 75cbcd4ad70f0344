"""Notice a teacher that answers with NaN or infinity, without waiting for the device at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class FiniteLogitsCheck:
    """On a CPU a bad batch is refused at once; elsewhere at the next log or checkpoint, before anything is saved."""

    def __init__(self, processing_class: Any = None):
        self._processing_class = processing_class
        self._finite_so_far: Tensor | None = None

    def look(self, teacher_logits: Tensor, inputs: Mapping[str, Any], step: int) -> None:
        """Check one batch.

        Args:
            teacher_logits: (batch, classes).
            inputs: The batch they answer.
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
