"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

_DATASET_HELP = (
    "A built-in set (movie_reviews, wordnet, brown, digits, ...), a file, a folder (files by split, images by class, or as saved), "
    "or a name on the Hub."
)
DatasetName = Annotated[str, typer.Option("--dataset", help=_DATASET_HELP)]
TrainedOn = Annotated[
    str | None,
    typer.Option("--dataset", help=f"{_DATASET_HELP} With --teacher-outputs, what to evaluate on; may be left out."),
]
Student = Annotated[
    str, typer.Option(help="Its size: tiny, mini, small, medium, base, or layers/hidden size such as 3/384.")
]
UnlabeledTexts = Annotated[
    str | None,
    typer.Option(
        "--transfer-set",
        help="Unlabeled texts, rows of words, questions with passages, or images, of the task's domain, that the teacher labels too: a "
        "built-in set, a file, a folder of files, or a name on the Hub. Those of --dataset among them are left out.",
    ),
]
LabelsAlone = Annotated[
    bool,
    typer.Option(
        help="Also train the same student on the labels alone, for as many steps (no more than 600, or 1,800 with more than 20 "
        "classes, 3 epochs of them or a tenth, whichever is most), and say by how much distillation is better.",
    ),
]
TransferSet = Annotated[
    str,
    typer.Argument(
        help="A built-in set (movie_reviews, wordnet, ...), a .csv, .json, .txt or .parquet file, a folder of them, or a "
        "dataset's name on the Hub."
    ),
]
DatasetConfig = Annotated[str | None, typer.Option(help="The configuration of --dataset.")]
TextColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--text-column",
        help="The column of texts; given twice, of pairs of texts. Default: text, or the first of strings.",
    ),
]
LabelColumn = Annotated[str | None, typer.Option(help="The column of labels. Default: label.")]
MaxLength = Annotated[int, typer.Option(min=4, help="Tokens that longer inputs are cut to.")]
TeacherOutputs = Annotated[
    str | None,
    typer.Option(
        help="What a teacher answered elsewhere, in place of TEACHER: a file with texts and probabilities by label name (column "
        "teacher_outputs, or one per label), or hard labels (teacher_label, teacher_confidence); or the folder of hf-distill label.",
    ),
]
BaseModel = Annotated[
    str | None,
    typer.Option(
        help="With --teacher-outputs, the encoder that gives architecture, tokenizer and initial weights: a folder, or an id "
        "on the Hub. Default: the published miniature of the student's size.",
    ),
]
LabelNames = Annotated[
    list[str] | None,
    typer.Option(
        help="With --teacher-outputs, a label, once for each; A=negative where the outputs call it A. Default: those of the "
        "labeled data, else of the outputs.",
    ),
]
OutputsKind = Annotated[
    str | None,
    typer.Option(
        help="probabilities, log_probabilities or logits. Default: as the outputs say, else probabilities.",
    ),
]
MultiLabel = Annotated[
    bool, typer.Option("--multi-label", help="The labels of --teacher-outputs are independent of each other.")
]
TeacherInfo = Annotated[
    list[str] | None,
    typer.Option(
        help="What is known of the teacher of --teacher-outputs, such as name=gpt-oss-120b or date=2026-05-01."
    ),
]
MeasuresLatency = Annotated[bool, typer.Option("--latency/--no-latency", help="Measure the latency of a forward pass.")]
BatchSizes = Annotated[str, typer.Option(help="Sequences per timed forward pass, separated by commas.")]
Lengths = Annotated[str, typer.Option(help="Tokens per sequence of a timed forward pass, separated by commas.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's.")]
PrintsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
CascadePoints = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=99,
        help="Also let each student answer where it is confident, and the teacher elsewhere, at a threshold that loses at most "
        "so many points of the teacher's accuracy.",
    ),
]
CascadeSplit = Annotated[str, typer.Option(help="The split that the threshold of --cascade is fitted on.")]
PromptTemplates = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="The teacher is a causal language model, and this the text that it completes, with {text} where the text goes and "
        "{text_pair} for a second one; \\n is a line break. Given several times, the distributions are averaged.",
    ),
]
LabelWords = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        help="With --prompt, a label and the words that stand for it, once for each, with the space that precedes them: "
        "'positive= good'.",
    ),
]
LabelScoring = Annotated[
    str,
    typer.Option(
        "--label-score",
        help="With --prompt, the log-probabilities of a label's tokens: their sum, or their mean.",
    ),
]
Calibrate = Annotated[
    bool,
    typer.Option(
        "--calibrate",
        help="With --prompt, divide by the probabilities for texts without content (contextual calibration).",
    ),
]
TeacherPrecision = Annotated[
    str, typer.Option(help="Precision that the teacher computes in: auto, float32, bfloat16, float16.")
]
TeacherDevice = Annotated[str | None, typer.Option(help="Device of the teacher. Default: a GPU if there is one.")]
