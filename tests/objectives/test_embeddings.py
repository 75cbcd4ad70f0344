"""Pooling and similarities against explicit loops, and the losses of sentence-transformers on the same tensors."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from hf_distill.objectives.embeddings import Pooling, pooled, similarity_kl
from hf_distill.objectives.logits import SOFT_LABEL_LOSSES

ROWS, SEQUENCE, STUDENT, TEACHER = 6, 5, 8, 12
LENGTHS = [5, 3, 1, 4, 2, 5]


def tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(left=False):
    rows = [[1] * length + [0] * (SEQUENCE - length) for length in LENGTHS]
    return torch.tensor([row[::-1] if left else row for row in rows]).bool()


@pytest.mark.parametrize("left", [False, True], ids=["right", "left"])
@pytest.mark.parametrize("pooling", Pooling)
def test_pooling_reads_the_tokens_and_no_padding(pooling, left):
    states, valid = tensor(ROWS, SEQUENCE, STUDENT), mask(left)
    choose = {Pooling.MEAN: lambda own: own.mean(0), Pooling.CLS: lambda own: own[0], Pooling.LAST: lambda own: own[-1]}
    expected = torch.stack([choose[pooling](row[own]) for row, own in zip(states, valid, strict=True)])
    torch.testing.assert_close(pooled(states, valid, pooling), expected)
    everything = torch.stack([choose[pooling](row) for row in states])
    torch.testing.assert_close(pooled(states, None, pooling), everything)


def test_pooling_is_in_single_precision():
    assert pooled(torch.ones(1, 2, 3, dtype=torch.bfloat16), None, Pooling.MEAN).dtype == torch.float32


def test_similarity_kl_is_the_loop_over_texts():
    student, teacher, temperature = tensor(ROWS, STUDENT), 3 * tensor(ROWS, TEACHER, seed=1), 0.1
    expected = []
    for row in range(ROWS):
        others = [other for other in range(ROWS) if other != row]

        def distribution(side, row=row, others=others):
            scores = [float(cosine_similarity(side[row], side[other], dim=0)) / temperature for other in others]
            total = math.fsum(map(math.exp, scores))
            return [math.exp(score) / total for score in scores]

        p, q = distribution(teacher), distribution(student)
        expected.append(temperature**2 * math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    found = similarity_kl(student, teacher, temperature)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    assert float(similarity_kl(teacher, teacher, temperature).abs().max()) < 1e-12


@pytest.mark.parametrize("rows", [1, 2])
def test_a_batch_with_a_single_other_text_says_nothing(rows):
    student = tensor(rows, STUDENT).requires_grad_()
    loss = similarity_kl(student, tensor(rows, TEACHER, seed=1), 0.05)
    loss.sum().backward()
    assert loss.tolist() == [0.0] * rows and float(student.grad.abs().max()) == 0


class Embedder(torch.nn.Module):
    """Stands for a model of sentence-transformers: its losses ask for the device and the width."""

    device = torch.device("cpu")

    def get_embedding_dimension(self):
        return STUDENT


def gradient(value, of):
    return torch.autograd.grad(value, of)[0]


@pytest.mark.parametrize("projected", [False, True], ids=["equal widths", "projected"])
@pytest.mark.parametrize(("ours", "metric"), [("cosine", "cosine"), ("logit_mse", "mse")])
def test_embedding_losses_are_those_of_sentence_transformers(ours, metric, projected):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    student = tensor(ROWS, STUDENT).float().requires_grad_()
    teacher = tensor(ROWS, TEACHER if projected else STUDENT, seed=1).float()
    theirs = losses.EmbedDistillLoss(Embedder(), metric, projection_dim=TEACHER if projected else None)
    expected = theirs.compute_loss_from_embeddings([student], [teacher])
    own = theirs.projection(student) if projected else student
    found = SOFT_LABEL_LOSSES[ours](own, teacher, 1.0).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(found, student), gradient(expected, student))


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_similarity_kl_is_that_of_sentence_transformers(temperature):
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    util = pytest.importorskip("sentence_transformers.util")
    student = tensor(ROWS, STUDENT).float().requires_grad_()
    teacher = tensor(ROWS, TEACHER, seed=1).float()
    theirs = losses.DistillKLDivLoss(Embedder(), similarity_fct=util.pairwise_cos_sim, temperature=temperature)
    # There the candidates of a query are columns; here they are the other texts of the batch.
    candidates = [torch.tensor([(row + shift) % ROWS for row in range(ROWS)]) for shift in range(1, ROWS)]
    scores = torch.stack([util.pairwise_cos_sim(teacher, teacher[rows]) for rows in candidates], dim=1)
    expected = theirs.compute_loss_from_embeddings([student, *(student[rows] for rows in candidates)], scores)
    found = similarity_kl(student, teacher, temperature).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradient(found, student), gradient(expected, student), rtol=1e-3, atol=1e-6)
