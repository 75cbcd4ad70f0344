"""Progress bars of libraries, where a line of our own says what is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hide the progress bars of datasets and transformers, unless the user's environment decides about them."""
    import datasets
    import huggingface_hub.constants
    import transformers

    hidden = []
    if datasets.config.HF_DATASETS_DISABLE_PROGRESS_BARS is None and not datasets.are_progress_bars_disabled():
        hidden.append((datasets.disable_progress_bars, datasets.enable_progress_bars))
    logs = transformers.logging
    if huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS is None and logs.is_progress_bar_enabled():
        hidden.append((logs.disable_progress_bar, logs.enable_progress_bar))
    for hide, _ in hidden:
        hide()
    try:
        yield
    finally:
        for _, show in hidden:
            show()
