"""Tests that `make test-fast` leaves out: those that train for long, start processes, or build and install."""

from __future__ import annotations

# Paths from the repository's root: folders, and files.
SLOW = (
    "tests/scripts/test_arguments.py",
    "tests/cli/test_train.py",
    "tests/distributed",
    "tests/evaluation/test_latency.py",
    "tests/examples",
    "tests/hub",
    "tests/test_documentation.py",
    "tests/test_dockerfile.py",
    "tests/test_wheel.py",
    "tests/trainers/test_architectures.py",
    "tests/trainers/test_kills.py",
    "tests/trainers/test_partition.py",
    "tests/trainers/test_progressive.py",
    "tests/trainers/test_pruning_distill.py",
    "tests/trainers/test_recipes.py",
    "tests/trainers/test_precomputed_teacher.py",
    "tests/trainers/test_resume.py",
    "tests/trainers/test_same_run.py",
    "tests/trainers/test_budget.py",
    "tests/trainers/test_tasks.py",
)


def is_slow(nodeid: str) -> bool:
    """Whether a test, by its id, such as "tests/test_wheel.py::test_x", is in one of `SLOW`."""
    path = nodeid.partition("::")[0]
    return any(path == place or path.startswith(f"{place}/") for place in SLOW)
