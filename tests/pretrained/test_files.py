"""What lies beside a model: no tokenizer is one thing, a tokenizer that cannot be read another."""

import ast
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import ViTImageProcessor

from hf_distill.pretrained.files import load_image_processor, load_tokenizer, require_floating_weights
from tests.tiny_models import tiny_bert, tiny_tokenizer

ROOT = Path(__file__).parents[2]
BROKEN = ["", "{", '{"version": "1.0", "model": {"type": "Unknown"}}', "[" * 100_000]


@pytest.fixture
def saved(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    return tmp_path


def as_int8(path):
    save_file({name: values.to(torch.int8) for name, values in load_file(path).items()}, path, {"format": "pt"})


def test_a_tokenizer_is_there_or_not_or_broken(saved):
    assert load_tokenizer(saved) is None
    tiny_tokenizer().save_pretrained(saved)
    assert load_tokenizer(saved).get_vocab() == tiny_tokenizer().get_vocab()
    for text in BROKEN:
        (saved / "tokenizer.json").write_text(text)
        with pytest.raises(ValueError, match=r"the tokenizer of .* cannot be read: ."):
            load_tokenizer(saved)


def test_an_image_processor_is_there_or_not_or_broken(saved):
    assert load_image_processor(saved) is None
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(saved)
    assert load_image_processor(saved).size["height"] == 8
    (saved / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"the image processor of .* cannot be read: ."):
        load_image_processor(saved)


@pytest.mark.parametrize("sharded", [False, True])
def test_whole_numbers_are_not_taken_for_weights(tmp_path, sharded):
    model = tiny_bert()
    model.save_pretrained(tmp_path, max_shard_size="20KB" if sharded else "1GB")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert (len(files) > 1) == sharded
    require_floating_weights(model, tmp_path)
    as_int8(files[-1])
    with pytest.raises(ValueError, match="weights of the type I8, such as "):
        require_floating_weights(model, tmp_path)
    model.config.quantization_config = {"quant_method": "of somebody"}
    require_floating_weights(model, tmp_path)


def test_whole_numbers_that_are_meant_are_no_weights(saved):
    path = saved / "model.safetensors"
    more = {"bert.embeddings.position_ids": torch.arange(64)}
    save_file(load_file(path) | more, path, {"format": "pt"})
    require_floating_weights(tiny_bert(), saved)


def test_package_and_examples_never_leave_it_open_whether_code_of_a_model_is_run():
    unclear = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in [*(ROOT / "hf_distill").rglob("*.py"), *(ROOT / "examples").glob("*.py")]
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and re.search(r"\.from_(pretrained|config)$", ast.unparse(call.func))
        if not {"trust_remote_code", None} & {keyword.arg for keyword in call.keywords}
        and ast.unparse(call.func) != "PeftModel.from_pretrained"  # knows no such argument
    ]
    assert unclear == []
