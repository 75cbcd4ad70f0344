"""Text from anywhere, made safe to stand in a Markdown page."""

from __future__ import annotations

import re
import unicodedata

# Escaped where Markdown or HTML would read them as markup.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def plain(value: object) -> str:
    """A value on one line, without control characters, marks that change the direction of text, and halves of surrogates."""
    text = "".join(" " if character.isspace() else character for character in str(value))
    return "".join(character for character in text if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))


def escaped(value: object) -> str:
    """A value as running text or in a table's cell: none of it is markup, and no address in it becomes a link."""
    text = "".join(_ENTITIES.get(character, character) for character in plain(value).strip())
    text = _MARKUP.sub(lambda match: "\\" + match.group(), text)
    text = re.sub(r"^(?=[#+=-])|(?<=^)(\d+)(?=[.)]\s)", r"\1\\", text)
    return text.replace("://", "&#58;//").replace("www.", "www&#46;")


def code(value: object) -> str:
    """A value as code, also in a table's cell."""
    text = plain(value).strip().replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


def code_block(value: object, language: str = "") -> str:
    """Lines of code, whatever is in them."""
    text = "\n".join(plain(line) for line in str(value).splitlines())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
