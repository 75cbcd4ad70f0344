"""`hf-distill card` renders, and keeps what nobody can measure."""

import re

import pytest

from hf_distill.publishing.card_values import faults
from hf_distill.publishing.run_record import RunRecord
from tests.cli.commands import invoke, invoke_json
from tests.publishing.test_run_record import record


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
