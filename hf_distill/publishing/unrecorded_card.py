"""The card of a model without a run record, such as one pruned from Python: only what the model itself shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from transformers import PreTrainedModel

from hf_distill.files import atomic_write
from hf_distill.publishing.run_record import describe_model
from hf_distill.publishing.usage import HERE, is_sentence_encoder, library_of, pipeline_of, usage
from hf_distill.tasks import task_of
from hf_distill.text.markdown import code_block, rendered

_FOOTER = "This card was made by hf_distill from the model alone."
_SHAPE = (
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "weights_sha256",
)
_LOADED = """\
from transformers import {auto}

model = {auto}.from_pretrained("{here}")
print(f"{{model.num_parameters():,}} parameters, labels {{list(model.config.id2label.values())}}")
"""


def write_unrecorded_card(folder: str | os.PathLike, model: PreTrainedModel, given: Mapping[str, Any]) -> Path:
    """Write the README.md of a model's folder from the model alone; it states what is not known.

    Args:
        folder: The model's folder.
        model: The model that is saved there.
        given: The metadata that the user gives: base_model, license, language, datasets, tags and model_name.

    Returns:
        The path of the card.

    Raises:
        ValueError: There is a README.md that this function did not write.
    """
    path = Path(folder) / "README.md"
    if path.exists() and _FOOTER not in path.read_text(encoding="utf-8"):
        raise ValueError(
            f"{path} was not made by hf-distill card, and without a run.json there is little to put in its place: edit it, "
            "or move it away for a card made from the model alone"
        )
    atomic_write(path, _card(path.resolve().parent.name, model, given))
    return path


def _card(name: str, model: PreTrainedModel, given: Mapping[str, Any]) -> str:
    about, title = describe_model(model), given.get("model_name") or name
    metadata = ModelCardData(
        language=given.get("language"),
        license=given.get("license"),
        library_name=library_of(about),
        pipeline_tag=pipeline_of(about) if is_sentence_encoder(about) else None,
        tags=list(dict.fromkeys(["hf_distill", *given.get("tags", [])])),
        datasets=given.get("datasets"),
        base_model=given.get("base_model"),
        model_name=title,
    )
    page = rendered(
        __package__,
        "unrecorded_card.md.jinja",
        title=title,
        model=about,
        shape={name.replace("_", " "): about[name] for name in _SHAPE if name in about},
        labels=about["labels"],
        snippet=code_block(usage(about, {}) if is_sentence_encoder(about) else _size_and_labels(model), "python"),
        footer=_FOOTER,
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{page}\n"


def _size_and_labels(model: PreTrainedModel) -> str:
    """Code that loads a model from `HERE`, and prints how many parameters and which labels it has."""
    task = task_of(model)
    auto_class = "AutoModel" if task is None else task.auto_class.__name__
    return _LOADED.format(auto=auto_class, here=HERE)
