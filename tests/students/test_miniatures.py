"""The published sizes, to the parameter."""

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from hf_distill.students.miniatures import MINIATURES, shape_of
from tests.tiny_models import tiny_bert

PUBLISHED = {  # Turc et al. 2019, table 1, as counted from its architecture
    "2/128": 4_433_468, "4/128": 4_830_012, "6/128": 5_226_556, "8/128": 5_623_100, "10/128": 6_019_644,
    "12/128": 6_416_188, "2/256": 9_688_380, "4/256": 11_267_900, "6/256": 12_847_420, "8/256": 14_426_940,
    "10/256": 16_006_460, "12/256": 17_585_980, "2/512": 22_754_108, "4/512": 29_058_876, "6/512": 35_363_644,
    "8/512": 41_668_412, "10/512": 47_973_180, "12/512": 54_277_948, "2/768": 39_227_708, "4/768": 53_403_452,
    "6/768": 67_579_196, "8/768": 81_754_940, "10/768": 95_930_684, "12/768": 110_106_428,
}  # fmt: skip


def test_there_are_24_with_the_published_parameters():
    assert {shape: miniature.parameters for shape, miniature in MINIATURES.items()} == PUBLISHED


@pytest.mark.parametrize("shape", PUBLISHED)
def test_the_formula_counts_the_model(shape):
    with torch.device("meta"):
        model = BertForPreTraining(BertConfig(**MINIATURES[shape].sizes))
    assert model.num_parameters() == MINIATURES[shape].parameters


def test_names_and_hub_ids():
    named = {miniature.name: miniature for miniature in MINIATURES.values() if miniature.name}
    assert {name: each.shape for name, each in named.items()} == {
        "tiny": "2/128", "mini": "4/256", "small": "4/512", "medium": "8/512", "base": "12/768",
    }  # fmt: skip
    assert named["small"].hub_id == "google/bert_uncased_L-4_H-512_A-8"
    assert (named["tiny"].tpu_speed_up, named["base"].tpu_speed_up) == (65.24, 1.25)


def test_shapes_are_read_by_name_or_by_size():
    assert shape_of("mini") == (4, 256) and shape_of("3/384") == (3, 384)
    for wrong in ("huge", "0/128", "4-256", "4/"):
        with pytest.raises(ValueError, match=rf"one of \['tiny', .*such as '3/384', got '{wrong}'"):
            shape_of(wrong)
    with pytest.raises(ValueError, match=r"got 'tinny'. Did you mean 'tiny'\?"):
        shape_of("tinny")


def test_a_model_in_place_of_a_size_is_told_where_it_belongs(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"which is a model: .* the --base-model of hf-distill train --teacher-outputs"
    ):
        shape_of(str(tmp_path))
