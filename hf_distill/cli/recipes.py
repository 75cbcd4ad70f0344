"""`hf-distill recipes`: list the recipes, which set the arguments of published distillation methods."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.recipes import RECIPES


def recipes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False) -> None:
    """List the arguments that each --recipe of the training scripts sets, with its formula and its paper.

    Example: hf-distill recipes
    """
    if as_json:
        table = {
            name: {"formula": recipe.formula, "paper": recipe.paper, "arguments": dict(recipe.arguments)}
            for name, recipe in RECIPES.items()
        }
        print_json(table)
        return
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    for name, recipe in RECIPES.items():
        console.print(f"[bold]{name}[/]")
        console.print(f"  {escape(recipe.formula)}")
        console.print(f"  {escape(recipe.paper)}")
        console.print("  " + escape(" ".join(f"--{key} {value}" for key, value in recipe.arguments.items())) + "\n")
