"""The `hf-distill` command: its subcommands, and its exit codes after mistakes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hf_distill import __version__
from hf_distill.cli.audit import audit
from hf_distill.cli.augment import augment
from hf_distill.cli.card import card
from hf_distill.cli.compress import compress
from hf_distill.cli.doctor import doctor
from hf_distill.cli.evaluate import evaluate
from hf_distill.cli.export import export
from hf_distill.cli.label import label
from hf_distill.cli.peak import peak
from hf_distill.cli.plan import plan
from hf_distill.cli.publish import publish
from hf_distill.cli.publish_family import publish_family
from hf_distill.cli.recipes import recipes
from hf_distill.cli.required_options import NamesAllMissing, WithTrainingArguments
from hf_distill.cli.search import search
from hf_distill.cli.students import students
from hf_distill.cli.train import train
from hf_distill.extras import require_extra
from hf_distill.scripts.user_errors import exit_on_user_error

# What a user wants to do, by the command that does it.
JOBS = {
    "doctor": "See what this machine has, and what is missing",
    "train": "Distill a student of a trained model, or of its answers",
    "compress": "Make a classifier so many times smaller, ready to serve",
    "search": "Find the best student under a limit of latency or size",
    "label": "Let a teacher answer for every text once, and keep it",
    "audit": "See how good a teacher is, and which answers to trust",
    "augment": "Make more texts of those there are",
    "evaluate": "Compare students with their teacher",
    "export": "Make files that serve without torch, int8 included",
    "card": "Describe a student: its model card",
    "publish": "Upload a student or recorded answers to the Hub",
    "publish-family": "Upload students that belong together",
    "students": "Choose the size of a student",
    "recipes": "Choose a loss from a paper",
    "plan": "See what a budget of time or FLOPs buys",
    "peak": "Measure how fast this machine multiplies matrices",
}


class Commands(TyperGroup):
    """Subcommands that end without a traceback: after a mistake with one line and exit code 1, after Ctrl-C with 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        with exit_on_user_error():
            return super().invoke(ctx)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a table from jobs to commands in place of the list of commands."""
        with formatter.section("Jobs and their commands"):
            formatter.write_dl([(JOBS[name], name) for name in JOBS], col_max=70)


def _with_dashes(name: str) -> str:
    """Accept underscores in the names of options and commands, as the options of scripts have them."""
    return name.replace("_", "-")


def _evaluating(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which says before any work where packages of the extra `eval` are missing, and keeps DeepSpeed quiet."""

    @wraps(command)
    def checked(*args: object, **kwargs: object) -> None:
        for module in ("sklearn", "matplotlib"):
            require_extra(module, "eval", f"hf-distill {command.__name__}")
        from hf_distill.distributed.deepspeed import default_deepspeed_to_cpu

        default_deepspeed_to_cpu()
        command(*args, **kwargs)

    return checked


# Plain help: drawing it with rich would take half of the time that it takes.
app = typer.Typer(
    cls=Commands,
    context_settings={"token_normalize_func": _with_dashes},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf_distill {__version__}")
        raise typer.Exit


@app.callback()
def hf_distill(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Distill and compress Hugging Face encoders.

    Every command explains itself with an example: hf-distill train --help. Mistakes end in one line; the environment variable
    HF_DISTILL_TRACEBACK=1 shows where they were found.
    """


app.command(cls=NamesAllMissing)(students)
app.command(cls=NamesAllMissing)(recipes)
app.command(cls=NamesAllMissing)(augment)
app.command(cls=NamesAllMissing)(label)
for _command in (train, compress, search):
    app.command(cls=WithTrainingArguments, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
        _evaluating(_command)
    )
app.command(cls=NamesAllMissing)(_evaluating(evaluate))
app.command(cls=NamesAllMissing)(_evaluating(export))
app.command(cls=NamesAllMissing)(_evaluating(audit))
app.command(cls=NamesAllMissing)(card)
app.command(cls=NamesAllMissing)(doctor)
app.command(cls=NamesAllMissing)(peak)
app.command(cls=NamesAllMissing)(plan)
app.command(cls=NamesAllMissing)(publish)
app.command(cls=NamesAllMissing)(publish_family)


if __name__ == "__main__":
    app()
