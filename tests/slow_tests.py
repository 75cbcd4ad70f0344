"""Tests that `make test-fast` leaves out: those that train for long, start processes, or build and install."""

from __future__ import annotations

from collections.abc import Iterable

# Paths from the repository's root: folders, files, and tests in files.
SLOW = (
    "tests/benchmarks",
    "tests/cli/test_json_output.py::test_a_distillation_where_deepspeed_is_installed",
    "tests/precomputed/test_folder.py::test_killed_at_random_moments",
    "tests/scripts/test_arguments.py",
    "tests/cli/test_compress.py",
    "tests/cli/test_search.py",
    "tests/cli/test_train.py",
    "tests/distributed",
    "tests/evaluation/test_latency.py",
    "tests/examples",
    "tests/exporting/test_student.py",
    "tests/graphs",
    "tests/hub",
    "tests/pruning/test_vocabulary_e5.py",
    "tests/test_documentation.py",
    "tests/test_dockerfile.py",
    "tests/test_families.py::test_onnx",
    "tests/test_families.py::test_recipes",
    "tests/test_wheel.py",
    "tests/trainers/test_architectures.py",
    "tests/trainers/test_embeddings.py",
    "tests/trainers/test_kills.py",
    "tests/trainers/test_modernbert.py",
    "tests/trainers/test_partition.py",
    "tests/trainers/test_progressive.py",
    "tests/trainers/test_pruning_distill.py",
    "tests/trainers/test_recipes.py",
    "tests/trainers/test_precomputed_teacher.py",
    "tests/trainers/test_resume.py",
    "tests/trainers/test_same_run.py",
    "tests/trainers/test_budget.py",
    "tests/trainers/test_tasks.py",
    "tests/trainers/test_training_log.py::test_so_are_several_evaluation_sets",
    "tests/trainers/test_training_log.py::test_trackers_get_terms_costs_and_fidelity_in_groups",
)


def is_slow(nodeid: str) -> bool:
    """Whether a test, by its id, such as "tests/test_wheel.py::test_x", is in one of `SLOW`."""
    return is_in(nodeid, SLOW)


def is_in(nodeid: str, places: Iterable[str]) -> bool:
    """Whether a test, by its id, or the path of a file is, or is in, one of some places."""
    return any(nodeid == place or nodeid.startswith((f"{place}/", f"{place}::", f"{place}[")) for place in places)
