"""The training arguments whose default depends on the student."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import TrainingArguments


@dataclass
class StudentArguments(TrainingArguments):
    """`TrainingArguments`, of which None leaves some open until the student is known, see `student_defaults`."""

    learning_rate: float | None = field(  # type: ignore[assignment]  # None until the student is known
        default=None,
        metadata={
            "help": "Peak learning rate. None: 0.06 / hidden size for a student with a teacher that create_student made (4.7e-4 "
            "for 128 dimensions, 1.6e-4 for 384), else 5e-5."
        },
    )
    warmup_steps: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Steps, or below 1 the share of all steps, in which the learning rate rises. None: 0.1 for a student with a "
            "teacher that create_student made, else 0."
        },
    )
    num_train_epochs: float | None = field(  # type: ignore[assignment]
        default=None,
        metadata={
            "help": "Passes over the training set. None: 3; for a student with a teacher that create_student made, as many as "
            "make 600 steps, if that is more."
        },
    )
