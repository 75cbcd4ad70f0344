"""The `hf-distill` command: which subcommands there are, and what becomes of a user's mistakes."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from hf_distill.cli.card import card
from hf_distill.cli.evaluate import evaluate
from hf_distill.cli.label import label
from hf_distill.cli.peak import peak
from hf_distill.cli.plan import plan
from hf_distill.cli.publish import publish
from hf_distill.cli.publish_family import publish_family
from hf_distill.cli.recipes import recipes
from hf_distill.cli.students import students
from hf_distill.cli.train import train


class Commands(TyperGroup):
    """Subcommands whose clear errors end in one line and exit code 1, without a traceback."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ImportError) as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error


# Plain help: drawing it with rich would take half of the time that it takes.
app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.callback()
def hf_distill() -> None:
    """Distil and compress Hugging Face encoders."""


app.command()(students)
app.command()(recipes)
app.command()(label)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(train)
app.command()(evaluate)
app.command()(card)
app.command()(peak)
app.command()(plan)
app.command()(publish)
app.command()(publish_family)


if __name__ == "__main__":
    app()
