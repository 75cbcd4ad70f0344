"""Figures in prose."""

from __future__ import annotations

import re


def figures_in(text: str) -> set[str]:
    """Numbers, with their deviation."""
    found = re.findall(r"(?<![\w.,])\d[\d.,]*(?: ± [\d.]+)?", " ".join(text.split()))
    return {figure.rstrip(".,") for figure in found}
