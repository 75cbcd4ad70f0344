"""Which layers of a model int8 hurts, and how few of them must stay in single precision."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from hf_distill.evaluation.formats import Runner
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.runner import GraphRunner
from hf_distill.objectives.logits import logit_mse
from hf_distill.objectives.reduction import valid_positions
from hf_distill.tasks import logits_of
from hf_distill.text.suggestions import suggestion


@dataclass
class RecordingRunner:
    """Runs a model and keeps the batches that it was given, with its outputs.

    Attributes:
        run: The function that is called.
        inputs: The model inputs of each batch.
        logits: The logits of each batch.
    """

    run: Runner
    inputs: list[dict[str, Tensor]] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)

    def __call__(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Run the model on inputs."""
        outputs = self.run(inputs)
        self.inputs.append(dict(inputs))
        self.logits.append(logits_of(outputs, valid_positions(inputs)))
        return outputs


def hurt_by_layer(path: Path, number_format: GraphFormat, recorded: RecordingRunner) -> dict[str, float]:
    """Measure how much the logits change where one layer alone is quantized.

    Args:
        path: The path of the single-precision file.
        number_format: The quantized format.
        recorded: The batches to measure on, with the logits in single precision; a static format is calibrated on them.

    Returns:
        The mean squared difference of the logits by the name of the layer, the largest first.
    """
    layers = list(layers_of(path))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for layer in layers:
            kept = [other for other in layers if other != layer]
            convert(path, target := Path(folder, "one.onnx"), number_format, kept, recorded.inputs)
            found[layer] = _difference(GraphRunner(target), recorded)
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def _difference(run: GraphRunner, recorded: RecordingRunner) -> float:
    """The mean squared difference of the logits from the recorded ones, without padding."""
    found = []
    for inputs, expected in zip(recorded.inputs, recorded.logits, strict=True):
        valid = valid_positions(inputs)
        squares = logit_mse(logits_of(run(inputs), valid), expected)  # (batch,), (batch, sequence) or (batch, 2)
        found.append(squares[valid] if valid is not None and squares.shape == valid.shape else squares.flatten())
    return float(torch.cat(found).mean())


def fewest_kept(layers: Sequence[str], is_enough: Callable[[Sequence[str]], bool]) -> list[str]:
    """The shortest beginning of a list of layers which is enough to keep, found by bisection.

    Args:
        layers: The layers, the most hurtful first.
        is_enough: A function from the layers that are kept to whether the model then agrees.

    Returns:
        The layers to keep; all if fewer are not enough.
    """
    low, high = 1, len(layers)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(layers[:middle]) else (middle + 1, high)
    return list(layers[:high])


def named_layers(names: Collection[str], layers: Collection[str]) -> list[str]:
    """The layers that a user names.

    Args:
        names: The names of layers, or of modules that contain some, such as "bert.encoder.layer.0".
        layers: The names of all layers.

    Returns:
        The names of the layers, in the model's order.

    Raises:
        ValueError: A name is of no layer.
    """
    for name in names:
        if not any(_is_in(layer, name) for layer in layers):
            raise ValueError(
                f"layers to keep must be among {', '.join(layers)}, or contain some, got {name!r}{suggestion(name, layers)}"
            )
    return [layer for layer in layers if any(_is_in(layer, name) for name in names)]


def _is_in(layer: str, module: str) -> bool:
    return layer == module or layer.startswith(f"{module}.")
