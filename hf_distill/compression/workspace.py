"""The folder of a compression: what was asked for, and which of its steps are finished, so that it can be resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_distill.files import LOCK_FILES, atomic_write, folder_lock, json_bytes, read_json
from hf_distill.scripts.interruption import advice_on_interrupt

REQUEST, FINISHED = "request.json", "finished.json"
_RESUME = "The same command resumes: finished steps are kept, and a training goes on from its last checkpoint."


class Workspace:
    """A folder in which each step of one request leaves what it made, once.

    Args:
        folder: The folder.
        request: What was asked for, as JSON.

    Raises:
        ValueError: The folder holds steps of another request, or files of something else.
    """

    def __init__(self, folder: Path, request: Mapping[str, Any]):
        self.folder, self._request = folder, json.loads(json.dumps(request))
        if (folder / REQUEST).exists():
            self._require_same(read_json(folder / REQUEST, finite=False))
        elif folder.is_dir() and any(path.name not in LOCK_FILES for path in folder.iterdir()):
            raise ValueError(
                f"{folder} is not empty and has no {REQUEST} of an earlier call: choose another --output-dir"
            )

    def _require_same(self, earlier: Mapping[str, Any]) -> None:
        for name in sorted({*earlier, *self._request}):
            before, now = earlier.get(name), self._request.get(name)
            if before != now:
                raise ValueError(
                    f"{self.folder} holds the steps of another call: its {name} is {before!r}, now it is {now!r}. Choose another "
                    "--output-dir, or delete this one"
                )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Write down the request, and keep other processes from working in the folder meanwhile.

        Raises:
            FolderInUseError: Another process works in the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.folder, "compressing a model", timeout=0), advice_on_interrupt(lambda: _RESUME):
            atomic_write(self.folder / REQUEST, json_bytes(self._request))
            yield

    def is_finished(self, step: str) -> bool:
        """Whether a step is finished."""
        return step in self._finished()

    def once(self, step: str, work: Callable[[], Any]) -> Any:
        """The result of a step, which is done unless an earlier call has finished it.

        Args:
            step: The name of the step.
            work: The function that does it, and returns what is kept of it as JSON.

        Returns:
            The result.
        """
        finished = self._finished()
        if step not in finished:
            result = work()
            finished = self._finished() | {step: result}
            atomic_write(self.folder / FINISHED, json_bytes(finished))
        return finished[step]

    def _finished(self) -> dict[str, Any]:
        path = self.folder / FINISHED
        return dict(read_json(path, finite=False)) if path.exists() else {}
