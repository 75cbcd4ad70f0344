"""The plan of a compression: the student that meets a target, and the steps that make it, with sizes by calculation."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hf_distill.compression.candidate import FULL, OF_TEXTS, Candidate, Size
from hf_distill.compression.material import CompressionMaterial
from hf_distill.evaluation.formats import Format
from hf_distill.preflight.student_defaults import planned_steps
from hf_distill.scripts.distillation import TEACHER_OUTPUTS
from hf_distill.students.create import Initialization, fitting_initialization
from hf_distill.students.initialization import LayerSelection
from hf_distill.students.miniatures import MINIATURES

START, STUDENT, EXPORT = "start", "student", "export"  # folders
# Of 12 layers evenly spaced ones are the better start, of 6 the bottom ones are as good (benchmarks/README.md, "Defaults").
_LAYERS_FOR_BOTTOM = 6


@dataclass(frozen=True)
class PlannedStep:
    """A step of a compression.

    Attributes:
        name: The name of the step.
        what: What is done.
        why: The reason.
        parameters: The number of parameters after it, by calculation.
        megabytes: The size of the weights after it (10^6 bytes), by calculation.
        folder: The folder in the output folder that it leaves; None for none.
    """

    name: str
    what: str
    why: str
    parameters: int
    megabytes: float
    folder: str | None = None


@dataclass(frozen=True)
class CompressionPlan:
    """A student that meets a target, and the steps that make it.

    Attributes:
        target: How many times fewer parameters than the teacher the student must have.
        candidate: The student.
        is_trained: Whether it is trained; a teacher that only loses tokens is not.
        steps: The steps, the teacher first.
    """

    target: float
    candidate: Candidate
    is_trained: bool
    steps: list[PlannedStep]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        return asdict(self)


def target_of(text: str) -> float:
    """The target that a user wrote.

    Args:
        text: A number and x, such as "10x".

    Returns:
        How many times fewer parameters than the teacher the student must have, above 1.

    Raises:
        ValueError: It is written otherwise, or is not above 1.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*[x×]", text.strip())
    if match is None or not float(match[1]) > 1:
        raise ValueError(
            f"a target says how many times fewer parameters the student must have, above 1x, such as 10x; got {text!r}"
        )
    return float(match[1])


def default_selection(layers: int) -> LayerSelection:
    """The layers of a teacher of so many layers that a student starts from."""
    return LayerSelection.UNIFORM if layers > _LAYERS_FOR_BOTTOM else LayerSelection.BOTTOM


def plan_compression(
    material: CompressionMaterial,
    target: float,
    selection: str | None = None,
    vocabulary: str | None = None,
    number_format: str = Format.ONNX_INT8.value,
    say: Callable[[str], None] = lambda remark: None,
) -> CompressionPlan:
    """Choose the student that meets a target, and plan its steps.

    The tokens that the texts do not use are left out first, then layers; where one layer of the teacher's width is still
    too large, the miniatures' narrower shapes are taken.

    Args:
        material: The teacher and the rows.
        target: How many times fewer parameters than the teacher the student must have.
        selection: The layers that it starts from. None: see `default_selection`.
        vocabulary: The vocabulary, see `Candidate`. None: that of the texts, or the teacher's where it cannot be trimmed.
        number_format: The format of the file that is deployed.
        say: A function that is called with remarks for the user.

    Returns:
        The plan.

    Raises:
        ValueError: No student meets the target; names the smallest.
    """
    teacher = material.teacher.model
    chosen = vocabulary or _default_vocabulary(material, say)
    layers = LayerSelection(selection) if selection else default_selection(teacher.config.num_hidden_layers)
    most, smallest = teacher.num_parameters() / target, math.inf
    for group in _groups(material, layers.value, chosen, number_format):
        fitting = {each: size for each, size in group.items() if size.parameters <= most}
        if fitting:
            candidate = max(fitting, key=lambda each: fitting[each].parameters)
            return _planned(material, target, candidate, fitting[candidate])
        smallest = min([smallest, *(size.parameters for size in group.values())])
    reached = teacher.num_parameters() / smallest
    raise ValueError(
        f"no student has {target:g} times fewer parameters than the teacher ({teacher.num_parameters():,}): the smallest with "
        f"this vocabulary has {smallest:,}, {math.floor(10 * reached) / 10:g}x. Ask for less, or for a smaller vocabulary "
        "(--vocabulary, a number of tokens)"
    )


def _default_vocabulary(material: CompressionMaterial, say: Callable[[str], None]) -> str:
    try:
        material.vocabularies[OF_TEXTS]
    except ValueError as error:
        say(f"The vocabulary stays whole: {error}.")
        return FULL
    return OF_TEXTS


def _groups(
    material: CompressionMaterial, selection: str, vocabulary: str, number_format: str
) -> Iterator[Mapping[Candidate, Size]]:
    """The candidates with their sizes, those that are preferred first: of the teacher's width, then narrower ones."""
    source = material.vocabularies[vocabulary][0]
    depth, width = source.config.num_hidden_layers, source.config.hidden_size
    shapes = [(layers, width) for layers in range(depth, 0, -1)]
    narrower = [(each.layers, each.hidden_size) for each in MINIATURES.values()]
    for group in (shapes, [(layers, size) for layers, size in narrower if size < width and layers <= depth]):
        candidates = [
            Candidate(
                layers,
                size,
                fitting_initialization((layers, size), source)[0].value,
                selection,
                vocabulary,
                number_format,
            )
            for layers, size in group
        ]
        yield {each: Size.of(each, source) for each in candidates}


def _planned(material: CompressionMaterial, target: float, candidate: Candidate, size: Size) -> CompressionPlan:
    source = material.vocabularies[candidate.vocabulary][0]
    is_whole = (
        candidate.layers == source.config.num_hidden_layers and candidate.hidden_size == source.config.hidden_size
    )
    steps = [*_steps_before_training(material, target, candidate, size, is_whole)]
    if not is_whole:
        steps.append(_training_step(material, size))
    if candidate.number_format != Format.FP32.value:
        what, why = f"to {candidate.number_format}, compared with the student", "a smaller file, faster on CPUs"
        megabytes = size.megabytes(candidate.number_format)
        steps.append(PlannedStep("export", what, why, size.parameters, megabytes, EXPORT))
    return CompressionPlan(target, candidate, not is_whole, steps)


def _steps_before_training(
    material: CompressionMaterial, target: float, candidate: Candidate, size: Size, is_whole: bool
) -> Iterator[PlannedStep]:
    teacher, vocabularies, rows = material.teacher.model, material.vocabularies, len(material.rows)
    config, own = teacher.config, Size.of_model(teacher)
    whole = f"{config.num_hidden_layers} layers of {config.hidden_size}, {vocabularies.tokens(FULL):,} tokens"
    most = math.floor(own.parameters / target)
    yield _step("teacher", whole, f"the target {target:g}x is at most {most:,} parameters", own)
    if not is_whole:
        why = "before it loses tokens, which can cost it a point"
        yield _step("label", f"{rows:,} texts with the whole teacher", why, own, TEACHER_OUTPUTS)
    if candidate.vocabulary != FULL:
        trimmed = Size.of_model(vocabularies[candidate.vocabulary][0])
        kept = vocabularies.tokens(candidate.vocabulary)
        why = "it answers the same on these texts" if candidate.vocabulary == OF_TEXTS else "the most frequent ones"
        what = f"the vocabulary to {kept:,} tokens, of the {rows:,} texts"
        yield _step("trim", what, why, trimmed, START if is_whole else None)
    if not is_whole:
        yield _shrinking_step(candidate, material, size)


def _shrinking_step(candidate: Candidate, material: CompressionMaterial, size: Size) -> PlannedStep:
    config = material.teacher.model.config
    layers = ", ".join(map(str, candidate.teacher_layers(material.teacher.model)))
    if candidate.initialization == Initialization.TRUNCATED.value:
        what = f"to {candidate.layers} of {config.num_hidden_layers} layers ({layers})"
        return _step("truncate", what, "the most layers that meet the target", size, START)
    weights = {
        Initialization.WIDTH.value: f"a part of layers {layers}",
        Initialization.EMBEDDINGS.value: "the embeddings, all else random",
    }.get(candidate.initialization, "random")
    what = f"to {candidate.layers} layers of {candidate.hidden_size}; initial weights: {weights}"
    return _step("narrow", what, "one layer of the teacher's width is above the target", size, START)


def _training_step(material: CompressionMaterial, size: Size) -> PlannedStep:
    steps = planned_steps(material.request.args, len(material.rows), material.teacher.model)
    return _step(
        "distill",
        f"{steps:,} steps on the {len(material.rows):,} texts",
        "it learns the teacher's outputs",
        size,
        STUDENT,
    )


def _step(name: str, what: str, why: str, size: Size, folder: str | None = None) -> PlannedStep:
    return PlannedStep(name, what, why, size.parameters, size.megabytes(Format.FP32.value), folder)
