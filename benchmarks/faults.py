"""Full disks, killed processes, several writers and hostile records: is anything lost, mixed or live afterwards?

    python benchmarks/faults.py [--disks 136] [--kills 78] [--writers 44] [--cards 2000] [--quick]

Full disks are small file systems in memory, where this process may mount such, and a limit to the size of files. Each stop is
followed by the same command again, whose weights or bytes must be those of a run that nothing disturbed. Kills are SIGKILL at
random moments. Kinds that are finished with as many tries and no fault are not tried again; the exit code is 1 where anything
was lost, mixed or live, and what it was is in the JSON file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from fault_attempts import (
    Outcome,
    full_files,
    full_last_save,
    full_recording,
    full_training,
    hostile_records,
    killed_launch,
    killed_of_two_recordings,
    killed_of_two_trainings,
    killed_training,
    two_recordings,
    two_trainings,
)
from fault_undisturbed import Undisturbed
from fault_work import TRAININGS

from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name

RESULTS = Path(__file__).with_name("results")
SHOWN = 20  # faults of a kind that are kept in words
FILES = ("run.json", "README.md", "evaluation.json", "comparison.png", "shrinking.png")
GROUPS = {
    "disks": "cut points on full disks",
    "kills": "killed processes",
    "writers": "pairs of writers that begin at once",
    "cards": "hostile records through cards",
}


class Faults:
    """What was tried and what came of it, by kind; kept in a JSON file after each kind.

    Args:
        path: Of the file.
        undisturbed: What the tries share.
        anew: Try also what is finished.
    """

    def __init__(self, path: Path, undisturbed: Undisturbed, anew: bool = False):
        self.path, self.undisturbed, self.anew = path, undisturbed, anew
        self.cells: dict[str, Any] = json.loads(path.read_text())["kinds"] if path.exists() else {}

    def try_all(self, kind: str, number: int) -> None:
        """Try a kind so many times, unless that is done and nothing was found."""
        known = self.cells.get(kind, {})
        if number == 0 or (not self.anew and (known.get("tried"), known.get("faulty")) == (number, 0)):
            return
        begin, outcomes, faults = time.perf_counter(), Counter(), []
        for index, (came, fault) in enumerate(KINDS[kind](self.undisturbed, number)):
            outcomes[came] += 1
            if fault:
                faults.append(f"{index}: {came}: {fault}")
                print(kind, ascii(faults[-1]), flush=True)
        done, faulty = outcomes.total(), len(faults)
        seconds = round(time.perf_counter() - begin, 1)
        self.cells[kind] = {
            "tried": done, "seconds": seconds, "outcomes": dict(sorted(outcomes.items())), "faulty": faulty,
            "faults": faults[:SHOWN],
        }  # fmt: skip
        print(f"{kind}: {done} in {seconds:.0f} seconds, {self.cells[kind]['outcomes']}", flush=True)
        self.save()

    def save(self) -> None:
        totals = {name: sum(self._tried(name)) for name in GROUPS}
        content = {
            "hardware": hardware_name("cpu"), "versions": package_versions(), "small_file_systems": self.undisturbed.mounts,
            "tried": totals, "faults": sum(cell["faulty"] for cell in self.cells.values()), "kinds": self.cells,
        }  # fmt: skip
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, json.dumps(content, indent=2) + "\n")

    def _tried(self, name: str) -> list[int]:
        return [cell["tried"] for kind, cell in self.cells.items() if kind.partition("/")[0] == name]


def each(attempt: Callable[..., Outcome], *given: Any) -> Callable[[Undisturbed, int], Iterator[Outcome]]:
    """Tries one by one; an attempt is told its number and how many there are, and what it raises is a fault."""

    def tries(undisturbed: Undisturbed, number: int) -> Iterator[Outcome]:
        for index in range(number):
            try:
                yield attempt(undisturbed, *given, index, number)
            except Exception as error:
                yield "failed", f"lost: {type(error).__name__}: {error}"

    return tries


KINDS: dict[str, Callable[[Undisturbed, int], Iterator[Outcome]]] = {
    **{f"disks/{make}": each(full_training, make) for make in TRAININGS},
    "disks/final save": each(full_last_save),
    "disks/recording": each(full_recording),
    **{f"disks/{name}": full_files(name) for name in FILES},
    "kills/training": each(killed_training),
    "kills/one of two trainings": each(killed_of_two_trainings),
    "kills/one of two recordings": each(killed_of_two_recordings),
    "kills/one of two processes of a launch": each(killed_launch),
    "writers/one recording": each(two_recordings, (1, 1)),
    "writers/two teachers": each(two_recordings, (1, 2)),
    "writers/two trainings": each(two_trainings),
    "cards/records": hostile_records,
}
FULL = dict(zip(KINDS, [16, 16, 16, 16, 32, 12, 12, 8, 4, 4, 16, 16, 42, 4, 16, 14, 14, 2000], strict=True))
QUICK = dict(zip(KINDS, [1, 0, 0, 0, 2, 2, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 20], strict=True))


def shared_out(group: str, total: int | None) -> dict[str, int]:
    """How often to try each kind of a group, for so many tries together; None: as in `FULL`."""
    usual = {kind: number for kind, number in FULL.items() if kind.startswith(f"{group}/")}
    if total is None:
        return usual
    shared = {kind: number * total // sum(usual.values()) for kind, number in usual.items()}
    first = next(iter(shared))
    return shared | {first: shared[first] + total - sum(shared.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for group, helped in GROUPS.items():
        usual = sum(shared_out(group, None).values())
        parser.add_argument(f"--{group}", type=int, metavar="N", help=f"{helped}; default: {usual}")
    parser.add_argument("--quick", action="store_true", help="a miniature, of seconds, whatever the other flags say")
    parser.add_argument("--anew", action="store_true", help="try also what is finished")
    parser.add_argument("--output", type=Path, default=RESULTS / "faults.json")
    options = parser.parse_args()
    numbers = {kind: number for group in GROUPS for kind, number in shared_out(group, getattr(options, group)).items()}
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        faults = Faults(options.output, Undisturbed(Path(scratch)), options.anew)
        for kind, number in (QUICK if options.quick else numbers).items():
            faults.try_all(kind, number)
    sys.exit(any(cell["faulty"] for cell in faults.cells.values()))


if __name__ == "__main__":
    main()
