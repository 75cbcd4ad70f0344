"""Attention as the one operator that ONNX has for it, in exported models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, eager_mask

from hf_distill.extras import require_extra
from hf_distill.graphs.messages import silenced

_NAME = "hf_distill_fused"  # among the attention implementations of transformers
OPSET = 23  # the first version of ONNX that has an operator for attention, which ONNX Runtime runs since 1.23
_DOMAIN = "hf_distill"  # of the operator until the whole graph is of its version of ONNX
_OF_OTHER_ATTENTION = ("position_bias", "s_aux")  # arguments by which some models change what attention is


def fuse_attention(model: nn.Module) -> None:
    """Make each attention of a model one operator, from the splitting of heads to their joining.

    In older operators it is about twenty, which take a third of a small model's time in int8. Models that transformers does not
    run by `scaled_dot_product_attention`, such as DeBERTa and Gemma 2, stay as they are.

    Args:
        model: The model to export, modified in place. Afterwards it can be exported, no longer run.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa":
            with silenced("transformers.modeling_utils"):  # it warns of models whose attention is not exchangeable
                module.set_attn_implementation(_NAME)


def with_attention(model: Any) -> Any:
    """An exported model whose attention is ONNX's own operator, in the version of ONNX that has it.

    torch could export in that version, but then fuses rotary embeddings into an operator that needs more than ONNX Runtime gives it
    (torch 2.13).

    Args:
        model: The export (onnx.ModelProto) of a model after `fuse_attention`.

    Returns:
        The model.

    Raises:
        ImportError: onnxscript is not installed.
    """
    require_extra("onnxscript", "onnx", "attention as one operator")
    from onnxscript import ir
    from onnxscript.version_converter import convert_version

    converted = ir.from_proto(model)
    convert_version(converted, OPSET)
    for node in converted.graph:
        if node.domain == _DOMAIN:
            node.domain = ""
    converted.opset_imports.pop(_DOMAIN, None)
    return ir.to_proto(converted)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of queries (batch, heads, sequence, head size), as transformers calls it; (batch, sequence, heads, head size)."""
    batch, heads, length, size = query.shape
    is_causal = kwargs.get("is_causal")
    is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_other = any(kwargs.get(name) is not None for name in _OF_OTHER_ATTENTION)
    if is_other or key.shape[1] != heads or (is_causal and attention_mask is None):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    joined = torch.onnx.ops.symbolic(
        f"{_DOMAIN}::Attention",
        [_joined(query), _joined(key), _joined(value), attention_mask],
        {"q_num_heads": heads, "kv_num_heads": heads, "scale": float(size**-0.5 if scaling is None else scaling)},
        dtype=query.dtype,
        shape=(batch, length, heads * value.shape[-1]),
    )
    return joined.unflatten(2, (heads, value.shape[-1])), None


def _joined(heads: Tensor) -> Tensor:
    """Heads, (batch, heads, sequence, head size), side by side, (batch, sequence, heads * head size).

    The last size is written as a constant; ONNX Runtime takes sizes that it must calculate for 0 where attention follows.
    """
    batch, count, length, size = heads.shape
    as_they_are = 0  # as `Reshape` has it
    shape = torch.tensor([as_they_are, as_they_are, count * size])
    return torch.onnx.ops.symbolic(
        "Reshape", [heads.transpose(1, 2), shape], dtype=heads.dtype, shape=(batch, length, count * size)
    )


def _mask(
    *,
    q_length: int,
    mask_function: Any,
    attention_mask: Tensor | None,
    dtype: torch.dtype = torch.float32,
    **kwargs: Any,
) -> Tensor | None:
    """What is added to the scores, (batch, 1, sequence, sequence): 0 where a token attends to another one, else the least number."""
    if mask_function is not bidirectional_mask_function:
        return eager_mask(
            q_length=q_length, mask_function=mask_function, attention_mask=attention_mask, dtype=dtype, **kwargs
        )
    if attention_mask is None:
        return None
    bias = torch.where(attention_mask, torch.zeros((), dtype=dtype), torch.finfo(dtype).min)  # (batch, sequence)
    return bias[:, None, None, :].expand(-1, -1, q_length, -1)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, _mask)
