"""What it took to make recorded answers, beside them in a file of its own: seconds are never the same twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_distill.files import as_dataclass, atomic_write, json_bytes, read_json
from hf_distill.precomputed.shards import Manifest

COST = "cost.json"


@dataclass(frozen=True)
class LabelingCost:
    """What answers have cost, over all processes.

    Attributes:
        flops: Floating-point operations of the teacher, padding included.
        seconds: Of asking it and of writing the answers down.
    """

    flops: float
    seconds: float

    def __add__(self, other: LabelingCost) -> LabelingCost:
        return LabelingCost(self.flops + other.flops, self.seconds + other.seconds)


def labeling_cost(folder: Path) -> LabelingCost | None:
    """What the answers in a folder have cost; None where that was not written down for each of its files."""
    known = _known(folder)
    files = [shard.file for shard in Manifest.load(folder).shards]
    return sum((known[file] for file in files), LabelingCost(0, 0)) if known.keys() >= {*files} else None


def add_costs(folder: Path, teacher: str, costs: Mapping[str, LabelingCost]) -> None:
    """Write down what files have cost that were made now.

    Args:
        folder: Of recorded answers.
        teacher: Its name.
        costs: By file.
    """
    by_file = {file: asdict(cost) for file, cost in sorted((_known(folder) | costs).items())}
    total = {name: sum(cost[name] for cost in by_file.values()) for name in ("flops", "seconds")}
    atomic_write(folder / COST, json_bytes({"teacher": teacher} | total | {"shards": by_file}))


def _known(folder: Path) -> dict[str, LabelingCost]:
    path = folder / COST
    if not path.exists():
        return {}
    shards = read_json(path, {"shards": dict[str, dict]})["shards"]
    return {file: as_dataclass(LabelingCost, cost, f"{file!r} of {path}") for file, cost in shards.items()}
