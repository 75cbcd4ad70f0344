"""A mistake ends a script in one line, and where it was found can be had."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hf_distill.scripts import user_errors as mistakes
from hf_distill.scripts.user_errors import TRACEBACK, WrongUsage, run_main

EXAMPLES = Path(__file__).parents[2] / "examples"


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("a is wrong,\n  b allowed"), 1, "Error: a is wrong, b allowed"),
        (OSError("not there"), 1, "Error: not there"),
        (ImportError(), 1, "Error: ImportError"),
        (WrongUsage("no such option"), 2, "Error: no such option"),
        (ValueError("got \x1b]0;title\x07\x9b31m"), 1, r"Error: got \x1b]0;title\x07\x9b31m"),
    ],
)
def test_one_line_and_an_exit_code(error, code, line, capsys, monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)
    monkeypatch.setattr(mistakes, "_PACKAGE", "tests")  # as if the package had raised it
    with pytest.raises(SystemExit) as ended:
        run_main(failing(error))
    assert ended.value.code == code and capsys.readouterr().err == f"{line}\n"


def test_what_another_library_raised_says_the_way_to_the_traceback(capsys, monkeypatch):
    monkeypatch.delenv(TRACEBACK, raising=False)
    with pytest.raises(SystemExit):
        run_main(lambda: json.loads("{"))
    assert capsys.readouterr().err.rstrip().endswith(f"(set {TRACEBACK}=1 to see where)")
    with pytest.raises(SystemExit):
        run_main(failing(ImportError("no such module")))
    assert f"(`hf-distill doctor` says what does not load; set {TRACEBACK}=1" in capsys.readouterr().err


def test_the_traceback_can_be_had_and_faults_of_the_program_have_one(monkeypatch):
    with pytest.raises(TypeError):
        run_main(failing(TypeError()))
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ValueError, match="shown"):
        run_main(failing(ValueError("shown")))


def test_every_script_ends_so():
    scripts = [path for path in EXAMPLES.glob("*.py") if '__name__ == "__main__"' in path.read_text()]
    assert len(scripts) > 10
    for path in scripts:
        ending = r'if __name__ == "__main__":\n    run_main\(main(, trains_several=True)?\)\n\Z'
        assert re.search(ending, path.read_text()), path


def test_a_script_in_a_process_of_its_own(tmp_path):
    command = [sys.executable, str(EXAMPLES / "run_glue.py"), "--do_train", "--output_dir", str(tmp_path / "out")]
    ended = subprocess.run([*command, "--recipe", "patient"], capture_output=True, text=True, timeout=300)
    lines = [line for line in ended.stderr.splitlines() if "patient" in line or "usage" in line or "Traceback" in line]
    assert ended.returncode == 2 and len(lines) == 1
    assert lines[0].startswith("Error: argument --recipe: invalid choice: 'patient' (choose from")
    assert lines[0].endswith("Did you mean 'patient_kd'?")
