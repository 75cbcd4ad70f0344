"""`hf-distill card`: write the model card of a student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_distill.cli.json_output import print_json


def card(
    folders: Annotated[list[Path], typer.Argument(help="Student folders: with a run.json, or a model alone.")],
    made_from: Annotated[
        Path | None,
        typer.Option(help="Student with a run.json that these models were trimmed or pruned from, without training."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Id on the Hub of the model that the student derives from.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="The student's license as the Hub calls it, such as apache-2.0.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Code of the texts' language, such as en.")] = None,
    datasets: Annotated[list[str] | None, typer.Option(help="Ids on the Hub of the training data.")] = None,
    tags: Annotated[list[str] | None, typer.Option(help="Further tags.")] = None,
    model_name: Annotated[str | None, typer.Option(help="Title of the card. Default: the folder's name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the cards' metadata as JSON.")] = False,
) -> None:
    """Render run.json into README.md, with its plots; what cannot be measured is given as options, and saved in run.json.

    A model that was trimmed or pruned from Python gets a run.json of its own with --made-from. Any other model without a
    run.json gets a card that says what can be read off the model, and that the rest is not known.

    Example: hf-distill card outputs/quickstart/BERT-Tiny-distilled --license apache-2.0 --language en
    """
    from huggingface_hub import ModelCard

    from hf_distill.publishing.card_values import faults
    from hf_distill.text.hub_ids import is_hub_id

    if wrong := faults(license, language):
        raise typer.BadParameter("; ".join(wrong), param_hint="--license or --language")
    for name in filter(None, [base_model, *(datasets or [])]):
        if not is_hub_id(name):
            raise typer.BadParameter(
                f"must be the Hub's name of a repository, such as org/name, got {name!r}",
                param_hint="--base-model or --datasets",
            )
    given = {"base_model": base_model, "license": license, "language": language, "datasets": datasets}
    given = {name: value for name, value in (given | {"tags": tags, "model_name": model_name}).items() if value}
    if made_from is not None:
        _derive(folders, made_from)
    written = [_write(folder, given) for folder in folders]
    if as_json:
        metadata = {str(path): ModelCard.load(path).data.to_dict() for path in written}
        print_json(metadata)
    else:
        typer.echo("\n".join(map(str, written)))


def _derive(folders: list[Path], source: Path) -> None:
    """Write the records of models that were made from a student without training."""
    from hf_distill.pretrained.loading import load_as_saved
    from hf_distill.publishing.derived_record import record_derived

    for folder in folders:
        record_derived(folder, load_as_saved(str(folder)), source)


def _write(folder: Path, given: dict[str, Any]) -> Path:
    """Write the model card of a folder, and return its path."""
    from hf_distill.publishing.model_card import write_model_card
    from hf_distill.publishing.run_record import RUN_RECORD_NAME, RunRecord

    has_model = (folder / "config.json").exists() or (folder / "adapter_config.json").exists()
    if has_model and not (folder / RUN_RECORD_NAME).exists():
        return _write_unrecorded(folder, given)
    if given:
        record = RunRecord.load(folder)
        record.card |= given
        record.save(folder)
    return write_model_card(folder)


def _write_unrecorded(folder: Path, given: dict[str, Any]) -> Path:
    """Write the card of a model without a run record."""
    from hf_distill.pretrained.loading import load_as_saved
    from hf_distill.publishing.unrecorded_card import write_unrecorded_card

    return write_unrecorded_card(folder, load_as_saved(str(folder)), given)
