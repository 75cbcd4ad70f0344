"""The record of a student that was made from a recorded one without training, such as by trimming its vocabulary."""

from __future__ import annotations

import os
from pathlib import Path

from transformers import PreTrainedModel

from hf_distill.publishing.run_record import RunRecord, describe_model
from hf_distill.text.privacy import public_name

# Of the description of the trained student these hold for the derived one, too.
_SHARED = ("problem_type", "mask_token", "has_trained_head", "num_channels", "image_size")


def record_derived(folder: str | os.PathLike, model: PreTrainedModel, source: str | os.PathLike) -> RunRecord:
    """Write the `run.json` of a model that was trimmed or pruned from a student with a record.

    It describes the training of the student that it was made from, and the size of the model itself. Results are left out:
    they were those of the other model.

    Args:
        folder: The model's folder.
        model: The model that is saved there.
        source: The folder of the student that it was made from, with a `run.json`.

    Returns:
        The record.

    Raises:
        FileNotFoundError: The source has no `run.json`.
        ValueError: The model is another class than the source, or has the same weights.
    """
    record = RunRecord.load(source)
    before, now = record.student, describe_model(model)
    if now["architecture"] != before["architecture"]:
        raise ValueError(
            f"a model made from a {before['architecture']} is one, got a {now['architecture']} in {folder}"
        )
    if now["weights_sha256"] == before["weights_sha256"]:
        raise ValueError(f"{folder} has the weights of {source}: copy its run.json")
    shown = {name: before[name] for name in _SHARED if name in before}
    record.student = (
        now | shown | {"initialization": before.get("initialization"), "saved_as": Path(folder).resolve().name}
    )
    record.made_from = {
        "name": before.get("saved_as") or public_name(before["name"]),
        "parameters": before["parameters"],
        "weights_sha256": before["weights_sha256"],
        **{name: before[name] for name in ("num_hidden_layers", "hidden_size", "vocab_size") if name in before},
    }
    record.metrics, record.evaluation, record.exports, record.progress = {}, None, None, []
    record.save(folder)
    return record
