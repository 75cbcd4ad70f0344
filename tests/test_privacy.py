"""Nothing that is nobody's business gets out."""

import pytest

from hf_distill.privacy import REMOVED, public, public_name, without_secrets

TOKEN = "hf_" + "Ab1" * 10


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/anna", REMOVED),
        ("/home/anna/my models/teacher", "teacher"),
        ("/Users/anna", REMOVED),
        ("~/models/teacher", "teacher"),
        ("../../anna/data.csv", "data.csv"),
        ("C:\\Users\\Anna\\train.csv", "train.csv"),
        ("file:///srv/models/teacher", "teacher"),
        ("python x.py --output_dir /home/anna/out --n 1", "python x.py --output_dir out --n 1"),
        ("see /srv/a/b, and /srv/c", "see b, and c"),
        (f"token {TOKEN}!", f"token {REMOVED}!"),
        ("https://anna:secret@host/x", f"https://{REMOVED}@host/x"),
        ("Authorization: Bearer abcdef", f"Authorization: {REMOVED}"),
    ],
)
def test_paths_and_secrets_are_taken_out(given, expected):
    assert public(given) == expected
    assert public({"a": [given, (given,)], "n": 1}) == {"a": [expected, [expected]], "n": 1}


@pytest.mark.parametrize(
    "harmless",
    ["google/bert_uncased_L-2_H-128_A-2", "outputs/student", "https://arxiv.org/abs/1908.08962", "KL(p/T) and a/b",
     "negative/positive", "1/2", "half / half", "2026-01-02T03:04:05", "~5 %", "", "hf_distill", None, 1.5, True],
)  # fmt: skip
def test_the_rest_stays(harmless):
    assert public(harmless) == harmless


def test_names_of_local_folders_lose_their_path(tmp_path, monkeypatch):
    assert public_name(tmp_path / "my-teacher") == "my-teacher"
    assert public_name("google/bert_uncased_L-2_H-128_A-2") == "google/bert_uncased_L-2_H-128_A-2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "teacher").mkdir(parents=True)
    assert public_name("outputs/teacher") == "teacher"


def test_values_of_secret_flags_are_taken_out():
    given = ["--hub_token", "abc", "--token=xyz", "--tokenizer_name", "bert", "--api-key", "--n", "1"]
    expected = ["--hub_token", REMOVED, f"--token={REMOVED}", "--tokenizer_name", "bert", "--api-key", "--n", "1"]
    assert without_secrets(given) == expected
