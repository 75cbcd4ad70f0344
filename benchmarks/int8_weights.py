"""What int8 weights of 8 and of 7 bits do to answers on this processor: int8_weights.py FOLDER [FOLDER ...]

Classifiers of movie reviews, such as quickstart.py leaves, read reviews of the validation split one by one in ONNX Runtime:
in single precision; with int8 weights from -127 to 127, whose products overflow on processors without VNNI; with uint8
weights, which have 8 bits and never overflow, but are slower; and in the format onnx-int8, with weights from -64 to 64.
Agreement and mean KL divergence are from single precision, CPU seconds those of one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.messages import silenced
from hf_distill.graphs.runner import GraphRunner
from hf_distill.hardware import hardware_name
from hf_distill.resources.sentiment import load_sentiment

RESULTS = Path(__file__).with_name("results") / "int8_weights.json"
MAX_LENGTH = 64


def with_8_bits(kind: QuantType) -> Callable[[Path, Path], None]:
    """A conversion to dynamic int8 per channel with weights of 8 bits."""

    def converted(path: Path, target: Path) -> None:
        names = [name for nodes in layers_of(path).values() for name in nodes]
        with silenced(None):
            quantize_dynamic(
                path, target, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=True, weight_type=kind,
                nodes_to_quantize=[*names, *(f"{name}_MatMul" for name in names)],
            )  # fmt: skip

    return converted


CONVERSIONS: dict[str, Callable[[Path, Path], None]] = {
    "single precision": lambda path, target: convert(path, target, GraphFormat.ONNX),
    "int8, 8 bits": with_8_bits(QuantType.QInt8),
    "uint8, 8 bits": with_8_bits(QuantType.QUInt8),
    "onnx-int8": lambda path, target: convert(path, target, GraphFormat.INT8),
}


def measured(folder: Path, prompt: str, rows: int) -> dict[str, Any]:
    """Accuracy, agreement, divergence and CPU seconds of each conversion of a model."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    reviews = load_sentiment()["validation"].select(range(rows))
    labels = np.array(reviews["label"][:])
    inputs = [
        tokenizer(prompt + text, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
        for text in reviews["text"]
    ]
    example = traced_inputs(model, tokenizer(["a b", "c d"], return_tensors="pt"), tokenizer)
    found: dict[str, Any] = {"parameters": model.num_parameters(), "layers": model.config.num_hidden_layers}
    exact = None
    with tempfile.TemporaryDirectory() as scratch:
        whole = Path(scratch, "whole.onnx")
        export_onnx(model, example, whole)
        for name, conversion in CONVERSIONS.items():
            target = Path(scratch, "converted.onnx")
            conversion(whole, target)
            run = GraphRunner(target)
            begin = time.process_time()
            logits = torch.cat([run(each)["logits"] for each in inputs]).double()
            seconds = time.process_time() - begin
            exact = logits if exact is None else exact
            kl = (exact.softmax(-1) * (exact.log_softmax(-1) - logits.log_softmax(-1))).sum(-1).mean().item()
            predicted = logits.argmax(-1)
            found[name] = {
                "accuracy": float((predicted.numpy() == labels).mean()),
                "agreement": (predicted == exact.argmax(-1)).double().mean().item(),
                "kl": kl, "cpu_seconds": seconds, "megabytes": run.megabytes,
            }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="classifiers of movie reviews, with their tokenizers")
    parser.add_argument("--prompt", default="", help="what every text begins with")
    parser.add_argument("--rows", type=int, default=998, help="reviews of the validation split")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"models": {}}
    content |= {"hardware": hardware_name("cpu"), "versions": package_versions(), "rows": options.rows}
    content["capability"] = torch.backends.cpu.get_cpu_capability()
    for folder in options.folders:
        content["models"][folder.name] = measured(folder, options.prompt, options.rows)
        print(folder.name, json.dumps(content["models"][folder.name], indent=2), flush=True)
        atomic_write(RESULTS, json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
