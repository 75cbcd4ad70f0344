"""Optional dependencies: imported when they are needed, with the extra that installs them in the error."""

from __future__ import annotations

import importlib
from types import ModuleType

_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # names on the package index that differ from the module's


def require_extra(module: str, extra: str, feature: str) -> ModuleType:
    """Import a module of an optional dependency.

    Args:
        module: Name of the module, such as "sklearn".
        extra: The extra of this package that installs it, such as "eval".
        feature: What needs the module, as the subject of the error's sentence, such as "hf-distill evaluate".

    Returns:
        The module.

    Raises:
        ImportError: The module is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:  # it is installed, and lacks a dependency of its own
            raise
        name = _DISTRIBUTIONS.get(package, package)
        message = f'{feature} needs {name}; install it with: pip install "hf_distill[{extra}]"'
        raise ImportError(message, name=package) from error
