"""The checks before a release notice what is wrong, and say what was not checked."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile

import pytest

from tests import release_check
from tests.release_check import IN_WHEEL, PYTHONS, REPOSITORY, Findings, interpreter, lowest_versions


def test_a_failure_is_kept_with_its_output_and_the_next_check_goes_on(capsys):
    findings = Findings()
    with findings.check("first"):
        release_check.run(sys.executable, "-c", "raise SystemExit('why')", cwd=REPOSITORY)
    with findings.check("second"):
        pass
    findings.leave_out("third")
    assert findings.failed == ["first"] and findings.unchecked == ["third"]
    shown = capsys.readouterr().out
    assert re.search(r"FAILED  first\nwhy\nok +second\nNOT CHECKED  third\n", shown)


@pytest.mark.parametrize(("failed", "unchecked", "code"), [(0, 0, 0), (0, 1, 2), (1, 1, 1)])
def test_the_exit_code_says_what_was_checked(failed, unchecked, code, monkeypatch, tmp_path):
    def step(python, wheel, folder, *more):
        assert not failed, "on purpose"

    monkeypatch.setattr(release_check, "build", lambda folder, findings: tmp_path / "x.whl")
    monkeypatch.setattr(release_check, "resolve", step)
    monkeypatch.setattr(release_check, "install_and_use", step)
    monkeypatch.setattr(
        release_check, "interpreter", lambda version: None if unchecked and version == "3.13" else "python"
    )
    monkeypatch.setattr(sys, "argv", ["release_check.py"])
    assert release_check.main() == code
    monkeypatch.setattr(sys, "argv", ["release_check.py", "--no-lowest", "--full", *PYTHONS])
    assert release_check.main() == (1 if failed else 2), "the lowest versions are not checked"


def test_pythons_are_those_that_the_package_supports():
    setup = (REPOSITORY / "setup.cfg").read_text(encoding="utf-8")
    assert f"python_requires = >={PYTHONS[0]}\n" in setup
    assert interpreter(f"{sys.version_info[0]}.{sys.version_info[1]}") == sys.executable
    assert interpreter("2.0") is None


def test_lowest_versions_are_those_of_setup_cfg(tmp_path):
    lines = lowest_versions(tmp_path).read_text().splitlines()
    assert {"torch==2.8", "transformers==5.19"} <= set(lines)
    assert len({line.partition("==")[0] for line in lines}) == len(lines)


def test_what_the_wheel_must_have_is_in_the_package():
    for name in IN_WHEEL[:-1]:
        assert (REPOSITORY / name).exists(), name


def test_a_wheel_that_lacks_files_is_noticed(tmp_path, monkeypatch, capsys):
    def run(*command, **_):
        if "--outdir" in command:
            (tmp_path / "dist").mkdir()
            with zipfile.ZipFile(tmp_path / "dist" / "hf_distill-0.1.0-py3-none-any.whl", "w") as wheel:
                wheel.writestr("hf_distill/py.typed", "")
            tarfile.open(tmp_path / "dist" / "hf_distill-0.1.0.tar.gz", "w:gz").close()
            (tmp_path / "source").mkdir()
            (tmp_path / "source" / "CHANGELOG.md").write_text("## 0.0.9\n")

    monkeypatch.setattr(release_check, "run", run)
    findings = Findings()
    assert release_check.build(tmp_path, findings) is not None
    assert findings.failed == ["content of the wheel", "content of the sdist", "changelog has the version"]
    assert "run_record.schema.json" in capsys.readouterr().out


@pytest.mark.parametrize(("builds", "removed"), [("cpu PyPI", True), ("PyPI PyPI", False), ("cpu cpu", False)])
def test_a_torchvision_that_torch_does_not_load_is_removed_and_named(builds, removed, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(release_check, "run", lambda *command, **_: commands.append(command) or builds)
    unchecked = release_check.drop_foreign_vision(tmp_path, tmp_path)
    assert ("uninstall" in commands[-1]) == removed
    assert unchecked == (["the extra vision: torchvision is of the build PyPI, torch of cpu"] if removed else [])


def test_what_a_step_leaves_out_is_not_checked(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(release_check, "build", lambda folder, findings: tmp_path / "x.whl")
    monkeypatch.setattr(release_check, "resolve", lambda *_: None)
    monkeypatch.setattr(release_check, "install_and_use", lambda *_: ["the extra vision"])
    monkeypatch.setattr(release_check, "interpreter", lambda version: "python")
    monkeypatch.setattr(sys, "argv", ["release_check.py"])
    assert release_check.main() == 2
    assert "NOT CHECKED  Python 3.10: the extra vision\n" in capsys.readouterr().out


def test_builds_of_torch_and_torchvision_are_read_from_what_is_installed(tmp_path):
    for name, version in (("torch", "2.13.0+cpu"), ("torchvision", "0.28.0")):
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    assert release_check.run(sys.executable, "-c", release_check.BUILDS, cwd=tmp_path, path=tmp_path) == "cpu PyPI\n"


def test_requirements_are_resolved_without_their_files(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(release_check, "run", lambda *command, **_: commands.append([str(word) for word in command]))
    (tmp_path / "lib" / "python3" / "site-packages" / "hf_distill").mkdir(parents=True)
    release_check.resolve("python", tmp_path / "x.whl", tmp_path)
    assert commands[-1][-1].endswith("x.whl[all,vision]") and {"--dry-run", "--use-feature=fast-deps"} <= {
        *commands[-1]
    }
