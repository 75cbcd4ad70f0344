"""`hf-distill students`: list the miniature BERTs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.compute.flops import encoder_flops
from hf_distill.students.miniatures import MINIATURES


def students(
    length: Annotated[int, typer.Option(min=1, max=512, help="Tokens per sequence.")] = 128,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure the latency of one sequence on this machine, in single precision."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the 24 miniature BERTs with parameters, FLOPs and published speed.

    Example: hf-distill students --length 64
    """
    latency = _measured_latency(length) if measure else {}
    rows = [
        {
            "shape": shape,
            "name": miniature.name,
            "parameters": miniature.parameters,
            "flops_per_token": encoder_flops(SimpleNamespace(model_type="bert", **miniature.sizes), length) // length,
            "published_tpu_speed_up": miniature.tpu_speed_up,
            "hub_id": miniature.hub_id,
        }
        | ({"latency_ms": latency[shape]} if measure else {})
        for shape, miniature in MINIATURES.items()
    ]
    if as_json:
        print_json(rows)
        return
    from rich.console import Console

    from hf_distill.evaluation.fitted_table import FittedColumn, FittedTable

    columns = [
        FittedColumn("shape", [row["shape"] for row in rows], "left"),
        FittedColumn("name", [row["name"] or "" for row in rows], "left"),
        FittedColumn("parameters", [f"{row['parameters']:,}" for row in rows]),
        FittedColumn("MFLOPs per token", [f"{row['flops_per_token'] / 1e6:.2f}" for row in rows]),
        FittedColumn("speed-up", [f"{row['published_tpu_speed_up']:.2f}" for row in rows]),
        *([FittedColumn("latency ms", [f"{row['latency_ms']:.2f}" for row in rows])] if measure else []),
        FittedColumn("checkpoint", [row["hub_id"] for row in rows], "left"),
    ]
    caption = f"FLOPs of the forward pass at {length} tokens, without a head; speed-up over BERT-Large on a TPU v2"
    Console().print(FittedTable(columns, "layers/hidden size", caption, least_use=[len(columns) - 1]))


def _measured_latency(length: int) -> dict[str, Any]:
    """Median latency of one sequence in milliseconds by shape, of models with random weights."""
    # Torch and transformers take seconds to import, which the other commands need not wait for.
    from hf_distill.evaluation.latency import measure_latency
    from hf_distill.students.create import create_student

    models = {shape: create_student(shape, task="sequence_classification") for shape in MINIATURES}
    return {name: each["median_ms"] for name, each in measure_latency(models, sequence_length=length, runs=10).items()}
