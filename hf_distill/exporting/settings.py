"""The settings of an export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_distill.evaluation.comparison import LatencySettings
from hf_distill.graphs.formats import GraphFormat
from hf_distill.text.suggestions import choice

AUTO = "auto"


@dataclass(frozen=True)
class ExportSettings:
    """The settings of an export.

    Attributes:
        formats: The number formats, see `GraphFormat`.
        require_agreement: The smallest share of predictions that must equal the student's in every format, in (0, 1]. None: any
            agreement will do.
        keep_layers: The layers that stay in single precision in int8: names of layers or of modules that contain some, or
            "auto": as few as `require_agreement` needs.
        max_length: The maximum number of tokens; longer inputs are truncated.
        batch_size: The number of examples per forward pass for predictions.
        latency: The settings of latency measurements. None: latency is not measured.
    """

    formats: tuple[str, ...] = (GraphFormat.ONNX.value,)
    require_agreement: float | None = None
    keep_layers: str | Sequence[str] = ()
    max_length: int = 128
    batch_size: int = 32
    latency: LatencySettings | None = field(default_factory=LatencySettings)

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ValueError: A format is unknown or there is none, the agreement is not in (0, 1], or "auto" has no agreement to reach.
        """
        for each in self.formats:
            choice(GraphFormat, each, "format")
        if not self.formats:
            raise ValueError(f"formats must be some of {[each.value for each in GraphFormat]}, got none")
        if self.require_agreement is not None and not 0 < self.require_agreement <= 1:
            raise ValueError(f"require_agreement must be above 0 and at most 1, got {self.require_agreement}")
        if self.keep_layers == AUTO and self.require_agreement is None:
            raise ValueError("keep_layers 'auto' keeps as few layers as require_agreement needs, which is not set")

    @property
    def graph_formats(self) -> list[GraphFormat]:
        """The formats, each once."""
        return [GraphFormat(each) for each in dict.fromkeys(self.formats)]
