"""Untrusted text escaped for Markdown pages."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from hf_distill.text.plain import plain

# Characters that Markdown would read as markup.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Some renderers link URLs after they have decoded entities: an invisible word joiner splits the URL.
_JOINER = "&#8288;"
_ADDRESS = re.compile(r":(?=//)|(?<=www)(?=\.)|@(?=\S)|(?<=mailto):|(?<=xmpp):", re.IGNORECASE)


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""


def escaped(value: object) -> Markdown:
    """A value escaped for running text or a table's cell: no character is markup, and no URL becomes a link."""
    if isinstance(value, Markdown):
        return value
    text = "".join(_ENTITIES.get(character, character) for character in plain(value).strip())
    text = _MARKUP.sub(lambda match: "\\" + match.group(), text)
    text = re.sub(r"^(?=[#+=-])|(?<=^)(\d+)(?=[.)]\s)", r"\1\\", text)
    return Markdown(_ADDRESS.sub(lambda match: match.group() + _JOINER, text))


def code(value: object) -> Markdown:
    """A value as inline code, also valid in a table's cell."""
    text = plain(value).strip()
    if "\\|" in text:  # within inline code it would end the cell
        return escaped(text)
    text = text.replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}" if text else "")


def code_block(value: object, language: str = "") -> Markdown:
    """A fenced code block with any content."""
    text = "\n".join(plain(line) for line in str(value).splitlines())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def joined(values: Any, separator: str) -> Markdown:
    """Several values, each escaped, joined by a separator that is Markdown."""
    return Markdown(separator.join(map(escaped, values)))


def table(rows: list[list[Any]], left: int = 1) -> Markdown:
    """A table whose first row is its header, with the first `left` columns aligned left and all others right."""
    rule = ["---"] * left + ["--:"] * (len(rows[0]) - left)
    lines = [*rows[:1], [Markdown(each) for each in rule], *rows[1:]]
    return Markdown(
        "\n".join(f"| {joined(('' if each is None else each for each in line), ' | ')} |" for line in lines)
    )


def rendered(package: str, template: str, /, **values: Any) -> str:
    """A page rendered from a template of a package, in which every value that is not `Markdown` is escaped.

    Args:
        package: The package with the template in its folder `templates`.
        template: The file name of the template.
        **values: The values of the template's variables.

    Returns:
        The page, Markdown text.
    """
    return _compiled(package, template).render(values)


@cache
def _compiled(package: str, template: str) -> jinja2.Template:
    environment = jinja2.Environment(finalize=lambda value: "" if value is None else escaped(value))
    environment.filters.update(code=code, code_block=code_block, joined=joined)
    text = (resources.files(package) / "templates" / template).read_text(encoding="utf-8")
    return environment.from_string(text)
