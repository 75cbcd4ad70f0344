"""The page of a package index is README.md without links into the repository, which lead nowhere there; all else is in setup.cfg."""

import re
from pathlib import Path

from setuptools import setup

IMAGES = re.compile(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n+", re.MULTILINE)
LINKS = re.compile(r"\[([^]]*)\]\((?!https?:|#)[^)]*\)")

readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(long_description=LINKS.sub(r"\1", IMAGES.sub("", readme)))
