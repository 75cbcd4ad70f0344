"""The protocol of teachers: its defaults, and precomputed outputs with a live teacher to fall back on."""

from __future__ import annotations

import pytest
import torch

from hf_distill import FrozenTeacher, Teacher, TeacherOutputs
from hf_distill.objectives.model_outputs import FeatureRequest
from hf_distill.precomputed.columns import PrecomputedTeacher
from hf_distill.precomputed.fallback_teacher import FallbackTeacher
from hf_distill.teachers.base import as_teacher
from hf_distill.teachers.column_names import TEACHER_LOGITS, hidden_state_column
from tests.tiny_models import tiny_bert

INPUTS = {"input_ids": torch.ones(2, 5, dtype=torch.long), "attention_mask": torch.ones(2, 5, dtype=torch.long)}
COLUMN = {TEACHER_LOGITS: torch.tensor([[1.0, 2.0], [3.0, 4.0]])}


class Constant:
    """The least that is a teacher."""

    def outputs(self, inputs):
        return TeacherOutputs(torch.zeros(len(inputs["input_ids"]), 2))


class WithInputs(Constant):
    input_names, main_inputs = {"input_ids"}, {"input_ids"}


def test_anything_with_outputs_is_a_teacher():
    teacher = as_teacher(Constant())
    assert isinstance(teacher, Teacher) and teacher.kind == teacher.identity() == "Constant"
    assert teacher.outputs(INPUTS).logits.shape == (2, 2) and teacher.provides({}) and teacher.live is teacher
    assert not teacher.members and not teacher.running_members(INPUTS) and teacher.config is None
    assert not (teacher.has_hidden_states or teacher.has_attention or teacher.can_pick_positions)
    teacher.record(FeatureRequest())
    teacher.resolve_dtype(INPUTS)


def test_what_such_an_object_says_of_itself_is_kept():
    teacher = as_teacher(WithInputs())
    assert teacher.input_names == teacher.main_inputs == {"input_ids"}


def test_a_teacher_is_itself():
    teacher = FrozenTeacher(tiny_bert())
    assert as_teacher(teacher) is teacher and teacher.members == (teacher,) and teacher.live is teacher


def test_a_subclass_without_outputs_says_so():
    with pytest.raises(NotImplementedError, match="Silent has no method outputs"):
        type("Silent", (Teacher,), {})().outputs(INPUTS)


def test_precomputed_outputs_are_read_and_cost_no_forward_pass():
    teacher = PrecomputedTeacher([TEACHER_LOGITS])
    assert teacher.live is None and not teacher.members and not teacher.has_all_positions
    assert teacher.provides(COLUMN) and not teacher.provides(INPUTS)
    assert torch.equal(teacher.outputs(COLUMN).logits, COLUMN[TEACHER_LOGITS])


def test_the_live_teacher_serves_batches_without_columns():
    live = FrozenTeacher(tiny_bert(), dtype="float32")
    teacher = FallbackTeacher(PrecomputedTeacher([TEACHER_LOGITS]), live)
    assert torch.equal(teacher.outputs(INPUTS | COLUMN).logits, COLUMN[TEACHER_LOGITS])
    assert teacher.running_members(INPUTS | COLUMN) == ()
    assert torch.equal(teacher.outputs(INPUTS).logits, live.outputs(INPUTS).logits)
    assert teacher.running_members(INPUTS) == teacher.members == (live,)
    assert teacher.identity() == live.identity() and teacher.config is live.config


def test_the_live_teacher_serves_what_the_columns_lack():
    live = FrozenTeacher(tiny_bert(), dtype="float32")
    teacher = FallbackTeacher(PrecomputedTeacher([TEACHER_LOGITS]), live)
    teacher.record(FeatureRequest(hidden_states=frozenset({1})))
    assert teacher.running_members(INPUTS | COLUMN) == (live,)
    assert teacher.outputs(INPUTS | COLUMN).hidden_states.keys() == {1}
    with_states = COLUMN | {hidden_state_column(1): torch.zeros(2, 5, 16)}
    assert teacher.running_members(INPUTS | with_states) == ()
