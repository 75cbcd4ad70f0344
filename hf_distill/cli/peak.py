"""`hf-distill peak`: measure how fast this machine multiplies matrices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json


def peak(
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, ... Default: the CPU, and the GPU if there is one.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds that products of each size are repeated.")] = 0.5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the FLOPs per second of matrix products by device and precision; trainings then log their utilization.

    The results are kept in the user's cache folder, for this processor and number of threads.

    Example: hf-distill peak --json
    """
    import torch
    from rich.console import Console
    from rich.table import Table

    from hf_distill.compute.peak import measure_peak, peaks_file, remember_peak
    from hf_distill.compute.precision import fast_bfloat16
    from hf_distill.hardware import hardware_name

    devices = [device] if device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, Any]] = []
    for each in devices:
        try:
            torch.empty(1, device=each)
        except (RuntimeError, AssertionError) as error:
            raise typer.BadParameter(f"{each!r} cannot be used: {error}", param_hint="--device") from None
        dtypes = [torch.float32, *([torch.bfloat16] if fast_bfloat16(each) else [])]
        dtypes += [torch.float16] if each.startswith("cuda") else []
        for dtype in dtypes:
            found = measure_peak(each, dtype, seconds)
            remember_peak(each, dtype, found)
            name = str(dtype).removeprefix("torch.")
            rows.append({"device": each, "hardware": hardware_name(each), "dtype": name, "flops_per_second": found})
    if as_json:
        print_json(rows)
        return
    table = Table("device", "hardware", "precision", "TFLOP/s", caption=f"kept in {peaks_file()}")
    for row in rows:
        table.add_row(row["device"], row["hardware"], row["dtype"], f"{row['flops_per_second'] / 1e12:.3g}")
    Console().print(table)
