"""What a user needs to know about this installation and machine, and what keeps something from working."""

from __future__ import annotations

import os
import platform
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from typing import Any

import torch
from huggingface_hub import constants, get_session, get_token
from packaging.requirements import Requirement

from hf_distill.compute.precision import MIN_SPEEDUP, bfloat16_speedup
from hf_distill.graphs.speed import int8_speedup
from hf_distill.hardware import hardware_name
from hf_distill.resources.archives import cache_folder

NAME = "hf_distill"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "tokenizers")
_LEFT_OUT = {"all", "dev", "docs"}  # which are made of the others, or are for work on this package
_IMPORTED_BY_TRANSFORMERS = "torchvision"  # wherever it is installed
_HUB_SECONDS = 5.0


def diagnose(hub: bool = True) -> dict[str, Any]:
    """The versions, extras, devices, precision, cache folder and Hub of this installation.

    Args:
        hub: Whether to ask the Hub for an answer.

    Returns:
        JSON-serializable values, and in `problems` one sentence for each thing that keeps something from working.
    """
    extras = missing_by_extra()
    found: dict[str, Any] = {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in (NAME, *PACKAGES)},
        "extras": extras,
        "load_failures": load_failures(),
        "devices": _devices(),
        "bfloat16_speedup": bfloat16_speedup(),
        "int8_speedup": None if extras["onnx"] else _int8_speedup(),
        "memory_gb": _memory_gb(),
        "cache_folder": {"path": str(cache_folder()), "writable": _is_writable(str(cache_folder()))},
        "hub": _hub(hub),
    }
    return found | {"problems": _problems(found)}


def missing_by_extra() -> dict[str, list[str]]:
    """The packages that each extra of this package needs and that are missing here, by the name of the extra."""
    needed = [Requirement(line) for line in requires(NAME) or ()]
    extras = distribution(NAME).metadata.get_all("Provides-Extra") or []
    return {
        extra: sorted(
            {
                each.name
                for each in needed
                if each.marker
                and each.marker.evaluate({"extra": extra})
                and not each.marker.evaluate({"extra": ""})
                and not _is_installed(each)
            }
        )
        for extra in extras
        if extra not in _LEFT_OUT
    }


def load_failures() -> dict[str, str]:
    """The errors of installed packages that do not load, by name: torchvision is built for one build of torch."""
    try:
        import_module(_IMPORTED_BY_TRANSFORMERS)
    except Exception as error:  # operators that are missing raise RuntimeError, libraries OSError
        if _is_installed(Requirement(_IMPORTED_BY_TRANSFORMERS)):
            return {_IMPORTED_BY_TRANSFORMERS: str(error).partition("\n")[0]}
    return {}


def _is_installed(requirement: Requirement) -> bool:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return False
    return requirement.specifier.contains(installed, prereleases=True)


def _int8_speedup() -> float | None:
    """The speed of int8; None where an installed ONNX Runtime does not run, which must not keep the rest from being said."""
    try:
        return round(int8_speedup(), 2)
    except Exception:  # ImportError, OSError, or one of its own where an operator is missing
        return None


def _devices() -> list[str]:
    accelerators = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [f"{device}: {hardware_name(device)}" for device in ("cpu", *accelerators)]


def _memory_gb() -> float | None:
    """The machine's memory (10^9 bytes); None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _is_writable(folder: str) -> bool:
    """Whether files can be made in a folder, or in the nearest existing one above it."""
    while not os.path.exists(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK | os.X_OK)


def _hub(ask: bool) -> dict[str, Any]:
    found = {"endpoint": constants.ENDPOINT, "has_token": get_token() is not None}
    if constants.is_offline_mode():
        return found | {"state": "offline, by HF_HUB_OFFLINE"}
    if not ask:
        return found | {"state": "not asked"}
    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS)
    except Exception as error:  # whatever the HTTP library in use raises
        return found | {"state": f"cannot be reached: {type(error).__name__}"}
    return found | {"state": "reachable"}


# What to know before an extra is installed.
_CARE = {
    "vision": " (of use for images alone, which transformers reads with Pillow too; torchvision from the index that torch is from)"
}


def _problems(found: dict[str, Any]) -> list[str]:
    problems = [
        f'{", ".join(missing)} missing or too old for the extra {extra}: pip install "{NAME}[{extra}]"{_CARE.get(extra, "")}'
        for extra, missing in found["extras"].items()
        if missing
    ]
    problems += [
        f"{name} {version(name)} does not load beside torch {found['versions']['torch']} ({error}), without which transformers has "
        f"no models: install both from the same index, or uninstall {name}"
        for name, error in found["load_failures"].items()
    ]
    if not found["cache_folder"]["writable"]:
        problems.append(f"{found['cache_folder']['path']} cannot be written: set HF_DISTILL_CACHE to a folder that can")
    if found["hub"]["state"].startswith("cannot"):
        problems.append(f"{found['hub']['endpoint']} {found['hub']['state']}; local folders and files work without it")
    return problems


def precision_text(speedup: float) -> str:
    """What the measured speed of bfloat16 means for training on the CPU."""
    used = "used by default" if speedup >= MIN_SPEEDUP else "not used by default"
    how = f"{speedup:.2g} x the speed of float32" if speedup >= 1 else f"{1 / speedup:.2g} x slower than float32"
    return f"{how}, {used}"
