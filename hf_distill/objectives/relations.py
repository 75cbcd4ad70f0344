"""Self-attention relations (MiniLM, MiniLMv2): how the positions of one layer relate, whatever its number of heads."""

from __future__ import annotations

from torch import Tensor

from hf_distill.objectives.attention import attention_scores, distribution_kl


def relation_kl(student: Tensor, teacher: Tensor, num_relation_heads: int, valid: Tensor | None = None) -> Tensor:
    """KL(R_T ‖ R_S) with R = softmax(X Xᵀ / √d_r) over valid keys, mean over relation heads.

    X are queries, keys or values of all heads side by side, split anew into relation heads of size d_r, so student
    and teacher may differ in width and in number of heads.

    Args:
        student: (batch, heads, sequence, head size).
        teacher: (batch, heads, sequence, head size), its own heads and head size.
        num_relation_heads: Must divide heads · head size of both.
        valid: The positions that are no padding, bool (batch, sequence); None where all are.

    Returns:
        Nats, (batch, sequence); what stands at padding has no meaning.

    Raises:
        ValueError: The relation heads do not divide a width.

    Source:
        Wang et al. 2021 (MiniLMv2), arXiv 2012.15828, equations 5 to 9; with the models' own number of heads and
        values alone the value relation of Wang et al. 2020 (MiniLM), arXiv 2002.10957, equation 4.
    """
    student_relation, teacher_relation = (_relation(side, num_relation_heads) for side in (student, teacher))
    return distribution_kl(student_relation, teacher_relation, valid)


def _relation(vectors: Tensor, num_relation_heads: int) -> Tensor:
    batch, heads, sequence, head_size = vectors.shape
    width = heads * head_size
    if width % num_relation_heads:
        raise ValueError(f"{num_relation_heads} relation heads do not divide a width of {width}")
    side_by_side = vectors.transpose(1, 2).reshape(batch, sequence, num_relation_heads, width // num_relation_heads)
    split = side_by_side.transpose(1, 2)  # (batch, relation heads, sequence, relation head size)
    return attention_scores(split, split)
