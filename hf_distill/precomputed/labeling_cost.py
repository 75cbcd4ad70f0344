"""The compute cost of precomputed teacher outputs, in a file of its own: seconds differ between calls, the outputs do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_distill.files import as_dataclass, atomic_write, json_bytes, read_json
from hf_distill.precomputed.shards import Manifest

COST = "cost.json"


@dataclass(frozen=True)
class LabelingCost:
    """The cost of teacher outputs, over all processes.

    Attributes:
        flops: FLOPs of the teacher's forward passes, padding included.
        seconds: Seconds of the forward passes and of writing the outputs.
    """

    flops: float
    seconds: float

    def __add__(self, other: LabelingCost) -> LabelingCost:
        return LabelingCost(self.flops + other.flops, self.seconds + other.seconds)


def labeling_cost(folder: Path) -> LabelingCost | None:
    """The cost of the teacher outputs in a folder; None where it is not known for each of the files."""
    known = _known(folder)
    files = [shard.file for shard in Manifest.load(folder).shards]
    return sum((known[file] for file in files), LabelingCost(0, 0)) if known.keys() >= {*files} else None


def add_costs(folder: Path, teacher: str, costs: Mapping[str, LabelingCost]) -> None:
    """Add the costs of files that were written now to the folder's `cost.json`.

    Args:
        folder: The folder of teacher outputs.
        teacher: The teacher's name.
        costs: The costs by file name.
    """
    by_file = {file: asdict(cost) for file, cost in sorted({**_known(folder), **costs}.items())}
    total = {name: sum(cost[name] for cost in by_file.values()) for name in ("flops", "seconds")}
    atomic_write(folder / COST, json_bytes({"teacher": teacher} | total | {"shards": by_file}))


def _known(folder: Path) -> dict[str, LabelingCost]:
    path = folder / COST
    if not path.exists():
        return {}
    shards = read_json(path, {"shards": dict[str, dict]})["shards"]
    return {file: as_dataclass(LabelingCost, cost, f"{file!r} of {path}") for file, cost in shards.items()}
