"""Ids of repositories on the Hub, and links to them."""

from __future__ import annotations

import re

from huggingface_hub.utils import HFValidationError, validate_repo_id

from hf_distill.text.markdown import Markdown, escaped

_HUB = "https://huggingface.co"


def is_hub_id(name: str) -> bool:
    """Whether a name is a valid id of a repository on the Hub, "name" or "namespace/name"."""
    # validate_repo_id accepts letters of any alphabet
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)?", name):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def hub_link(name: str | None, kind: str = "") -> Markdown | None:
    """A Markdown link to a repository on the Hub.

    Args:
        name: The id of the repository, or any other name.
        kind: The path of its kind of repository: "" for a model, "datasets/" for a data set.

    Returns:
        The link; None where the name is not a valid id.
    """
    return Markdown(f"[{escaped(name)}]({_HUB}/{kind}{name})") if name and is_hub_id(name) else None
