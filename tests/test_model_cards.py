"""The published cards say what their run records say."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hf_distill.publishing.model_card import write_model_card
from hf_distill.publishing.run_record import RunRecord

FOLDERS = sorted(path.parent for path in Path(__file__).parents[1].glob("model_cards/*/run.json"))
ABSOLUTE_PATH = r"(?<!\w)/\w+/"


def test_there_are_cards():
    assert FOLDERS and {path.name for path in FOLDERS[0].parent.iterdir()} == {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_is_made_of_its_record(folder, tmp_path):
    shutil.copy(folder / "run.json", tmp_path)
    write_model_card(tmp_path)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_record_tells_no_paths(folder):
    assert RunRecord.load(folder).metrics or RunRecord.load(folder).evaluation
    assert not re.search(ABSOLUTE_PATH, (folder / "run.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", ["/srv/models/teacher", "file:///srv/models", "../srv/models/teacher"])
def test_a_path_would_be_found(path):
    assert re.search(ABSOLUTE_PATH, json.dumps({"name": path}))
    assert not re.search(ABSOLUTE_PATH, json.dumps({"name": "google/bert", "url": "https://arxiv.org/abs/1908.08962"}))
