"""Every recipe can be named, and every name has a recipe."""

from hf_distill.recipes import RECIPES, RecipeName


def test_names_are_those_of_the_recipes():
    assert [name.value for name in RecipeName] == list(RECIPES)
