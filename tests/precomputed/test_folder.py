"""A folder of precomputed teacher outputs is complete again after any interruption, and any damage to it is found.

HF_DISTILL_KILLS, _CORRUPTIONS, _WRITERS and _DISKS say how many times; HF_DISTILL_LABELED a folder with a teacher and its
tokenizer, to kill the labeling of all 23,700 sentences of four domains and not of a tiny set.
"""

import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from datasets import Dataset

from hf_distill import FrozenTeacher, label_transfer_set, load_teacher_outputs
from hf_distill.compute.flops import batch_flops
from hf_distill.files import FileFormatError, folder_lock
from hf_distill.fingerprints import file_sha256, json_sha256
from hf_distill.precomputed import folder as output_folder
from hf_distill.precomputed.forward import BatchedForward
from hf_distill.precomputed.labeling_cost import COST, labeling_cost
from hf_distill.publishing.labeled_folder import labeled_files
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

KILLS = int(os.environ.get("HF_DISTILL_KILLS", "4"))
CORRUPTIONS = int(os.environ.get("HF_DISTILL_CORRUPTIONS", "40"))
DISKS = int(os.environ.get("HF_DISTILL_DISKS", "12"))
WRITERS = int(os.environ.get("HF_DISTILL_WRITERS", "3"))
REAL_TEACHER = os.environ.get("HF_DISTILL_LABELED")
ROWS, PER_SHARD = 400, 40


def contents(folder):
    """All files but the cost, whose seconds differ."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != COST}


def label(folder, rows=ROWS, seed=1, **options):
    torch.manual_seed(0)
    options = dict(disable_tqdm=True, batch_size=8, rows_per_shard=PER_SHARD) | options
    return label_transfer_set(
        encoded_sentences(rows), tiny_bert(32, 2, seed=seed), tiny_tokenizer(), output_dir=folder, **options
    )


def label_in_process(folder):
    torch.set_num_threads(1)
    if REAL_TEACHER is None:
        label(folder)
        return
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from hf_distill.resources import sentiment

    tokenizer = AutoTokenizer.from_pretrained(REAL_TEACHER)
    sentences = [text for domain in sentiment.DOMAINS for _, _, text in sentiment._lines(domain)]
    rows = Dataset.from_dict(dict(tokenizer(sentences, truncation=True, max_length=128)))
    teacher = FrozenTeacher(AutoModelForSequenceClassification.from_pretrained(REAL_TEACHER))
    label_transfer_set(rows, teacher, tokenizer, output_dir=folder, rows_per_shard=1024, max_length=128)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an undisturbed run leaves."""
    folder = tmp_path_factory.mktemp("whole") / "labeled"
    label(folder)
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def labeled_blocks(monkeypatch):
    """The first row of every block that the teacher is run on."""
    found, columns = [], BatchedForward.columns
    monkeypatch.setattr(
        BatchedForward, "columns", lambda self, rows, epoch, first, progress: found.append(first) or columns(self, rows, epoch, first, progress)
    )  # fmt: skip
    return found


def test_a_finished_folder_is_opened_without_running_the_teacher(whole, copied, labeled_blocks):
    os.chmod(copied, 0o555)
    times = {file: file.stat().st_mtime_ns for file in copied.iterdir()}
    assert label(copied)[:] == load_teacher_outputs(whole)[:]
    assert labeled_blocks == [] and times == {file: file.stat().st_mtime_ns for file in copied.iterdir()}


def test_killed_at_random_moments(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def start(folder):
        child = context.Process(target=label_in_process, args=(folder,))
        child.start()
        return child

    def finish(folder):
        child = start(folder)
        child.join(timeout=3600)
        assert child.exitcode == 0

    if REAL_TEACHER is None:
        finish(tmp_path / "warm_up")
    begin = time.monotonic()
    finish(tmp_path / "whole")
    duration = time.monotonic() - begin
    moments, killed, in_the_midst = random.Random(0), 0, 0
    expected, folder = contents(tmp_path / "whole"), tmp_path / "killed"
    for number in range(KILLS):
        child = start(folder)
        while child.is_alive() and not (folder / "unfinished.json").exists():
            time.sleep(0.01)
        child.join(timeout=moments.uniform(0, 0.15 if REAL_TEACHER else 0.8) * duration)
        child.kill()
        child.join()
        killed += child.exitcode == -signal.SIGKILL
        in_the_midst += (folder / "unfinished.json").exists()
        if REAL_TEACHER is None or number == KILLS - 1 or (folder / "manifest.json").exists():
            finish(folder)
            assert contents(folder) == expected, number
            shutil.rmtree(folder)
    assert killed
    assert in_the_midst


def test_an_interrupted_call_resumes_with_the_unfinished_shard(whole, tmp_path, labeled_blocks, monkeypatch):
    outputs, calls = FrozenTeacher.outputs, []

    def failing(self, inputs):
        calls.append(0)
        if len(calls) == 18:
            raise KeyboardInterrupt
        return outputs(self, inputs)

    monkeypatch.setattr(FrozenTeacher, "outputs", failing)
    with pytest.raises(KeyboardInterrupt):
        label(tmp_path / "labeled")
    assert labeled_blocks[-1] == 3 * PER_SHARD
    with pytest.raises(FileNotFoundError, match="never finished"):
        load_teacher_outputs(tmp_path / "labeled")
    before = len(labeled_blocks)
    label(tmp_path / "labeled")
    assert labeled_blocks[before:] == list(range(3 * PER_SHARD, ROWS, PER_SHARD))
    assert contents(tmp_path / "labeled") == contents(whole)
    cost = labeling_cost(tmp_path / "labeled")
    assert cost.flops == labeling_cost(whole).flops == labeling_flops(ROWS) and cost.seconds > 0


def labeling_flops(rows):
    """FLOPs of labeling shards in batches of 8, the longest rows first."""
    lengths, total = [len(row) for row in encoded_sentences(rows)["input_ids"]], 0
    for start in range(0, rows, PER_SHARD):
        of_shard = sorted(lengths[start : start + PER_SHARD], reverse=True)
        for first in range(0, len(of_shard), 8):
            found = batch_flops(tiny_bert(32, 2).config, of_shard[first : first + 8], "sequence_classification")
            total += found.computed
    return total


def test_several_processes_leave_the_same_bytes(whole, tmp_path, monkeypatch):
    """Each does its share; the first waits for the others before it writes the manifest."""
    for index in (1, 2, 0):
        monkeypatch.setattr(output_folder, "_rank_and_world_size", lambda index=index: (index, 3))
        try:
            label(tmp_path / "labeled")
        except FileNotFoundError:
            assert index != 0
    assert contents(tmp_path / "labeled") == contents(whole)


def test_a_teacher_of_open_precision_goes_on_in_that_of_the_folder(tmp_path):
    def labeled_by(dtype):
        teacher = FrozenTeacher(tiny_bert(32, 2, seed=1), dtype)
        options = dict(output_dir=tmp_path, rows_per_shard=PER_SHARD, disable_tqdm=True)
        label_transfer_set(encoded_sentences(2 * PER_SHARD), teacher, tiny_tokenizer(), **options)
        return teacher.dtype

    labeled_by("bfloat16")
    before = contents(tmp_path)
    (tmp_path / "shard-00001.arrow").unlink()
    assert labeled_by("auto") == torch.bfloat16 and contents(tmp_path) == before
    with pytest.raises(ValueError, match="dtype 'bfloat16', requested"):
        labeled_by("float32")


def test_outputs_of_another_provenance_are_refused(copied, labeled_blocks):
    for options, message in (
        (dict(seed=2), "weights_sha256 '42756"),
        (dict(dtype="float16"), "dtype 'float32', requested are outputs with dtype 'float16'"),
        (dict(max_length=7), "max_length 20, requested are outputs with max_length 7"),
        (dict(rows_per_shard=50), "rows_per_shard 40, requested are outputs with rows_per_shard 50"),
        (dict(rows=ROWS - 40), "teacher outputs for more rows than the 360"),
        (dict(rows=ROWS - 1), "teacher outputs for other rows: shard-00009.arrow"),
    ):
        with pytest.raises(ValueError, match=message):
            label(copied, **options)
    assert labeled_blocks == []


def test_only_damaged_shards_are_computed_again(whole, copied, labeled_blocks):
    for index in (2, 7):
        path = copied / f"shard-{index:05d}.arrow"
        path.write_bytes(path.read_bytes()[:-5])
    (copied / "shard-00004.arrow").unlink()
    with pytest.raises(
        ValueError, match=r"3 of 10 shards .*shard-00002.arrow has sha256 .*shard-00004.arrow is missing"
    ):
        load_teacher_outputs(copied)
    before = json.loads((copied / COST).read_text())
    label(copied)
    assert labeled_blocks == [2 * PER_SHARD, 4 * PER_SHARD, 7 * PER_SHARD]
    assert contents(copied) == contents(whole)
    after = json.loads((copied / COST).read_text())  # of shards computed again their cost of this time
    changed = {file for file, cost in after["shards"].items() if cost != before["shards"][file]}
    assert changed == {f"shard-{index:05d}.arrow" for index in (2, 4, 7)} and after["flops"] == before["flops"]
    (copied / COST).unlink()
    assert labeling_cost(copied) is None


def flip(folder, chance):
    path = chance.choice([*sorted(folder.glob("shard-*")), folder / "manifest.json"])
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    return path.name


def truncate(folder, chance):
    path = chance.choice([*sorted(folder.glob("shard-*")), folder / "manifest.json"])
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])
    return path.name


def swap(folder, chance):
    first, second = chance.sample(sorted(folder.glob("shard-*")), 2)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return first.name


def add(folder, chance):
    shutil.copy(chance.choice(sorted(folder.glob("shard-*"))), folder / "shard-00010.arrow")
    return "shard-00010.arrow"


def edit(folder, chance):
    """A value of the manifest; one time in two with a new hash of it all, as somebody who knows would."""
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    place, steps = content, []
    while isinstance(place, dict | list):
        key = chance.choice(sorted(place) if isinstance(place, dict) else range(len(place)) or [None])
        if key is None:
            place.append("x")
            break
        steps.append((place, key))
        place = place[key]
    else:
        holder, key = steps[-1]
        holder[key] = f"{place}x" if isinstance(place, str) else (place or 0) + 1
    is_known_to = chance.random() < 0.5
    content["sha256"] = json_sha256(content) if is_known_to else json.loads(path.read_text())["sha256"]
    path.write_text(json.dumps(content))
    return "manifest.json|shard|schema version"


@pytest.mark.parametrize("number", range(CORRUPTIONS))
def test_any_damage_to_a_folder_is_found(copied, number):
    chance = random.Random(number)
    named = [flip, truncate, swap, add, edit][number % 5](copied, chance)
    with pytest.raises((ValueError, FileNotFoundError), match=named):
        load_teacher_outputs(copied)


def test_an_edited_manifest_has_all_outputs_computed_again(whole, copied, labeled_blocks):
    text = (copied / "manifest.json").read_text()
    (copied / "manifest.json").write_text(text.replace("LABEL_1", "LABEL_9"))
    with pytest.raises(ValueError, match=r"manifest.json has sha256 .* it was modified since"):
        load_teacher_outputs(copied)
    label(copied)
    assert len(labeled_blocks) == ROWS // PER_SHARD and contents(copied) == contents(whole)


def test_a_cache_folder_has_a_folder_per_teacher_and_rows(tmp_path, labeled_blocks):
    first = label(None, cache_folder=tmp_path)
    assert label(None, cache_folder=tmp_path)[:] == first[:] and len(labeled_blocks) == 10
    assert label(None, cache_folder=tmp_path, seed=2)[:] != first[:]
    assert len(label(None, cache_folder=tmp_path, rows=30)) == 30
    assert len(list(Path(tmp_path).iterdir())) == 3


def changed(folder, change):
    """By somebody who knows the checksums."""
    content = json.loads((folder / "manifest.json").read_text())
    del content["sha256"]
    change(content)
    content["rows"] = sum(shard["rows"] for shard in content["shards"])
    content["dataset_sha256"] = json_sha256([shard["inputs_sha256"] for shard in content["shards"]])
    (folder / "manifest.json").write_text(json.dumps(content | {"sha256": json_sha256(content)}))


@pytest.mark.parametrize(
    "name", ["../copy/shard-00000.arrow", "/dev/zero", "/etc/hostname", "shard-00001.arrow", "", "x"]
)
def test_shards_have_the_names_that_they_are_given(copied, name):
    changed(copied, lambda content: content["shards"][0].update(file=name))
    with pytest.raises(FileFormatError, match=r"shard 0 of .*manifest\.json must be 'shard-00000\.arrow', got '"):
        load_teacher_outputs(copied)
    with pytest.raises(FileFormatError, match="must be 'shard-00000"):
        labeled_files(copied)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("shard-00001.arrow", path)])
def test_shards_are_regular_files(copied, make):
    (copied / "shard-00000.arrow").unlink()
    make(copied / "shard-00000.arrow")
    with pytest.raises(ValueError, match=r"shard-00000\.arrow is no regular file of the folder"):
        load_teacher_outputs(copied)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["shards"][0].update(more=1),
        lambda content: content["shards"][0].update(file=5),
        lambda content: content["provenance"].update(more=1),
        lambda content: content["provenance"].update(teacher={}),
        lambda content: content["provenance"].update(labels="ab"),
        lambda content: content["provenance"].pop("task"),
    ],
)
def test_a_manifest_of_other_fields_is_refused(copied, change):
    changed(copied, change)
    with pytest.raises(FileFormatError):
        load_teacher_outputs(copied)


def test_rows_that_point_outside_of_their_file_are_refused(copied):
    """Its checksum is right: it is of who made the file."""
    path = copied / "shard-00000.arrow"
    content = bytearray(path.read_bytes())
    column = pa.ipc.open_stream(bytes(content)).read_all()["input_ids"].combine_chunks()
    offsets = column.buffers()[1].to_pybytes()[: 4 * (len(column) + 1)]
    place = content.find(offsets)
    content[place + len(offsets) - 4 : place + len(offsets)] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    changed(copied, lambda manifest: manifest["shards"][0].update(sha256=file_sha256(path)))
    with pytest.raises(FileFormatError, match=r"shard-00000\.arrow holds rows that point outside"):
        load_teacher_outputs(copied)


def test_bytes_that_are_no_rows_are_refused(copied):
    path = copied / "shard-00000.arrow"
    for content in (b"", b"ARROW1", path.read_bytes()[:100], b"\xff\xff\xff\xff" + b"\xff" * 100):
        path.write_bytes(content)
        changed(copied, lambda manifest: manifest["shards"][0].update(sha256=file_sha256(path)))
        with pytest.raises(FileFormatError, match=r"shard-00000\.arrow cannot be opened as rows"):
            load_teacher_outputs(copied)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"shards": {"a": 1}}', "[" * 100_000, '{"shards": {"a": {"flops": "1"}}}']
)
def test_costs_of_another_kind_are_refused(copied, text):
    (copied / COST).write_text(text)
    with pytest.raises(FileFormatError, match=r"cost\.json"):
        labeling_cost(copied)


def at_once(folder, *calls):
    """Rows or error of calls of `label` with these options, each in a process of its own."""

    def work(number, options):
        torch.set_num_threads(1)
        begin.wait()
        try:
            said.put((number, len(label(folder, **options))))
        except Exception as error:
            said.put((number, f"{type(error).__name__}: {error}"))

    context = multiprocessing.get_context("fork")
    begin, said = context.Barrier(len(calls)), context.Queue()
    children = [context.Process(target=work, args=each) for each in enumerate(calls)]
    for child in children:
        child.start()
    found = [found for _, found in sorted(said.get(timeout=120) for _ in calls)]
    for child in children:
        child.join()
    return found


@pytest.mark.parametrize("number", range(WRITERS))
def test_two_separate_processes_leave_what_one_leaves(whole, tmp_path, number):
    assert at_once(tmp_path / "labeled", {}, {}) == [ROWS, ROWS]
    assert contents(tmp_path / "labeled") == contents(whole)


def test_outputs_of_two_teachers_at_once_are_not_mixed(whole, tmp_path):
    found = at_once(tmp_path / "labeled", dict(seed=1), dict(seed=2))
    assert sorted(map(str, found))[0] == str(ROWS)
    assert any("holds teacher outputs with teacher.weights_sha256" in str(each) for each in found)
    assert (contents(tmp_path / "labeled") == contents(whole)) == (found[0] == ROWS)


def test_another_writer_is_named_after_the_timeout(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(output_folder, "SECONDS_TO_WAIT", 0.2)
    (tmp_path / "labeled").mkdir()
    with folder_lock(tmp_path / "labeled", "writing precomputed teacher outputs", 0):
        (said,) = at_once(tmp_path / "labeled", {})
    assert f"is in use by process {os.getpid()} on " in said and "writing precomputed teacher outputs since" in said
    (tmp_path / "labeled" / ".shard-00000.arrow.0123.partial").write_bytes(b"of a process that was killed")
    label(tmp_path / "labeled")
    assert contents(tmp_path / "labeled") == contents(whole)


def test_the_next_call_resumes_wherever_a_disk_was_full(whole, tmp_path):
    largest = max(path.stat().st_size for path in whole.iterdir())
    folder, before = tmp_path / "labeled", resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for number in range(DISKS):
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest * number // DISKS, before[1]))
            with pytest.raises(OSError, match="File too large"):
                label(folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert not [*folder.glob(".*")]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    label(folder)
    assert contents(folder) == contents(whole)


def test_files_of_one_schema_are_opened_as_one_data_set(whole, monkeypatch):
    """For each data set datasets parses features and hashes what it knows, which takes ten times as long as opening a file."""
    made, initialize = [], Dataset.__init__
    monkeypatch.setattr(
        Dataset, "__init__", lambda self, *given, **named: made.append(initialize(self, *given, **named))
    )
    rows = load_teacher_outputs(whole)
    assert len(rows) == ROWS and len(rows.cache_files) == ROWS // PER_SHARD
    assert len(made) <= 2


def test_files_whose_schema_is_written_in_another_way_are_read_in_their_order(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "labeled"))
    changed = folder / "shard-00003.arrow"
    with pa.memory_map(str(whole / changed.name)) as file, pa.ipc.open_stream(file) as reader:
        table = reader.read_all()
    table = table.replace_schema_metadata(table.schema.metadata | {b"other": b"1"})
    with pa.OSFile(str(changed), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][3]["sha256"] = file_sha256(changed)
    del manifest["sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": json_sha256(manifest)}))
    assert load_teacher_outputs(folder)[:] == load_teacher_outputs(whole)[:]
