"""The trainings and measurements of a search's candidates, each of which is done once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.compression.candidate import Candidate
from hf_distill.compression.material import CompressionMaterial
from hf_distill.compression.training import train_candidate
from hf_distill.compression.workspace import Workspace
from hf_distill.evaluation.comparison import DISTILLED, EvaluatedModel, LatencySettings, compare
from hf_distill.evaluation.formats import Format
from hf_distill.evaluation.loading import load_evaluated_model
from hf_distill.evaluation.rows_by_format import rows_by_format
from hf_distill.scripts.run import ScriptTrainingArguments

CANDIDATES = "candidates"


class CandidateRuns:
    """Trains candidates and measures them on the validation rows; results are kept in a folder, step by step.

    Args:
        material: The teacher and the rows.
        work: The folder.
        latency: The settings of latency measurements.
        arguments: A function that makes the arguments of one training, given its folder and its steps.
        say: A function that is called with remarks for the user.

    Attributes:
        split: The name of the split with the validation rows.

    Raises:
        ValueError: No split but test is labeled.
    """

    def __init__(
        self,
        material: CompressionMaterial,
        work: Workspace,
        latency: LatencySettings,
        arguments: Callable[[Path, int], ScriptTrainingArguments],
        say: Callable[[str], None],
    ):
        self._material, self._work, self._latency = material, work, latency
        self._arguments, self._say = arguments, say
        self.split, self._rows = material.validation

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of a step, see `Workspace.once`; a step that is done is announced."""
        if not self._work.is_finished(step):
            self._say(step)
        return self._work.once(step, work)

    def folder(self, candidate: Candidate, steps: int) -> Path:
        """The folder of a student trained for so many steps."""
        return self._material.request.output_dir / CANDIDATES / candidate.student / f"{steps}-steps"

    def teacher(self) -> dict[str, Any]:
        """The comparison with the teacher's row alone, with its latency."""
        return self.once("teacher", lambda: self._evaluated(self._material.teacher, (Format.FP32.value,)))

    def metric_after(self, candidate: Candidate, steps: int) -> float:
        """The metric of a student on the validation rows after so many steps; NaN if its loss did not stay finite."""

        def work() -> float:
            folder = self.folder(candidate, steps)
            try:
                train_candidate(candidate, self._material, self._arguments(folder, steps))
            except FloatingPointError as error:
                self._say(f"{candidate.student} is left out: {error}")
                return math.nan
            for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
                shutil.rmtree(path)
            found = self._evaluated(load_evaluated_model(str(folder), candidate.student, DISTILLED))
            return found["rows"][0]["metrics"][found["metric"]]

        return self.once(f"{candidate.student}, {steps} steps", work)

    def rows(self, candidates: Sequence[Candidate], steps: int) -> list[dict[str, Any]]:
        """The rows of a comparison about one student in several formats, with its latency in each.

        Args:
            candidates: The candidates, which differ in their formats alone.
            steps: The steps that the student was trained for.

        Returns:
            A row for each format.
        """
        first, formats = candidates[0], tuple(each.number_format for each in candidates)

        def work() -> list[dict[str, Any]]:
            model = load_evaluated_model(str(self.folder(first, steps)), first.student, DISTILLED)
            return self._evaluated(model, formats)["rows"]

        return self.once(f"{first.student} in {', '.join(formats)}", work)

    def _evaluated(self, model: EvaluatedModel, formats: Sequence[str] = ()) -> dict[str, Any]:
        """A model on the validation rows; with formats a row for each, with its latency."""
        found = compare(
            [model], self._rows, Path(self._material.request.dataset).stem, self.split,
            replace(self._latency, formats=tuple(formats)) if formats else None, max_length=self._material.request.max_length,
        )  # fmt: skip
        return rows_by_format(found, {model.name: formats}) if formats else found
