"""The quickstart with several seeds: python benchmarks/quickstart_seeds.py

A seed decides which 500 reviews have labels, the students' first weights and the order of training. The reviews that all
models are compared on are the same in every run. A run that is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from hf_distill.evaluation.significance import difference_interval
from hf_distill.files import atomic_write

RESULTS = Path(__file__).with_name("results") / "quickstart.json"
SCRIPT = Path(__file__).parents[1] / "examples" / "quickstart.py"


def results_of(seed: int, folder: Path, options: list[str]) -> dict[str, Any]:
    """What the quickstart of a seed leaves in results.json, with the minutes it took; None if it was resumed."""
    path, minutes = folder / str(seed) / "results.json", folder / str(seed) / "minutes.json"
    if not path.exists():
        is_resumed, started = path.parent.exists(), time.perf_counter()
        command = [sys.executable, str(SCRIPT), f"--seed={seed}", f"--output_dir={path.parent}", *options]
        subprocess.run(command, check=True)
        taken = round((time.perf_counter() - started) / 60, 1)
        minutes.write_text(json.dumps(None if is_resumed else taken))
    return json.loads(path.read_text()) | {"minutes": json.loads(minutes.read_text())}


def entry(results: dict[str, Any]) -> dict[str, Any]:
    """Teacher and students of one seed, accuracies in percent and differences in points."""
    teacher = results["rows"][0]
    return {
        "seed": results["settings"]["seed"],
        "teacher": {
            "name": teacher["name"],
            "parameters": teacher["parameters"],
            "accuracy": round(100 * teacher["metrics"]["accuracy"], 2),
        },
        "word_counts": round(100 * results["word_counts"], 2),
        "students": [
            {
                name: round(value, 2) if isinstance(value, float) else value
                for name, value in student.items()
                if name != "pairs"
            }
            for student in results["students"]
        ],
        "minutes": results["minutes"],
    }


def mean_over(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds; the interval is that of the mean difference, over the reviews."""
    entries = [entry(run) for run in runs]
    students = []
    for index, student in enumerate(entries[0]["students"]):
        same = [each["students"][index] for each in entries]
        pairs = np.mean([run["students"][index]["pairs"] for run in runs], axis=0)
        low, high = difference_interval(lambda chosen, pairs=pairs: pairs[chosen].mean(), len(pairs))
        means = {name: _mean(each[name] for each in same) for name in ("labels_only", "distilled", "difference")}
        interval = {"interval_low": round(100 * low, 2), "interval_high": round(100 * high, 2)}
        students.append({"name": student["name"], "parameters": student["parameters"]} | means | interval)
    teacher = entries[0]["teacher"] | {"accuracy": _mean(each["teacher"]["accuracy"] for each in entries)}
    return {
        "teacher": teacher,
        "word_counts": _mean(each["word_counts"] for each in entries),
        "students": students,
        "seeds": entries,
        "data": runs[0]["data"],
        "conditions": runs[0]["conditions"],
    }


def _mean(values: Any) -> float:
    return round(statistics.mean(values), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("outputs/quickstart_seeds"), help="where runs are kept")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the results are written")
    options, others = parser.parse_known_args()  # others are the quickstart's
    runs = [results_of(seed, options.folder, others) for seed in range(options.seeds)]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(options.output, json.dumps(mean_over(runs), indent=2) + "\n")


if __name__ == "__main__":
    main()
