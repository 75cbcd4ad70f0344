"""The number formats a trained model can run in, so that their speed and predictions can be compared."""

from __future__ import annotations

import copy
import inspect
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hf_distill.extras import require_extra
from hf_distill.text.suggestions import choice

Runner = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]


class Format(str, Enum):
    """The number format and the runtime that a model is evaluated in."""

    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"
    ONNX = "onnx"


def in_format(
    model: nn.Module, number_format: Format | str, example: Mapping[str, Tensor], device: torch.device | str = "cpu"
) -> Runner:
    """Make a function that runs a model in a number format, without gradients; the model itself is not modified.

    Args:
        model: A model of transformers, in single precision.
        number_format: The format: "fp32"; "bf16"; "int8", linear layers with 8-bit weights and dynamically quantized
            activations (torch, CPU only); "onnx", single precision in ONNX Runtime (CPU only, needs the extra `onnx`).
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
    if number_format in (Format.INT8, Format.ONNX) and device.type != "cpu":
        raise ValueError(f"format {number_format.value!r} runs on the CPU only, got device {str(device)!r}")
    accepted = set(inspect.signature(model.forward).parameters)
    example = {name: value for name, value in example.items() if name in accepted}
    is_onnx = number_format is Format.ONNX
    run = _onnx_runner(model, example) if is_onnx else _torch_runner(model, number_format, device)
    return lambda inputs: run({name: value for name, value in inputs.items() if name in accepted})


def _torch_runner(model: nn.Module, number_format: Format, device: torch.device) -> Runner:
    model = copy.deepcopy(model).to(device).eval()
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

    return run


def _onnx_runner(model: nn.Module, example: Mapping[str, Tensor]) -> Runner:
    require_extra("onnxruntime", "onnx", "format 'onnx'")
    require_extra("onnxscript", "onnx", "format 'onnx'")  # torch's exporter imports it
    import onnxruntime

    model, names = copy.deepcopy(model).eval(), list(example)
    axes = {name: _axes(name) for name in names}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder, "model.onnx")
        with _without_torchvision():
            torch.onnx.export(
                model, kwargs=dict(example), f=path, input_names=names, dynamic_shapes=axes, dynamo=True, verbose=False
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = [each.name for each in session.get_inputs()]
    with torch.inference_mode():
        keys = [key for key, value in model(**example).items() if isinstance(value, Tensor)]

    def run(inputs: Mapping[str, Tensor]) -> Any:
        arrays = session.run(None, {name: inputs[name].numpy() for name in given})
        return {key: torch.from_numpy(array) for key, array in zip(keys, arrays, strict=True)}

    return run


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Silence the warnings of torch's exporter about operators of torchvision that are not installed: no encoder has one."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _axes(name: str) -> dict[int, str]:
    return {0: "batch"} if name == "pixel_values" else {0: "batch", 1: "sequence"}
