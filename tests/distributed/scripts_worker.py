"""Run by test_several_trainings.py under accelerate with DeepSpeed: one script after another, as `commands.json` says."""

import json
import os
import runpy
import sys
from pathlib import Path

import transformers
from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_script(name: str, *arguments: str) -> None:
    sys.argv = [name, *arguments]
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def main(folder: Path) -> None:
    """Engine by engine, ZeRO-3 first as launched; the second list of an engine is of trainings that are finished."""
    sys.path.insert(0, str(EXAMPLES))  # scripts import each other
    train, wrappers = transformers.Trainer.train, []

    def noted(self, *args, **kwargs):
        output = train(self, *args, **kwargs)
        wrappers.append(type(self.model_wrapped).__name__)
        return output

    transformers.Trainer.train = noted
    trained = {}
    for engine, (first, again) in json.loads((folder / "commands.json").read_text()).items():
        if engine == "zero2":
            os.environ |= {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2", "ACCELERATE_DEEPSPEED_ZERO3_INIT": "false"}
        elif engine != "zero3":
            leave_deepspeed()
        if engine == "fsdp2":
            stands_for_gpus(transformers.Trainer)
        for command in first:
            run_script(*command)
        trained[engine] = {"first": wrappers[:]}
        wrappers.clear()
        for command in again:
            run_script(*command)
        trained[engine]["again"] = wrappers[:]
        wrappers.clear()
    if os.environ["RANK"] == "0":
        (folder / "trained.json").write_text(json.dumps(trained))


def leave_deepspeed() -> None:
    unset_hf_deepspeed_config()
    for variable in [name for name in os.environ if name.startswith(("ACCELERATE_", "FSDP_"))]:
        del os.environ[variable]


def stands_for_gpus(trainer_class: type) -> None:
    """Have a CPU's processes take FSDP, which accelerate knows for GPUs only; on a CPU it would be DDP without a word."""
    create = trainer_class.create_accelerator_and_postprocess

    def create_on_gpus(self):
        if self.args.fsdp:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        create(self)

    trainer_class.create_accelerator_and_postprocess = create_on_gpus


if __name__ == "__main__":
    main(Path(sys.argv[1]))
