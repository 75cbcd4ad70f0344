"""What FSDP2 needs to know of a transformers model before it wraps it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn


@contextmanager
def aliases_hidden(model: nn.Module) -> Iterator[None]:
    """Within it a parameter of the output layer has no second name, as the bias of BERT's masked-token head has.

    accelerate 1.15 gives FSDP2 the output layer apart from the rest, and torch 2.13 refuses a parameter in two parts.

    Args:
        model: A transformers model, not yet wrapped.

    Yields:
        Nothing.
    """
    head: nn.Module | None = getattr(model, "get_output_embeddings", lambda: None)()
    own = {} if head is None else dict(head.named_parameters(recurse=False))
    embeddings = {id(parameter) for parameter in cast(Any, model).get_input_embeddings().parameters()} if own else set()
    hidden = [
        (module, alias, name)
        for module in model.modules()
        for alias, parameter in module.named_parameters(recurse=False)
        for name, its in own.items()
        if module is not head and parameter is its and id(parameter) not in embeddings
    ]
    for module, alias, _ in hidden:
        delattr(module, alias)
    try:
        yield
    finally:
        for module, alias, name in hidden:
            module.register_parameter(alias, getattr(head, name))
