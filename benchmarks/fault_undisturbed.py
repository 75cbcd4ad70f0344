"""What the tries of faults.py share: a scratch folder, and what the same work comes to that nothing disturbs."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

from fault_work import Child, can_mount, contents, launch, record, required, train


class Undisturbed:
    """Runs that nothing disturbs, each made once, when a try asks for it.

    Args:
        scratch: A folder for what is tried.
    """

    def __init__(self, scratch: Path):
        self.scratch, self.mounts, self.moments = scratch, can_mount(scratch / "disk"), random.Random(0)
        self._runs: dict[str, Any] = {}

    def training(self, make: str, seed: int = 0) -> dict[str, Any]:
        """What a training gives: `weights`, `seconds`, bytes of all files and of the largest."""
        name = f"{make}-{seed}"
        if name not in self._runs:
            folder = self.fresh(name)
            begin = time.perf_counter()
            weights, _ = required(Child(train, make, folder, seed))
            sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
            self._runs[name] = {
                "weights": weights, "seconds": time.perf_counter() - begin, "bytes": sum(sizes), "largest": max(sizes),
                "model": (folder / "model.safetensors").stat().st_size,
            }  # fmt: skip
        return self._runs[name]

    def recording(self) -> dict[str, Any]:
        """The same of a recording; `contents` are its files."""
        if "recorded" not in self._runs:
            folder = self.fresh("recorded")
            begin = time.perf_counter()
            required(Child(record, folder))
            self._runs["recorded"] = {"contents": contents(folder), "seconds": time.perf_counter() - begin}
        return self._runs["recorded"]

    def launch(self) -> str:
        """The weights of a training on two processes."""
        if "launched" not in self._runs:
            folder = self.fresh("undisturbed")
            launch(folder)
            self._runs["launched"] = (folder / "weights.txt").read_text()
        return self._runs["launched"]

    def fresh(self, name: str) -> Path:
        """A folder that is not there yet."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        return self.scratch / name
