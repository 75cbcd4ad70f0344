"""Whatever way a trainer's folder takes to the Hub: no pickle there, and no token there or on disk."""

import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import datasets
import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.publishing.hub import publish
from hf_distill.publishing.output_folder import ELSEWHERE, PICKLE, SECRET, files_to_push
from tests.cli.commands import invoke
from tests.hub.contents import User
from tests.hub.environment import TOKEN
from tests.tiny_models import tiny_bert

REPO = "alice/pushed"
OTHER = "hub-of-the-house-" + "x1" * 8  # looks like no maker's token


pytestmark = pytest.mark.parametrize("hub", ["lfs"], indirect=True)


@pytest.fixture(autouse=True)
def _fresh_client(monkeypatch):
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # remembers the address of the Hub before


def contents_there(hub, repo=REPO):
    """Every file of every commit, by name."""
    found = {}
    for commit in hub.contents.repositories[repo].commits.values():
        for name, file in commit.files.items():
            content = hub.contents.lfs_objects[file.sha256] if file.content is None else file.content
            found.setdefault(name, []).append(content)
    return found


def is_pickle(content):
    if zipfile.is_zipfile(BytesIO(content)):
        return any(name.endswith(".pkl") for name in zipfile.ZipFile(BytesIO(content)).namelist())
    return content[:1] == b"\x80"


def assert_clean(hub, folder, *tokens):
    there = contents_there(hub)
    for name, contents in there.items():
        for content in contents:
            assert not is_pickle(content), name
            assert not [token for token in tokens if token.encode() in content], name
    assert not [name for name in there if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert_no_token_in(folder, *tokens)
    return there


def assert_no_token_in(folder, *tokens):
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if zipfile.is_zipfile(path) and path.is_file():
            with zipfile.ZipFile(path) as archive:
                content += b"".join(archive.read(name) for name in archive.namelist())
        assert not [token for token in tokens if token.encode() in content], path


@pytest.fixture
def make(tmp_path, student, teacher, sentences, tokenizer):
    """A trainer that pushes to `REPO`; keywords are arguments."""

    def make(kind=DistillationTrainingArguments, **options):
        plain = {} if kind is TrainingArguments else {"bf16": False}
        given = dict(
            output_dir=str(tmp_path / "out"), use_cpu=True, max_steps=2, save_steps=1, disable_tqdm=True, hub_model_id=REPO,
            push_to_hub=True, hub_token=TOKEN, hub_always_push=True, report_to="none",
        )  # fmt: skip
        with_teacher = {} if kind is TrainingArguments else {"teacher_model": options.pop("teacher", teacher)}
        args = kind(**(given | plain | options))
        data = dict(train_dataset=sentences, processing_class=tokenizer)
        return DistillationTrainer(student, args, **data, **with_teacher)

    return make


@pytest.mark.parametrize("kind", [DistillationTrainingArguments, TrainingArguments], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_trainings_that_push(hub, make, tmp_path, kind, strategy):
    trainer = make(kind, hub_strategy=strategy)
    trainer.train()
    trainer.push_to_hub()
    there = assert_clean(hub, tmp_path / "out", TOKEN)
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= set(there)
    folders = {"checkpoint": ["last-checkpoint"], "all_checkpoints": ["checkpoint-1", "checkpoint-2"]}.get(strategy, [])
    assert {name.split("/")[0] for name in there if "/" in name} == set(folders)
    assert all(f"{folder}/trainer_state.json" in there for folder in folders)
    assert (len(there["README.md"]) > 0) and trainer.args.hub_token == TOKEN
    head = hub.contents.repositories[REPO].head.files["model.safetensors"]
    assert hub.contents.lfs_objects[head.sha256] == (tmp_path / "out" / "model.safetensors").read_bytes()


def test_a_command_that_pushes(hub, tmp_path, tokenizer, monkeypatch):
    tiny_bert(64, 1).save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    rows = [{"text": f"w{number} w5", "label": number % 2} for number in range(8)]
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["LABEL_0", "LABEL_1"]))
    data = datasets.DatasetDict(train=datasets.Dataset.from_list(rows, features=features))
    data.save_to_disk(tmp_path / "data")
    words = [
        *("train", tmp_path / "teacher", "--student", "1/64", "--initialization", "random", "--dataset", tmp_path / "data"),
        *("--output-dir", tmp_path / "out", "--max_steps", "2", "--save_steps", "1", "--use_cpu", "--report_to", "none"),
        *("--bf16", "false", "--push_to_hub", "--hub_model_id", REPO, "--hub_token", TOKEN, "--hub_strategy", "checkpoint"),
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["hf-distill", *map(str, words)])
    invoke(*words)
    there = assert_clean(hub, tmp_path / "out", TOKEN)
    assert {"model.safetensors", "run.json", "last-checkpoint/trainer_state.json"} <= set(there)
    assert b"--hub_token '[removed]'" in there["run.json"][-1]


def test_a_token_that_looks_like_none(hub, make, tmp_path):
    hub.add_user(OTHER, User("alice"))
    trainer = make(hub_token=OTHER, hub_strategy="checkpoint")
    trainer.add_callback(Logger())
    trainer.train()
    (tmp_path / "out" / "notes.md").write_text(f"I log in with {OTHER}")
    (tmp_path / "out" / "hidden.json").write_bytes(pickle.dumps({}))
    trainer.push_to_hub(token=OTHER)
    (tmp_path / "out" / "notes.md").unlink()
    there = assert_clean(hub, tmp_path / "out", OTHER)
    assert not {"notes.md", "hidden.json", "training_args.bin"} & set(there)
    assert any("tfevents" in name for name in there)


def test_saving_a_model_pushes_and_publishing_takes_the_same_folder(hub, make, tmp_path):
    trainer = make(save_strategy="no")
    trainer.train()
    trainer.save_model()
    assert_clean(hub, tmp_path / "out", TOKEN)
    publish(tmp_path / "out", "alice/published")
    assert "training_args.bin" not in contents_there(hub, "alice/published")


def test_a_run_goes_on_from_a_checkpoint_without_its_token(hub, make, tmp_path):
    make(push_to_hub=False).train()
    whole = {name: value.clone() for name, value in make().model.state_dict().items()}
    saved = torch.load(tmp_path / "out" / "checkpoint-1" / "training_args.bin", weights_only=False)
    assert saved.hub_token is None and saved.max_steps == 2 and saved.hub_model_id == REPO
    resumed = make(push_to_hub=False)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-1"))
    assert resumed.state.global_step == 2 and resumed.args.hub_token == TOKEN
    for name, value in resumed.model.state_dict().items():
        assert torch.equal(value, whole[name]), name


class Logger(TrainerCallback):
    """Writes what TensorBoard's and other loggers' callbacks write."""

    def on_train_begin(self, args, state, control, **kwargs):
        told = args.to_json_string() + repr(args.to_sanitized_dict()) + repr(args.to_dict())
        Path(args.output_dir, "events.out.tfevents.1").write_text(told)


def test_no_file_of_a_run_holds_a_token(hub, make, tmp_path, teacher):
    """Loggers' arguments, records, cards, states and the pickled arguments among them."""
    teacher.save_pretrained(tmp_path / "teacher")
    trainer = make(push_to_hub=False, teacher=str(tmp_path / "teacher"), teacher_model_init_kwargs={"token": TOKEN})
    trainer.add_callback(Logger())
    trainer.train()
    trainer.save_model()
    trainer.save_state()
    trainer.create_model_card()
    assert (tmp_path / "out" / "run.json").exists() and (tmp_path / "out" / "events.out.tfevents.1").exists()
    assert_no_token_in(tmp_path / "out", TOKEN)
    assert trainer.args.teacher_model_init_kwargs["token"] == TOKEN


def test_saved_plain_arguments_are_trainer_s_own(hub, make, student, sentences, tokenizer, tmp_path):
    trainer = make(TrainingArguments, push_to_hub=False)
    trainer.save_model()
    stock_args = TrainingArguments(str(tmp_path / "stock"), use_cpu=True, report_to="none")
    stock = Trainer(student, stock_args, train_dataset=sentences, processing_class=tokenizer)
    stock.save_model()
    names = [sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "out", tmp_path / "stock")]
    assert names[0] == names[1]
    ours, theirs = (torch.load(tmp_path / name / "training_args.bin", weights_only=False) for name in ("out", "stock"))
    assert type(ours) is type(theirs) and vars(ours).keys() == vars(theirs).keys()


def test_what_may_go(hub, tmp_path):
    folder = tmp_path / "folder"
    (folder / "runs").mkdir(parents=True)
    (tmp_path / "private").write_text("mine")
    for name, content in {
        "config.json": b"{}",
        "runs/a.txt": b"a",
        "[b].txt": b"b",
        "_c.txt": b"c",
        "d.npz": b"",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "e.txt").symlink_to(tmp_path / "private")
    (folder / "f.txt").symlink_to("config.json")
    (folder / "g.dat").write_bytes(pickle.dumps([1]))
    torch.save({}, folder / "h.data")
    (folder / "i.bin").write_bytes(b"")
    (folder / "j.txt").write_text("password: hunter2")
    tiny_bert().save_pretrained(folder / "k")
    sent, kept = files_to_push(folder, ignored=["_*"])
    assert sent == ["[b].txt", "config.json", "d.npz", "f.txt", "k/config.json", "k/model.safetensors", "runs/a.txt"]
    assert kept == {"e.txt": ELSEWHERE, "g.dat": PICKLE, "h.data": PICKLE, "i.bin": PICKLE, "j.txt": SECRET}
