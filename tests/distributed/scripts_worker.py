"""Run by test_several_trainings.py under accelerate with DeepSpeed: one script after another, as `commands.json` says."""

import json
import os
import runpy
import sys
from pathlib import Path

import transformers
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_script(name: str, *arguments: str) -> None:
    sys.argv = [name, *arguments]
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def main(folder: Path) -> None:
    """Under ZeRO-2, then under DDP; the second list of an engine is of trainings that are finished."""
    sys.path.insert(0, str(EXAMPLES))  # scripts import each other
    train, wrappers = transformers.Trainer.train, []

    def noted(self, *args, **kwargs):
        output = train(self, *args, **kwargs)
        wrappers.append(type(self.model_wrapped).__name__)
        return output

    transformers.Trainer.train = noted
    trained = {}
    for engine, (first, again) in json.loads((folder / "commands.json").read_text()).items():
        if engine == "ddp":
            leave_deepspeed()
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
    for variable in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[variable]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
