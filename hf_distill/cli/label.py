"""`hf-distill label`: compute a teacher's outputs for a transfer set and save them."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import (
    Calibrate,
    LabelScoring,
    LabelWords,
    PromptTemplates,
    TeacherDevice,
    TeacherPrecision,
    TransferSet,
)
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.text.plain import printable

_ADVICE = "The same command resumes with the file that was not finished; finished files are kept."


class StorageDtype(str, Enum):
    """The precisions that teacher outputs can be stored in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


_TopK = Annotated[int, typer.Option(min=1, help="Masked tokens: entries of the vocabulary stored per masked token.")]
_KeptLabels = Annotated[
    bool,
    typer.Option(help="Keep the column label, or of words that of their labels, as the teacher's class indices."),
]


def label(
    dataset: TransferSet,
    teacher: Annotated[str, typer.Option(help="The teacher: a Hub id or a folder, with its tokenizer.")],
    output_dir: Annotated[
        Path, typer.Option(help="Folder for the rows with the teacher's outputs; an unfinished one is resumed.")
    ],
    text_columns: Annotated[
        str, typer.Option(help="The column of texts, two separated by a comma, or that of lists of words.")
    ] = "text",
    max_length: Annotated[int, typer.Option(min=1, help="Tokens that longer texts are cut to.")] = 128,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Texts per forward pass. Default: 32 on a CPU, 128 on a GPU.")
    ] = None,
    dtype: Annotated[StorageDtype, typer.Option(help="Precision that outputs are stored in.")] = StorageDtype.FLOAT32,
    teacher_dtype: TeacherPrecision = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the teacher.")] = None,
    top_k: _TopK = 64,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="Masked tokens: draw these entries at random; gradients are unbiased.")
    ] = False,
    mask_epochs: Annotated[int, typer.Option(min=1, help="Masked tokens: epochs, each with other masks.")] = 1,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows per file.")] = 4096,
    streaming: Annotated[bool, typer.Option("--streaming", help="Read the texts as a stream.")] = False,
    labels: _KeptLabels = True,
    device: TeacherDevice = None,
    prompt: PromptTemplates = None,
    label_words: LabelWords = None,
    label_score: LabelScoring = "sum",
    calibrate: Calibrate = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, and no progress bar.")] = False,
) -> None:
    r"""Compute a teacher's outputs for every text once; DistillationTrainer then learns from the rows without the teacher.

    With --prompt the teacher is a causal language model, which scores the words of every --label after the prompt:
    hf-distill label reviews.csv --teacher LM --prompt 'Review: {text}\nSentiment:' --label 'positive= good' --label
    'negative= bad' --output-dir labeled, and then hf-distill train --teacher-outputs labeled.

    After an interruption the same command resumes with the file that was not finished; damaged files are computed again.

    Example: hf-distill label reviews.csv --teacher outputs/teacher --output-dir labeled --dtype float16
    """
    from hf_distill.precomputed.label import label_transfer_set

    columns = [name.strip() for name in text_columns.split(",")]
    if label_words and not prompt:
        raise typer.BadParameter("--label is for --prompt")
    read = teacher, revision, columns, max_length, teacher_dtype, device or _device()
    if prompt:
        prompts = prompt, label_words or (), label_score, calibrate
        rows, live, processing = _prompted(dataset, *read, prompts, streaming, labels)
    else:
        rows, live, processing = _encoded(dataset, *read, streaming, labels)
    with advice_on_interrupt(lambda: _ADVICE):
        labeled = label_transfer_set(
            rows, live, processing, output_dir, disable_tqdm=as_json, dtype=dtype.value, top_k=top_k, sampled=sampled,
            mask_epochs=mask_epochs, batch_size=batch_size, rows_per_shard=rows_per_shard, text_columns=columns,
            max_length=max_length,
        )  # fmt: skip
    if os.environ.get("RANK", "0") == "0":  # of several processes one reports
        _report(labeled, output_dir, as_json)


def _encoded(
    dataset: str, teacher: str, revision: str | None, columns: list[str], max_length: int, dtype: str, device: str,
    streaming: bool, labels: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The rows with model inputs, the teacher, and its tokenizer."""
    from hf_distill.pretrained.loading import SavedModel, load_as_saved
    from hf_distill.scripts.transfer_set import load_transfer_set
    from hf_distill.sentence_encoder import prompts_of
    from hf_distill.teachers.frozen import FrozenTeacher

    model = load_as_saved(teacher, revision=revision)
    tokenizer = SavedModel.find(teacher, revision=revision).needed_tokenizer()
    classes_of, (prompt,) = model if labels else None, prompts_of(model.config)
    rows = load_transfer_set(dataset, columns, tokenizer, max_length, streaming, classes_of, prompt)
    return rows, FrozenTeacher(model, dtype, device), tokenizer


def _prompted(
    dataset: str, teacher: str, revision: str | None, columns: list[str], max_length: int, dtype: str, device: str,
    prompts: tuple[Any, ...], streaming: bool, labels: bool,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """The rows as they are, the teacher, and its tokenizer."""
    from hf_distill.scripts.prompted_teacher import PromptOptions, load_prompted_teacher, load_raw_rows

    rows = load_raw_rows(dataset, columns, streaming, labels)
    live = load_prompted_teacher(teacher, PromptOptions(*prompts), columns, max_length, dtype, device, revision)
    return rows, live, live.encoder.tokenizer


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _report(labeled: Any, folder: Path, as_json: bool) -> None:
    from hf_distill.precomputed.labeling_cost import labeling_cost
    from hf_distill.precomputed.shards import Manifest

    manifest, cost = Manifest.load(folder), labeling_cost(folder)
    found = {
        "rows": manifest.rows,
        "shards": len(manifest.shards),
        "bytes": sum((folder / shard.file).stat().st_size for shard in manifest.shards),
        "flops": None if cost is None else cost.flops,
        "seconds": None if cost is None else cost.seconds,
        "teacher": manifest.provenance.teacher,
        "dataset_sha256": manifest.dataset_sha256,
        "columns": labeled.column_names,
    }
    if as_json:
        print_json(found)
        return
    took = "" if cost is None else f", {cost.flops:.3g} floating-point operations, {cost.seconds:.1f} seconds"
    typer.echo(
        f"{found['rows']:,} rows with the outputs of {printable(manifest.provenance.teacher['name'])} in {folder} "
        f"({found['bytes']:,} bytes, {found['shards']} file{'' if found['shards'] == 1 else 's'}{took}). Open them with "
        f"hf_distill.load_teacher_outputs({str(folder)!r}), share them with hf-distill publish {folder} NAMESPACE/NAME."
    )
