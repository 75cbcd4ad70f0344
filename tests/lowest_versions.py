"""Prints the lowest versions that setup.cfg allows, as constraints for pip."""

from __future__ import annotations

import configparser
import re
from pathlib import Path


def lowest_versions(setup: str) -> dict[str, str]:
    """The lowest version of every requirement of the package and its extras, by name."""
    parser = configparser.ConfigParser()
    parser.read_string(setup)
    lines = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    return dict(sorted(re.findall(r"^([\w.-]+)>=([\w.]+)", "\n".join(lines), re.MULTILINE)))


if __name__ == "__main__":
    text = Path(__file__).parents[1].joinpath("setup.cfg").read_text(encoding="utf-8")
    print("\n".join(f"{name}=={version}" for name, version in lowest_versions(text).items()))
