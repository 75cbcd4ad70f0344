"""The script that looks for what faults cost, in miniature; it sees what is lost and what is live, and its page says what it found."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CARD = "---\ntags:\n- a\n---\n# Title\n\n- text `code`\n\n```python\nf('x')\n```\n"


@pytest.fixture
def load(monkeypatch):
    """A module of the folder, by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def test_nothing_is_lost_mixed_or_live_in_miniature(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "faults.py"), "--quick", "--output", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["faults"] == 0 and all(found["tried"].values())
    assert found["kinds"]["disks/recording"]["tried"] == 2


def test_a_fault_is_counted_and_ends_the_script_with_1(load, monkeypatch, tmp_path):
    faults = load("faults")

    def attempt(every, index, number):
        if index == 1:
            raise OSError("damaged")
        return "whole", None if index else f"lost: {index} of {number}"

    kinds = {"disks/distill": faults.each(attempt), "cards/records": faults.each(lambda *_: ("harmless", None))}
    monkeypatch.setattr(faults, "KINDS", kinds)
    monkeypatch.setattr(faults, "FULL", {"disks/distill": 3, "cards/records": 2})
    monkeypatch.setattr(faults, "GROUPS", {"disks": "", "cards": ""})
    for arguments in ([], ["--cards", "5"]):
        monkeypatch.setattr(sys, "argv", ["faults.py", *arguments, "--output", str(tmp_path / "found.json")])
        with pytest.raises(SystemExit) as ended:
            faults.main()
        assert ended.value.code == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["tried"] == {"disks": 3, "cards": 5} and found["faults"] == 2
    cell = found["kinds"]["disks/distill"]
    assert cell["outcomes"] == {"failed": 1, "whole": 2}
    assert cell["faults"] == ["0: whole: lost: 0 of 3", "1: failed: lost: OSError: damaged"]


def test_tries_are_shared_out(load):
    faults = load("faults")
    assert sum(faults.shared_out("disks", 100).values()) == 100
    assert {*faults.shared_out("kills", 0).values()} == {0}
    usual = {group: sum(faults.shared_out(group, None).values()) for group in faults.GROUPS}
    assert usual["disks"] >= 100 and usual["kills"] >= 50 and usual["writers"] >= 30 and usual["cards"] >= 1500


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("text", "te<!-- x -->xt", "other markup"),
        ("text", "<script>x</script>", "other markup"),
        ("text", "**text**", "other markup"),
        ("text", "![x](http://evil.example)", "addresses: ['http://evil.example']"),
        ("text", "www.evil.example", "an address outside of code"),
        ("text", "62773913", "a template in a value was rendered"),
        ("text", "te\u202ext", "control characters"),
        ("f('x')", "import os", "another program in the example"),
        ("- a\n", "- a\nlicense: mit\n", "the metadata has other fields"),
        ("tags:", "tags: '", "the metadata is no YAML"),
    ],
)
def test_what_is_live_in_a_card_is_seen(load, old, new, said):
    assert load("fault_cards").live_in(CARD, CARD) == []
    assert said in "; ".join(load("fault_cards").live_in(CARD.replace(old, new), CARD))


@pytest.mark.parametrize("harmless", ["a text", "`www.evil.example`", r"\*\*text\*\*", "&lt;script>"])
def test_what_is_not_live_in_a_card_is_let_be(load, harmless):
    card = CARD.replace("text", "some `code`") if "`" in harmless else CARD
    assert load("fault_cards").live_in(CARD.replace("text", harmless), card) == []


def test_the_page_says_what_was_counted():
    found = json.loads((BENCHMARKS / "results" / "faults.json").read_text())
    page = (BENCHMARKS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    section = page.partition("## How it was tested")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .* \| ([\d,]+) \| .* \|$", section, re.MULTILINE)
    assert sum(int(number.replace(",", "")) for number in rows) == sum(found["tried"].values())
    assert all(f"{total:,}" in section for total in found["tried"].values())
    assert found["faults"] == 0
