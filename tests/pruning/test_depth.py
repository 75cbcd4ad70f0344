"""An encoder with some of its layers is what it says."""

import pytest
import torch

from hf_distill import create_student
from hf_distill.preflight.student_defaults import student_defaults
from hf_distill.pruning import trim_vocabulary
from hf_distill.pruning.compaction import Keep, compact
from hf_distill.pruning.depth import highest_scoring_layers, keep_layers
from hf_distill.pruning.importance import score
from tests.pruning.test_compaction import MODELS, answers, random_model
from tests.tiny_architectures import LAYERS
from tests.tiny_models import tiny_tokenizer


@pytest.mark.parametrize(("architecture", "head"), MODELS)
def test_all_layers_in_their_order_change_nothing(architecture, head):
    model = random_model(architecture, head)
    same = keep_layers(model, range(LAYERS))
    assert all(torch.equal(*pair) for pair in zip(same.parameters(), model.parameters(), strict=True))
    torch.testing.assert_close(answers(same, architecture), answers(model, architecture))


@pytest.mark.parametrize("architecture", ["bert", "roberta", "electra", "distilbert", "vit"])
def test_layers_stay_in_the_order_given(architecture):
    model = random_model(architecture)
    kept = keep_layers(model, [2, 0])
    again = keep_layers(kept, [1])
    assert kept.config.num_hidden_layers == 2 and model.config.num_hidden_layers == LAYERS
    torch.testing.assert_close(answers(again, architecture), answers(keep_layers(model, [0]), architecture))
    other_order = answers(keep_layers(model, [0, 2]), architecture)
    assert (answers(kept, architecture) - other_order).abs().max() > 1e-3


@pytest.mark.parametrize("kept", [[1], [2, 0], [1, 2]])
def test_the_first_layer_of_modernbert_has_no_norm_and_only_itself_fits_there(kept):
    with pytest.raises(
        ValueError, match=rf"layer {kept[0]} has a parameter model.layers.0.attn_norm.* no place in layer 0"
    ):
        keep_layers(random_model("modernbert"), kept)


def test_local_and_global_attention_stay_with_the_layers_of_modernbert(tmp_path):
    """Layers with a window of 3 tokens answer otherwise than global ones, before and after saving."""
    model = random_model(
        "modernbert", local_attention=2, layer_types=["full_attention", "sliding_attention", "full_attention"]
    )
    kept = keep_layers(model, [0, 2])
    assert kept.config.layer_types == ["full_attention"] * 2
    kept.save_pretrained(tmp_path)
    loaded = type(kept).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(answers(loaded, "modernbert"), answers(kept, "modernbert"))
    with torch.no_grad():  # without effect on the residual stream, the middle layer may as well be left out
        model.model.layers[1].attn.Wo.weight.zero_()
        model.model.layers[1].mlp.Wo.weight.zero_()
    torch.testing.assert_close(answers(kept, "modernbert"), answers(model, "modernbert"))


def test_the_layers_that_count_stay():
    model = random_model("bert")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".layer.1." in name:
                parameter.mul_(0.01)
    assert highest_scoring_layers(score(model), 2) == [0, 2] and highest_scoring_layers(score(model), 3) == [0, 1, 2]
    with pytest.raises(ValueError, match=r"1 to 3 layers can be kept, got 4"):
        highest_scoring_layers(score(model), 4)
    with pytest.raises(ValueError, match=r"must be different ones of 0 to 2, got \[0, 3\]"):
        keep_layers(model, [0, 3])


def test_a_smaller_student_still_has_the_training_defaults_of_one_that_create_student_made():
    model = random_model("bert")
    student = create_student("1/64", model, "random")
    smaller = [keep_layers(student, [0]), compact(student, Keep(neurons={0: range(8)}))]
    smaller += [trim_vocabulary(student, tiny_tokenizer(), ["w5"])[0]]
    assert {student_defaults(each, None)["warmup_steps"] for each in smaller} == {0.1}
    assert student_defaults(keep_layers(model, [0]), None)["warmup_steps"] == 0.0
