"""Any shape made any smaller: saved, and loaded by a process that knows nothing of this package."""

import os
import random
import subprocess
import sys

import torch
from safetensors.torch import load_file, save_file

from hf_distill.pruning.compaction import compact, feed_forward_size
from hf_distill.pruning.importance import largest, score
from tests.pruning.test_compaction import MODELS, ROTARY, random_model
from tests.tiny_architectures import tiny_batch

DRAWS = int(os.environ.get("HF_DISTILL_DRAWS", "12"))
DISTILBERT = dict(hidden_size="dim", num_attention_heads="n_heads", intermediate_size="hidden_dim")

LOAD_AND_ANSWER = """
import pathlib, sys, torch, transformers
from safetensors.torch import load_file, save_file

for folder in pathlib.Path(sys.argv[1]).iterdir():
    config = transformers.AutoConfig.from_pretrained(folder)
    model, report = getattr(transformers, config.architectures[0]).from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"] and not report["mismatched_keys"], report
    with torch.no_grad():
        outputs = model.eval()(**load_file(folder / "batch.safetensors"))
    save_file({name: value for name, value in outputs.items() if torch.is_tensor(value)}, folder / "answers.safetensors")
assert not any(name.startswith("hf_distill") for name in sys.modules)
"""


def test_random_shapes_become_smaller_ones_that_any_process_can_load(tmp_path):
    expected = {}
    for draw in range(DRAWS):
        chance = random.Random(draw)
        architecture, head = MODELS[draw % len(MODELS)]
        heads, head_size, neurons = chance.randint(1, 4), chance.choice([2, 4, 6, 8]), chance.randint(2, 40)
        sizes = dict(hidden_size=heads * head_size, num_attention_heads=heads, intermediate_size=neurons)
        names = DISTILBERT if architecture == "distilbert" else {}
        own_width = {"embedding_size": 33} if architecture == "electra" else {}  # no width that is drawn
        model = random_model(
            architecture, head, **{names.get(name, name): size for name, size in sizes.items()}, **own_width
        )
        kept_heads, kept_head_size = chance.randint(1, heads), chance.randint(1, head_size)
        kept_head_size = head_size if architecture in ROTARY else kept_head_size
        kept_neurons = chance.randint(1, neurons)
        keep = largest(model, score(model, "random", draw), kept_heads * kept_head_size, kept_heads, kept_neurons)
        smaller, folder = compact(model, keep), tmp_path / f"{draw}"
        config = smaller.config
        assert config.hidden_size == kept_heads * kept_head_size and feed_forward_size(config) == kept_neurons
        assert config.num_attention_heads == kept_heads and smaller.num_parameters() <= model.num_parameters()
        smaller.save_pretrained(folder)
        batch = tiny_batch(architecture)
        save_file(batch, folder / "batch.safetensors")
        with torch.no_grad():
            outputs = smaller(**batch)
        expected[folder] = {name: value for name, value in outputs.items() if torch.is_tensor(value)}
    subprocess.run([sys.executable, "-c", LOAD_AND_ANSWER, str(tmp_path)], check=True)
    for folder, answers in expected.items():
        found = load_file(folder / "answers.safetensors")
        assert found.keys() == answers.keys()
        for name, value in answers.items():
            torch.testing.assert_close(found[name], value, msg=lambda text, at=(folder.name, name): f"{at}: {text}")
