"""Models of a comparison have names that tell them apart."""

from __future__ import annotations

from hf_distill.scripts.evaluated_models import display_names


def test_names_are_the_last_parts_of_paths_that_differ():
    assert display_names(["outputs/teacher", "org/student"]) == ["teacher", "student"]
    assert display_names(["a/student", "b/student"]) == ["a/student", "b/student"]
