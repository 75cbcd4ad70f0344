"""A candidate made: trained on recorded teacher outputs, compared with its teacher, and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_utils import set_seed

from hf_distill.compression.candidate import Candidate
from hf_distill.compression.material import CompressionMaterial
from hf_distill.evaluation.comparison import LatencySettings
from hf_distill.exporting.student import export_student
from hf_distill.graphs.formats import GraphFormat
from hf_distill.scripts.distillation import make_student_trainer
from hf_distill.scripts.finished_training import FinishedTraining
from hf_distill.scripts.output_folder import checkpoint_to_resume, output_folder_in_use
from hf_distill.scripts.run import ScriptTrainingArguments
from hf_distill.scripts.verbosity import set_verbosity
from hf_distill.tasks import Task


def train_candidate(candidate: Candidate, material: CompressionMaterial, args: ScriptTrainingArguments) -> None:
    """Train a candidate on the recorded outputs, and save it with its tokenizer and run record in `args.output_dir`.

    Args:
        candidate: The candidate.
        material: The rows and the teacher's outputs.
        args: The training arguments; a training that was interrupted goes on from its last checkpoint.
    """
    set_verbosity(args)
    with output_folder_in_use(args):
        checkpoint = checkpoint_to_resume(args)
        of_vocabulary = material.of_vocabulary(candidate.vocabulary)
        set_seed(args.seed)
        trainer = make_student_trainer(
            candidate.create(of_vocabulary.source), args, None, of_vocabulary.processing_class, of_vocabulary.trained_on,
            material.request.max_length,
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_model()


def finished_training(folder: Path, material: CompressionMaterial) -> FinishedTraining:
    """A trained student, to be compared with its teacher: on the test split if there is one, else on validation."""
    request = material.request
    return FinishedTraining(
        folder,
        request.teacher,
        request.dataset,
        material.splits,
        Task.SEQUENCE_CLASSIFICATION,
        material.held_out,
        transfer_set=request.transfer_set,
    )


def export_candidate(
    folder: Path,
    target: Path,
    number_format: str,
    material: CompressionMaterial,
    latency: LatencySettings,
    **settings: Any,
) -> dict[str, Any] | None:
    """Export a student into a folder that serves it without torch.

    Args:
        folder: The student's folder.
        target: The folder to write.
        number_format: The format, a value of `Format`.
        material: The rows: it is compared with the student on those of its comparison, and calibrated on training rows.
        latency: The settings of latency measurements.
        **settings: Further arguments of `export_student`.

    Returns:
        The report, see `export_student`; None for a format that is no file of ONNX.
    """
    if number_format not in [each.value for each in GraphFormat]:
        return None
    split = finished_training(folder, material).evaluated_split or "train"
    return export_student(
        folder, target, material.splits[split], calibration_rows=material.splits["train"],
        data=(Path(material.request.dataset).stem, split), formats=(number_format,), latency=latency,
        max_length=material.request.max_length, **settings,
    )  # fmt: skip
