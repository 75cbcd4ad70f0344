"""The console script `hf-distill`: the command line, or one line that says which extra it needs."""

from __future__ import annotations

from hf_distill.extras import require_extra
from hf_distill.scripts.user_errors import exit_on_user_error
from hf_distill.scripts.verbosity import announce_compilation, quiet_libraries


def main() -> None:
    """Run the command line with the arguments of the process."""
    quiet_libraries()
    announce_compilation()
    with exit_on_user_error():
        for module in ("typer", "rich"):
            require_extra(module, "cli", "hf-distill")
    from hf_distill.cli.main import app

    app()
