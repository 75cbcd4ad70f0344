"""`hf-distill doctor`: what this installation and machine can do, and what is missing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import PrintsJson


def doctor(
    hub: Annotated[bool, typer.Option(help="Ask the Hub for an answer.")] = True,
    as_json: PrintsJson = False,
) -> None:
    """Show versions, extras, devices, the speed of bfloat16 and int8, and whether the Hub answers; what is missing comes last.

    Example: hf-distill doctor --no-hub
    """
    from hf_distill.scripts.diagnosis import diagnose

    found = diagnose(hub)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["load_failures"]:  # nothing can run
        raise typer.Exit(1)


def _print(found: dict[str, Any]) -> None:
    """Print what was found, and what is missing, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(found):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    console.print()
    for problem in found["problems"] or ["nothing is missing"]:
        console.print(f"- {problem}", markup=False, highlight=False)


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    from rich.markup import escape

    from hf_distill.scripts.diagnosis import precision_text

    extras = [name for name, missing in found["extras"].items() if not missing]
    hub, cache, int8 = found["hub"], found["cache_folder"], found["int8_speedup"]
    lines = [
        *found["versions"].items(),
        ("extras", ", ".join(extras) or "none"),
        *(("device", device) for device in found["devices"]),
        ("bfloat16 on the CPU", precision_text(found["bfloat16_speedup"])),
        ("int8 on the CPU", "not measured" if int8 is None else f"{int8:.2g} x the speed of float32, in ONNX Runtime"),
        ("memory", "unknown" if found["memory_gb"] is None else f"{found['memory_gb']:g} GB"),
        ("cache folder", f"{cache['path']}{'' if cache['writable'] else ', not writable'}"),
        ("Hub", f"{hub['endpoint']}: {hub['state']}, {'a token' if hub['has_token'] else 'no token'}"),
    ]
    return [(name, escape(value)) for name, value in lines]
