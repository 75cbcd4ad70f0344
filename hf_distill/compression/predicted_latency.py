"""The latency of students of any depth, predicted from the shallowest and the deepest of a width, which are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from hf_distill.compression.candidate import Candidate
from hf_distill.evaluation.comparison import LatencySettings, example_inputs
from hf_distill.evaluation.formats import in_format
from hf_distill.evaluation.latency import measure_latency

_EXPORTED_WITH = (2, 16)  # batch and length


def predict_latencies(
    candidates: Sequence[Candidate], source: Callable[[str], PreTrainedModel], settings: LatencySettings
) -> dict[str, float]:
    """Predict the latency of candidates: each layer of a width takes the same time.

    The vocabulary is left out of account, since only the rows of a text's tokens are read.

    Args:
        candidates: The candidates.
        source: The teacher with a vocabulary.
        settings: The batch size and the length (the first of each), and the numbers of passes.

    Returns:
        The median milliseconds of a pass, by the candidate's name.
    """
    groups: dict[tuple[int, str, str], list[Candidate]] = {}
    for each in candidates:
        groups.setdefault((each.hidden_size, each.initialization, each.number_format), []).append(each)
    ends = {key: (min(group, key=_depth), max(group, key=_depth)) for key, group in groups.items()}
    measured = _measured({each.name: each for pair in ends.values() for each in pair}, source, settings)
    found: dict[str, float] = {}
    for key, group in groups.items():
        (shallow, deep), depth = ends[key], {each.name: each.layers for each in ends[key]}
        step = (measured[deep.name] - measured[shallow.name]) / max(depth[deep.name] - depth[shallow.name], 1)
        found |= {each.name: measured[shallow.name] + step * (each.layers - shallow.layers) for each in group}
    return {name: round(value, 3) for name, value in found.items()}


def _depth(candidate: Candidate) -> int:
    return candidate.layers


def _measured(
    candidates: dict[str, Candidate], source: Callable[[str], PreTrainedModel], settings: LatencySettings
) -> dict[str, float]:
    """The median milliseconds of a pass of untrained students, by name."""
    models = {name: each.create(source(each.vocabulary)).eval() for name, each in candidates.items()}
    runners = {
        name: in_format(model, candidates[name].number_format, example_inputs(model, *_EXPORTED_WITH, "cpu"))
        for name, model in models.items()
    }
    fewest = min(models.values(), key=lambda each: each.config.vocab_size)
    longest = getattr(fewest.config, "max_position_embeddings", settings.lengths[0])
    times = measure_latency(
        runners, settings.batch_sizes[0], min(settings.lengths[0], longest), settings.runs, settings.warm_up,
        inputs=lambda size, length: example_inputs(fewest, size, length, "cpu"),
    )  # fmt: skip
    return {name: each["median_ms"] for name, each in times.items()}
