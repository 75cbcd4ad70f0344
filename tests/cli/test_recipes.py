"""`hf-distill recipes` prints what the training scripts will do."""

import json

import pytest
from typer.testing import CliRunner

from hf_distill.cli.main import app
from hf_distill.recipes import RECIPES


def test_text_names_every_recipe_with_formula_paper_and_arguments():
    result = CliRunner().invoke(app, ["recipes"], terminal_width=200)
    assert result.exit_code == 0
    for name, recipe in RECIPES.items():
        assert {name, recipe.formula, recipe.paper} <= {line.strip() for line in result.output.splitlines()}
    assert "--temperature 2.0" in result.output


def test_json_gives_what_the_arguments_become(arguments):
    table = json.loads(CliRunner().invoke(app, ["recipes", "--json"]).output)
    assert table.keys() == RECIPES.keys()
    for name, recipe in table.items():
        args = arguments(recipe=name)
        assert {key: getattr(args, key) for key in recipe["arguments"]} == recipe["arguments"]


@pytest.mark.parametrize("words", [["recipe"], ["recipes", "--jsn"]])
def test_unknown_words_end_with_a_usage_error(words):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "Traceback" not in result.output
