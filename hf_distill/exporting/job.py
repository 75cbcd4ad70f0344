"""The files of one export, and the predictions of every format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from datasets import Dataset

from hf_distill.data.class_names import label_names
from hf_distill.evaluation.comparison import (
    EvaluatedModel,
    LatencySettings,
    affordable_latencies,
    conditions_of,
    example_inputs,
    timed_lengths,
)
from hf_distill.evaluation.formats import Format, Runner, in_format
from hf_distill.evaluation.latency import machine_load, measure_latency
from hf_distill.evaluation.predictions import Predictions, Predictor
from hf_distill.exporting.agreement import AgreementError, agreement, largest_difference, with_labels
from hf_distill.exporting.layers import RecordingRunner, fewest_kept, hurt_by_layer, named_layers
from hf_distill.exporting.settings import AUTO, ExportSettings
from hf_distill.fingerprints import file_sha256, rows_sha256
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.runner import GraphRunner
from hf_distill.tasks import Task, task_of

_MOST_CALIBRATION_ROWS = 256
_SHOWN_LAYERS = 5


class ExportJob:
    """One export into a working folder.

    Attributes:
        evaluated: The student.
        settings: The settings of the export.
        student: The student in torch.
        reference: The predictions of the student in torch.
    """

    def __init__(
        self,
        evaluated: EvaluatedModel,
        settings: ExportSettings,
        rows: Dataset,
        calibration_rows: Dataset | None,
        folder: Path,
        progress: Callable[[str], None],
    ) -> None:
        """Export in single precision, and predict with the student itself."""
        self.evaluated, self.settings, self.folder, self.progress = evaluated, settings, folder, progress
        self.rows, self.is_labeled = with_labels(rows, evaluated.model)
        others = rows if calibration_rows is None else calibration_rows
        self.calibration, _ = with_labels(
            others.select(range(min(len(others), _MOST_CALIBRATION_ROWS))), evaluated.model
        )
        self.example = example_inputs(evaluated.model, 2, 16, "cpu")
        self.student = in_format(evaluated.model, Format.FP32, self.example)
        progress("predictions of the student")
        self.reference = self._predicted(self.student)
        self._recorded: RecordingRunner | None = None

    def report(self, data: tuple[str, str]) -> dict[str, Any]:
        """Make the files of all formats, and report what they are."""
        main = {"format": Format.FP32.value, "file": None, "megabytes": self.student.megabytes}
        found = [main | ({"metrics": self.reference.metrics} if self.is_labeled else {})]
        runners: dict[str, Runner] = {Format.FP32.value: self.student}
        for each in self.settings.graph_formats:
            self.progress(f"predictions in {each.value}")
            row, runners[each.value] = self._in_format(each)
            found.append(row)
        if self.settings.latency is not None:
            self.progress("latency")
            self._add_latencies(found, runners, self.settings.latency)
        packages = ("torch", "transformers", "onnx", "onnxruntime")
        return {
            "task": cast(Task, task_of(self.evaluated.model)).value,
            "data": {
                "name": data[0],
                "split": data[1],
                "examples": len(self.rows),
                "fingerprint": rows_sha256(self.rows),
            },
            "calibration": {"examples": len(self.calibration), "fingerprint": rows_sha256(self.calibration)},
            "metric": self.reference.main_metric if self.is_labeled else None,
            "required_agreement": self.settings.require_agreement,
            "conditions": conditions_of("cpu", self.settings.max_length, packages)
            | (machine_load() if self.settings.latency else {}),
            "rows": found,
        }

    def _predicted(self, run: Runner, rows: Dataset | None = None, batch_size: int | None = None) -> Predictions:
        model, names = self.evaluated.model, label_names(self.evaluated.model.config)
        batch_size = batch_size or self.settings.batch_size
        predictor = Predictor(model, self.evaluated.processing_class, run, names, batch_size, self.settings.max_length)
        return predictor.predict(self.rows if rows is None else rows)

    def _source(self, number_format: GraphFormat) -> Path:
        """The single-precision file that a format is made of, exported when it is needed first."""
        path = self.folder / ("source-fused.onnx" if number_format.is_quantized else "source.onnx")
        if not path.exists():
            self.progress("export")
            inputs = traced_inputs(self.evaluated.model, self.example, self.evaluated.processing_class)
            export_onnx(self.evaluated.model, inputs, path, fused=number_format.is_quantized)
        return path

    @property
    def recorded(self) -> RecordingRunner:
        """The batches of the calibration rows, with the logits in single precision."""
        if self._recorded is None:
            self._recorded = RecordingRunner(self.student)
            self._predicted(self._recorded, self.calibration)
            self._recorded.inputs = [
                traced_inputs(self.evaluated.model, each, self.evaluated.processing_class)
                for each in self._recorded.inputs
            ]
        return self._recorded

    def _in_format(self, number_format: GraphFormat) -> tuple[dict[str, Any], GraphRunner]:
        """A format's row of the report, and its runner; layers are kept until the agreement holds."""
        layers = list(layers_of(self._source(number_format)))
        keep = self.settings.keep_layers
        names = [] if keep == AUTO else named_layers([keep] if isinstance(keep, str) else keep, layers)
        kept = names if number_format.is_quantized else []
        run, predictions, agreed = self._made(number_format, kept)
        hurt: dict[str, float] = {}
        if not self._is_enough(agreed):
            hurt = self._hurt(number_format) if number_format.is_quantized else {}
            if keep != AUTO or not hurt:
                raise AgreementError(self._refusal(number_format, agreed, hurt, kept))
            self.progress(f"layers to keep in {number_format.value}")
            kept = fewest_kept(list(hurt), lambda some: self._is_enough(self._made(number_format, some)[2]))
            run, predictions, agreed = self._made(number_format, kept)
            if not self._is_enough(agreed):
                raise AgreementError(self._refusal(number_format, agreed, hurt, kept))
        path = self.folder / number_format.file_name
        row: dict[str, Any] = {
            "format": number_format.value,
            "file": path.name,
            "megabytes": run.megabytes,
            "sha256": file_sha256(path),
            "agreement": agreed,
            "kept_layers": kept,
        }
        if (difference := largest_difference(self.reference, predictions)) is not None:
            row["largest_difference"] = difference
        row |= {"hurt_by_layer": hurt} if hurt else {}
        return row | ({"metrics": predictions.metrics} if self.is_labeled else {}), run

    def _made(self, number_format: GraphFormat, kept: Sequence[str]) -> tuple[GraphRunner, Predictions, float]:
        """The file of a format, as a runner, its predictions, and their agreement with the student's."""
        path = self.folder / number_format.file_name
        calibration = self.recorded.inputs if number_format is GraphFormat.INT8_STATIC else ()
        convert(self._source(number_format), path, number_format, kept, calibration)
        run = GraphRunner(path)
        predictions = self._predicted(run)
        agreed = self._agreement(predictions)
        if number_format is GraphFormat.INT8:  # whose ranges depend on the batch; services read single rows
            agreed = min(agreed, self._agreement(self._predicted(run, batch_size=1)))
        return run, predictions, agreed

    def _agreement(self, predictions: Predictions) -> float:
        return agreement(self.reference, predictions, task_of(self.evaluated.model))

    def _is_enough(self, agreed: float) -> bool:
        required = self.settings.require_agreement
        return required is None or agreed >= required

    def _hurt(self, number_format: GraphFormat) -> dict[str, float]:
        self.progress(f"layers that {number_format.value} hurts")
        return hurt_by_layer(self._source(number_format), number_format, self.recorded)

    def _refusal(self, number_format: GraphFormat, agreed: float, hurt: dict[str, float], kept: Sequence[str]) -> str:
        required = self.settings.require_agreement
        text = (
            f"{number_format.value} agrees with the student on {agreed:.4f} of the predictions, required are {required}"
        )
        worst = [layer for layer in hurt if layer not in kept][:_SHOWN_LAYERS]
        if not worst:
            return f"{text}; leave the format out, or require less"
        return (
            f"{text}; the layers that hurt most: {', '.join(worst)}. Keep them in single precision (keep_layers, "
            f"--keep-layers), 'auto' for as few as are needed, or require less"
        )

    def _add_latencies(
        self, found: list[dict[str, Any]], runners: dict[str, Runner], settings: LatencySettings
    ) -> None:
        measure = partial(
            measure_latency,
            runners,
            inputs=lambda size, length: example_inputs(self.evaluated.model, size, length, "cpu"),
        )
        lengths = timed_lengths([self.evaluated], settings)
        times = affordable_latencies(measure, lengths, replace(settings, formats=()))
        for row in found:
            row["latency"] = [{"format": row["format"]} | each[row["format"]] for each in times]
