"""`hf-distill card` renders, and keeps what nobody can measure."""

import re
import subprocess
import sys

import pytest

from hf_distill.publishing.card_values import faults
from hf_distill.publishing.run_record import RunRecord
from tests.cli.commands import invoke, invoke_json
from tests.publishing.test_run_record import record
from tests.tiny_models import tiny_bert


def test_what_is_given_is_kept(tmp_path):
    record().save(tmp_path / "a")
    given = [
        "--license",
        "mit",
        "--language",
        "en",
        "--base-model",
        "org/model",
        "--tags",
        "x",
        "--datasets",
        "org/data",
    ]
    metadata = invoke_json("card", tmp_path / "a", *given)[str(tmp_path / "a" / "README.md")]
    assert metadata["license"] == "mit" and metadata["base_model"] == "org/model" and "x" in metadata["tags"]
    assert metadata["datasets"] == ["org/data"] and metadata["language"] == "en"
    (tmp_path / "a" / "README.md").unlink()
    assert str(tmp_path / "a" / "README.md") in invoke("card", tmp_path / "a").output.replace("\n", "")
    assert "license: mit" in (tmp_path / "a" / "README.md").read_text()
    assert RunRecord.load(tmp_path / "a").card["license"] == "mit"


def test_a_model_without_a_record_gets_a_card_that_says_what_is_not_known(tmp_path):
    folder = tmp_path / "trimmed"
    tiny_bert(16, 2, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1}).save_pretrained(folder)
    metadata = invoke_json("card", folder, "--license", "mit", "--tags", "x")[str(folder / "README.md")]
    assert metadata["license"] == "mit" and {"hf_distill", "x"} <= set(metadata["tags"])
    text = (folder / "README.md").read_text()
    assert "# trimmed" in text and "hidden size | 16" in text and "Labels: bad, good." in text
    assert "No record of a training lies beside this model." in text and "is not known here" in text
    assert not (folder / "run.json").exists(), "no run is made up"
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1].replace("path/to/this/folder", str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "parameters, labels ['bad', 'good']" in done.stdout
    assert invoke("card", folder).output.strip().endswith("README.md")  # its own it makes anew
    (folder / "README.md").write_text("# My own words\n")
    assert "was not made by hf-distill card" in invoke("card", folder, exit_code=1).output
    assert (folder / "README.md").read_text() == "# My own words\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--license", "apach-2.0"], "such as apache-2.0, mit or other, got 'apach-2.0'. Did you mean 'apache-2.0'?"),
        (["--license", "MIT"], "Did you mean 'mit'?"),
        (
            ["--language", "english"],
            "language must be a code of ISO 639, such as en, got 'english'. Did you mean 'en'?",
        ),
        (["--datasets", "../data"], "the Hub's name of a repository, such as org/name, got '../data'"),
        (["--base-model", "/srv/model"], "got '/srv/model'"),
        (["--license", "my own", "--language", "EN"], "got 'my own'; language must be a code of ISO 639"),
    ],
)
def test_what_the_hub_would_not_take_is_refused_with_what_may_be_meant(given, message, tmp_path):
    record().save(tmp_path / "a")
    assert message in re.sub(r"\s+", " ", invoke("card", tmp_path / "a", *given, exit_code=2).output)
    assert RunRecord.load(tmp_path / "a").card == {} and not (tmp_path / "a" / "README.md").exists()


@pytest.mark.parametrize("language", ["en", "gsw", "zh-Hans", "pt-BR", "code", "multilingual"])
def test_what_the_hub_takes_is_no_fault(language):
    assert faults("openrail++", language) == [] == faults() == faults("mit", ["en", "de"])
