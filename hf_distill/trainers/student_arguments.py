"""The training arguments whose default depends on the student or the device, and the numbers that a student is trained in."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments

from hf_distill.quantization import Quantization


@dataclass
class StudentArguments(TrainingArguments):
    """`TrainingArguments`, of which None leaves some open until student and device are known, see `student_defaults`."""

    learning_rate: float | None = field(  # type: ignore[assignment]  # None until the student is known
        default=None,
        metadata={
            "help": "Peak learning rate. None: 0.06 / hidden size for a student with a teacher that this program made, by create_student "
            "or of a configuration (4.7e-4 for 128 dimensions, 1.6e-4 for 384), twice as much for one with more than 20 classes, 1e-3 or less for "
            "such a sentence encoder, else 5e-5, also for a small student that was saved before."
        },
    )
    warmup_steps: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Steps, or below 1 the share of all steps, in which the learning rate rises. None: 0.1 for a student with a "
            "teacher that this program made, else 0."
        },
    )
    num_train_epochs: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Passes over the training set. None: 3; for a student with a teacher that this program made, as many as "
            "make 600 steps, with more than 20 classes 1,800, if that is more."
        },
    )
    bf16: bool | None = field(  # type: ignore[assignment]  # None until the device is known
        default=None,
        metadata={
            "help": "Train the student with bfloat16 autocast. None: if the device is faster in bfloat16 (a CPU is measured, "
            "once), unless fp16, DeepSpeed or the accelerate launcher sets the precision.",
            "nargs": "?",
            "const": True,  # a bare --bf16 means true, as it does for Trainer scripts
        },
    )
    quantization: Quantization | None = field(
        default=None,
        metadata={
            "help": "Train a student for an int8 export (quantization-aware training). int8: in training and evaluation its "
            "linear layers and embeddings compute with the int8 values of the format onnx-int8; the weights that are trained "
            "and saved stay in full precision, and so does the teacher. None: full precision."
        },
    )
