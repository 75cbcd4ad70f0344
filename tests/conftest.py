"""Tiny models, a tiny tokenizer and small sets; no test reaches a hub."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false"
)
# What libraries show is what they show by default, wherever the suite runs.
os.environ.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)
os.environ.pop("HF_DATASETS_DISABLE_PROGRESS_BARS", None)
os.environ.pop("TRANSFORMERS_VERBOSITY", None)
# Where the user leaves the precision open it is single precision, on every CPU, since tests compare numbers.
os.environ["HF_DISTILL_BFLOAT16_SPEEDUP"] = "1"
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny models gain nothing from more, and wait for them where cores are busy

import datasets
import pytest
import torch
from tqdm.std import tqdm

from hf_distill import DistillationTrainingArguments
from tests.extras_of_tests import needs_extra
from tests.slow_tests import is_slow
from tests.tiny_models import encoded_sentences, named_as_here, tiny_bert, tiny_tokenizer


def pytest_addoption(parser):
    parser.addoption("--without-extras", action="store_true", help="leave out the tests of tests/extras_of_tests.py")


def pytest_ignore_collect(collection_path, config):
    """Files that need an extra are not even imported."""
    path = collection_path.relative_to(Path(__file__).parents[1]).as_posix()
    return True if config.getoption("--without-extras") and needs_extra(path) else None


@pytest.hookimpl(tryfirst=True)  # before markers are asked for
def pytest_collection_modifyitems(config, items):
    if config.getoption("--without-extras"):
        items[:] = [item for item in items if not needs_extra(item.nodeid)]
    for item in items:
        if is_slow(item.nodeid):
            item.add_marker("slow")


def pytest_collection_finish():
    gc.freeze()  # every training collects garbage, and need not look through what the libraries made when imported


@pytest.fixture(autouse=True)
def _one_seed():
    torch.manual_seed(0)


_SHOW_BARS = tqdm.__init__


@pytest.fixture(autouse=True)
def _bars_as_libraries_show_them(monkeypatch):
    """Commands and scripts, also those of a module's fixture, change bars for their whole process, which is that of all tests."""
    monkeypatch.setattr(tqdm, "__init__", _SHOW_BARS)
    monkeypatch.setattr(sys.modules["transformers.utils.logging"], "_tqdm_active", True)
    for name in [name for name in os.environ if name.startswith("TQDM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture
def sentences() -> datasets.Dataset:
    """29 labeled sequences of 3 to 20 tokens: not a multiple of any batch size in the suite."""
    return encoded_sentences(29)


@pytest.fixture
def student():
    return tiny_bert(hidden_size=16, layers=1)


@pytest.fixture
def teacher():
    return tiny_bert(hidden_size=32, layers=2, seed=1)


@pytest.fixture
def arguments(tmp_path):
    """Makes quiet arguments in single precision; keywords are passed on."""

    def make(**overrides):
        defaults = dict(
            output_dir=str(tmp_path / "output"),
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            learning_rate=1e-2,
            per_device_train_batch_size=4,
            num_train_epochs=1,
            save_strategy="no",
            logging_steps=1,
        )
        return DistillationTrainingArguments(**named_as_here(defaults | overrides))

    return make
