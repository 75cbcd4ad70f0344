"""The number formats a trained model can run in, so that their speed, size and predictions can be compared."""

from __future__ import annotations

import inspect
import io
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_distill.extras import require_extra
from hf_distill.graphs.export import as_loaded, export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert
from hf_distill.graphs.runner import GraphRunner
from hf_distill.text.suggestions import choice

Runner = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]


class Format(str, Enum):
    """The number format and the runtime that a model is evaluated in."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    ONNX = GraphFormat.ONNX.value
    ONNX_FP16 = GraphFormat.FP16.value
    ONNX_INT8 = GraphFormat.INT8.value

    @property
    def is_torch(self) -> bool:
        """Whether torch runs the model, not ONNX Runtime."""
        return self in (Format.FP32, Format.BF16, Format.INT8)


@dataclass(frozen=True)
class FormatRunner:
    """A model in a number format.

    Attributes:
        run: The function from model inputs on the device to the model's outputs by name.
        megabytes: The size of the model's file in the format (10^6 bytes).
    """

    run: Runner
    megabytes: float

    def __call__(self, inputs: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Run the model on inputs."""
        return self.run(inputs)


def in_format(
    model: nn.Module, number_format: Format | str, example: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> FormatRunner:
    """Make a function that runs a model in a number format, without gradients; the model itself is not modified.

    Args:
        model: A model of transformers, in single precision, which runs as it does when it is loaded, see `as_loaded`.
        number_format: The format: "fp32"; "bf16"; "int8", linear layers with 8-bit weights and dynamically quantized
            activations (torch, CPU only); and in ONNX Runtime (CPU only, needs the extra `onnx`) "onnx", single
            precision, "onnx-fp16" and "onnx-int8", dynamically quantized per channel.
        example: Model inputs that the model is exported with, of at least two rows.
        device: The device to run on.

    Returns:
        A function from model inputs on the device to the model's outputs by name; inputs that the model does not
        accept are ignored.

    Raises:
        ValueError: The format does not run on the device.
        ImportError: ONNX Runtime or onnxscript is not installed.
    """
    number_format, device = choice(Format, number_format, "format"), torch.device(device)
    if number_format not in (Format.FP32, Format.BF16) and device.type != "cpu":
        raise ValueError(f"format {number_format.value!r} runs on the CPU only, got device {str(device)!r}")
    if not number_format.is_torch:
        graph = _graph_runner(model, GraphFormat(number_format.value), example)
        return FormatRunner(graph, graph.megabytes)
    accepted = set(inspect.signature(model.forward).parameters)
    run, megabytes = _torch_runner(model, number_format, device)
    return FormatRunner(
        lambda inputs: run({name: value for name, value in inputs.items() if name in accepted}), megabytes
    )


def megabytes_of(model: nn.Module) -> float:
    """The size of a model's file (10^6 bytes): of its parameters or, if they are quantized, of its saved state."""
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    if any("quantized" in type(module).__module__ for module in model.modules()):
        saved = io.BytesIO()
        torch.save(model.state_dict(), saved)
        size = len(saved.getbuffer())
    return round(size / 1e6, 3)


def _torch_runner(model: nn.Module, number_format: Format, device: torch.device) -> tuple[Runner, float]:
    model = as_loaded(model).to(device)
    if number_format is Format.BF16:
        model = model.to(torch.bfloat16)
    elif number_format is Format.INT8:
        from torch.ao.quantization import quantize_dynamic

        with warnings.catch_warnings():  # deprecated in favor of torchao, which is three times slower on CPUs (0.18)
            warnings.simplefilter("ignore")
            model = quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)

    def run(inputs: Mapping[str, Tensor]) -> Any:
        if number_format is Format.BF16:
            inputs = {
                name: value.to(torch.bfloat16) if value.is_floating_point() else value for name, value in inputs.items()
            }
        with torch.inference_mode():
            return model(**inputs)

    return run, megabytes_of(model)


def _graph_runner(model: nn.Module, number_format: GraphFormat, example: Mapping[str, Tensor]) -> GraphRunner:
    require_extra("onnxruntime", "onnx", f"format {number_format.value!r}")
    require_extra("onnxscript", "onnx", f"format {number_format.value!r}")  # torch's exporter imports it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, GraphFormat.ONNX.file_name)
        export_onnx(model, traced_inputs(model, example), path, fused=number_format.is_quantized)
        if number_format is not GraphFormat.ONNX:
            convert(path, converted := Path(folder, "converted.onnx"), number_format)
            path = converted
        return GraphRunner(path)
