"""The best student under limits: candidates trained by successive halving on outputs that are recorded once."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_distill.compression.candidate import Candidate, Size
from hf_distill.compression.candidate_runs import CandidateRuns
from hf_distill.compression.material import CompressionMaterial
from hf_distill.compression.plan import EXPORT, STUDENT
from hf_distill.compression.predicted_latency import predict_latencies
from hf_distill.compression.search_space import Limits, SearchSpace
from hf_distill.compression.training import export_candidate, finished_training
from hf_distill.compression.workspace import Workspace
from hf_distill.evaluation.comparison import LatencySettings
from hf_distill.evaluation.formats import Format
from hf_distill.evaluation.plots import report_plot
from hf_distill.evaluation.row_values import latency_of
from hf_distill.evaluation.rows_by_format import formats_of, rows_by_format
from hf_distill.extras import require_extra
from hf_distill.files import atomic_write
from hf_distill.preflight.student_defaults import planned_steps
from hf_distill.scripts.run import ScriptTrainingArguments

REDUCTION_FACTOR, RUNGS = 3, 3
SEARCH = "search"


@dataclass(frozen=True)
class SearchSettings:
    """The settings of a search.

    Attributes:
        limits: What the best student must meet.
        space: The candidates.
        latency: The batch size, the length and the numbers of passes by which latency is measured.
        reduction_factor: The number of students of which one is trained for more steps, and how many times more.
    """

    limits: Limits
    space: SearchSpace
    latency: LatencySettings
    reduction_factor: int = REDUCTION_FACTOR

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON, by the names of the options."""
        names = {"layers": "depths", "hidden_sizes": "widths", "selection": "layers"}
        values = vars(self.limits) | {names.get(name, name): value for name, value in vars(self.space).items()}
        values |= {"length": self.latency.lengths[0], "runs": self.latency.runs}
        values["reduction_factor"] = self.reduction_factor
        return {f"--{name.replace('_', '-')}": value for name, value in values.items()}


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        best: The best candidate.
        candidates: The comparison of the teacher and the students that were trained to the end, on validation.
        stopped: The students that were stopped, each with the steps that they were trained for, and their metric then.
        comparison: The best student and its teacher on the test split, else on validation, by format.
    """

    best: Candidate
    candidates: dict[str, Any]
    stopped: dict[str, tuple[int, float]]
    comparison: dict[str, Any]


class Search:
    """A search for the best student of a teacher.

    Args:
        material: The teacher and the rows.
        settings: The settings.
        arguments: A function that makes the arguments of one training, given its folder and its steps.
        say: A function that is called with remarks for the user.

    Attributes:
        sizes: All candidates with their sizes, by calculation.

    Raises:
        ValueError: No candidate has few enough parameters, or the folder holds another search.
        ImportError: optuna is not installed.
    """

    def __init__(
        self,
        material: CompressionMaterial,
        settings: SearchSettings,
        arguments: Callable[[Path, int], ScriptTrainingArguments],
        say: Callable[[str], None] = lambda remark: None,
    ):
        require_extra("optuna", "search", "hf-distill search")
        self.material, self.settings, self._say = material, settings, say
        self._work = Workspace(material.request.output_dir, material.identity() | settings.as_dict())
        self._runs = CandidateRuns(material, self._work, settings.latency, arguments, say)
        found = settings.space.candidates(self._source)
        students = {each.student: each for each in found}
        sizes = {name: Size.of(each, self._source(each.vocabulary)) for name, each in students.items()}
        self.sizes = {each: sizes[each.student] for each in found}
        most = settings.limits.max_parameters
        if not (small := [each for each in found if most is None or self.sizes[each].parameters <= most]):
            smallest = min(found, key=lambda each: self.sizes[each].parameters)
            raise ValueError(
                f"no candidate has at most {most:,} parameters: the smallest, {smallest.student}, has "
                f"{self.sizes[smallest].parameters:,}. Allow more, or add smaller ones (--depths, --widths, --vocabularies)"
            )
        self._small = small

    def _source(self, vocabulary: str) -> Any:
        return self.material.vocabularies[vocabulary][0]

    @cached_property
    def predicted(self) -> dict[str, float]:
        """The predicted latency (ms) of the candidates that are small enough, by name."""
        with self._work.in_use():
            return self._runs.once(
                "latency", lambda: predict_latencies(self._small, self._source, self.settings.latency)
            )

    @cached_property
    def feasible(self) -> list[Candidate]:
        """The candidates that can meet the limits.

        Returns:
            The candidates in the order in which they are trained.

        Raises:
            ValueError: None is fast enough; names the fastest.
        """
        limit = self.settings.limits.max_latency_ms
        if fast := [each for each in self._small if limit is None or self.predicted[each.name] <= limit]:
            is_floor = self.settings.limits.min_accuracy is not None
            cost = {each: self.predicted[each.name] if is_floor else -self.sizes[each].parameters for each in fast}
            return sorted(fast, key=lambda each: (cost[each], each.name))
        fastest = min(self._small, key=lambda each: self.predicted[each.name])
        raise ValueError(
            f"no candidate takes at most {limit:g} ms: the fastest, {fastest.name}, takes {self.predicted[fastest.name]:g} ms on "
            "this machine. Allow more, or add smaller ones (--depths, --widths, --formats)"
        )

    @property
    def rungs(self) -> list[int]:
        """The numbers of steps that students are trained for, ascending."""
        full = planned_steps(self.material.request.args, len(self.material.rows), self.material.teacher.model)
        return sorted({max(1, full // self.settings.reduction_factor**power) for power in range(RUNGS)})

    def run(self) -> SearchResult:
        """Do what is not finished of the search.

        Returns:
            The result.

        Raises:
            ValueError: No student meets the limits; the message says how near the best one comes.
            FolderInUseError: Another process works in the folder.
        """
        by_student: dict[str, list[Candidate]] = {}
        for each in self.feasible:
            by_student.setdefault(each.student, []).append(each)
        with self._work.in_use():
            self._runs.once("label", lambda: len(self.material.outputs))
            teacher = self._runs.teacher()
            self._remark_on(teacher)
            rows, stopped = self._halved(by_student, teacher["metric"])
            found = teacher | {"rows": [*teacher["rows"], *rows]}
            self._save(found, f"{SEARCH}.json", f"{SEARCH}.png")
            best = self._best(rows, found["metric"])
            chosen = next(each for each in by_student[best["name"]] if each.number_format == best["format"])
            comparison = self._runs.once("compare", lambda: self._finished(chosen))
            self._save(comparison, "evaluation.json", "evaluation.png")
            return SearchResult(chosen, found, stopped, comparison)

    def _remark_on(self, teacher: Mapping[str, Any]) -> None:
        metric, floor = teacher["metric"], self.settings.limits.min_accuracy
        own = teacher["rows"][0]["metrics"][metric]
        if floor is not None and floor > own:
            self._say(
                f"The teacher itself has {metric} {own:.3f} on {self._runs.split}, below the {floor:g} that are asked for."
            )

    def _halved(
        self, by_student: Mapping[str, Sequence[Candidate]], metric: str
    ) -> tuple[list[dict[str, Any]], dict[str, tuple[int, float]]]:
        """The rows of the students that were trained to the end, and those that were stopped.

        The trials are made anew in every call, of results that are kept: an interrupted search decides as one that was not.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            direction="maximize",
            pruner=optuna.pruners.SuccessiveHalvingPruner(1, self.settings.reduction_factor, 0),
        )
        rows: list[dict[str, Any]] = []
        stopped: dict[str, tuple[int, float]] = {}

        def trained(trial: optuna.Trial) -> float:
            candidates = by_student[trial.suggest_categorical("student", list(by_student))]
            for rung, steps in enumerate(self.rungs):
                accuracy = self._runs.metric_after(candidates[0], steps)
                trial.report(accuracy, self.settings.reduction_factor**rung)
                is_worse = trial.should_prune() and not self._is_floor_reached(accuracy)
                if math.isnan(accuracy) or (is_worse and steps < self.rungs[-1]):
                    stopped[candidates[0].student] = steps, accuracy
                    raise optuna.TrialPruned
            rows.extend(self._runs.rows(candidates, self.rungs[-1]))
            if self.settings.limits.min_accuracy is not None and self._met(rows, metric):
                study.stop()
            return accuracy

        for name in by_student:
            study.enqueue_trial({"student": name})
        study.optimize(trained, n_trials=len(by_student))
        return rows, stopped

    def _is_floor_reached(self, accuracy: float) -> bool:
        limits = self.settings.limits
        return limits.min_accuracy is not None and limits.is_reached(accuracy)

    def _met(self, rows: Iterable[Mapping[str, Any]], metric: str) -> list[Mapping[str, Any]]:
        return [row for row in rows if self.settings.limits.are_met(row, metric, latency_of(row))]

    def _best(self, rows: Sequence[Mapping[str, Any]], metric: str) -> Mapping[str, Any]:
        """The fastest of the students that meet the limits where there is a floor of accuracy, else the most accurate."""

        def rank(row: Mapping[str, Any]) -> list[float]:
            values = [-row["metrics"][metric], latency_of(row) or 0.0]
            return values if self.settings.limits.min_accuracy is None else values[::-1]

        if found := self._met(rows, metric):
            return min(found, key=rank)
        if not rows:
            raise ValueError("no student could be trained: the loss of none of them stayed finite")
        nearest = max(rows, key=lambda row: row["metrics"][metric])
        raise ValueError(
            f"no student meets the limits: the best on {self._runs.split}, {nearest['name']} in {nearest['format']}, has {metric} "
            f"{nearest['metrics'][metric]:.3f} at {latency_of(nearest):g} ms and {nearest['parameters']:,} parameters; all are in "
            f"{self.material.request.output_dir / SEARCH}.json"
        )

    def _finished(self, best: Candidate) -> dict[str, Any]:
        """Save the best student with record, card and export, and compare it with its teacher."""
        folder, settings = self.material.request.output_dir, self.settings.latency
        shutil.rmtree(folder / STUDENT, ignore_errors=True)
        shutil.copytree(self._runs.folder(best, self.rungs[-1]), folder / STUDENT)
        export_candidate(folder / STUDENT, folder / EXPORT, best.number_format, self.material, settings)
        formats = list(dict.fromkeys([Format.FP32.value, best.number_format]))
        timed = replace(settings, formats=tuple(formats), teacher_in_formats=False)
        found = finished_training(folder / STUDENT, self.material).evaluate(self.material.request.max_length, timed)
        assert found is not None  # there is a validation split with labels
        return rows_by_format(found, formats_of(found))

    def _save(self, comparison: Mapping[str, Any], table: str, plot: str) -> None:
        folder = self.material.request.output_dir
        atomic_write(folder / table, json.dumps(comparison, indent=2) + "\n")
        report_plot(comparison, folder / plot)
