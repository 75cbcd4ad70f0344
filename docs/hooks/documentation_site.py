"""What the documentation site has beside the pages of docs/: MkDocs calls the functions `on_...` while it builds.

Pages of the repository outside of docs/, the glossary, a page per command and the reference are made here, so that nothing
is written twice. Links of pages lead to files of the repository, as on a disk; here they become links of the site.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from generated_pages import (
    DOCS,
    LINK,
    PACKAGE,
    REPOSITORY,
    command_pages,
    command_pages_with_text,
    glossary,
    reference_pages,
    reference_pages_with_text,
)

# Pages from outside of docs/, and where the site has them.
INCLUDED = {
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
} | {
    f"model_cards/{folder.name}/README.md": f"model_cards/{folder.name}.md"
    for folder in sorted((REPOSITORY / "model_cards").iterdir())
}
GLOSSARY = "glossary.md"
# Where links to a folder, or to the page that a repository shows first, lead.
STAND_INS = {"README.md": "index.md", "examples": "examples.md", "examples/launch": "examples.md"}
FILES = "files"

_FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2[ ]*$", re.MULTILINE | re.DOTALL)
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)

_sources: dict[str, str] = {}  # the Markdown of every page, as llms.txt has it, by address
_linked_files: dict[str, Path] = {}


def on_config(config: Any) -> Any:
    """Headings have the anchors that repositories show; the generated pages join the navigation."""
    from pymdownx.slugs import slugify

    config.mdx_configs.setdefault("toc", {})["slugify"] = slugify(case="lower")
    for title, pages in [("Commands", command_pages()), ("Reference", reference_pages()), ("Model cards", _cards())]:
        sections_of(config.nav)[title].extend(pages)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/, and the files that pages link to."""
    from mkdocs.structure.files import File

    pages = {uri: (REPOSITORY / path).read_text(encoding="utf-8") for path, uri in INCLUDED.items()}
    pages |= {GLOSSARY: glossary()} | command_pages_with_text() | reference_pages_with_text()
    for uri, text in pages.items():
        files.append(File.generated(config, uri, content=text))
    for page in [*DOCS.rglob("*.md"), *(REPOSITORY / path for path in INCLUDED)]:
        with_site_links(page.read_text(encoding="utf-8"), page.relative_to(REPOSITORY).as_posix(), "x.md")
    for uri, path in _linked_files.items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links become those of the site."""
    uri = page.file.src_uri
    text = with_site_links(markdown, source_of(uri), uri)
    _sources[uri] = text
    return text


def on_page_content(content: str, page: Any, config: Any, files: Any) -> str:
    """Formulas become MathML, which browsers show without a script."""
    from latex2mathml.converter import convert

    def as_mathml(found: re.Match[str]) -> str:
        display = "inline" if found[2] == "(" else "block"
        return f'<{found[1]} class="formula">{convert(html.unescape(found[3]), display=display)}</{found[1]}>'

    return _FORMULA.sub(as_mathml, content)


def on_post_build(config: Any) -> None:
    """Write llms.txt, and beside every page its Markdown."""
    folder = Path(config.site_dir)
    for uri, text in _sources.items():
        place = folder / uri
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    (folder / "llms.txt").write_text(llms_text(config.site_description, config.nav, _sources), encoding="utf-8")


# Links


def source_of(uri: str) -> str:
    """The file of the repository that a page of the site is made of; links in generated pages are those of docs/."""
    return {site: path for path, site in INCLUDED.items()}.get(uri, f"docs/{uri}")


def with_site_links(markdown: str, source: str, uri: str) -> str:
    """The text with links of the site in place of those between files; outside of code only."""

    def link(found: re.Match[str]) -> str:
        target = site_link(found["target"], source, uri)
        text = with_site_links(found["text"], source, uri) if found["text"].startswith("[!") else found["text"]
        return text[1:-1] if target is None else f"{text}({target})"

    parts, end = [], 0
    for block in _FENCED.finditer(markdown):
        parts += [LINK.sub(link, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, LINK.sub(link, markdown[end:])])


def site_link(target: str, source: str, uri: str) -> str | None:
    """A link as the page at `uri` writes it; None where the site has nothing to show, such as a folder of tests."""
    if re.match(r"[a-z]+:|#", target):
        return target
    place, hash_sign, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), place))
    found = INCLUDED.get(path) or STAND_INS.get(path)
    if found is None and path.startswith("docs/"):
        found = path.removeprefix("docs/")
    if found is None and (REPOSITORY / path).is_file():
        found = f"{FILES}/{path}"
        _linked_files[found] = REPOSITORY / path
    if found is None:
        return None
    return posixpath.relpath(found, posixpath.dirname(uri) or ".") + hash_sign + anchor


# Navigation and llms.txt


def sections_of(nav: list[Any]) -> dict[str, list[Any]]:
    """The lists of pages of the sections of the navigation, at any depth, by title."""
    found: dict[str, list[Any]] = {}
    for name, pages in (pair for item in nav if isinstance(item, dict) for pair in item.items()):
        if isinstance(pages, list):
            found |= {name: pages} | sections_of(pages)
    return found


def pages_of(nav: list[Any], section: str = "") -> Iterator[tuple[str, str]]:
    """Section and address of every page of the navigation, in its order."""
    for item in nav:
        for name, value in item.items() if isinstance(item, dict) else [("", item)]:
            if isinstance(value, list):
                yield from pages_of(value, name)
            else:
                yield section, value


def llms_text(description: str, nav: list[Any], sources: dict[str, str]) -> str:
    """The site for language models (llmstxt.org): every page's title, address as Markdown, and first sentence."""
    lines, last = [f"# {PACKAGE}", "", f"> {description}"], None
    for section, uri in pages_of(nav):
        if section != last:
            lines += ["", f"## {section or 'Start'}", ""]
            last = section
        title, about = title_and_summary(sources[uri])
        lines.append(f"- [{title}]({uri})" + (f": {about}" if about else ""))
    return "\n".join(lines) + "\n"


def title_and_summary(markdown: str) -> tuple[str, str]:
    """The first heading, and the first sentence of the first paragraph of prose."""
    text = _FENCED.sub("", _FRONT_MATTER.sub("", markdown))
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    paragraphs = (" ".join(each.split()) for each in text[title.end() if title else 0 :].split("\n\n"))
    prose = next((each for each in paragraphs if each and each[0] not in "#|-![<:"), "")
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    sentence = re.match(r".*?(?<!al)\.(?= [A-Z`]|$)", prose)
    return (title[1] if title else "", sentence[0] if sentence else prose.rstrip(":"))


def _cards() -> list[str]:
    return [uri for path, uri in INCLUDED.items() if path.startswith("model_cards/")]
