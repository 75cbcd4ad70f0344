"""How a run was started: its training arguments, its command, and the commit of its script."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from hf_distill.recipes import RECIPES
from hf_distill.text.privacy import public, without_secrets

# Arguments with local paths and secrets, which are private, and meaningless on other machines.
_PRIVATE_ARGUMENTS = {
    "output_dir",
    "overwrite_output_dir",
    "hub_token",
    "hub_model_id",
    "run_name",
    "deepspeed",
    "fsdp_config",
    "local_rank",
    "resume_from_checkpoint",
    "teacher_model_init_kwargs",
    "disable_tqdm",
}


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """The arguments that differ from the defaults of their class or from their recipe's, without paths and secrets."""
    changed, recipe = {}, getattr(args, "recipe", None)
    of_recipe = RECIPES[recipe].arguments if recipe else {}
    for argument in fields(args):
        if argument.name in _PRIVATE_ARGUMENTS or argument.name.startswith("_") or not argument.init:
            continue
        value = getattr(args, argument.name, None)
        default = argument.default if argument.default_factory is MISSING else argument.default_factory()
        default = getattr(args, "MEANING_OF_NONE", {}).get(argument.name, default)
        is_changed = (value != default and (value or default)) or value != of_recipe.get(argument.name, value)
        if is_changed and isinstance(value, (str, int, float, bool, list, dict)):
            changed[argument.name] = value.value if isinstance(value, Enum) else value
    return changed


def command_line() -> str | None:
    """The command that started this process, relative to the working directory; None if it was not started by a script."""
    script, spec = Path(sys.argv[0]), getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None:
        start = ["python", "-m", spec.name.removesuffix(".__main__")]
    elif script.suffix == ".py":
        is_inside = script.is_absolute() and script.is_relative_to(Path.cwd())
        start = ["python", str(script.relative_to(Path.cwd()) if is_inside else script)]
    elif script.name == "hf-distill":
        start = [script.name]
    else:
        return None
    return public(shlex.join(map(public, [*start, *without_secrets(sys.argv[1:])])))


def git_state() -> dict[str, Any] | None:
    """The `commit` of the working directory's git repository, and whether tracked files were `changed`; None without one."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
