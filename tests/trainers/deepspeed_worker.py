"""Run by test_partition.py under torchrun on two processes, with the folder to report into."""

import os
import sys
from pathlib import Path

import deepspeed
import deepspeed.ops
import torch
import torch.distributed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from tests.tiny_models import parameters_of
from tests.trainers.test_partition import ZERO_STAGES, train_shrinking

deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # else compiled, which takes a minute; gloo does without


def shrunk_by(folder: Path, stage: int, **overrides) -> dict:
    """What a run under ZeRO came to, on the process that tells; leaves nothing behind for the next."""
    sizes = {
        name: "auto" for name in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "train_batch_size")
    }
    config = {**sizes, "gradient_clipping": "auto", "zero_optimization": {"stage": stage, "overlap_comm": False}}
    trainer = train_shrinking(folder, batch_size=4, optim="adamw_torch", deepspeed=config, **overrides)
    engine = trainer.model_wrapped
    worked = dict(
        engine=type(engine).__name__,
        stage=engine.zero_optimization_stage(),
        world_size=trainer.args.world_size,
        weights=parameters_of(trainer.model),
        widths=[entry["hidden_size"] for entry in trainer.state.log_history if "loss" in entry],
        losses=[entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    )
    trainer.accelerator.free_memory()
    unset_hf_deepspeed_config()
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]
    return worked


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    worked = {stage: shrunk_by(folder / "output", stage) for stage in ZERO_STAGES}
    whole = shrunk_by(folder / "resumed", 2, save_strategy="steps", save_steps=4)
    checkpoint = folder / "resumed" / "checkpoint-4"
    worked["resumed"] = shrunk_by(folder / "resumed", 2, resume_from_checkpoint=str(checkpoint))
    try:
        shrunk_by(folder / "output", 3)
    except ValueError as error:
        worked["refusal"] = str(error)
    if torch.distributed.get_rank() == 0:
        torch.save(worked | {"whole": whole}, folder / "deepspeed.pt")
    torch.distributed.barrier()
    if torch.distributed.get_rank() == 0:
        (folder / "done").touch()
    sys.stdout.flush()
    os._exit(0)  # gloo now and then aborts a process group that is torn down while its peer is still at it


if __name__ == "__main__":
    main(Path(sys.argv[1]))
