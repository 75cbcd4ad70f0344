"""What transformers reports about the weights of a model that it loads; that a head is new is no cause for a warning."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from typing import Any

from transformers import PreTrainedModel

from hf_distill.pretrained.progress_bars import without_progress_bars

logger = logging.getLogger(__name__)
_REPORTS = ("LOAD REPORT", "checkpoint seem corrupted")  # the latter for any new head with tied weights
_LOADER = logging.getLogger("transformers.modeling_utils")


class _Held(logging.Filter):
    """Keeps reports back until it is known what they say."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def filter(self, record: logging.LogRecord) -> bool:
        is_report = any(each in record.getMessage() for each in _REPORTS)
        if is_report:
            self.records.append(record)
        return not is_report


def from_pretrained(model_class: type[Any], name: str, **kwargs: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
    """`model_class.from_pretrained` with what it found; its report is shown unless it only tells of another head.

    Its progress bar is shown where the model may have to be downloaded, not for a folder. A head that is new, or one of the
    saved model that is left out, is logged in one line at INFO. With transformers' own verbosity at INFO its report is shown too.

    Args:
        model_class: A class with `from_pretrained`.
        name: A folder, or a Hub id.
        **kwargs: Arguments of `from_pretrained`.

    Returns:
        The model, and the loading info: `missing_keys`, `unexpected_keys` and `mismatched_keys`.
    """
    held, is_about_head = _Held(), False
    if not _LOADER.isEnabledFor(logging.INFO):
        _LOADER.addFilter(held)
    try:
        with without_progress_bars() if os.path.isdir(name) else nullcontext():
            model, info = model_class.from_pretrained(name, output_loading_info=True, **kwargs)
        is_about_head = not info["mismatched_keys"] and not any(
            _is_of_encoder(key, model) for key in (*info["missing_keys"], *info["unexpected_keys"])
        )
    finally:
        _LOADER.removeFilter(held)
        if not is_about_head:
            for record in held.records:
                _LOADER.handle(record)
    if info["missing_keys"] and is_about_head:
        logger.info(f"new in {type(model).__name__} of {name}, to be trained: {sorted(info['missing_keys'])}")
    return model, info


def _is_of_encoder(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight is below the head: in the base model, whose pooler counts to the head."""
    rest = key.removeprefix(f"{model.base_model_prefix}.")
    first = rest.partition(".")[0]
    return first != "pooler" and (rest != key or hasattr(model.base_model, first))
