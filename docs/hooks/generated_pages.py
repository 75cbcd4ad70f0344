"""Pages that are made and not written: the glossary, one per command, and the reference of what users import."""

from __future__ import annotations

import ast
import html
import importlib
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PACKAGE = "hf_distill"

# A link or image: its text, which may have another one in it, and where it leads.
LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\[\]]*\]|!\[[^\]]*\]\([^)]*\))*\])\((?P<target>[^)\s]+)\)")


def glossary() -> str:
    """The section of the page of the architecture, as a page."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = re.search(r"^## Glossary\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert section, "docs/architecture.md has no section Glossary"
    return f"# Glossary\n\nPaths are those of the package `{PACKAGE}`.\n{section[1]}"


def commands() -> dict[str, Any]:
    """The subcommands of `hf-distill` by name; loads the command line, not torch."""
    import typer

    from hf_distill.cli.main import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def command_pages() -> list[dict[str, str]]:
    """Entries of the navigation."""
    return [{name: f"commands/{name}.md"} for name in commands()]


def command_pages_with_text() -> dict[str, str]:
    """What `--help` says, as a page per command, with a link to the page that has more."""
    overview = (DOCS / "command_line.md").read_text(encoding="utf-8")
    return {f"commands/{name}.md": command_page(name, command, overview) for name, command in commands().items()}


def command_page(name: str, command: Any, overview: str) -> str:
    """One command: what it does, an example, its arguments and options."""
    text, _, example = command.help.partition("Example: ")
    rows = [f"| `{names}` | {_cell(about)} |" for names, about in _options(name, command)]
    more = re.search(rf"^\|[^|]*`hf-distill {name}`[^|]*\| (.*?) \|$", overview, re.MULTILINE)
    # The row is written for docs/, where these pages are one folder deeper.
    about = LINK.sub(lambda found: f"{found['text']}(../{found['target']})", more[1]) if more else ""
    lines = textwrap.wrap(" ".join(example.split()), width=92, break_long_words=False, break_on_hyphens=False)
    parts = [f"# hf-distill {name}", text.strip(), "```bash\n" + " \\\n    ".join(lines) + "\n```"]
    parts += ["\n".join(["| option | meaning |", "|---|---|", *rows])]
    parts += [f"In short, with more to read: {about}." if "](" in about else ""]
    parts += ["All commands, and what they have in common: [command line](../command_line.md)."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _options(name: str, command: Any) -> Iterator[tuple[str, str]]:
    """What `--help` lists, arguments first."""
    context = command.context_class(command, info_name=name)
    parameters = sorted(command.params, key=lambda each: each.param_type_name != "argument")
    yield from (record for each in parameters if (record := each.get_help_record(context)))


def _cell(text: str) -> str:
    """Text in a cell of a table."""
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("*", "\\*").replace("[", "\\[")


# Reference


def public_names() -> dict[str, list[str]]:
    """What users import, as dotted names by part of the package: the public names, and others that pages import."""
    exported = importlib.import_module(PACKAGE)._PUBLIC_NAMES
    found = [f"{module}.{name}" for name, module in exported.items()]
    for page in [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]:
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            found += imported_names(block)
    parts: dict[str, list[str]] = {}
    for name in dict.fromkeys(found):
        parts.setdefault(name.split(".")[1], []).append(name)
    return dict(sorted(parts.items()))


def imported_names(code: str) -> list[str]:
    """Dotted names that a block imports from modules of the package."""
    imports = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    modules = [(node, node.module or "") for node in imports]
    return [
        f"{module}.{each.name}" for node, module in modules if module.startswith(f"{PACKAGE}.") for each in node.names
    ]


def reference_pages() -> list[dict[str, str]]:
    """Entries of the navigation."""
    return [{f"{PACKAGE}.{part}": f"reference/{part}.md"} for part in public_names()]


def reference_pages_with_text() -> dict[str, str]:
    """A page per part of the package, which mkdocstrings fills in from docstrings."""
    return {f"reference/{part}.md": reference_page(part, names) for part, names in public_names().items()}


def reference_page(part: str, names: list[str]) -> str:
    """The names of a part; of arguments, a table of fields with their help."""
    parts = [f"# {PACKAGE}.{part}", ast.get_docstring(parsed(f"{PACKAGE}.{part}")) or ""]
    for name in names:
        parts.append(f"::: {name}")
        if name.endswith("Arguments"):
            parts.append("\n".join(["| argument | default | meaning |", "|---|---|---|", *argument_rows(name)]))
    return "\n\n".join(parts) + "\n"


def parsed(module: str) -> ast.Module:
    """The syntax tree of a module, which is not imported."""
    path = REPOSITORY.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def argument_rows(dotted: str) -> list[str]:
    """Rows of a table of a dataclass' own fields and those of its bases in this package: name, default and help."""
    module, _, name = dotted.rpartition(".")
    tree = parsed(module)
    (node,) = (each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name)
    imported = {each.rpartition(".")[2]: each for each in imported_names(ast.unparse(tree))}
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.value, ast.Call)]
    rows = [row for each in fields if (row := _field_row(each, _texts_of_names(tree)))]
    for base in (ast.unparse(each) for each in node.bases):
        rows += argument_rows(imported[base]) if base in imported else []
    return rows


def _field_row(node: ast.AnnAssign, texts: dict[str, str]) -> str | None:
    """A field with help; None for any other."""
    values = {each.arg: each.value for each in node.value.keywords}  # type: ignore[union-attr]
    metadata = values.get("metadata", ast.Dict([], []))
    found = [value for key, value in zip(metadata.keys, metadata.values, strict=True) if key.value == "help"]  # type: ignore
    default = ast.unparse(values.get("default", ast.Constant(None)))
    about = "".join(_text_of(each, texts) for each in found)
    return f"| `{ast.unparse(node.target)}` | `{default}` | {_cell(about)} |" if found else None


def _text_of(node: ast.expr, texts: dict[str, str]) -> str:
    """The text of a literal, with those of the names in it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text_of(each, texts) for each in node.values)
    if isinstance(node, ast.FormattedValue):
        return texts[ast.unparse(node.value)]
    return str(ast.literal_eval(node))


def _texts_of_names(tree: ast.Module) -> dict[str, str]:
    """What the names of a module stand for, of those that stand for texts."""
    found: dict[str, str] = {}
    for each in tree.body:
        if isinstance(each, ast.Assign):
            (target,), value = each.targets, each.value
            pairs = zip(target.elts, value.elts, strict=True) if isinstance(target, ast.Tuple) else [(target, value)]  # type: ignore
            found |= {ast.unparse(name): text.value for name, text in pairs if isinstance(text, ast.Constant)}
    return found
