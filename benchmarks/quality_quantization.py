"""Does training with fake int8 save what int8 loses? quality_quantization.py [TASK ...]

Students of few_label_tasks.py learn the recorded outputs of their teacher, from the same first weights in the same steps, in
full precision and with `quantization="int8"`. Each is exported, and every format predicts the validation and test rows one by
one, as a service reads them. Beside the formats of `hf-distill export` stands int8 with one scale per matrix in place of one
per output, which is what many accelerators have. A cell that is done is not run again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from few_label_tasks import EVALUATION, NO_LABEL, TASKS, TRANSFER, Task
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor
from transformers import PreTrainedModel
from transformers.trainer_utils import set_seed

from hf_distill import DistillationTrainer
from hf_distill.files import atomic_write
from hf_distill.fingerprints import package_versions
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert, layers_of
from hf_distill.graphs.messages import silenced
from hf_distill.graphs.runner import GraphRunner
from hf_distill.hardware import hardware_name
from hf_distill.preflight.student_defaults import student_defaults
from hf_distill.quantization import set_quantization

RESULTS = Path(__file__).with_name("results") / "quality_quantization.json"
STUDENTS = {"reviews": ("embeddings", "truncated"), "words": ("embeddings",), "digits": ("width",)}
TRAININGS = {"exact": None, "fake int8": "int8"}
CALIBRATION_ROWS = 256
PER_TENSOR = "onnx-int8, one scale per matrix"
FORMATS = ("fp32", GraphFormat.INT8.value, GraphFormat.INT8_STATIC.value, PER_TENSOR)
Runner = Callable[[Mapping[str, Tensor]], Mapping[str, Any]]


def trained(task: Task, kind: str, training: str, steps: int, seed: int) -> DistillationTrainer:
    """A student's trainer after training."""
    set_seed(seed)
    student = task.student(kind)
    rate = student_defaults(student, steps)["learning_rate"]
    trainer = task.trainer(student, task.transfer_set, steps, rate, seed, quantization=TRAININGS[training])
    trainer.train()
    return trainer


def runners(task: Task, student: PreTrainedModel, folder: Path) -> dict[str, Runner]:
    """The exported student in each format."""
    rows = task.splits[TRANSFER].select(range(CALIBRATION_ROWS))
    calibration = [traced_inputs(student, inputs) for inputs, _ in single_rows(task, rows)]
    files = {name: folder / f"{index}.onnx" for index, name in enumerate(FORMATS)}
    export_onnx(student, {name: torch.cat([each, each]) for name, each in calibration[0].items()}, files["fp32"])
    for each in (GraphFormat.INT8, GraphFormat.INT8_STATIC):
        convert(files["fp32"], files[each.value], each, calibration=calibration)
    one_scale_per_matrix(files["fp32"], files[PER_TENSOR])
    return {name: GraphRunner(path) for name, path in files.items()}


def one_scale_per_matrix(path: Path, target: Path) -> None:
    """Dynamic int8 of the layers that `convert` quantizes, but not per channel."""
    names = [name for nodes in layers_of(path).values() for name in nodes]
    with silenced(None):
        quantize_dynamic(
            path, target, op_types_to_quantize=["MatMul", "Gemm", "Gather"], per_channel=False, reduce_range=True,
            weight_type=QuantType.QInt8, nodes_to_quantize=[*names, *(f"{name}_MatMul" for name in names)],
        )  # fmt: skip


def single_rows(task: Task, rows: datasets.Dataset) -> list[tuple[dict[str, Tensor], np.ndarray]]:
    """Model inputs and labels, row by row."""
    found = []
    for row in rows:
        batch = dict(task.shared["data_collator"]([row]))
        labels = batch.pop("labels") if "labels" in batch else torch.zeros(1)
        found.append((batch, labels.numpy()))
    return found


def predicted(rows: list[tuple[dict[str, Tensor], np.ndarray]], run: Runner) -> np.ndarray:
    """The predicted classes of rows or, where words have labels, of words."""
    return np.concatenate([run(inputs)["logits"].argmax(-1).numpy()[labels != NO_LABEL] for inputs, labels in rows])


def measured(task: Task, kind: str, training: str, steps: int, seed: int) -> dict[str, Any]:
    """Accuracy of a student's formats by split, and how often they agree with it in fp32 and as it was evaluated."""
    trainer = trained(task, kind, training, steps, seed)
    found: dict[str, Any] = {"in training": task.scores(trainer)}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        trainer.save_model(folder)
        student = type(trainer.model).from_pretrained(folder).eval()
        runs = runners(task, student, Path(folder))
        set_quantization(student, trainer.args.quantization)
        for split in EVALUATION:
            rows = single_rows(task, task.splits[split])
            labels = np.concatenate([each[each != NO_LABEL] for _, each in rows])
            evaluated = predicted(rows, lambda inputs: student(**inputs))
            outputs = {name: predicted(rows, run) for name, run in runs.items()}
            found[split] = {
                name: {
                    "accuracy": float((classes == labels).mean()),
                    "agreement with fp32": float((classes == outputs["fp32"]).mean()),
                    "agreement as evaluated": float((classes == evaluated).mean()),
                }
                for name, classes in outputs.items()
            }
    return found


def cell(task: Task, kind: str, training: str, steps: int, seed: int) -> dict[str, Any]:
    """What `measured` finds, read where it is there already."""
    path = task.folder / f"{kind}_{training.replace(' ', '-')}_{steps}_{seed}.json"
    if not path.exists():
        found = measured(task, kind, training, steps, seed)
        print(f"{task.folder.name}, {path.stem}: {json.dumps(found)}", flush=True)
        atomic_write(path, json.dumps(found))
    return json.loads(path.read_text())


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds of all that was measured, and of what each format loses against fp32."""
    return {
        split: {
            name: {measure: spread([of[split][name][measure] for of in cells]) for measure in cells[0][split][name]}
            | {"loss": spread([of[split]["fp32"]["accuracy"] - of[split][name]["accuracy"] for of in cells])}
            for name in FORMATS
        }
        for split in EVALUATION
    }


def spread(values: list[float]) -> dict[str, Any]:
    """Mean, standard deviation and the values themselves."""
    return {"mean": statistics.mean(values), "sd": statistics.stdev(values), "values": values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(STUDENTS), help=f"some of {', '.join(STUDENTS)}; default: all")
    parser.add_argument("--folder", type=Path, default=Path("outputs/quantization"), help="where cells are kept")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, at least 2")
    parser.add_argument("--steps", type=int, default=600, help="training steps of every student")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    tasks = {}
    for name in options.tasks:
        folder = options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        tasks[name] = TASKS[name](folder)
    students = [(name, kind) for name in tasks for kind in STUDENTS[name]]
    for seed in range(options.seeds):  # first, so that a run that is cut short has all students
        for (name, kind), training in product(students, TRAININGS):
            cell(tasks[name], kind, training, options.steps, seed)
    compared = {
        f"{name}, {kind}": {
            each: summary([cell(tasks[name], kind, each, options.steps, seed) for seed in range(options.seeds)])
            for each in TRAININGS
        }
        for name, kind in students
    }
    rows = {name: {split: len(rows) for split, rows in task.splits.items()} for name, task in tasks.items()}
    conditions = {"steps": options.steps, "seeds": options.seeds, "rows": rows, "hardware": hardware_name("cpu")}
    conditions |= {"students": {f"{name}, {kind}": TASKS[name].kinds[kind] for name, kind in students}}
    content = {"conditions": conditions | {"versions": package_versions()}, "compared": compared}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
