"""Running an ONNX file in ONNX Runtime as a function from tensors to tensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hf_distill.extras import require_extra
from hf_distill.graphs.export import EMBEDDING_OUTPUT


class GraphRunner:
    """Runs an ONNX file on the CPU, with as many threads as torch has.

    Attributes:
        names: The names of the inputs that the file needs.
        megabytes: The size of the file (10^6 bytes).
    """

    def __init__(self, path: str | os.PathLike) -> None:
        """Load an ONNX file, which is not needed afterwards.

        Args:
            path: The path of the file.

        Raises:
            ImportError: ONNX Runtime is not installed.
        """
        require_extra("onnxruntime", "onnx", "running an ONNX file")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        content = Path(path).read_bytes()
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self._session.get_inputs()]
        self.megabytes = round(len(content) / 1e6, 3)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the model.

        Args:
            inputs: The model inputs; those that the file does not need are ignored, and token types may be left out.

        Returns:
            The outputs by their names in transformers; embeddings are logits, as those of a `SentenceEncoder`.
        """
        if "token_type_ids" in self.names and "token_type_ids" not in inputs:
            inputs = {**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}
        arrays = self._session.run(None, {name: inputs[name].numpy() for name in self.names})
        names = [each.name for each in self._session.get_outputs()]
        names = ["logits" if name == EMBEDDING_OUTPUT else name for name in names]
        return {name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}
