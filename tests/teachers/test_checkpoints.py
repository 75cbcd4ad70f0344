"""The checkpoints of a teacher: of one kind, read whole, from their own folders."""

import json
import os

import pytest
from safetensors.torch import load_file, save_file

from hf_distill.teachers.checkpoints import find_checkpoints
from tests.pretrained.test_files import as_int8
from tests.tiny_models import tiny_bert, tiny_tokenizer


@pytest.fixture
def checkpoints(tmp_path):
    for step in (10, 20, 30):
        tiny_bert(seed=step).save_pretrained(tmp_path / f"checkpoint-{step}")
        tiny_tokenizer().save_pretrained(tmp_path / f"checkpoint-{step}")
    return tmp_path


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize("size", [0, 100])
def test_a_checkpoint_with_a_file_that_was_cut_off_is_left_out(checkpoints, name, size):
    path = checkpoints / "checkpoint-10" / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=rf"checkpoint-10.*{name}"):
        find_checkpoints(str(checkpoints))
    assert [each.step for each in find_checkpoints(str(checkpoints), skip_unreadable=True)] == [20, 30]


def test_checkpoints_have_one_kind_of_number(checkpoints):
    as_int8(checkpoints / "checkpoint-20" / "model.safetensors")
    with pytest.raises(ValueError, match=r"'floating point'.* in checkpoint-10 and .*'I8'.* in checkpoint-20"):
        find_checkpoints(str(checkpoints))


def test_precisions_may_differ(checkpoints):
    path = checkpoints / "checkpoint-20" / "model.safetensors"
    save_file({name: values.bfloat16() for name, values in load_file(path).items()}, path)
    assert len(find_checkpoints(str(checkpoints))) == 3


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{}", "lacks 'weight_map'"),
        ("[" * 100_000, "levels deep"),
        ({"weight_map": {"a": 5}}, r"must be dict\[str, str\]"),
        ({"weight_map": {"a": "../checkpoint-20/model.safetensors"}}, "must name files of its own folder"),
        ({"weight_map": {"a": "link.safetensors"}}, "no regular file"),
        ({"weight_map": {"a": "pipe.safetensors"}}, "no regular file"),
    ],
)
def test_an_index_names_files_of_its_own_folder(checkpoints, index, message):
    folder = checkpoints / "checkpoint-10"
    os.symlink("../checkpoint-20/model.safetensors", folder / "link.safetensors")
    os.mkfifo(folder / "pipe.safetensors")
    text = index if isinstance(index, str) else json.dumps(index)
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        find_checkpoints(str(checkpoints))


def test_a_pipe_in_the_place_of_weights_is_refused(checkpoints):
    path = checkpoints / "checkpoint-20" / "model.safetensors"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match="regular file"):
        find_checkpoints(str(checkpoints))
