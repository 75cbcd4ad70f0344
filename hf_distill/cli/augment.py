"""`hf-distill augment`: make new texts from those of a transfer set and save them in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.options import TransferSet
from hf_distill.text.plain import printable

_WRITERS = {".csv": "to_csv", ".jsonl": "to_json", ".parquet": "to_parquet"}


def augment(
    dataset: TransferSet,
    output: Annotated[Path, typer.Option(help=f"The file to write: {', '.join(_WRITERS)}.")],
    copies: Annotated[int, typer.Option(min=1, help="New texts per text.")] = 1,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method and its weight, such as mix=1; repeatable. Default: that of augment_transfer_set."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that replaces words: a Hub id or a folder, with its tokenizer.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(help="Evaluation texts that must not be read or written, in the same form; repeatable."),
    ] = None,
    originals: Annotated[bool, typer.Option(help="Write the original texts too, before the new ones.")] = True,
    seed: Annotated[int, typer.Option(help="The seed of all random numbers.")] = 0,
    parts_dir: Annotated[Path | None, typer.Option(help="Folder of finished parts, to resume from.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text, and no progress bar.")] = False,
) -> None:
    """Make new texts without labels from those of a transfer set, for hf-distill label to label.

    Methods: mask_fill (a masked-language model replaces words), nearest_words, word_dropout, n_gram_sampling, mix.

    Example: hf-distill augment reviews.csv --output augmented.csv --copies 4 --method nearest_words=1 --model outputs/teacher
    """
    from hf_distill.data.augmentation import augment_transfer_set
    from hf_distill.files import replacing
    from hf_distill.pretrained.loading import SavedModel, load_as_saved
    from hf_distill.scripts.datasets import load_evaluation_rows, load_unlabeled_rows
    from hf_distill.scripts.user_errors import WrongUsage

    if output.suffix not in _WRITERS:
        raise WrongUsage(f"--output must end in one of {list(_WRITERS)}, got {str(output)!r}")
    weights = _weights(method)
    replacing_model = load_as_saved(model) if model else None
    tokenizer = SavedModel.find(model).needed_tokenizer() if model else None
    augmented = augment_transfer_set(
        load_unlabeled_rows(dataset), copies, weights, replacing_model, tokenizer,
        [rows for each in exclude or () for rows in load_evaluation_rows(each)], keep_originals=originals, seed=seed,
        output_dir=parts_dir, disable_tqdm=as_json,
    )  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file:
        getattr(augmented, _WRITERS[output.suffix])(file)
    _report(augmented, output, as_json)


def _weights(methods: list[str] | None) -> dict[str, float] | None:
    """The weights by method, of words such as "mix=1"."""
    from hf_distill.scripts.user_errors import WrongUsage

    weights = {}
    for method in methods or ():
        name, _, weight = method.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise WrongUsage(f"--method must be a name and a weight, such as mix=1, got {method!r}") from None
    return weights or None


def _report(augmented: Any, output: Path, as_json: bool) -> None:
    found = {"rows": len(augmented), "columns": augmented.column_names, "description": augmented.info.description}
    if as_json:
        print_json(found | {"file": str(output)})
        return
    typer.echo(f"{found['rows']:,} texts in {output}. {printable(found['description'])}")
