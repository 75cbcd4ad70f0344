"""Layer maps by example: 6 of 12, 2 of 6, 4 of 12."""

import pytest

from hf_distill.objectives.layer_map import LAYER_MAPS, layer_map

# The teacher's layers for student layers 0, 1, ..., by (student, teacher) depth.
BY_EXAMPLE = {
    "uniform": {(6, 12): [1, 3, 5, 7, 9, 11], (2, 6): [2, 5], (4, 12): [2, 5, 8, 11], (3, 3): [0, 1, 2], (1, 12): [11]},
    "first": {(6, 12): [0, 1, 2, 3, 4, 5], (2, 6): [0, 1], (4, 12): [0, 1, 2, 3], (3, 3): [0, 1, 2]},
    "last": {(6, 12): [6, 7, 8, 9, 10, 11], (2, 6): [4, 5], (4, 12): [8, 9, 10, 11], (3, 3): [0, 1, 2]},
    "skip": {(6, 12): [1, 3, 5, 7, 9], (2, 6): [2], (4, 12): [2, 5, 8], (3, 3): [0, 1]},
}
EXAMPLES = [
    (spec, *depths, list(enumerate(found))) for spec, maps in BY_EXAMPLE.items() for depths, found in maps.items()
]
FINAL = [("final", 6, 12, [(5, 11)]), ("final", 2, 6, [(1, 5)]), ("final", 4, 12, [(3, 11)]), ("final", 1, 1, [(0, 0)])]


@pytest.mark.parametrize(("spec", "student_layers", "teacher_layers", "expected"), EXAMPLES + FINAL)
def test_by_example(spec, student_layers, teacher_layers, expected):
    assert layer_map(spec, student_layers, teacher_layers) == expected


def test_every_map_has_an_example():
    assert LAYER_MAPS.keys() == {*BY_EXAMPLE, "final"}


@pytest.mark.parametrize("spec", LAYER_MAPS)
def test_every_layer_exists_at_every_depth(spec):
    for teacher_layers in range(2, 25):
        for student_layers in range(2, teacher_layers + 1):
            students, teachers = zip(*layer_map(spec, student_layers, teacher_layers), strict=True)
            assert list(students) == sorted({*students} & {*range(student_layers)})
            assert list(teachers) == sorted({*teachers} & {*range(teacher_layers)})


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0:2,1:5", [(0, 2), (1, 5)]),
        ("1:5,0:2", [(0, 2), (1, 5)]),
        (" 0 : 2 , 1:5 ", [(0, 2), (1, 5)]),
        ("1:0", [(1, 0)]),
        ("0:3,1:3", [(0, 3), (1, 3)]),
    ],
    ids=["pairs", "in order of student layers", "spaces", "one pair", "a teacher layer twice"],
)
def test_pairs(spec, expected):
    assert layer_map(spec, 2, 6) == expected


def test_pairs_may_name_a_teacher_of_fewer_layers():
    assert layer_map("0:0,3:1", 4, 2) == [(0, 0), (3, 1)]


@pytest.mark.parametrize("spec", ["", "every", "Uniform", "0", "0:", "0:1,", "0:1;1:2", "0:-1", "0:1:2", "0.5:1"])
def test_unreadable(spec):
    with pytest.raises(ValueError, match=r"'final', 'first', 'last', 'skip', 'uniform'.*such as '0:2,1:5'") as error:
        layer_map(spec, 2, 6)
    assert str(error.value).endswith(f"got {spec!r}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0:1,2:3", "student layer 2; there are 0 to 1"),
        ("0:6", "teacher layer 6; there are 0 to 5"),
        ("0:1,1:2,0:3", "maps a student layer more than once"),
        ("0:1,0:1", "maps a student layer more than once"),
    ],
)
def test_wrong_pairs(spec, message):
    with pytest.raises(ValueError, match=message) as error:
        layer_map(spec, 2, 6)
    assert repr(spec) in str(error.value)


@pytest.mark.parametrize("spec", LAYER_MAPS)
def test_teacher_of_fewer_layers(spec):
    with pytest.raises(
        ValueError, match=rf"'{spec}' needs a teacher at least as deep.* 6 student and 4 teacher layers"
    ):
        layer_map(spec, 6, 4)


def test_skip_leaves_nothing_of_one_layer():
    with pytest.raises(ValueError, match="'skip' maps no layer of a student of 1; use 'uniform'"):
        layer_map("skip", 1, 12)
