"""Options and checks that `hf-distill compress` and `hf-distill search` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from hf_distill.extras import require_extra
from hf_distill.text.plain import printable

# A training that is interrupted goes on from the last fifth.
CHECKPOINTS = ("--save_steps", "0.2", "--save_total_limit", "1")
Teacher = Annotated[str, typer.Argument(help="A trained classifier of texts: a folder, or an id on the Hub.")]
OutputFolder = Annotated[
    Path, typer.Option("--output-dir", help="Folder for all that is made; an earlier call is resumed.")
]
PlanOnly = Annotated[bool, typer.Option("--plan", "--dry-run", help="Print what would be made, and train nothing.")]
StartLayers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        help="The teacher's layers that students start from: bottom, top or uniform. Default: uniform of a teacher of more "
        "than 6 layers, else bottom.",
    ),
]


def checked_choices(layers: str | None, vocabulary: str | None, number_format: str) -> None:
    """Refuse unknown names before the models are loaded.

    Args:
        layers: The teacher's layers, or None.
        vocabulary: The vocabulary, or None.
        number_format: The format of the file.

    Raises:
        ValueError: There is no such name.
        ImportError: A package that makes files of the format is not installed.
    """
    from hf_distill.compression.candidate import DEPLOYED
    from hf_distill.compression.vocabularies import checked_vocabulary
    from hf_distill.students.initialization import LayerSelection
    from hf_distill.text.suggestions import choice, suggestion

    if layers is not None:
        choice(LayerSelection, layers, "layers")
    if vocabulary is not None:
        checked_vocabulary(vocabulary)
    if number_format not in DEPLOYED:
        raise ValueError(
            f"format must be one of {', '.join(DEPLOYED)}, got {number_format!r}{suggestion(number_format, DEPLOYED)}"
        )
    if number_format != DEPLOYED[0]:
        for module in ("onnx", "onnxruntime", "onnxscript"):
            require_extra(module, "onnx", f"format {number_format!r}")


def remark(as_json: bool) -> Callable[[str], None]:
    """A function that prints a remark: to standard error where standard output is JSON."""
    return lambda text: typer.echo(printable(text), err=as_json)
