"""A masked-language-model head that runs at the masked positions only, to save time and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_distill.distributed.weights import gathered


class HeadAtPositions:
    """Passes only chosen positions of the body's last hidden state to a model's head.

    Args:
        model: A transformers model of a body (`base_model_prefix`) and a head that processes each position separately.
    """

    def __init__(self, model: PreTrainedModel):
        self._positions: Tensor | None = None
        self._hook = model.base_model.register_forward_hook(self._pick)

    def remove(self) -> None:
        """Remove the hook, so that the head runs at all positions again."""
        self._hook.remove()

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """Within this context the model's logits are (positions, vocabulary).

        Args:
            positions: True at the positions where the head runs, bool (batch, sequence). None: the head runs at all
                positions, and logits have their usual shape.
        """
        self._positions = positions
        try:
            yield
        finally:
            self._positions = None

    def _pick(self, module: nn.Module, args: tuple, output: Any) -> Any:
        if self._positions is not None:
            output["last_hidden_state"] = output["last_hidden_state"][self._positions]  # (positions, hidden)
        return output

    def works(self, model: nn.Module, inputs: dict[str, Any]) -> bool:
        """Whether the head gives the same logits at chosen positions as it does over all of them.

        Args:
            model: The hooked model; it runs in evaluation mode, then returns to the mode it was in.
            inputs: Model inputs without labels.

        Returns:
            Whether shapes and values agree; False if the forward pass raises an error.
        """
        positions = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
        positions[:, 1::3] = True
        training = model.training
        model.eval()
        try:
            learns = any(parameter.requires_grad for parameter in model.parameters())
            # A sharded teacher (FSDP2) runs in inference mode only.
            with torch.no_grad() if learns else torch.inference_mode(), gathered(model):
                dense = model(**inputs).logits[positions]
                with self.at(positions):
                    picked = model(**inputs).logits
            return picked.shape == dense.shape and torch.allclose(picked, dense, rtol=1e-2, atol=1e-3)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError):
            return False
        finally:
            model.train(training)
