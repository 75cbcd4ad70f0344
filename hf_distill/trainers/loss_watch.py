"""Notice a student whose loss or weights are NaN or infinite, without waiting for the device at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# GradScaler leaves out steps whose gradients overflow while it looks for its scale; a lasting overflow is none of these.
_TOLERATED_UNDER_FP16 = 20


class FiniteLossCheck:
    """Counts how many losses in a row were not finite; what it found is read at logs and before anything is saved.

    Args:
        is_scaled: Gradients are scaled as for fp16, where single losses that overflow do no harm.
    """

    def __init__(self, is_scaled: bool):
        self._tolerated = _TOLERATED_UNDER_FP16 if is_scaled else 0
        self._in_a_row: Tensor | None = None
        self._last_finite: Tensor | None = None

    def look(self, loss: Tensor, step: int) -> None:
        """Note one loss; nothing waits for the device.

        Args:
            loss: Scalar.
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


def require_finite_weights(model: nn.Module) -> None:
    """Refuse weights of which some are NaN or infinite; of a model in parts those of this process.

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
