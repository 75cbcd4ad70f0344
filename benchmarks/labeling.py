"""Which precision labels fastest on a CPU, and how faithfully: python benchmarks/labeling.py [--tasks reviews reviews_e5]

Teachers fine-tuned on movie reviews (few_label_tasks.py) read movie reviews in single precision, bfloat16 and int8 of ONNX
Runtime, with all layers quantized and with as few kept in single precision as the gate needs: agreement of at least 99.5 % and a
mean KL divergence of at most 1e-3 nats on the first rows. CPU seconds of one thread, collating included, in rounds that take
turns, so that other processes on the machine do not count. Finished teachers are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from few_label_tasks import TASKS, TRANSFER, Texts
from torch import Tensor
from trainer_overhead import RESULTS

from hf_distill import FrozenTeacher, label_transfer_set
from hf_distill.evaluation.comparison import example_inputs
from hf_distill.evaluation.fidelity import fidelity_values
from hf_distill.evaluation.formats import Format, Runner, in_format
from hf_distill.exporting.layers import RecordingRunner, fewest_kept, hurt_by_layer
from hf_distill.fingerprints import package_versions
from hf_distill.graphs.export import export_onnx, traced_inputs
from hf_distill.graphs.formats import GraphFormat, convert
from hf_distill.graphs.runner import GraphRunner
from hf_distill.hardware import hardware_name
from hf_distill.teachers.frozen import AUTO_DTYPE_MAX_KL, AUTO_DTYPE_MIN_AGREEMENT

NAIVE_BATCH, BATCH, INT8_BATCH = 32, 128, 16
Way = tuple[Runner, list[list[int]]]  # the numbers of the rows in each batch


class World:
    """A teacher, its rows and their batches.

    Attributes:
        rows: The rows as model inputs.
        reference: The logits in single precision, (rows, classes).
    """

    def __init__(self, task: Texts, rows: int, first: int):
        self.task, self.rows = task, task.splits[TRANSFER].select(range(rows))
        self.texts = task.texts(task.raw[TRANSFER].select(range(rows)))
        self.lengths = torch.tensor([len(each) for each in self.rows["input_ids"]])
        self.first = list(range(first))
        self.example = example_inputs(task.teacher, 2, 16, "cpu")
        self.single, self.half = (in_format(task.teacher, each, self.example) for each in (Format.FP32, Format.BF16))
        self.reference = self.logits((self.single, self.in_order(NAIVE_BATCH)))

    def in_order(self, size: int, rows: Sequence[int] | None = None) -> list[list[int]]:
        numbers = torch.arange(len(self.rows)) if rows is None else torch.tensor(rows)
        return [batch.tolist() for batch in numbers.split(size)]

    def sorted(self, size: int, rows: Sequence[int] | None = None) -> list[list[int]]:
        numbers = torch.arange(len(self.rows)) if rows is None else torch.tensor(rows)
        order = self.lengths[numbers].argsort(descending=True, stable=True)
        return self.in_order(size, numbers[order].tolist())

    def batches(self, numbers: list[list[int]]) -> Iterator[dict[str, Tensor]]:
        collate = self.task.shared["data_collator"]
        for batch in numbers:
            yield dict(collate([self.rows[number] for number in batch]))

    def logits(self, way: Way) -> Tensor:
        """The logits of the rows in the order of their numbers; those of others are zeros."""
        run, numbers = way
        found = torch.zeros(len(self.rows), self.task.classes)
        for batch, rows in zip(self.batches(numbers), numbers, strict=True):
            found[rows] = run(batch)["logits"].float()
        return found

    def fidelity(self, logits: Tensor, rows: Sequence[int] | None = None) -> dict[str, float]:
        rows = range(len(self.rows)) if rows is None else rows
        values = fidelity_values(logits[list(rows)], self.reference[list(rows)], "single_label_classification")
        return {"agreement": float(values["teacher_agreement"].mean()), "kl": float(values["teacher_kl"].mean())}


def cpu_seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def is_faithful(fidelity: dict[str, float]) -> bool:
    return fidelity["agreement"] >= AUTO_DTYPE_MIN_AGREEMENT and fidelity["kl"] <= AUTO_DTYPE_MAX_KL


class Int8:
    """The teacher in int8, with some layers in single precision.

    Args:
        world: The teacher and its rows.
        folder: A folder for files.
    """

    def __init__(self, world: World, folder: Path):
        self.world, self.folder, self.source = world, folder, folder / "source.onnx"
        teacher = world.task.teacher
        export_onnx(teacher, traced_inputs(teacher, world.example, world.task.tokenizer), self.source)

    def keeping(self, layers: Sequence[str]) -> GraphRunner:
        convert(self.source, target := self.folder / "int8.onnx", GraphFormat.INT8, layers)
        return GraphRunner(target)

    def hurt(self, rows: int) -> dict[str, float]:
        recorded = RecordingRunner(self.world.single)
        for batch in self.world.batches(self.world.sorted(INT8_BATCH, range(rows))):
            recorded(traced_inputs(self.world.task.teacher, batch, self.world.task.tokenizer))
        return hurt_by_layer(self.source, GraphFormat.INT8, recorded)

    def kept(self, hurt: dict[str, float]) -> list[str]:
        """As few layers as the gate needs on the first rows; all if it never holds."""
        numbers = self.world.sorted(INT8_BATCH, self.world.first)

        def is_enough(layers: Sequence[str]) -> bool:
            found = self.world.fidelity(self.world.logits((self.keeping(layers), numbers)), self.world.first)
            print(len(layers), json.dumps(found), flush=True)
            return is_faithful(found)

        return fewest_kept(list(hurt), is_enough)


def compared(world: World, ways: dict[str, Way], rounds: int) -> dict[str, Any]:
    """CPU seconds of every way, in turn, and how its logits differ from those in single precision."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds[name].append(cpu_seconds(lambda way=way: world.logits(way)))
            if turn == 0:
                seconds[name].clear()  # warm-up
    naive = next(iter(seconds.values()))
    found = {}
    for name, own in seconds.items():
        ratios = [slow / fast for slow, fast in zip(naive, own, strict=True)]
        fidelity = world.fidelity(world.logits(ways[name]))
        found[name] = {
            "rows_per_cpu_second": round(len(world.rows) / statistics.median(own), 1),
            "times_as_fast_as_naive": round(statistics.median(ratios), 2),
            "rounds": [round(each, 2) for each in ratios],
            **fidelity,
            "faithful": is_faithful(fidelity),
        }
        print(name, json.dumps(found[name]), flush=True)
    return found


def parts(world: World) -> dict[str, float]:
    """CPU seconds per 1,000 rows of what labeling in single precision consists of."""
    numbers, scale = world.sorted(BATCH), 1000 / len(world.rows)
    batches = list(world.batches(numbers))
    teacher = FrozenTeacher(world.task.teacher, "float32")
    tokenizer, collate = world.task.tokenizer, world.task.shared["data_collator"]

    def forward() -> None:
        for batch in batches:
            world.single(batch)

    work: dict[str, Callable[[], Any]] = {
        "tokenization": lambda: tokenizer(world.texts, truncation=True, max_length=128),
        "collating": lambda: list(world.batches(numbers)),
        "forward passes": forward,
        "label_transfer_set": lambda: label_transfer_set(world.rows, teacher, collate, disable_tqdm=True),
    }
    return {name: round(scale * cpu_seconds(each), 3) for name, each in work.items()}


def measured(world: World, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    int8 = Int8(world, folder)
    whole = int8.keeping(())
    hurt = int8.hurt(options.hurt_rows)
    kept = int8.kept(hurt)
    print("kept", kept, flush=True)
    ways: dict[str, Way] = {
        "single precision, naive": (world.single, world.in_order(NAIVE_BATCH)),
        **{
            f"single precision, sorted, batches of {size}": (world.single, world.sorted(size)) for size in options.sizes
        },
        **{f"bfloat16, sorted, batches of {size}": (world.half, world.sorted(size)) for size in options.sizes},
        **{f"int8, sorted, batches of {size}": (whole, world.sorted(size)) for size in options.int8_sizes},
        f"int8 with kept layers, sorted, batches of {INT8_BATCH}": (int8.keeping(kept), world.sorted(INT8_BATCH)),
    }
    return {
        "rows": len(world.rows),
        "gate": {"rows": len(world.first), "agreement": AUTO_DTYPE_MIN_AGREEMENT, "kl": AUTO_DTYPE_MAX_KL},
        "rows_for_layers": options.hurt_rows,
        "hurt_by_layer": hurt,
        "kept_layers": kept,
        "ways": compared(world, ways, options.rounds),
        "cpu_seconds_per_1000_rows": parts(world),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["reviews", "reviews_e5"], help="names in few_label_tasks.py")
    parser.add_argument("--rows", type=int, default=1500, help="texts to label")
    parser.add_argument("--first", type=int, default=512, help="texts on which the gate must hold")
    parser.add_argument("--hurt-rows", type=int, default=128, help="texts on which layers are compared")
    parser.add_argument("--rounds", type=int, default=3, help="rounds after a warm-up")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 128], help="batch sizes in torch")
    parser.add_argument("--int8-sizes", nargs="+", type=int, default=[16, 64], help="batch sizes in int8")
    parser.add_argument("--folder", type=Path, default=Path("outputs/labeling"), help="teachers")
    parser.add_argument("--output", type=Path, default=RESULTS / "labeling_cpu.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    content: dict[str, Any] = {"hardware": hardware_name("cpu"), "versions": package_versions(), "teachers": {}}
    if options.output.exists():
        content = json.loads(options.output.read_text())
    for name in options.tasks:
        if name not in content["teachers"]:
            world = World(TASKS[name](options.folder / name), options.rows, options.first)
            with tempfile.TemporaryDirectory() as folder:
                content["teachers"][name] = measured(world, options, Path(folder))
            options.output.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
