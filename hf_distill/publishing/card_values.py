"""Check of license and language in a model card's metadata against the values that the Hub accepts."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

from hf_distill.text.suggestions import suggestion

_NOT_LANGUAGES = ("code", "multilingual")  # accepted by the Hub as languages


def faults(license: Any = None, language: Any = None) -> list[str]:
    """List the errors in values of a card's metadata.

    Args:
        license: The Hub's identifier of the license, such as "apache-2.0". None: not given.
        language: A code of ISO 639 ("en", "gsw"), also with a script or region ("zh-Hans"), or several. None: not given.

    Returns:
        One message per error; empty if the Hub would accept the values.
    """
    found = []
    if license is not None and license not in known()["licenses"]:
        meant = suggestion(license, known()["licenses"])
        found.append(
            f"license must be an identifier of the Hub, such as apache-2.0, mit or other, got {license!r}{meant}"
        )
    for code in [language] if isinstance(language, str) else language or []:
        if not _is_language(str(code)):
            by_name = {name.casefold(): each for each, name in known()["languages"].items()}
            named = by_name.get(str(code).casefold())
            meant = f". Did you mean {named!r}?" if named else suggestion(code, known()["languages"])
            found.append(f"language must be a code of ISO 639, such as en, got {str(code)!r}{meant}")
    return found


@cache
def known() -> dict[str, Any]:
    """The license identifiers in the Hub's documentation, and the names of languages by ISO 639-1 code."""
    return json.loads(resources.files("hf_distill.publishing").joinpath("card_values.json").read_text(encoding="utf-8"))


def _is_language(code: str) -> bool:
    primary = code.partition("-")[0]
    is_code = primary in known()["languages"] or re.fullmatch(r"[a-z]{3}", primary) is not None
    return code in _NOT_LANGUAGES or is_code
