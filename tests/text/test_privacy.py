"""Nothing that is nobody's business gets out."""

import pytest

from hf_distill.text.privacy import REMOVED, public, public_name, without_secrets

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
        ("output:/home/anna/out", "output:out"),
        ("(a)/home/anna", f"(a){REMOVED}"),
        ("host:/Users/anna/x.csv", "host:x.csv"),
        ("model:C:\\Users\\Anna\\x.csv", "model:x.csv"),
        ("at:~/models/teacher", "at:teacher"),
        ("/export/home/anna", REMOVED),
        ("job:/root/x", "job:x"),
        ("--wandb-key abc1 --key_padding 2", f"--wandb-key {REMOVED} --key_padding 2"),
    ],
)
def test_paths_and_secrets_are_taken_out(given, expected):
    assert public(given) == expected
    assert public({"a": [given, (given,)], "n": 1}) == {"a": [expected, [expected]], "n": 1}


@pytest.mark.parametrize(
    "harmless",
    ["google/bert_uncased_L-2_H-128_A-2", "outputs/student", "https://arxiv.org/abs/1908.08962", "KL(p/T) and a/b",
     "negative/positive", "1/2", "(a)/homeward", "<b>x</b>", "f(x)/root2", "ratio:/2", "https://host/home/anna", "half / half", "2026-01-02T03:04:05", "~5 %", "", "hf_distill", None, 1.5, True],
)  # fmt: skip
def test_the_rest_stays(harmless):
    assert public(harmless) == harmless


def test_names_of_local_folders_lose_their_path(tmp_path, monkeypatch):
    assert public_name(tmp_path / "my-teacher") == "my-teacher"
    assert public_name("google/bert_uncased_L-2_H-128_A-2") == "google/bert_uncased_L-2_H-128_A-2"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "teacher").mkdir(parents=True)
    assert public_name("outputs/teacher") == "teacher"


def test_values_under_a_telling_key_go_as_a_whole():
    given = {"api_key": "two words", "token": TOKEN, "hub_token": None, "max_tokens": 100, "in": [{"password": "1"}]}
    expected = {
        "api_key": REMOVED,
        "token": REMOVED,
        "hub_token": None,
        "max_tokens": 100,
        "in": [{"password": REMOVED}],
    }
    assert public(given) == public(expected) == expected


@pytest.mark.parametrize(
    "flag", ["--pwd", "--pass", "--auth", "--credentials", "--key", "--wandb-key", "--hub_token", "--db-password"]
)
def test_flags_for_secrets(flag):
    assert without_secrets([flag, "abc", "--n", "1"]) == [flag, REMOVED, "--n", "1"]
    assert without_secrets([f"{flag}=a=b c"]) == [f"{flag}={REMOVED}"]


@pytest.mark.parametrize("harmless", ["--max_tokens", "--key_padding", "--tokenizer_name", "--sort_key", "--keyboard"])
def test_flags_for_anything_else(harmless):
    assert without_secrets([harmless, "100"]) == [harmless, "100"]
    assert without_secrets([f"{harmless}=us"]) == [f"{harmless}=us"]


def test_variables_on_a_command_line():
    given = ["HF_TOKEN=abc", "+trainer.hub_token=a b", "keyboard=us", "--sort_key", "a1" * 20]
    assert without_secrets(given) == [
        f"HF_TOKEN={REMOVED}",
        f"+trainer.hub_token={REMOVED}",
        "keyboard=us",
        "--sort_key",
        REMOVED,
    ]


def test_values_of_secret_flags_are_taken_out():
    given = ["--hub_token", "abc", "--token=xyz", "--tokenizer_name", "bert", "--api-key", "--n", "1"]
    expected = ["--hub_token", REMOVED, f"--token={REMOVED}", "--tokenizer_name", "bert", "--api-key", "--n", "1"]
    assert without_secrets(given) == expected
