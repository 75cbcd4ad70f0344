"""What faults.py tries: each function makes one try, or all of a kind, and says what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fault_cards import outcome, whole_record
from fault_undisturbed import Undisturbed
from fault_work import (
    CONTEXT,
    ENDED,
    KILLED,
    RECORDED_ROWS,
    STEPS,
    TRAININGS,
    AfterStep,
    Child,
    contents,
    launch,
    limit_files,
    record,
    required,
    small_disk,
    train,
)
from huggingface_hub import ModelCard
from PIL import Image
from transformers import AutoModelForSequenceClassification

from hf_distill import load_teacher_outputs
from hf_distill.evaluation.plots import report_plot, shrinking_plot
from hf_distill.files import LOCK_FILES, atomic_write
from hf_distill.fingerprints import weights_sha256
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from hf_distill.trainers.checkpoints import last_complete_checkpoint

CHUNK = 100
Outcome = tuple[str, str | None]  # what came of a try, and what of that is a fault, if anything is


def read_whole(folder: Path) -> None:
    """Read every file of the package's own in the output folder of a training; an error says which is damaged."""
    if (folder / "run.json").exists():
        RunRecord.load(folder)
    if (folder / "README.md").exists():
        ModelCard.load(folder / "README.md")
    for plot in folder.glob("*.png"):
        Image.open(plot).load()


def after_training(folder: Path, wanted: dict[str, Any], came: tuple[str, Any], seed: int = 0) -> Outcome:
    """What the repeated command came to, held against the undisturbed run: its weights, also as saved and as recorded."""
    if came[0] != ENDED:
        return "failed", f"lost: {came}"
    weights, resumed = came[1]
    saved = required(Child(saved_weights, folder))
    made = RunRecord.load(folder)
    read_whole(folder)
    if (weights, saved, made.student["weights_sha256"], made.training["seed"]) != (*3 * (wanted["weights"],), seed):
        return (
            "other weights",
            f"mixed: {weights[:8]}, saved {saved[:8]}, recorded {made.student['weights_sha256'][:8]}",
        )
    return "went on from a checkpoint, same weights" if resumed else "began anew, same weights", None


def saved_weights(folder: Path) -> str:
    return weights_sha256(AutoModelForSequenceClassification.from_pretrained(folder))


# Full disks


def full_training(undisturbed: Undisturbed, make: str, index: int, number: int) -> Outcome:
    """Every other one on a small file system, where this process may mount one; else the disk is full after some step."""
    wanted, part = undisturbed.training(make), (index + 0.5) / number
    if undisturbed.mounts and index % 2:
        folder = undisturbed.scratch / "disk"
        with small_disk(folder, int(wanted["bytes"] * part / 1024)) as enlarge:
            came = Child(train, make, folder).came()
            return gone_on(folder, make, wanted, came, enlarge)
    folder = undisturbed.fresh("limited")
    full = AfterStep(1 + 5 * index % 9, lambda: limit_files(int(wanted["largest"] * part)))
    came = Child(train, make, folder, callbacks=(full,)).came()
    return gone_on(folder, make, wanted, came, int)


def full_last_save(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    make = list(TRAININGS)[index % 3]
    wanted, folder = undisturbed.training(make), undisturbed.fresh("limited")
    limit = int(wanted["model"] * (index + 0.5) / number)
    came = Child(train, make, folder, after=lambda: limit_files(limit)).came()
    return gone_on(folder, make, wanted, came, int)


def gone_on(
    folder: Path, make: str, wanted: dict[str, Any], came: tuple[str, Any], enlarge: Callable[[], object]
) -> Outcome:
    """After a training that had no room: what it left is whole, and the same command with room ends as it should."""
    if came[0] in (ENDED, KILLED, "hung"):
        return came[0], "the disk was not full" if came[0] == ENDED else f"lost: {came}"
    read_whole(folder)
    enlarge()
    return after_training(folder, wanted, Child(train, make, folder).came())


def full_recording(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    """The second call has no room either, the third has."""
    wanted, part = undisturbed.recording()["contents"], (index + 0.5) / number
    if undisturbed.mounts and index % 2:
        with small_disk(undisturbed.scratch / "disk", int(sum(map(len, wanted.values())) * part / 1024)) as enlarge:
            folder = undisturbed.scratch / "disk" / "recorded"
            came = [Child(record, folder).came() for _ in range(2)]
            enlarge()
            return recorded_again(folder, wanted, came)
    limit, folder = int(max(map(len, wanted.values())) * part), undisturbed.fresh("limited")
    came = [Child(record, folder, before=lambda: limit_files(limit)).came() for _ in range(2)]
    return recorded_again(folder, wanted, came)


def recorded_again(folder: Path, wanted: dict[str, bytes], came: list[tuple[str, Any]]) -> Outcome:
    if [each for each in came if each[0] in (ENDED, KILLED, "hung")]:
        return came[0][0], f"the disk was not full: {came}"
    kept = len([*folder.glob("shard-*.arrow")]) if folder.exists() else 0
    required(Child(record, folder))
    if contents(folder) != wanted:
        return "other bytes", f"lost or mixed: {[*contents(folder)]}"
    return "went on with what was there, same bytes" if kept else "began anew, same bytes", None


def full_files(name: str) -> Callable[[Undisturbed, int], Iterator[Outcome]]:
    """Tries of writing a file over an earlier one, cut at so many sizes, all in one process."""
    return lambda undisturbed, number: iter(required(Child(cut_file, undisturbed.fresh("files"), name, number)))


def cut_file(folder: Path, name: str, points: int) -> list[Outcome]:
    folder.mkdir()
    prepare_file(folder, name, 0)
    write_file(folder, name, 0)
    found = []
    for index in range(points):
        before, others = (folder / name).read_bytes(), sorted(os.listdir(folder))
        prepare_file(folder, name, index + 1)
        limit_files(len(before) * index // points)
        try:
            write_file(folder, name, index + 1)
            came = "written", "the disk was not full"
        except OSError:
            came = "the earlier file is whole", None
        limit_files(-1)
        if (folder / name).read_bytes() != before or sorted(os.listdir(folder)) != others:
            came = "another file", f"lost: {os.listdir(folder)}"
        write_file(folder, name, index + 1)
        read_whole(folder)
        found.append(came)
    return found


def prepare_file(folder: Path, name: str, number: int) -> None:
    """A card is made of a record, which is there."""
    if name == "README.md":
        record = whole_record() | {"evaluation": None, "progress": [], "metrics": {"eval_accuracy": number / 1000}}
        (folder / "run.json").write_text(json.dumps(record))


def write_file(folder: Path, name: str, number: int) -> None:
    content = whole_record()
    content["evaluation"]["rows"][1]["metrics"]["accuracy"] = 0.5 + number / 1000
    content["progress"].append({"step": 2, "loss": 1.0 / (number + 1), "hidden_size": 8, "step_ms": 1.0})
    if name == "README.md":
        write_model_card(folder)
    elif name == "run.json":
        RunRecord(**content).save(folder)
    elif name == "evaluation.json":
        atomic_write(folder / name, json.dumps(content["evaluation"], indent=2) + "\n")
    else:
        plot, shown = (report_plot, "evaluation") if name == "comparison.png" else (shrinking_plot, "progress")
        plot(content[shown], folder / name)


# Killed processes


def killed_training(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    make = list(TRAININGS)[index % 3]
    wanted, folder = undisturbed.training(make), undisturbed.fresh("killed")
    child = Child(train, make, folder)
    child.kill_after(undisturbed.moments.uniform(0.1, 1) * wanted["seconds"])
    killed = child.came()[0] == KILLED
    read_whole(folder)
    said, fault = after_training(folder, wanted, Child(train, make, folder).came())
    return said if killed or fault else "had ended before", fault


def killed_of_two_trainings(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    """The first has begun and is killed, the second is refused before; the same command goes on when neither is."""
    make = list(TRAININGS)[index % 3]
    wanted, folder = undisturbed.training(make), undisturbed.fresh("killed")

    def in_use() -> None:
        end = time.monotonic() + 60
        while not (folder / LOCK_FILES[0]).exists() and time.monotonic() < end:
            time.sleep(0.002)

    first, second = Child(train, make, folder), Child(train, make, folder, before=in_use)
    in_use()
    first.kill_after(undisturbed.moments.uniform(0.1, 0.5) * wanted["seconds"])
    killed, came = first.came()[0] == KILLED, second.came()
    if came[0] not in (ENDED, "FolderInUseError"):
        return "failed", f"lost: {came}"
    said, fault = after_training(folder, wanted, Child(train, make, folder).came())
    return said if killed or fault else "had ended before", fault


def killed_of_two_recordings(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    """The other one, which had to wait, ends with all rows."""
    wanted, folder = undisturbed.recording(), undisturbed.fresh("killed")
    begun = CONTEXT.Barrier(3)
    first, second = (Child(record, folder, before=begun.wait) for _ in range(2))
    begun.wait(60)
    first.kill_after(undisturbed.moments.uniform(0, 1) * wanted["seconds"])
    killed, came = first.came()[0] == KILLED, second.came()
    # One that was killed leaves hidden files, which are no part of a recording.
    found = {name: content for name, content in contents(folder).items() if not name.startswith(".")}
    if came != (ENDED, RECORDED_ROWS) or found != wanted["contents"]:
        return "other bytes", f"lost or mixed: {came}, {[*contents(folder)]}"
    return "the other ended it, same bytes" if killed else "had ended before", None


def killed_launch(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    """One of two processes under torchrun, after another step each time."""
    folder = undisturbed.fresh("launched")
    if launch(folder, kill_at=2 + index * 3 % (STEPS - 2)) == 0:
        return "ended", "nothing was killed"
    resumes, code = last_complete_checkpoint(folder) is not None, launch(folder)
    if code or (folder / "weights.txt").read_text() != undisturbed.launch():
        return "other weights", f"lost: exit code {code}"
    return "went on from a checkpoint, same weights" if resumes else "began anew, same weights", None


# Several writers


def two_recordings(undisturbed: Undisturbed, seeds: tuple[int, int], index: int, number: int) -> Outcome:
    """Of one teacher, each begins a moment apart; of two, the second is refused."""
    wanted, folder = undisturbed.recording()["contents"], undisturbed.fresh("together")
    begun, apart = CONTEXT.Barrier(2), undisturbed.moments.choice([0, 0, 0.001, 0.05, 0.2])
    first = Child(record, folder, seeds[0], before=begun.wait)
    second = Child(record, folder, seeds[1], before=lambda: (begun.wait(), time.sleep(apart)))
    came = [first.came(), second.came()]
    ended = [seed for seed, each in zip(seeds, came, strict=True) if each == (ENDED, RECORDED_ROWS)]
    refused = [each for each in came if each[0] == "ValueError" and "another output_dir" in each[1]]
    if len(ended) + len(refused) < 2 or len(ended) != 3 - len({*seeds}):
        return "failed", f"lost: {came}"
    required(Child(lambda: len(load_teacher_outputs(folder))))
    if (contents(folder) == wanted) != (ended[0] == 1):
        return "other bytes", f"mixed: {[*contents(folder)]}"
    return "both have all rows, same bytes" if len(ended) == 2 else "one recorded, one was refused", None


def two_trainings(undisturbed: Undisturbed, index: int, number: int) -> Outcome:
    """Of two seeds."""
    make, seeds, begun = list(TRAININGS)[index % 3], (1, 2), CONTEXT.Barrier(2)
    wanted, folder = {seed: undisturbed.training(make, seed) for seed in seeds}, undisturbed.fresh("together")
    children = [Child(train, make, folder, seed, before=begun.wait) for seed in seeds]
    came = dict(zip(seeds, [child.came() for child in children], strict=True))
    ended = [seed for seed in seeds if came[seed][0] == ENDED]
    refused = [seed for seed in seeds if came[seed][0] == "FolderInUseError"]
    if len(ended) != 1 or len(refused) != 1:
        return "failed", f"lost or mixed: {came}"
    said, fault = after_training(folder, wanted[ended[0]], came[ended[0]], ended[0])
    return (said, fault) if fault else ("one trained, one was refused", None)


# Hostile records


def hostile_records(undisturbed: Undisturbed, number: int) -> Iterator[Outcome]:
    for start in range(0, number, CHUNK):
        folder = undisturbed.fresh("cards")
        folder.mkdir()
        chunk = range(start, min(start + CHUNK, number))
        found = required(Child(lambda chunk, folder: [outcome(each, folder) for each in chunk], chunk, folder))
        yield from ((came, "; ".join(faulty) or None) for came, faulty in found)
