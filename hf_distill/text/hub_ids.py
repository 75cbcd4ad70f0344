"""Names of repositories on the Hub, and links to them."""

from __future__ import annotations

import re

from huggingface_hub.utils import HFValidationError, validate_repo_id

from hf_distill.text.markdown import Markdown, escaped

_HUB = "https://huggingface.co"


def is_hub_id(name: str) -> bool:
    """Whether a repository of the Hub can have this name, "name" or "namespace/name"."""
    # validate_repo_id takes any alphabet
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)?", name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def hub_link(name: str | None, kind: str = "") -> Markdown | None:
    """A repository's name with a link to it; None where it can be none.

    Args:
        name: Of the repository.
        kind: "" for a model, "datasets/" for a data set.
    """
    return Markdown(f"[{escaped(name)}]({_HUB}/{kind}{name})") if name and is_hub_id(name) else None
