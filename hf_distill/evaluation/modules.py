"""Metrics as modules of the evaluate library, whose own are downloaded from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from hf_distill.evaluation.metrics import compute_metrics, metrics_of_task
from hf_distill.evaluation.question_answering import exact_match_and_f1
from hf_distill.evaluation.token_classification import entity_scores
from hf_distill.extras import require_extra

if TYPE_CHECKING:
    import evaluate
else:
    evaluate = require_extra("evaluate", "eval", "hf_distill.evaluation.modules")

_ANSWERS = {"text": datasets.List(datasets.Value("string")), "answer_start": datasets.List(datasets.Value("int32"))}


class Glue(evaluate.Metric):
    """The metrics of a GLUE task, with the keys of the Hub's "glue" metric; the config name is the task's name."""

    def _info(self) -> evaluate.MetricInfo:
        kind = datasets.Value("float32" if self.config_name == "stsb" else "int64")
        return _described("Metrics of GLUE (Wang et al. 2019, arXiv 1804.07461).", kind, kind)

    def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
        return compute_metrics(metrics_of_task(self.config_name), np.array(references), np.array(predictions))


class Squad(evaluate.Metric):
    """Exact match and F1 in percent, with the keys of the Hub's "squad" or "squad_v2" metric, after the config name."""

    def _info(self) -> evaluate.MetricInfo:
        prediction = {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")}
        if self.config_name == "squad_v2":
            prediction["no_answer_probability"] = datasets.Value("float32")
        reference = {"id": datasets.Value("string"), "answers": _ANSWERS}
        return _described("Metrics of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250).", prediction, reference)

    def _compute(self, predictions: list[dict], references: list[dict]) -> dict[str, float]:
        given = {prediction["id"]: prediction["prediction_text"] for prediction in predictions}
        if missing := [reference["id"] for reference in references if reference["id"] not in given]:
            raise ValueError(f"every question needs a prediction, none was given for {missing[:5]}")
        texts = [given[reference["id"]] for reference in references]
        answers = [list(reference["answers"]["text"]) for reference in references]
        return exact_match_and_f1(texts, answers, version_2=self.config_name == "squad_v2")


class Seqeval(evaluate.Metric):
    """Entity metrics with the keys overall_precision, overall_recall, overall_f1 and overall_accuracy of "seqeval"."""

    def _info(self) -> evaluate.MetricInfo:
        names = datasets.List(datasets.Value("string"))
        return _described("Entities as CoNLL counts them (Tjong Kim Sang and Buchholz 2000).", names, names)

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        return {f"overall_{name}": value for name, value in entity_scores(predictions, references).items()}


_MODULES = {"glue": Glue, "squad": Squad, "squad_v2": Squad, "seqeval": Seqeval}


def load_metric(name: str, config_name: str | None = None, **options: Any) -> evaluate.Metric:
    """Make a metric of the evaluate library that needs no network, in place of `evaluate.load`.

    Args:
        name: The name of the metric: "glue", "squad", "squad_v2" or "seqeval".
        config_name: The GLUE task, such as "sst2"; ignored for other metrics.
        **options: Arguments of `evaluate.Metric`, such as `experiment_id`.

    Returns:
        The metric, with the methods `add_batch` and `compute`.

    Raises:
        ValueError: There is no such metric, or no such GLUE task.
    """
    if name not in _MODULES:
        raise ValueError(f"name must be one of {sorted(_MODULES)}, got {name!r}")
    if name == "glue":
        metrics_of_task(config_name)
    return _MODULES[name](config_name=config_name if name == "glue" else name, **options)


def _described(about: str, prediction: Any, reference: Any) -> evaluate.MetricInfo:
    features = datasets.Features({"predictions": prediction, "references": reference})
    return evaluate.MetricInfo(description=about, citation="", features=features)
