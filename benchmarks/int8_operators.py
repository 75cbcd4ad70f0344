"""What the operators of an int8 file cost: python benchmarks/int8_operators.py

BERT of four shapes with random weights, in int8 of ONNX Runtime, in three forms: as torch exports it; with sums kept apart from
layer normalization; and with each attention as one operator as well, as `hf-distill export` makes it. They take turns in one
process, on one thread; the answers are compared with those of the first form.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import torch
from transformers import BertConfig, BertForSequenceClassification

from hf_distill.evaluation.comparison import conditions_of
from hf_distill.evaluation.latency import machine_load, measure_latency, random_tokens
from hf_distill.files import atomic_write
from hf_distill.graphs.export import export_onnx
from hf_distill.graphs.formats import GraphFormat, convert
from hf_distill.graphs.runner import GraphRunner

RESULTS = Path(__file__).with_name("results") / "int8_operators.json"
SHAPES = "2/128", "4/256", "4/384", "12/384"
INPUTS = (1, 32), (1, 128), (32, 32)  # batch and tokens
VOCABULARY, HEAD_SIZE, RUNS = 5_000, 32, 100
AS_EXPORTED, SPLIT, FUSED = "as torch exports it", "sums apart", "sums apart, attention fused"


def forms_of(shape: str, folder: Path) -> dict[str, Path]:
    """The int8 files of a shape by form."""
    layers, hidden = map(int, shape.split("/"))
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=hidden // HEAD_SIZE,
        intermediate_size=4 * hidden,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    example = random_tokens(VOCABULARY, 2, 16, "cpu")
    export_onnx(model, example, folder / "split.onnx")
    export_onnx(model, example, folder / "fused.onnx", fused=True)
    plain = onnx.load(folder / "split.onnx")
    for node in plain.graph.node:
        node.op_type = "Add" if node.op_type == "Sum" else node.op_type
    onnx.save(plain, folder / "plain.onnx")
    forms = {AS_EXPORTED: "plain", SPLIT: "split", FUSED: "fused"}
    paths = {form: folder / f"{name}-int8.onnx" for form, name in forms.items()}
    for form, name in forms.items():
        convert(folder / f"{name}.onnx", paths[form], GraphFormat.INT8)
    return paths


def measured(shape: str) -> list[dict[str, Any]]:
    """Operators, milliseconds and largest difference of the logits of each form, by size of the input."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = forms_of(shape, Path(scratch))
        operators = {form: Counter(node.op_type for node in onnx.load(path).graph.node) for form, path in paths.items()}
        runners = {form: GraphRunner(path) for form, path in paths.items()}
    found = []
    for batch_size, length in INPUTS:
        tokens = random_tokens(VOCABULARY, batch_size, length, "cpu")
        answers = {form: run(tokens)["logits"] for form, run in runners.items()}
        times = measure_latency(runners, batch_size, length, RUNS)
        for form in runners:
            found.append(
                {
                    "shape": shape, "batch_size": batch_size, "sequence_length": length, "form": form,
                    "operators": operators[form].total(),
                    "median_ms": times[form]["median_ms"], "p95_ms": times[form]["p95_ms"],
                    "of_first_form": round(times[form]["median_ms"] / times[AS_EXPORTED]["median_ms"], 3),
                    "largest_difference": (answers[form] - answers[AS_EXPORTED]).abs().max().item(),
                }
            )  # fmt: skip
            print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rows = [row for shape in SHAPES for row in measured(shape)]
    conditions = conditions_of("cpu", max(length for _, length in INPUTS), ("torch", "onnxruntime")) | machine_load()
    atomic_write(RESULTS, json.dumps({"conditions": conditions, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
