"""The example a test module is about, as a module, and its main, called in this process."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import datasets
import pytest
import transformers

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _caches_of_their_own(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("HF_DATASETS_CACHE", str(cache))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
        yield


@pytest.fixture(scope="module")
def script(request):
    """The script: of test_run_glue.py it is run_glue.py."""
    name = request.path.stem.removeprefix("test_")
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))  # scripts may import each other
        patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def run_main(script):
    """Calls the script's main with arguments."""

    def call(*arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script.__name__, *arguments])
            script.main()

    verbosity = transformers.logging.get_verbosity()
    yield call
    transformers.logging.set_verbosity(verbosity)
