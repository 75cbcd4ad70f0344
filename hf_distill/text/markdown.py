"""Text from anywhere, made safe to stand in a Markdown page."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from hf_distill.text.plain import plain

# Escaped where Markdown or HTML would read them as markup.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# Some renderers look for addresses after they have decoded entities: a word joiner, which is not seen, parts them.
_JOINER = "&#8288;"
_ADDRESS = re.compile(r":(?=//)|(?<=www)(?=\.)|@(?=\S)|(?<=mailto):|(?<=xmpp):", re.IGNORECASE)


class Markdown(str):
    """Text that is Markdown already: written into a page as it is, where any other value is escaped."""


def escaped(value: object) -> Markdown:
    """A value as running text or in a table's cell: none of it is markup, and no address in it becomes a link."""
    if isinstance(value, Markdown):
        return value
    text = "".join(_ENTITIES.get(character, character) for character in plain(value).strip())
    text = _MARKUP.sub(lambda match: "\\" + match.group(), text)
    text = re.sub(r"^(?=[#+=-])|(?<=^)(\d+)(?=[.)]\s)", r"\1\\", text)
    return Markdown(_ADDRESS.sub(lambda match: match.group() + _JOINER, text))


def code(value: object) -> Markdown:
    """A value as code, also in a table's cell."""
    text = plain(value).strip()
    if "\\|" in text:  # as code it would end the cell
        return escaped(text)
    text = text.replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{pad}{text}{pad}{fence}" if text else "")


def code_block(value: object, language: str = "") -> Markdown:
    """Lines of code, whatever is in them."""
    text = "\n".join(plain(line) for line in str(value).splitlines())
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return Markdown(f"{fence}{language}\n{text}\n{fence}")


def joined(values: Any, separator: str) -> Markdown:
    """Several values, each escaped, with Markdown between them."""
    return Markdown(separator.join(map(escaped, values)))


def table(rows: list[list[Any]], left: int = 1) -> Markdown:
    """A table, the headings first, with that many columns aligned to the left and all others to the right."""
    rule = ["---"] * left + ["--:"] * (len(rows[0]) - left)
    lines = [*rows[:1], [Markdown(each) for each in rule], *rows[1:]]
    return Markdown(
        "\n".join(f"| {joined(('' if each is None else each for each in line), ' | ')} |" for line in lines)
    )


def rendered(package: str, template: str, /, **values: Any) -> str:
    """A page from a template of a package, in which every value is escaped that is not `Markdown`.

    Args:
        package: Whose `templates` folder holds it.
        template: Its name there.
        values: By their names in it.
    """
    return _compiled(package, template).render(values)


@cache
def _compiled(package: str, template: str) -> jinja2.Template:
    environment = jinja2.Environment(finalize=lambda value: "" if value is None else escaped(value))
    environment.filters.update(code=code, code_block=code_block, joined=joined)
    text = resources.files(package).joinpath("templates", template).read_text(encoding="utf-8")
    return environment.from_string(text)
