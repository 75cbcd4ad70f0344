"""Structured pruning of encoders: importance of heads, neurons, dimensions and layers, and smaller dense models."""

from hf_distill.pruning.compaction import Keep, compact, compact_in_place
from hf_distill.pruning.depth import highest_scoring_layers, keep_layers
from hf_distill.pruning.importance import Criterion, largest, score
from hf_distill.pruning.structure import units_of
from hf_distill.pruning.vocabulary import trim_vocabulary, vocabulary_map

__all__ = [
    "Criterion",
    "Keep",
    "compact",
    "compact_in_place",
    "highest_scoring_layers",
    "keep_layers",
    "largest",
    "score",
    "trim_vocabulary",
    "units_of",
    "vocabulary_map",
]
