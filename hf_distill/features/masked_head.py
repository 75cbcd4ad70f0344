"""Run a masked-language-model head at the masked positions only: the vocabulary is wide, the mask narrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hf_distill.distributed.weights import gathered


class HeadAtPositions:
    """Lets a model's head see the chosen positions of its body's last hidden state.

    Args:
        model: A transformers model with a body (`base_model_prefix`) and a head that treats positions one by one.
    """

    def __init__(self, model: nn.Module):
        self._positions: Tensor | None = None
        self._hook = model.base_model.register_forward_hook(self._pick)

    def remove(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()

    @contextmanager
    def at(self, positions: Tensor | None) -> Iterator[None]:
        """Within it, the model's logits are (positions, vocabulary).

        Args:
            positions: Bool (batch, sequence); None: all of them, as usual.
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
            model: The model, in any mode; it runs in evaluation mode here.
            inputs: Model inputs without labels.
        """
        positions = torch.zeros_like(inputs["input_ids"], dtype=torch.bool)
        positions[:, 1::3] = True
        training = model.training
        model.eval()
        try:
            learns = any(parameter.requires_grad for parameter in model.parameters())
            # A teacher in parts has to be asked in inference mode.
            with torch.no_grad() if learns else torch.inference_mode(), gathered(model):
                dense = model(**inputs).logits[positions]
                with self.at(positions):
                    picked = model(**inputs).logits
            return picked.shape == dense.shape and torch.allclose(picked, dense, rtol=1e-2, atol=1e-3)
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError):
            return False
        finally:
            model.train(training)
