"""Narrower models: the units of an encoder, what each is worth, and the encoder without some of them."""

from hf_distill.pruning.compaction import Keep, compact, compact_in_place
from hf_distill.pruning.depth import keep_layers, layers_worth_most
from hf_distill.pruning.importance import Criterion, largest, score
from hf_distill.pruning.structure import units_of
from hf_distill.pruning.vocabulary import trim_vocabulary

__all__ = [
    "Criterion",
    "Keep",
    "compact",
    "compact_in_place",
    "keep_layers",
    "largest",
    "layers_worth_most",
    "score",
    "trim_vocabulary",
    "units_of",
]
