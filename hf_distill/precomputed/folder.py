"""The folder of precomputed teacher outputs: written shard by shard, resumed after an interruption, repaired where damaged."""

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

SECONDS_TO_WAIT = 300.0  # for another writer; below the time that processes of one launch wait for each other
LabelBlock = Callable[[RowBlock, Provenance, Callable[[int], object]], pa.Table]


def recorded_dtype(folder: Path) -> str | None:
    """The precision of the teacher whose outputs are in a folder, such as "bfloat16"; None where no known one is recorded."""
    try:
        provenance, _ = _recorded(folder)
    except ValueError:  # `OutputFolder` says what is wrong
        return None
    dtype = provenance.teacher.get("dtype") if provenance else None
    return dtype if dtype in ("float32", "bfloat16", "float16", "float64") else None


def _recorded(folder: Path) -> tuple[Provenance | None, list[Shard]]:
    """The provenance of the outputs in a folder, None where there are none, and the shards of its manifest."""
    if (folder / MANIFEST).exists():
        manifest = Manifest.load(folder)
        return manifest.provenance, list(manifest.shards)
    unfinished = folder / UNFINISHED
    return Provenance.from_content(read_json(unfinished)) if unfinished.exists() else None, []


class OutputFolder:
    """A folder that one or several processes fill with the outputs for a transfer set; use it within `exclusive_writing`.

    Args:
        folder: The folder, which exists.
        provenance: The provenance of the outputs to compute. Outputs that an interrupted call wrote keep their own, which
            may name other versions of packages.

    Raises:
        ValueError: The folder holds outputs of another provenance.
    """

    def __init__(self, folder: Path, provenance: Provenance):
        self.folder = folder
        self._in_manifest: dict[str, Shard] = {}
        self._rank, self._processes = _rank_and_world_size()
        self.provenance = self._existing_provenance() or provenance
        if difference := next(self.provenance.differences(provenance), None):
            name, there, requested = difference
            raise ValueError(
                f"{folder} holds teacher outputs with {name} {there!r}, requested are outputs with {name} {requested!r}: "
                "choose another output_dir, or delete that folder"
            )

    def fill(
        self, blocks: RowBlocks, label_block: LabelBlock, flops: Callable[[], float], disable_tqdm: bool
    ) -> datasets.Dataset:
        """Compute the shards that are missing or damaged, and open the folder.

        Args:
            blocks: The transfer set.
            label_block: Function that makes the table of a block, with the teacher's outputs.
            flops: Function that returns the FLOPs of all forward passes so far.
            disable_tqdm: Show no progress bar.

        Returns:
            The rows with the teacher's outputs; they stay on disk.

        Raises:
            ValueError: The folder holds outputs for other rows.
        """
        if self._rank == 0:
            remove_partial_files(self.folder)
            if not (self.folder / MANIFEST).exists():
                atomic_write(self.folder / UNFINISHED, json_bytes(asdict(self.provenance)))
        _wait()
        bar = tqdm(total=blocks.rows, unit=" rows", desc="Labeling", disable=disable_tqdm or self._rank > 0)
        with bar:
            for block in blocks:
                if block.index % self._processes == self._rank:
                    self._ensure_shard(block, label_block, flops, bar)
                else:
                    bar.update(len(block.rows))
        _wait()
        if self._rank == 0:
            self._finish(block.index + 1)
        _wait()
        return load_teacher_outputs(self.folder)

    def _ensure_shard(self, block: RowBlock, label_block: LabelBlock, flops: Callable[[], float], bar: tqdm) -> None:
        """Write the block's shard unless it is there and sound, with a note of its hashes and cost until all are written."""
        inputs_sha256, name = table_sha256(block.table), Shard.name_of(block.index)
        known = self._known_shard(block.index)
        if known is not None and known.inputs_sha256 != inputs_sha256:
            raise ValueError(
                f"{self.folder} holds teacher outputs for other rows: {name} was made of rows with sha256 "
                f"{known.inputs_sha256}, rows {block.first_row} to {block.first_row + len(block.rows) - 1} have "
                f"{inputs_sha256}. Choose another output_dir, or delete that folder"
            )
        fault = None if known is None else known.fault(self.folder)
        if known is not None and fault is None:
            bar.update(len(block.rows))
            return
        if fault is not None:
            logger.warning(f"{self.folder}: {fault}; it is computed again")
        flops_before, start = flops(), time.perf_counter()
        sha256 = write_shard(self.folder / name, label_block(block, self.provenance, bar.update))
        cost = LabelingCost(flops() - flops_before, time.perf_counter() - start)
        self._write_note(Shard(name, len(block.rows), sha256, inputs_sha256), cost)

    def _finish(self, count: int) -> None:
        """Write manifest, costs and card, and delete the notes."""
        shards = tuple(map(self._written_shard, range(count)))
        extra = set(self.folder.glob(PATTERN)) - {self.folder / shard.file for shard in shards}
        if extra:
            raise ValueError(
                f"{self.folder} holds teacher outputs for more rows than the {sum(shard.rows for shard in shards)} there are: "
                f"{sorted(path.name for path in extra)}. Choose another output_dir, or delete that folder"
            )
        if costs := self._costs(count):
            add_costs(self.folder, self.provenance.teacher["name"], costs)
        if shards != tuple(self._in_manifest.values()):
            manifest = Manifest(self.provenance, shards)
            write_dataset_card(self.folder, manifest)
            manifest.save(self.folder)
        remove_leftovers(self.folder)

    def _existing_provenance(self) -> Provenance | None:
        """The provenance of the outputs that are there already."""
        try:
            provenance, shards = _recorded(self.folder)
        except ValueError as error:
            if not (self.folder / MANIFEST).exists():
                raise
            logger.warning(f"{self.folder}: {error}; without a valid manifest all outputs are computed again")
            return None
        self._in_manifest = {shard.file: shard for shard in shards}
        return provenance

    def _note_path(self, name: str) -> Path:
        return (self.folder / name).with_suffix(".json")

    def _write_note(self, shard: Shard, cost: LabelingCost) -> None:
        atomic_write(self._note_path(shard.file), json_bytes({"shard": asdict(shard), "cost": asdict(cost)}))

    def _costs(self, count: int) -> dict[str, LabelingCost]:
        """Costs by file of the shards that this call or an interrupted one wrote."""
        notes = {Shard.name_of(index): self._note_path(Shard.name_of(index)) for index in range(count)}
        return {
            name: as_dataclass(LabelingCost, _read(path)["cost"], f"'cost' of {path}")
            for name, path in notes.items()
            if path.exists()
        }

    def _known_shard(self, index: int) -> Shard | None:
        """The description of a shard: the note of this call or an interrupted one, else the manifest's entry."""
        name = Shard.name_of(index)
        path = self._note_path(name)
        if not path.exists():
            return self._in_manifest.get(name)
        return Shard.from_content(_read(path)["shard"], index, path)

    def _written_shard(self, index: int) -> Shard:
        shard = self._known_shard(index)
        if shard is None:
            name = Shard.name_of(index)
            raise FileNotFoundError(f"{self.folder} has no {name}: all processes must write into one shared folder")
        return shard


def _read(note: Path) -> dict[str, Any]:
    return read_json(note, {"shard": dict, "cost": dict})


@contextmanager
def exclusive_writing(folder: Path) -> Iterator[None]:
    """Lock a folder against other writers of teacher outputs; the processes of one launch write together.

    Args:
        folder: The folder, created if it does not exist.

    Raises:
        FolderInUseError: Another writer did not finish within `SECONDS_TO_WAIT`; raised on all processes of a launch.
    """
    rank, _ = _rank_and_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        failures: list[OSError | None] = [None]
        if rank == 0:
            try:
                stack.enter_context(folder_lock(folder, "writing precomputed teacher outputs", SECONDS_TO_WAIT))
            except OSError as error:
                failures = [error]
        if dist.is_initialized():
            dist.broadcast_object_list(failures)
        if failures[0] is not None:
            raise failures[0]
        yield


def _rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and their number; under torchrun or accelerate the process group is initialized first."""
    if not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        PartialState()
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
