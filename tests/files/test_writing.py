"""Files are whole or as they were, wherever writing them stops, and links are not written through."""

import errno
import io
import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest
from PIL import Image

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.evaluation.plots import report_plot, shrinking_plot
from hf_distill.files import FileFormatError, atomic_write, json_bytes, remove_partial_files, replacing, share_weights
from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

MODEL = {"name": "small", "architecture": "BertForSequenceClassification", "parameters": 4, "weights_sha256": "ab" * 32}
ROW = {"name": "small", "role": "distilled", "parameters": 4, "metrics": {"accuracy": 0.5}}
EVALUATION = {
    "task": "sequence_classification", "metric": "accuracy", "this": 0, "rows": [ROW],
    "data": {"name": "reviews", "split": "test", "examples": 3, "fingerprint": "ab"},
}  # fmt: skip
PROGRESS = [{"step": step, "loss": 1.0, "hidden_size": 8, "step_ms": 1.0} for step in (1, 2)]


def record(**changes) -> RunRecord:
    described = dict(
        trainer="DistillationTrainer", student=MODEL, teacher=MODEL | {"name": "big"}, arguments={},
        objective=[{"name": "soft_label", "weight": 1.0, "loss": "forward_kl", "temperature": 2.0}],
        data={"name": "reviews"}, training={"steps": 1, "seconds": 1.0, "seed": 0, "hardware": "a CPU"},
    )  # fmt: skip
    return RunRecord(**described | changes)


@pytest.fixture
def limited():
    """Lets files grow to so many bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_is_written_is_there_and_nothing_else(tmp_path):
    atomic_write(tmp_path / "x.json", json_bytes({"b": 1, "a": "é"}))
    atomic_write(str(tmp_path / "y.txt"), "é\n")
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"a": "é", "b": 1}
    assert (tmp_path / "y.txt").read_bytes() == "é\n".encode()
    assert sorted(os.listdir(tmp_path)) == ["x.json", "y.txt"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "y.txt").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError, ValueError])
def test_a_write_that_stops_leaves_the_earlier_file(tmp_path, failure):
    atomic_write(tmp_path / "x", "earlier")
    with pytest.raises(failure), replacing(tmp_path / "x") as file:
        file.write(b"later")
        raise failure
    assert (tmp_path / "x").read_text() == "earlier" and os.listdir(tmp_path) == ["x"]


def test_every_step_of_a_write_may_fail(tmp_path, monkeypatch):
    atomic_write(tmp_path / "x", "earlier")
    for step in ("fsync", "replace"):

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            atomic_write(tmp_path / "x", "later")
        monkeypatch.undo()
        assert (tmp_path / "x").read_text() == "earlier" and os.listdir(tmp_path) == ["x"]


def test_links_and_devices_are_not_written_through(tmp_path):
    (tmp_path / "victim").write_text("precious")
    os.symlink("victim", tmp_path / "link")
    os.symlink("nowhere", tmp_path / "dangling")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, kind in (("link", "a link"), ("dangling", "a link"), ("pipe", "no regular"), ("folder", "no regular")):
        with pytest.raises(FileFormatError, match=f"{name} is {kind}"):
            atomic_write(tmp_path / name, "later")
    assert (tmp_path / "victim").read_text() == "precious" and (tmp_path / "link").is_symlink()
    assert not (tmp_path / "nowhere").exists()


def test_files_that_are_being_written_have_names_that_nobody_guesses(tmp_path):
    with replacing(tmp_path / "x") as first, replacing(tmp_path / "x") as second:
        names = {*os.listdir(tmp_path)}
        first.write(b"first")
        second.write(b"second")
        assert len(names) == 2 and not {"x", ".x.partial"} & names
    assert (tmp_path / "x").read_text() == "first" and os.listdir(tmp_path) == ["x"]
    (tmp_path / ".x.0123.partial").touch()
    remove_partial_files(tmp_path)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("name", "write", "points"),
    [
        ("run.json", lambda folder, number: record(command=f"step {number}").save(folder), 60),
        (
            "README.md",
            lambda folder, number: (record(data={"name": f"n{number}"}).save(folder), write_model_card(folder)),
            50,
        ),
        ("comparison.png", lambda folder, number: report_plot(EVALUATION, folder / "comparison.png"), 3),
        ("shrinking.png", lambda folder, number: shrinking_plot(PROGRESS[number % 2 :], folder / "shrinking.png"), 4),
    ],
)
def test_files_are_whole_wherever_a_disk_is_full(tmp_path, limited, name, write, points):
    write(tmp_path, 0)
    names, stopped = sorted(os.listdir(tmp_path)), 0
    before = (tmp_path / name).read_bytes()
    for number in range(1, points + 1):
        limited(len(before) * number // points - 1)
        try:
            write(tmp_path, number)
        except OSError as error:
            assert error.errno == errno.EFBIG
            stopped += 1
            assert (tmp_path / name).read_bytes() == before
        finally:
            limited(resource.RLIM_INFINITY)
        assert sorted(os.listdir(tmp_path)) == names
        before = (tmp_path / name).read_bytes()
    assert stopped > points / 2
    if name.endswith("png"):
        Image.open(io.BytesIO(before)).load()


@pytest.mark.parametrize("name", ["README.md", "comparison.png", "run.json", "shrinking.png"])
def test_a_folder_of_others_does_not_lead_writing_out_of_it(tmp_path, name):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "student").mkdir()
    made = record(evaluation=EVALUATION, progress=PROGRESS)
    made.save(tmp_path / "student")
    (tmp_path / "student" / "run.json").rename(tmp_path / "run.json")
    os.symlink("../run.json" if name == "run.json" else "../victim", tmp_path / "student" / name)
    os.symlink("../victim", tmp_path / "student" / "run.json.partial")
    if name != "run.json":
        made.save(tmp_path / "student")
    with pytest.raises(FileFormatError, match=f"{name} is a link"):
        write_model_card(tmp_path / "student") if name != "run.json" else made.save(tmp_path / "student")
    assert (tmp_path / "victim").read_text() == "precious"


def test_the_package_and_its_scripts_write_no_other_way():
    """But into folders of their own making: temporary ones, and the cache's, which are moved into place whole."""
    root, kinds = (
        Path(__file__).parents[2],
        ("write_text(", "write_bytes(", "savefig(path", "save_file(", ".save(path)"),
    )
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("hf_distill", "examples")
        for path in (root / folder).rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if any(kind in line for kind in kinds)
    }
    allowed = ("hf_distill/resources/", "hf_distill/pruning/vocabulary.py", "hf_distill/publishing/family.py")
    assert {line for line in found if not line.startswith(allowed)} == set()


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_weights_can_be_read_by_whom_the_umask_allows(tmp_path, umask):
    before = os.umask(umask)
    try:
        model = tiny_bert()
        model.save_pretrained(tmp_path)
        (tmp_path / "linked.safetensors").symlink_to(tmp_path / "gone")
        share_weights(tmp_path)
        share_weights(tmp_path.parent / "none")
        trainer = DistillationTrainer(
            tiny_bert(),
            DistillationTrainingArguments(
                output_dir=str(tmp_path / "run"), max_steps=1, report_to="none", use_cpu=True, disable_tqdm=True
            ),
            teacher_model=model,
            train_dataset=encoded_sentences(4),
            processing_class=tiny_tokenizer(),
        )
        trainer.train()
        trainer.save_model()
    finally:
        os.umask(before)
    saved = [*tmp_path.glob("model.safetensors"), *tmp_path.glob("run/**/model.safetensors")]
    assert len(saved) == 3  # one of them in the checkpoint
    assert {stat.S_IMODE(path.stat().st_mode) for path in saved} == {0o666 & ~umask}
