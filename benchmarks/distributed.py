"""What each way to use several processes costs and saves: python benchmarks/distributed.py [--device cuda] [--processes 2]

A BERT of 6x384 teaches one of 3x384 by soft labels, random weights and tokens. One process; as many processes that know
nothing of each other, which is what this machine can give them at most; then DDP, DeepSpeed ZeRO 1 to 3 and FSDP2, the
teacher whole on every process, and DDP and ZeRO-3 with a teacher in parts. On a CPU each process has one thread. Rounds in
turn; per round the median step of all, and the peak memory of a process.

`--predict` prints docs/scaling.md's table instead: what is expected of 1 to 64 GPUs, by formula.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from datasets import Dataset
from objectives import resident_bytes
from transformers import BertConfig, BertForSequenceClassification, TrainerCallback

from hf_distill import DistillationTrainer, DistillationTrainingArguments
from hf_distill.compute.flops import encoder_flops
from hf_distill.fingerprints import package_versions
from hf_distill.hardware import hardware_name

RESULTS = Path(__file__).with_name("results")
BATCH_SIZE, LENGTH, STEPS, WARM_UP = 16, 64, 16, 4
AUTO = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size", "gradient_clipping")
STRATEGIES: dict[str, dict[str, Any]] = {
    "one process": {},
    "processes apart": {},
    "DDP": {},
    "ZeRO-1": {"zero": 1},
    "ZeRO-2": {"zero": 2},
    "ZeRO-3": {"zero": 3},
    "FSDP2": {"fsdp": True},
    "DDP, teacher in parts": {"teacher_sharding": "always"},
    "ZeRO-3, teacher in parts": {"zero": 3, "teacher_sharding": "always"},
}


class StepTimes(TrainerCallback):
    """When every step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if args.device.type == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def bert(layers: int) -> BertForSequenceClassification:
    config = BertConfig(hidden_size=384, num_hidden_layers=layers, num_attention_heads=12, intermediate_size=1536)
    return BertForSequenceClassification(config)


def work(strategy: str, device: str) -> dict[str, float]:
    """What one process measures, under torchrun or alone."""
    options = dict(STRATEGIES[strategy])
    if device == "cpu":
        torch.set_num_threads(1)
    if zero := options.pop("zero", None):
        import deepspeed.ops

        if device == "cpu":  # a kernel that takes a minute to compile
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        partition = {"stage": zero} | ({"stage3_param_persistence_threshold": 0} if zero == 3 else {})
        options["deepspeed"] = dict.fromkeys(AUTO, "auto") | {"zero_optimization": partition}
    if options.get("fsdp"):
        options["fsdp_config"] = {"version": 2}
    args = DistillationTrainingArguments(
        tempfile.mkdtemp(), max_steps=STEPS, per_device_train_batch_size=BATCH_SIZE, use_cpu=device == "cpu",
        report_to="none", disable_tqdm=True, save_strategy="no", logging_steps=STEPS, teacher_dtype="float32",
        bf16=False, dataloader_pin_memory=False, **options,
    )  # fmt: skip
    if options.get("fsdp") and device == "cpu":  # accelerate knows FSDP for GPUs only
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    torch.manual_seed(0)
    tokens = torch.randint(1000, 30000, (STEPS * BATCH_SIZE * args.world_size, LENGTH)).tolist()
    times = StepTimes()
    trainer = DistillationTrainer(
        bert(3), args, train_dataset=Dataset.from_dict({"input_ids": tokens}), teacher_model=bert(6), callbacks=[times]
    )
    trainer.train()
    steps = [later - earlier for earlier, later in zip(times.ends[WARM_UP:], times.ends[WARM_UP + 1 :], strict=False)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else resident_bytes("VmHWM")
    return {"step_ms": 1000 * statistics.median(steps), "peak_megabytes": peak / 1e6}


def measured(strategy: str, processes: int, device: str) -> dict[str, float]:
    """The slowest process's step and the largest peak, from processes of their own."""
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if device == "cpu" else {})
    worker = [__file__, "--work", strategy, "--device", device]
    with tempfile.TemporaryDirectory() as folder:
        environment["DISTRIBUTED_REPORTS"] = folder
        if strategy == "one process":
            commands = [[sys.executable, *worker]]
        elif strategy == "processes apart":
            commands = [[sys.executable, *worker]] * processes
        else:
            launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
            commands = [[sys.executable, *launcher, *worker]]
        running = []
        for number, command in enumerate(commands):
            own = environment | ({"CUDA_VISIBLE_DEVICES": str(number)} if strategy == "processes apart" else {})
            pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            running.append(subprocess.Popen(command, env=own, **pipes))
        errors = [process.communicate()[1] for process in running]
        reports = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    if len(reports) != (1 if strategy == "one process" else processes):
        raise RuntimeError(f"{strategy}: {errors[0][-2000:]}")
    return {name: max(report[name] for report in reports) for name in reports[0]}


def predict() -> None:
    """BERT-Large teaches 6x768; compute and communication of a step by formula, see docs/scaling.md."""
    teacher = BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096)
    student = BertConfig(num_hidden_layers=6)
    with torch.device("meta"):
        parameters = BertForSequenceClassification(student).num_parameters()
    sequences, length = 32, 128
    rate, inside, across, share = 0.4 * 312e12, 240e9, 20e9, 2 / 3  # FLOP/s, bytes/s, of the student's passes
    passes = sequences * encoder_flops(student, length) / rate
    forward = sequences * encoder_flops(teacher, length) / rate
    compute, backward = forward + 3 * passes, 3 * passes * share
    print(f"a step computes {1000 * compute:.1f} ms, of them {1000 * forward:.1f} the teacher")
    print("| GPUs | fp32 gradients | bf16 gradients | bf16, accumulation 4 |\n|--:|--:|--:|--:|")
    for gpus in (1, 2, 4, 8, 16, 32, 64):
        row = []
        for size, accumulation in ((4, 1), (2, 1), (2, 4)):
            volume = 2 * (gpus - 1) / gpus * size * parameters
            exposed = max(volume / (inside if gpus <= 8 else across) - backward, 0)
            row.append(f"{accumulation * compute / (accumulation * compute + exposed):.0%}")
        print(f"| {gpus} | {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="where to run")
    parser.add_argument("--processes", type=int, default=2, help="of every strategy but the first")
    parser.add_argument("--rounds", type=int, default=3, help="of all strategies in turn")
    parser.add_argument("--predict", action="store_true", help="print what is expected of 1 to 64 GPUs")
    parser.add_argument("--work", choices=STRATEGIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.predict:
        return predict()
    if options.work:
        report = work(options.work, options.device)
        Path(os.environ["DISTRIBUTED_REPORTS"], f"{os.getpid()}.json").write_text(json.dumps(report))
        os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it
    transformers.logging.set_verbosity_error()
    rounds = [
        {name: measured(name, options.processes, options.device) for name in STRATEGIES} for _ in range(options.rounds)
    ]
    found = {}
    for name in STRATEGIES:
        steps = [each[name]["step_ms"] for each in rounds]
        processes = 1 if name == "one process" else options.processes
        # Ratios within a round, where the machine was the same.
        speedups = [processes * each["one process"]["step_ms"] / each[name]["step_ms"] for each in rounds]
        found[name] = {
            "step_ms": steps,
            "examples_per_second": 1000 * processes * BATCH_SIZE / statistics.median(steps),
            "speedup": {"median": statistics.median(speedups), "values": speedups},
            "peak_megabytes": statistics.median(each[name]["peak_megabytes"] for each in rounds),
        }
        print(f"{name:26} {found[name]['speedup']['median']:.2f} x one process, {found[name]['peak_megabytes']:.0f} MB")
    conditions = {
        "batch_size": BATCH_SIZE,
        "length": LENGTH,
        "processes": options.processes,
        "hardware": hardware_name(options.device),
        "versions": package_versions(),
    }
    content = json.dumps({"conditions": conditions, "strategies": found}, indent=2)
    (RESULTS / f"distributed_{options.device}.json").write_text(content + "\n")


if __name__ == "__main__":
    main()
