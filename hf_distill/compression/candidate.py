"""A candidate of a compression: the shape, the initial weights, the vocabulary and the file format of a student."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from hf_distill.evaluation.formats import Format
from hf_distill.graphs.formats import GraphFormat
from hf_distill.students.create import Initialization, create_student
from hf_distill.students.initialization import LayerSelection, selected_layers

FULL, OF_TEXTS = (
    "full",
    "texts",
)  # vocabularies: the teacher's, and the tokens of the texts that the student learns from
DEPLOYED = (Format.FP32.value, Format.ONNX.value, Format.ONNX_FP16.value, Format.ONNX_INT8.value)
_BYTES = {Format.BF16.value: 2, GraphFormat.FP16.value: 2, Format.INT8.value: 1}
_BYTES |= {each.value: 1 for each in GraphFormat if each.is_quantized}


@dataclass(frozen=True)
class Candidate:
    """A student that could be made of a teacher.

    Attributes:
        layers: The number of layers.
        hidden_size: The hidden size.
        initialization: The source of the initial weights, see `create_student`.
        selection: The layers of the teacher that it starts from: "bottom", "top" or "uniform".
        vocabulary: "full", the teacher's; "texts", the tokens of the texts that it learns from; or of these at most so many,
            as a number.
        number_format: The format of the file that is deployed, a value of `Format`.
    """

    layers: int
    hidden_size: int
    initialization: str
    selection: str
    vocabulary: str
    number_format: str

    @property
    def shape(self) -> str:
        """The size as `create_student` takes it, such as "4/384"."""
        return f"{self.layers}/{self.hidden_size}"

    @property
    def student(self) -> str:
        """The name of the student, whatever the format of its file; also a name for a folder."""
        copies = self.initialization in (Initialization.TRUNCATED.value, Initialization.WIDTH.value)
        start = f"{self.initialization}-{self.selection}" if copies else self.initialization
        return f"{self.layers}x{self.hidden_size}-{start}-{self.vocabulary}"

    @property
    def name(self) -> str:
        """The name of the candidate."""
        return f"{self.student}-{self.number_format}"

    def as_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)

    def teacher_layers(self, teacher: PreTrainedModel) -> list[int]:
        """The indices of the teacher's layers that it starts from."""
        return selected_layers(LayerSelection(self.selection), self.layers, teacher.config.num_hidden_layers)

    def create(self, source: PreTrainedModel) -> PreTrainedModel:
        """Create the untrained student.

        Args:
            source: The teacher, with the candidate's vocabulary.

        Returns:
            The student, see `create_student`.
        """
        return create_student(self.shape, source, self.initialization, layers=self.selection)


@dataclass(frozen=True)
class Size:
    """The size of a student, by calculation.

    Attributes:
        parameters: The number of parameters.
        quantizable: The number of those in linear layers and embeddings, which have 8 bits in int8.
    """

    parameters: int
    quantizable: int

    @classmethod
    def of_model(cls, model: PreTrainedModel) -> Size:
        """The size of a model, which may be on the meta device."""
        modules = [each for each in model.modules() if isinstance(each, (nn.Linear, nn.Embedding))]
        return cls(model.num_parameters(), sum({id(each.weight): each.weight.numel() for each in modules}.values()))

    @classmethod
    def of(cls, candidate: Candidate, source: PreTrainedModel) -> Size:
        """The size of a candidate.

        Args:
            candidate: The candidate.
            source: The teacher, with the candidate's vocabulary.

        Returns:
            The size. No weights are allocated, except of students that take a part of the teacher's dimensions.
        """
        if candidate.initialization == Initialization.WIDTH.value:
            return cls.of_model(candidate.create(source))
        with torch.device("meta"):
            return cls.of_model(
                create_student(candidate.shape, source, Initialization.RANDOM, layers=candidate.selection)
            )

    def megabytes(self, number_format: str) -> float:
        """The size of the weights in a format (10^6 bytes); the file has up to a megabyte more."""
        bytes_of = _BYTES.get(number_format, 4)
        others = bytes_of if bytes_of == 2 else 4
        return (self.quantizable * bytes_of + (self.parameters - self.quantizable) * others) / 1e6
