"""What `make release-check` runs: builds wheel and sdist, looks into them, and installs the wheel as users would.

For every supported Python that is found, the wheel with all extras is resolved and the package compiled; for those named by
--full (default: all) it is installed without extras and with all of them, at the newest versions that its requirements allow, in
the first also at the lowest ones, and the package is used. pip's own settings apply, so PIP_CONSTRAINT=FILE may name a torch without CUDA.

Exit code 0: all was checked and is well; 1: something is not; 2: what was checked is well, and something could not be checked.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TOOLS = ("build", "twine", "check-wheel-contents")
PUBLIC_NAMES = "import hf_distill; print([getattr(hf_distill, name) for name in hf_distill.__all__])"
BUILDS = """
from importlib.metadata import version
print(*(version(name).partition("+")[2] or "PyPI" for name in ("torch", "torchvision")))
"""
IN_WHEEL = (
    "hf_distill/py.typed", "hf_distill/publishing/run_record.schema.json", "hf_distill/publishing/card_values.json",
    "hf_distill/publishing/templates/", "hf_distill/precomputed/templates/", "dist-info/licenses/LICENSE",
)  # fmt: skip
IN_SDIST = {
    "LICENSE",
    "MANIFEST.in",
    "PKG-INFO",
    "README.md",
    "hf_distill",
    "hf_distill.egg-info",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
}


class Findings:
    """The outcome of each check, printed when it is known."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.unchecked: list[str] = []

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        try:
            yield
        except (AssertionError, OSError, subprocess.CalledProcessError) as error:
            self.failed.append(name)
            output = getattr(error, "output", None) or str(error)
            print(f"FAILED  {name}\n{output.strip()[-3000:]}", flush=True)
        else:
            print(f"ok      {name}", flush=True)

    def leave_out(self, name: str) -> None:
        self.unchecked.append(name)
        print(f"NOT CHECKED  {name}", flush=True)


def run(*command: object, cwd: Path, path: Path | None = None) -> str:
    """The output of a command to which neither the repository nor the caller's virtual environment is known."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    variables |= {"HF_HUB_OFFLINE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"} | (
        {"PYTHONPATH": str(path)} if path else {}
    )
    return subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=variables,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ).stdout


def interpreter(version: str) -> str | None:
    """A Python of a version such as "3.12": this one, one on the path, pyenv's or uv's."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    managed = [Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python"]
    places = [
        shutil.which(f"python{version}"),
        *(found for each in managed for found in each.glob(f"*/bin/python{version}")),
    ]
    for place in filter(None, places):
        if (
            subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0
        ):  # pyenv has stand-ins
            return str(place)
    return None


def environment(python: str, folder: Path, *packages: object) -> Path:
    """The folder of the programs of a new virtual environment with some packages; torch comes first, as in the Makefile."""
    run(python, "-m", "venv", folder, cwd=folder.parent)
    run(folder / "bin" / "pip", "install", "--quiet", *packages, cwd=folder.parent)
    return folder / "bin"


def build(folder: Path, findings: Findings) -> Path | None:
    """The wheel, built like the sdist in an environment of its own and looked into; None where that failed."""
    with findings.check("wheel and sdist are built"):
        tools = environment(sys.executable, folder / "tools", *TOOLS)
        source = folder / "source"
        run("git", "clone", "--quiet", REPOSITORY, source, cwd=folder)  # what is committed, and nothing else
        run(tools / "python", "-m", "build", "--outdir", folder / "dist", source, cwd=folder)
    wheels = list((folder / "dist").glob("*.whl"))
    if not wheels:
        return None
    (wheel,), (sdist,) = wheels, (folder / "dist").glob("*.tar.gz")
    with findings.check("metadata"):
        run(tools / "twine", "check", "--strict", wheel, sdist, cwd=folder)
    with findings.check("content of the wheel"):
        run(tools / "check-wheel-contents", wheel, cwd=folder)
        names = zipfile.ZipFile(wheel).namelist()
        assert not (absent := [each for each in IN_WHEEL if not any(each in name for name in names)]), f"lacks {absent}"
    with findings.check("content of the sdist"), tarfile.open(sdist) as archive:
        found = {name.split("/")[1] for name in archive.getnames() if "/" in name}
        assert found == IN_SDIST, f"more or less than expected: {sorted(found ^ IN_SDIST)}"
    with findings.check("changelog has the version"):
        version = wheel.name.split("-")[1]
        text = (source / "CHANGELOG.md").read_text(encoding="utf-8")
        assert re.search(rf"^## {re.escape(version)}\b", text, re.MULTILINE), f"no section ## {version} in CHANGELOG.md"
    return wheel


def resolve(python: str, wheel: Path, folder: Path) -> None:
    """Requirements with all extras can be met, and every file compiles; nothing but the wheel is installed."""
    programs = environment(python, folder, "--no-deps", wheel)
    run(programs / "python", "-c", "import hf_distill; print(hf_distill.__version__)", cwd=folder)
    run(
        programs / "python",
        "-m",
        "compileall",
        "-q",
        "-f",
        next(folder.glob("lib/python*/site-packages/hf_distill")),
        cwd=folder,
    )
    run(programs / "pip", "install", "--quiet", "--upgrade", "pip", cwd=folder)
    # fast-deps reads the requirements of a wheel without the rest of it, where the index has no file of them: torch has gigabytes.
    lazily = ("--dry-run", "--use-feature=fast-deps")
    run(programs / "pip", "install", "--quiet", *lazily, f"{wheel}[all,vision]", cwd=folder)


def lowest_versions(folder: Path) -> Path:
    """A file of constraints with the lowest version of every requirement, as `make test-lowest` has it."""
    found = re.findall(r"^ +([\w.-]+)>=([\d.]+)", (REPOSITORY / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    file = folder / "lowest.txt"
    file.write_text("".join(f"{name}=={version}\n" for name, version in sorted(set(found))))
    return file


def drop_foreign_vision(programs: Path, folder: Path) -> list[str]:
    """Remove a torchvision of another build than torch's, such as PyPI's beside a torch without CUDA, which does not load.

    Returns what is not checked because of it.
    """
    torch, vision = run(programs / "python", "-c", BUILDS, cwd=folder).split()
    if torch == vision:
        return []
    run(programs / "pip", "uninstall", "--quiet", "--yes", "torchvision", cwd=folder)
    return [f"the extra vision: torchvision is of the build {vision}, torch of {torch}"]


def install_and_use(python: str, wheel: Path, folder: Path, extras: str, *constraints: object) -> list[str]:
    """The wheel is installed, gives every public name, trains with every trainer, and with extras has its commands.

    Returns what is not checked.
    """
    programs = environment(python, folder, *constraints, "torch", f"{wheel}{extras}")
    work = folder / "work"
    shutil.copytree(REPOSITORY / "tests", work / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    unchecked = drop_foreign_vision(programs, work) if extras else []
    run(programs / "python", "-c", PUBLIC_NAMES, cwd=work)
    run(programs / "python", "-m", "tests.training_without_extras", cwd=work, path=work)
    if extras:
        command = programs / "hf-distill"
        (work / "rows.csv").write_text("text,label\n" + "w5 w6,0\nw7 w8 w9,1\n" * 20)
        run(command, "--help", cwd=work)
        run(command, "doctor", "--no-hub", cwd=work)
        options = (
            "--student",
            "1/16",
            "--dataset",
            "rows.csv",
            "--output-dir",
            "student",
            "--max_steps",
            "2",
            "--use_cpu",
        )
        run(command, "train", "plain", *options, cwd=work)
    elif shutil.which(programs / "hf-distill"):
        done = subprocess.run([programs / "hf-distill"], capture_output=True, text=True, check=False, cwd=work)
        # typer and rich may be there all the same, as dependencies of others; then jobs and commands are listed.
        assert done.returncode == 2 or "hf_distill[cli]" in done.stderr, done.stdout + done.stderr
    return unchecked


def main() -> int:
    """Run all checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", nargs="*", default=list(PYTHONS), help="Pythons in which all is installed and used")
    parser.add_argument("--no-lowest", action="store_true", help="leave out the lowest versions, whose torch is PyPI's")
    options, findings = parser.parse_args(), Findings()
    full, lowest_in = options.full, None if options.no_lowest else next(iter(options.full), None)
    if lowest_in is None:
        findings.leave_out("lowest versions of the requirements")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = build(folder, findings)
        for version in PYTHONS if wheel else ():
            python = interpreter(version)
            if python is None:
                findings.leave_out(f"Python {version}: no such Python was found")
                continue
            steps: list[tuple[str, Callable, tuple]] = [
                ("all extras can be resolved, every file compiles", resolve, ())
            ]
            if version in full:
                if version == lowest_in:
                    more = ("[all,vision]", "--constraint", lowest_versions(folder))
                    steps.append(("with all extras at their lowest versions", install_and_use, more))
                steps += [
                    ("without extras", install_and_use, ("",)),
                    ("with all extras", install_and_use, ("[all,vision]",)),
                ]
            else:
                findings.leave_out(
                    f"Python {version}: installing and training (--full names {' '.join(full) or 'none'})"
                )
            for number, (what, step, more) in enumerate(steps):
                with findings.check(f"Python {version}: {what}"):
                    for each in step(python, wheel, folder / f"{version}-{number}", *more) or ():
                        findings.leave_out(f"Python {version}: {each}")
                shutil.rmtree(folder / f"{version}-{number}", ignore_errors=True)
    print(f"{len(findings.failed)} failed, {len(findings.unchecked)} not checked")
    return 1 if findings.failed else 2 if findings.unchecked else 0


if __name__ == "__main__":
    sys.exit(main())
