"""Which teacher layer each student layer imitates."""

from __future__ import annotations

import re
from collections.abc import Callable

LAYER_MAPS: dict[str, Callable[[int, int], list[tuple[int, int]]]] = {
    "uniform": lambda student, teacher: [(layer, (layer + 1) * teacher // student - 1) for layer in range(student)],
    "first": lambda student, teacher: [(layer, layer) for layer in range(student)],
    "last": lambda student, teacher: [(layer, teacher - student + layer) for layer in range(student)],
    "skip": lambda student, teacher: [(layer, (layer + 1) * (teacher // student) - 1) for layer in range(student - 1)],
    "final": lambda student, teacher: [(student - 1, teacher - 1)],
}


def layer_map(spec: str, student_layers: int, teacher_layers: int) -> list[tuple[int, int]]:
    """Pairs of student and teacher layer, both counted from 0.

    Args:
        spec: The name of a rule, or pairs such as "0:2,1:5". Rules: "uniform", student layer m of M imitates teacher
            layer m · N / M (TinyBERT); "first", layer m imitates layer m; "last", the teacher's top M layers in order;
            "skip", every (N // M)-th layer, none for the student's last (Patient KD); "final", the last layer imitates
            the last.
        student_layers: The student's number of layers, M.
        teacher_layers: The teacher's number of layers, N.

    Returns:
        At least one pair (student layer, teacher layer), in the order of student layers.

    Raises:
        ValueError: The spec cannot be parsed, names a layer that does not exist, or maps a student layer twice.

    Source:
        Jiao et al. 2020, arXiv 1909.10351, section 3.1; Sun et al. 2019, arXiv 1908.09355, section 3.2.
    """
    if spec in LAYER_MAPS:
        if student_layers > teacher_layers:
            raise ValueError(
                f"layer map {spec!r} needs a teacher at least as deep as the student, got {student_layers} student and "
                f"{teacher_layers} teacher layers; give the pairs, such as '0:0,1:0'"
            )
        pairs = LAYER_MAPS[spec](student_layers, teacher_layers)
        if not pairs:
            raise ValueError(f"layer map {spec!r} maps no layer of a student of {student_layers}; use 'uniform'")
        return pairs
    if not re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", spec):
        raise ValueError(
            f"a layer map is one of {sorted(LAYER_MAPS)} or pairs student:teacher, counted from 0, such as '0:2,1:5'; "
            f"got {spec!r}"
        )
    pairs = []
    for each in spec.split(","):
        student_layer, teacher_layer = (int(layer) for layer in each.split(":"))
        pairs.append((student_layer, teacher_layer))
    for pair in pairs:
        for side, layer, depth in zip(("student", "teacher"), pair, (student_layers, teacher_layers), strict=True):
            if layer >= depth:
                raise ValueError(f"layer map {spec!r} names {side} layer {layer}; there are 0 to {depth - 1}")
    if len({student for student, _ in pairs}) < len(pairs):
        raise ValueError(f"layer map {spec!r} maps a student layer more than once")
    return sorted(pairs)
