"""`hf-distill doctor` says what is there and what is missing."""

import json
from importlib.metadata import version

import pytest
import transformers

from hf_distill.hardware import hardware_name
from hf_distill.scripts import diagnosis
from tests.cli.commands import invoke, invoke_json


def test_versions_devices_and_extras():
    found = invoke_json("doctor", "--no-hub")
    assert found["versions"]["torch"] == version("torch")  # without the build, which torch.__version__ may have
    assert found["versions"]["transformers"] == transformers.__version__
    assert found["devices"][0] == f"cpu: {hardware_name('cpu')}"
    assert found["extras"]["cli"] == [] and not {"all", "dev", "docs"} & set(found["extras"])
    assert found["bfloat16_speedup"] == 1  # what the tests set
    assert (found["int8_speedup"] is None) == bool(found["extras"]["onnx"])
    assert found["hub"]["state"] in ("not asked", "offline, by HF_HUB_OFFLINE")


def test_what_is_missing_is_named_with_what_helps(monkeypatch, tmp_path):
    there = diagnosis._is_installed
    monkeypatch.setattr(diagnosis, "_is_installed", lambda each: each.name != "peft" and there(each))
    monkeypatch.setenv("HF_DISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(diagnosis, "_is_writable", lambda folder: False)
    found = invoke_json("doctor", "--no-hub")
    assert found["extras"]["peft"] == ["peft"]
    assert 'peft missing or too old for the extra peft: pip install "hf_distill[peft]"' in found["problems"]
    assert f"{tmp_path / 'cache'} cannot be written: set HF_DISTILL_CACHE to a folder that can" in found["problems"]
    output = invoke("doctor", "--no-hub").output
    assert "not writable" in output and "- peft missing" in output and "nothing is missing" not in output


def test_a_package_that_does_not_load_is_named(monkeypatch):
    def failing(name):
        raise RuntimeError("operator torchvision::nms does not exist\nand more")

    monkeypatch.setattr(diagnosis, "import_module", failing)
    monkeypatch.setattr(diagnosis, "_is_installed", lambda each: True)
    monkeypatch.setattr(diagnosis, "version", lambda name: "1.2.3")
    found = json.loads(invoke("doctor", "--no-hub", "--json", exit_code=1).stdout)
    assert found["load_failures"] == {"torchvision": "operator torchvision::nms does not exist"}
    assert any("torchvision 1.2.3 does not load beside torch 1.2.3 (operator" in each for each in found["problems"])
    assert "does not load beside torch" in " ".join(invoke("doctor", "--no-hub", exit_code=1).output.split())
    monkeypatch.setattr(diagnosis, "_is_installed", lambda each: False)
    (of_images,) = (each for each in diagnosis.diagnose(False)["problems"] if "for the extra vision" in each)
    assert of_images.endswith("reads with Pillow too; torchvision from the index that torch is from)")
    assert diagnosis.load_failures() == {}


def test_without_onnx_int8_is_not_measured(monkeypatch):
    monkeypatch.setattr(diagnosis, "missing_by_extra", lambda: {"onnx": ["onnxruntime"]})
    assert diagnosis.diagnose(False)["int8_speedup"] is None


def test_an_onnx_runtime_that_does_not_run_hides_nothing_else(monkeypatch):
    def failing():
        raise OSError("cannot open shared object file")

    monkeypatch.setattr(diagnosis, "missing_by_extra", lambda: {"onnx": []})
    monkeypatch.setattr(diagnosis, "int8_speedup", failing)
    found = diagnosis.diagnose(False)
    assert found["int8_speedup"] is None and found["versions"]["torch"] == version("torch")


def test_an_old_package_is_missing(monkeypatch):
    monkeypatch.setattr(diagnosis, "version", lambda name: "0.0.1")
    assert set(diagnosis.missing_by_extra()["onnx"]) == {"onnx", "onnxruntime", "onnxscript"}


@pytest.mark.parametrize(("error", "state"), [(None, "reachable"), (OSError("no route"), "cannot be reached: OSError")])
def test_the_hub_is_asked(monkeypatch, error, state):
    class Session:
        def head(self, endpoint, timeout):
            assert endpoint.startswith("http") and timeout == 5
            if error:
                raise error

    monkeypatch.setattr(diagnosis, "get_session", Session)
    monkeypatch.setattr(diagnosis.constants, "is_offline_mode", lambda: False)
    found = diagnosis.diagnose()
    assert found["hub"]["state"] == state
    assert any("local folders and files work without it" in each for each in found["problems"]) == (error is not None)


def test_a_folder_that_is_not_there_is_writable_if_the_one_above_is(tmp_path):
    assert diagnosis._is_writable(str(tmp_path / "a" / "b"))
