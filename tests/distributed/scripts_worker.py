"""Run by test_scripts.py under accelerate launch: one script after another, as `commands.json` says."""

import gc
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
OF_ENGINES = ("ACCELERATE_", "FSDP_")  # variables


def run_script(name: str, *arguments: str) -> None:
    gc.freeze()  # every training collects garbage, and need not look through what libraries made when imported
    sys.argv = [name, *arguments]
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def main(folder: Path) -> None:
    """Engine by engine, each with what its launch file puts into the environment; trainings run `again` are finished."""
    sys.path.insert(0, str(EXAMPLES))  # scripts import each other
    train, wrappers = transformers.Trainer.train, []

    def noted(self, *args, **kwargs):
        output = train(self, *args, **kwargs)
        wrappers.append(type(self.model_wrapped).__name__)
        return output

    transformers.Trainer.train = noted
    stands_for_gpus(transformers.Trainer)
    trained = {}
    for engine, plan in json.loads((folder / "commands.json").read_text()).items():
        unset_hf_deepspeed_config()
        for variable in [name for name in os.environ if name.startswith(OF_ENGINES)]:
            del os.environ[variable]
        os.environ |= plan["environment"]
        trained[engine] = {}
        for time in ("first", "again"):
            for command in plan[time]:
                run_script(*command)
            trained[engine][time] = wrappers[:]
            wrappers.clear()
    if os.environ["RANK"] == "0":
        (folder / "trained.json").write_text(json.dumps(trained))


def stands_for_gpus(trainer_class: type) -> None:
    """Have a CPU's processes take FSDP, which accelerate knows for GPUs only; on a CPU it would be DDP without a word."""
    create = trainer_class.create_accelerator_and_postprocess

    def create_on_gpus(self):
        if os.environ.get("ACCELERATE_USE_FSDP") == "true":
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        create(self)

    trainer_class.create_accelerator_and_postprocess = create_on_gpus


if __name__ == "__main__":
    main(Path(sys.argv[1]))
