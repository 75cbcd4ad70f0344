"""The site has every page, command, public name, recipe and paper, and links that lead somewhere; nothing is built here."""

from __future__ import annotations

import re
import sys

import pytest
import yaml

import hf_distill
from hf_distill.recipes import RECIPES
from tests.code_blocks import EXAMPLES, REPOSITORY
from tests.figures import figures_in

DOCS = REPOSITORY / "docs"
SKILLS = sorted((REPOSITORY / "skills").glob("*/SKILL.md"))


sys.path.insert(0, str(DOCS / "hooks"))  # as MkDocs does
import documentation_site as site  # noqa: E402
import generated_pages as pages_made  # noqa: E402


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))


def read(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def test_the_navigation_has_every_page_once_and_no_other(config):
    listed = [uri for _, uri in site.pages_of(config["nav"])]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    included = {uri for uri in site.INCLUDED.values() if "/" not in uri}
    assert sorted(listed) == sorted(pages | included | {site.GLOSSARY})


def test_every_warning_ends_the_build(config):
    assert re.search(r"mkdocs build .*--strict$", read("Makefile"), re.MULTILINE)
    assert {*config["validation"]["nav"].values(), *config["validation"]["links"].values()} == {"warn"}


def test_generated_pages_join_sections_that_are_there(config):
    assert {"Commands", "Reference", "Model cards"} <= site.sections_of(config["nav"]).keys()
    assert site.sections_of([{"A": [{"B": []}, "x.md"]}]) == {"A": [{"B": []}, "x.md"], "B": []}


def test_every_example_script_has_its_job():
    page = read("examples/README.md")
    named = set(re.findall(r"`([\w]+\.py)`", page))
    assert named == {path.name for path in EXAMPLES.glob("*.py")}


def test_every_command_has_a_page_with_its_options():
    pages = pages_made.command_pages_with_text()
    commands = pages_made.commands()
    assert pages.keys() == {f"commands/{name}.md" for name in commands} and "train" in commands
    for name, command in commands.items():
        page = pages[f"commands/{name}.md"]
        assert f"hf-distill {name}" in page.partition("```bash")[2]
        # Some versions of typer write the names of arguments in capitals.
        assert not [name for each in command.params for name in each.opts if name.lower() not in page.lower()]
    assert "](../evaluation.md)" in pages["commands/evaluate.md"]


def test_the_reference_has_every_public_name_and_those_of_the_pages():
    names = {name for part in pages_made.public_names().values() for name in part}
    assert {name.rpartition(".")[2] for name in names} >= {*hf_distill.__all__} - {"__version__"}
    assert "hf_distill.pruning.trim_vocabulary" in names
    pages = pages_made.reference_pages_with_text()
    assert not [name for name in names if f"::: {name}\n" not in "".join(pages.values())]


def test_arguments_are_described_with_those_of_their_bases():
    rows = pages_made.argument_rows("hf_distill.trainers.pruning_distill_arguments.PruningDistillTrainingArguments")
    described = {re.match(r"\| `(\w+)` \|", row)[1] for row in rows}
    assert {"target_hidden_size", "temperature", "max_flops"} <= described
    rows = pages_made.argument_rows("hf_distill.trainers.progressive_arguments.ProgressiveTrainingArguments")
    assert any("per checkpoint: late (half for the last one, the others equal), equal" in row for row in rows)


@pytest.mark.parametrize(
    ("target", "source", "uri", "link"),
    [
        ("recipes.md#formulas", "docs/students.md", "students.md", "recipes.md#formulas"),
        ("../recipes.md", "docs/guides/words.md", "guides/words.md", "../recipes.md"),
        ("../benchmarks/README.md#defaults", "docs/recipes.md", "recipes.md", "benchmarks.md#defaults"),
        ("docs/recipes.md", "CONTRIBUTING.md", "contributing.md", "recipes.md"),
        ("../docs/quickstart.png", "benchmarks/README.md", "benchmarks.md", "quickstart.png"),
        ("../README.md#installation", "docs/x.md", "x.md", "index.md#installation"),
        ("../examples/run_glue.py", "docs/x.md", "x.md", "files/examples/run_glue.py"),
        ("../examples/launch", "docs/scaling.md", "scaling.md", "examples.md"),
        ("../tests/hub", "docs/x.md", "x.md", None),
        ("https://arxiv.org/abs/1503.02531", "docs/x.md", "x.md", "https://arxiv.org/abs/1503.02531"),
        ("#here", "docs/x.md", "x.md", "#here"),
    ],
)
def test_a_link_between_files_becomes_one_of_the_site(target, source, uri, link):
    assert site.site_link(target, source, uri) == link


def test_code_is_not_searched_for_links():
    text = "[a](../tests/hub) ![b](../docs/quickstart.png)\n\n```python\nx[0](../tests/hub)\n```\n\n[c](x.md)\n"
    changed = "a ![b](quickstart.png)\n\n```python\nx[0](../tests/hub)\n```\n\n[c](x.md)\n"
    assert site.with_site_links(text, "docs/y.md", "y.md") == changed


def test_the_glossary_is_that_of_the_architecture():
    page = pages_made.glossary()
    assert page.startswith("# Glossary\n") and "| soft labels, hard labels |" in page and "## " not in page[3:]


def test_llms_txt_has_every_page_and_its_links_exist(config):
    sources = {uri: read(path) for path, uri in site.INCLUDED.items()} | {site.GLOSSARY: pages_made.glossary()}
    sources |= {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
    text = site.llms_text(config["site_description"], config["nav"], sources)
    assert text.startswith("# hf_distill\n\n> Distill and compress")
    links = dict(re.findall(r"^- \[(.+?)\]\((.+?)\)", text, re.MULTILINE))
    assert set(links.values()) == {uri for _, uri in site.pages_of(config["nav"])} <= sources.keys()
    assert "- [Papers](papers.md): Which paper is where" in text


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("# A\n\n```bash\nls\n```\n\n| a |\n\nDone by B et al. 2019 here. More.", ("A", "Done by B et al. 2019 here.")),
        ("---\nlanguage: en\n---\n\n# A\n\nSee [B](b.md):\n", ("A", "See B")),
        ("# A\n", ("A", "")),
    ],
)
def test_a_page_is_summarized_by_its_first_sentence(markdown, found):
    assert site.title_and_summary(markdown) == found


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_formula_with_its_numbers(name):
    formula = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", read("docs/recipes.md"), re.MULTILINE | re.DOTALL)[1]
    arguments = RECIPES[name].arguments
    assert formula.count("$$") == 2
    weights = [value for key, value in arguments.items() if key.endswith("_weight") and value not in (0, 1)]
    assert not [weight for weight in weights if f"{weight:g}" not in formula]
    assert not arguments.get("soft_label_weight") or f"\\tau = {arguments['temperature']:g}" in formula
    of_logits = r"\cos(e_S W, e_T)" if arguments.get("soft_label_loss") == "cosine" else r"\mathrm{KL}(p_T \| p_S)"
    terms = {
        "soft_label": of_logits,
        "hard_label": r"\mathrm{CE}(y, p_S)",
        "embedding": r"\mathrm{MSE}(E_S, E_T)",
    }
    inherited = r"\mathcal{L}_{\mathrm{tinybert\_general}}" in formula
    for term, written in terms.items():
        has_it = bool(arguments.get(f"{term}_weight"))
        assert (written in formula) == has_it or (inherited and term == "embedding"), term


def test_every_paper_of_a_recipe_or_a_card_is_in_the_index():
    index = read("docs/papers.md")
    sources = "".join(recipe.paper for recipe in RECIPES.values()) + read("hf_distill/publishing/citations.py")
    numbers = set(re.findall(r"\b\d{4}\.\d{5}\b", sources))
    assert len(numbers) > 8 and not [number for number in sorted(numbers) if f"arxiv.org/abs/{number}" not in index]
    assert not [name for name in RECIPES if f"recipes.md#{name}" not in index]


@pytest.mark.parametrize("page", ["when_to_distill.md", *(path.relative_to(DOCS).as_posix() for path in DOCS.glob("guides/*.md"))])  # fmt: skip
def test_percentages_and_points_of_a_guide_were_measured(page):
    prose = re.sub(r"^```.*?^```", "", read(f"docs/{page}"), flags=re.MULTILINE | re.DOTALL)
    stated = set(re.findall(r"(\d[\d.]*(?: ± [\d.]+)?)(?: %| points)", prose))
    measured = figures_in("".join(read(name) for name in ("README.md", "benchmarks/README.md")))
    assert stated - measured - OF_STATISTICS == set()


OF_STATISTICS = {"95", "80", "4.5"}  # the level of intervals, and an example of one


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.parent.name)
def test_a_skill_has_its_name_and_names_what_is_there(skill):
    text = skill.read_text(encoding="utf-8")
    header = yaml.safe_load(text.split("---\n")[1])
    assert header.keys() == {"name", "description"} and header["name"] == skill.parent.name
    assert 0 < len(header["description"]) <= 1024
    named = set(re.findall(r"hf-distill ([a-z-]+)", text))
    assert named == {*pages_made.commands()} & named and {"train", "evaluate", "export", "publish"} <= named
    files = re.findall(r"`(?:examples/)?(\w+\.py)`", text)
    assert files and not [name for name in files if not (EXAMPLES / name).exists()]


def test_there_is_a_skill():
    assert SKILLS
