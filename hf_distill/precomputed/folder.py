"""A folder that fills with recorded answers, is found as it was left, and mends what was damaged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch.distributed as dist
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers.utils import logging

from hf_distill.files import as_dataclass, atomic_write, folder_lock, json_bytes, read_json, remove_partial_files
from hf_distill.fingerprints import table_sha256
from hf_distill.precomputed.dataset_card import write_dataset_card
from hf_distill.precomputed.labeling_cost import LabelingCost, add_costs
from hf_distill.precomputed.provenance import Provenance
from hf_distill.precomputed.row_blocks import RowBlock, RowBlocks
from hf_distill.precomputed.shards import (
    MANIFEST,
    PATTERN,
    UNFINISHED,
    Manifest,
    Shard,
    load_teacher_outputs,
    remove_leftovers,
    write_shard,
)

logger = logging.get_logger(__name__)

SECONDS_TO_WAIT = 300.0  # for others who record there; below the time that processes of one launch wait for each other
Answer = Callable[[RowBlock, Provenance, Callable[[int], object]], pa.Table]


class OutputFolder:
    """Where the answers to a transfer set are written, block by block, by one or several processes, within `recording`.

    Args:
        folder: Is there.
        provenance: Of the answers to come. What was written by a call that was interrupted keeps its own, which may name
            other versions of packages.

    Raises:
        ValueError: The folder holds answers of another provenance.
    """

    def __init__(self, folder: Path, provenance: Provenance):
        self.folder = folder
        self._known: dict[str, Shard] = {}
        self._index, self._count = _place_among_processes()
        self.provenance = self._begun() or provenance
        if difference := next(self.provenance.differences(provenance), None):
            name, there, asked = difference
            raise ValueError(
                f"{folder} holds answers with {name} {there!r}, asked for are answers with {name} {asked!r}: choose "
                "another output_dir, or delete that folder"
            )

    def filled(
        self, blocks: RowBlocks, answer: Answer, flops: Callable[[], float], disable_tqdm: bool
    ) -> datasets.Dataset:
        """The rows with their answers, those that are missing or damaged made now.

        Args:
            blocks: The transfer set.
            answer: Makes a table of a block.
            flops: Operations of the answers that it has made so far.
            disable_tqdm: No progress bar.

        Raises:
            ValueError: The folder holds answers to other rows.
        """
        if self._index == 0:
            remove_partial_files(self.folder)
            if not (self.folder / MANIFEST).exists():
                atomic_write(self.folder / UNFINISHED, json_bytes(asdict(self.provenance)))
        _wait()
        bar = tqdm(total=blocks.rows, unit=" rows", desc="Labeling", disable=disable_tqdm or self._index > 0)
        with bar:
            for block in blocks:
                if block.index % self._count == self._index:
                    self._provide(block, answer, flops, bar)
                else:
                    bar.update(len(block.rows))
        _wait()
        if self._index == 0:
            self._finish(block.index + 1)
        _wait()
        return load_teacher_outputs(self.folder)

    def _provide(self, block: RowBlock, answer: Answer, flops: Callable[[], float], bar: tqdm) -> None:
        """See to it that the block's file lies there, with a note of what is known about it until all are done."""
        inputs_sha256, name = table_sha256(block.table), Shard.name_of(block.index)
        known = self._recorded(block.index)
        if known is not None and known.inputs_sha256 != inputs_sha256:
            raise ValueError(
                f"{self.folder} holds answers to other rows: {name} was made of rows with sha256 {known.inputs_sha256}, "
                f"rows {block.first_row} to {block.first_row + len(block.rows) - 1} have {inputs_sha256}. Choose another "
                "output_dir, or delete that folder"
            )
        fault = None if known is None else known.fault(self.folder)
        if known is not None and fault is None:
            bar.update(len(block.rows))
            return
        if fault is not None:
            logger.warning(f"{self.folder}: {fault}; it is made anew")
        before, begin = flops(), time.perf_counter()
        sha256 = write_shard(self.folder / name, answer(block, self.provenance, bar.update))
        cost = LabelingCost(flops() - before, time.perf_counter() - begin)
        self._note(Shard(name, len(block.rows), sha256, inputs_sha256), cost)

    def _finish(self, count: int) -> None:
        """The manifest and the card in place of the notes."""
        shards = tuple(self._recorded(index) for index in range(count))
        extra = set(self.folder.glob(PATTERN)) - {self.folder / shard.file for shard in shards}
        if extra:
            raise ValueError(
                f"{self.folder} holds answers to more rows than the {sum(shard.rows for shard in shards)} there are: "
                f"{sorted(path.name for path in extra)}. Choose another output_dir, or delete that folder"
            )
        if costs := self._costs(count):
            add_costs(self.folder, self.provenance.teacher["name"], costs)
        if shards != tuple(self._known.values()):
            manifest = Manifest(self.provenance, shards)
            write_dataset_card(self.folder, manifest)
            manifest.save(self.folder)
        remove_leftovers(self.folder)

    def _begun(self) -> Provenance | None:
        """Of what the folder holds already."""
        if (self.folder / MANIFEST).exists():
            try:
                manifest = Manifest.load(self.folder)
            except ValueError as error:
                logger.warning(f"{self.folder}: {error}; as nothing vouches for the answers, all are made anew")
                return None
            self._known = {shard.file: shard for shard in manifest.shards}
            return manifest.provenance
        unfinished = self.folder / UNFINISHED
        return Provenance.from_content(read_json(unfinished)) if unfinished.exists() else None

    def _note_path(self, name: str) -> Path:
        return (self.folder / name).with_suffix(".json")

    def _note(self, shard: Shard, cost: LabelingCost) -> None:
        atomic_write(self._note_path(shard.file), json_bytes({"shard": asdict(shard), "cost": asdict(cost)}))

    def _costs(self, count: int) -> dict[str, LabelingCost]:
        """By file, of those made in this or an interrupted call."""
        notes = {Shard.name_of(index): self._note_path(Shard.name_of(index)) for index in range(count)}
        return {
            name: as_dataclass(LabelingCost, _read(path)["cost"], f"'cost' of {path}")
            for name, path in notes.items()
            if path.exists()
        }

    def _recorded(self, index: int) -> Shard | None:
        """What is known about a file: the note of this or an interrupted call, else what the manifest says."""
        name = Shard.name_of(index)
        path = self._note_path(name)
        if not path.exists():
            return self._known.get(name)
        return Shard.from_content(_read(path)["shard"], index, path)


def _read(note: Path) -> dict[str, Any]:
    return read_json(note, {"shard": dict, "cost": dict})


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Within it this process, and those it was launched with, are the only ones to record answers in a folder.

    Args:
        folder: Made if it is not there.

    Raises:
        FolderInUseError: Others still record there after `SECONDS_TO_WAIT`; on all processes of a launch alike.
    """
    index, _ = _place_among_processes()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        failures: list[OSError | None] = [None]
        if index == 0:
            try:
                stack.enter_context(folder_lock(folder, "recording a teacher's answers", SECONDS_TO_WAIT))
            except OSError as error:
                failures = [error]
        if dist.is_initialized():
            dist.broadcast_object_list(failures)
        if failures[0] is not None:
            raise failures[0]
        yield


def _place_among_processes() -> tuple[int, int]:
    """Which process this is, and of how many; started by torchrun or accelerate, they are brought together first."""
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState()
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
