"""`hf-distill card` renders, and keeps what nobody can measure."""

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
