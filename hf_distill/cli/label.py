"""`hf-distill label`: a teacher's answers to a transfer set, on disk."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.scripts.interruption import advice_on_interrupt
from hf_distill.text.plain import printable

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


_ADVICE = "The same command goes on with the file it was at; what was answered before stays."


class StorageDtype(str, Enum):
    """The precisions that answers are kept in."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


def label(
    dataset: Annotated[
        str,
        typer.Argument(help="A dataset's name on the Hub, a .csv, .json, .txt or .parquet file, or a folder of them."),
    ],
    teacher: Annotated[str, typer.Option(help="The teacher: a Hub id or a folder, with its tokenizer.")],
    output_dir: Annotated[
        Path, typer.Option(help="Folder for the rows with the answers. If it holds some, it goes on there.")
    ],
    text_columns: Annotated[str, typer.Option(help="The column of texts, or two with a comma between.")] = "text",
    max_length: Annotated[int, typer.Option(min=1, help="Tokens that longer texts are cut to.")] = 128,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts per forward pass.")] = 128,
    dtype: Annotated[StorageDtype, typer.Option(help="What the answers are kept in.")] = StorageDtype.FLOAT32,
    teacher_dtype: Annotated[
        str, typer.Option(help="What the teacher computes in: auto, float32, bfloat16, float16.")
    ] = "auto",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of the teacher.")] = None,
    top_k: Annotated[int, typer.Option(min=1, help="Masked words: how many are kept of the vocabulary.")] = 64,
    sampled: Annotated[
        bool, typer.Option("--sampled", help="Masked words: draw these; gradients are unbiased.")
    ] = False,
    mask_epochs: Annotated[int, typer.Option(min=1, help="Masked words: epochs, each with other masks.")] = 1,
    rows_per_shard: Annotated[int, typer.Option(min=1, help="Rows of a file.")] = 4096,
    streaming: Annotated[bool, typer.Option("--streaming", help="Read the texts as a stream.")] = False,
    labels: Annotated[bool, typer.Option(help="Keep the column label, as the teacher's classes.")] = True,
    device: Annotated[str | None, typer.Option(help="Where the teacher computes; unset, a GPU if any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, and no progress bar.")] = False,
) -> None:
    """Ask a teacher once about every text; DistillationTrainer learns from the rows without running it again.

    Interrupted, the same command goes on with the file it was at; damaged files are made anew.

    Example: hf-distill label reviews.csv --teacher outputs/teacher --output-dir labeled --dtype float16
    """
    from hf_distill.precomputed.label import label_transfer_set
    from hf_distill.teachers.frozen import FrozenTeacher

    model, tokenizer = _load(teacher, revision)
    columns = [name.strip() for name in text_columns.split(",")]
    rows = _encoded(
        dataset, columns, tokenizer, max_length, streaming, model.config if labels and _classifies(model) else None
    )
    options = dict(dtype=dtype.value, top_k=top_k, sampled=sampled, mask_epochs=mask_epochs, batch_size=batch_size)
    options |= dict(rows_per_shard=rows_per_shard, text_columns=columns, max_length=max_length)
    answering = FrozenTeacher(model, teacher_dtype, device or _device())
    with advice_on_interrupt(lambda: _ADVICE):
        labeled = label_transfer_set(rows, answering, tokenizer, output_dir, disable_tqdm=as_json, **options)
    if os.environ.get("RANK", "0") == "0":  # of several processes one reports
        _report(labeled, output_dir, as_json)


def _load(teacher: str, revision: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The teacher with the head its configuration names, and its tokenizer."""
    from hf_distill.pretrained.loading import SavedModel, load_as_saved

    return load_as_saved(teacher, revision=revision), SavedModel.find(teacher, revision=revision).needed_tokenizer()


def _classifies(model: PreTrainedModel) -> bool:
    from hf_distill.tasks import Task, task_of

    return task_of(model) is Task.SEQUENCE_CLASSIFICATION


def _encoded(
    source: str,
    columns: list[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    streaming: bool,
    config: PretrainedConfig | None,
) -> Any:
    """Model inputs beside the raw columns; with a configuration the column label becomes its classes."""
    from hf_distill.data.files import load_texts, with_texts
    from hf_distill.data.sequences import encode_label, label_ids, label_values

    rows = load_texts(source, streaming=streaming)
    names = rows.column_names or list(next(iter(rows)))
    if missing := sorted(set(columns) - set(names)):
        raise typer.BadParameter(f"the dataset has no columns {missing}, it has {names}")
    dropped = ["label"] if "label" in names else []
    value_of = label_values((rows.features or {}).get("label"))
    ids = None if config is None or not dropped else label_ids(config)

    def encode(batch: dict[str, list]) -> dict[str, list]:
        inputs = tokenizer(*(batch[name] for name in columns), truncation=True, max_length=max_length)
        labels = {} if ids is None else {"labels": [encode_label(value_of(value), ids) for value in batch["label"]]}
        return dict(inputs) | labels

    return with_texts(rows, columns).map(encode, batched=True, remove_columns=dropped)


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
    took = "" if cost is None else f", {cost.flops:.4g} operations, {cost.seconds:.1f} seconds"
    typer.echo(
        f"{found['rows']:,} rows answered by {printable(manifest.provenance.teacher['name'])} in {folder} ({found['bytes']:,} bytes, "
        f"{found['shards']} files{took}). Open them with "
        f"hf_distill.load_teacher_outputs({str(folder)!r}), share them with hf-distill publish {folder} NAMESPACE/NAME."
    )
