"""Self-attention relations (MiniLM, MiniLMv2): similarities between positions, for any number of heads."""

from __future__ import annotations

from torch import Tensor

from hf_distill.objectives.attention import attention_scores, distribution_kl


def relation_kl(student: Tensor, teacher: Tensor, num_relation_heads: int, valid: Tensor | None = None) -> Tensor:
    """KL(R_T ‖ R_S) with R = softmax(X Xᵀ / √d_r) over valid keys, mean over relation heads.

    X are the queries, keys or values of all heads concatenated, then split into relation heads of size d_r, so student
    and teacher may differ in width and in number of heads.

    Args:
        student: The student's queries, keys or values, (batch, heads, sequence, head size).
        teacher: The teacher's vectors of the same kind, (batch, heads, sequence, head size), of any number and size of
            heads.
        num_relation_heads: Number of relation heads; must divide heads · head size of both models.
        valid: True at positions that are not padding, bool (batch, sequence). None: there is no padding.

    Returns:
        Nats per position, (batch, sequence); the values at padding are to be ignored.

    Raises:
        ValueError: The number of relation heads does not divide a model's width.

    Source:
        Wang et al. 2021 (MiniLMv2), arXiv 2012.15828, equations 5 to 9; with the models' number of heads and
        values alone it is the value relation of Wang et al. 2020 (MiniLM), arXiv 2002.10957, equation 4.
    """
    student_relation, teacher_relation = (_relation(side, num_relation_heads) for side in (student, teacher))
    return distribution_kl(student_relation, teacher_relation, valid)


def _relation(vectors: Tensor, num_relation_heads: int) -> Tensor:
    batch, heads, sequence, head_size = vectors.shape
    width = heads * head_size
    if width % num_relation_heads:
        raise ValueError(f"{num_relation_heads} relation heads do not divide a width of {width}")
    concatenated = vectors.transpose(1, 2).reshape(batch, sequence, num_relation_heads, width // num_relation_heads)
    split = concatenated.transpose(1, 2)  # (batch, relation heads, sequence, relation head size)
    return attention_scores(split, split)
