"""Published distillation methods by name: the arguments that each sets, its formula and its paper."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any


class RecipeName(str, Enum):
    """The keys of `RECIPES`."""

    PRE_TRAINED_DISTILLATION = "pre_trained_distillation"
    VANILLA_KD = "vanilla_kd"
    DISTILBERT = "distilbert"
    PATIENT_KD = "patient_kd"
    TINYBERT_GENERAL = "tinybert_general"
    TINYBERT_TASK = "tinybert_task"
    MINILM = "minilm"
    MINILMV2 = "minilmv2"
    HOMODISTIL = "homodistil"
    EMBEDDING = "embedding"


@dataclass(frozen=True)
class Recipe:
    """A published objective.

    Attributes:
        formula: The loss function.
        paper: The paper with its arXiv number, and every deviation from it.
        arguments: The values of fields of `DistillationTrainingArguments` that the recipe sets, unless they are given.
    """

    formula: str
    paper: str
    arguments: MappingProxyType[str, Any]


def _recipe(formula: str, paper: str, **arguments: Any) -> Recipe:
    soft_and_hard: dict[str, Any] = {"soft_label_weight": 0.0, "hard_label_weight": 0.0}
    return Recipe(formula, paper, MappingProxyType(soft_and_hard | arguments))


RECIPES: dict[str, Recipe] = {
    "pre_trained_distillation": _recipe(
        "KL(p_T ‖ p_S), τ = 1, no labels",
        "Turc et al. 2019, arXiv 1908.08962, stage 2",
        soft_label_weight=1.0,
        temperature=1.0,
    ),
    "vanilla_kd": _recipe(
        "½ τ² KL(p_T ‖ p_S) + ½ CE(y, p_S), τ = 2",
        "Hinton et al. 2015, arXiv 1503.02531; equal weights and τ = 2 are ours",
        soft_label_weight=0.5,
        hard_label_weight=0.5,
        temperature=2.0,
    ),
    "distilbert": _recipe(
        "5 τ² KL(p_T ‖ p_S) + 2 CE(y, p_S) + 1 · (1 - cos(h_S, h_T)) on the last layer, τ = 2",
        "Sanh et al. 2019, arXiv 1910.01108; weights of its published training script, which compares soft labels at "
        "all attended positions: set soft_label_positions=attended for that, the default is the masked positions alone",
        soft_label_weight=5.0,
        hard_label_weight=2.0,
        temperature=2.0,
        hidden_state_weight=1.0,
        hidden_state_loss="cosine",
        layer_map="final",
    ),
    "patient_kd": _recipe(
        "½ τ² KL(p_T ‖ p_S) + ½ CE(y, p_S) + 100 MSE(h_S/‖h_S‖, h_T/‖h_T‖) on [CLS], mean over layers, τ = 10",
        "Sun et al. 2019, arXiv 1908.09355 (PKD-Skip); α, β and τ as in its code for SST-2 with 6 layers. MSE is the "
        "mean over layers and dimensions, as in its code, which its grid of β belongs to (equation 7 sums); KL is the sum over "
        "classes, as in the paper (its code takes their mean)",
        soft_label_weight=0.5,
        hard_label_weight=0.5,
        temperature=10.0,
        hidden_state_weight=100.0,
        hidden_state_loss="normalized_mse",
        hidden_state_positions="first",
        layer_map="skip",
    ),
    "tinybert_general": _recipe(
        "MSE(E_S W_e, E_T) + Σ_m [MSE(A_S, A_T) + MSE(H_S W_h, H_T)], A before the softmax",
        "Jiao et al. 2020, arXiv 1909.10351, general stage; W where the widths differ (its code has it always)",
        embedding_weight=1.0,
        hidden_state_weight=1.0,
        attention_weight=1.0,
        layer_map="uniform",
    ),
    "tinybert_task": _recipe(
        "τ² KL(p_T ‖ p_S), τ = 1, + the general stage's terms",
        "Jiao et al. 2020, arXiv 1909.10351, task stage; both parts at once, the paper trains one after the other",
        soft_label_weight=1.0,
        temperature=1.0,
        embedding_weight=1.0,
        hidden_state_weight=1.0,
        attention_weight=1.0,
        layer_map="uniform",
    ),
    "minilm": _recipe(
        "KL(A_T ‖ A_S) + KL(VR_T ‖ VR_S) on the last layer, VR = softmax(V Vᵀ / √d)",
        "Wang et al. 2020, arXiv 2002.10957; student and teacher have equally many heads",
        attention_weight=1.0,
        attention_loss="distribution_kl",
        layer_map="final",
        relation_weight=1.0,
        relations="values",
        relation_layer_map="final",
    ),
    "minilmv2": _recipe(
        "Σ_{X ∈ Q, K, V} KL(R_T ‖ R_S) on the last layer, R = softmax(X Xᵀ / √d_r)",
        "Wang et al. 2021, arXiv 2012.15828; relation_heads 48 and 64 there, here the teacher's own number by default; of large "
        "teachers it takes layer 21 of 24, which relation_layer_map can name",
        relation_weight=1.0,
        relations="queries,keys,values",
        relation_layer_map="final",
    ),
    "homodistil": _recipe(
        "CE(y, p_S) + KL(p_T ‖ p_S) + MSE(E_S, E_T) + Σ_m [MSE(H_S, H_T) + MSE(A_S, A_T)], layer m with layer m",
        "Liang et al. 2023, arXiv 2302.09632; equal weights are ours. For PruningDistillTrainer",
        hard_label_weight=1.0,
        soft_label_weight=1.0,
        temperature=1.0,
        embedding_weight=1.0,
        hidden_state_weight=1.0,
        attention_weight=1.0,
        layer_map="uniform",
    ),
    "embedding": _recipe(
        "1 - cos(e_S W, e_T) + 100 τ² KL(softmax(c_T / τ) ‖ softmax(c_S / τ)), c the cosines of a text's embedding e with those "
        "of the others in the micro-batch, τ = 0.05; W where the widths differ. No labels",
        "Kim et al. 2023 (EmbedDistill), arXiv 2301.12005, equation 8 with the cosine distance, and Lin et al. 2020, arXiv "
        "2010.11386, over similarities within the batch; weights and τ are ours. For sentence encoders",
        soft_label_weight=1.0,
        soft_label_loss="cosine",
        similarity_weight=100.0,
        temperature=0.05,
    ),
}
