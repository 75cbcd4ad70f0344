"""One embedding per text, from a stock model, in folders that AutoModel and sentence-transformers load."""

import json

import pytest
import torch
from torch.nn.functional import normalize
from transformers import (
    AutoModel,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from hf_distill import SentenceEncoder, create_student
from hf_distill.files.sentence_transformers import saved_pooling
from hf_distill.pretrained.loading import SavedModel, load_as_saved
from hf_distill.pruning import trim_vocabulary
from hf_distill.tasks import Task, task_of
from tests.tiny_models import VOCABULARY, tiny_bert, tiny_tokenizer

TEXTS = ["w5 w6 w7 w8 w9", "w6 w7", "w8"]
SIZES = dict(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
MODELS = {
    "distilbert": lambda: DistilBertModel(DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=2, n_heads=2)),
    "roberta": lambda: RobertaModel(RobertaConfig(**SIZES, max_position_embeddings=64, pad_token_id=0)),
    "modernbert": lambda: ModernBertModel(ModernBertConfig(**SIZES, pad_token_id=0)),
    "llama": lambda: LlamaModel(LlamaConfig(**SIZES, pad_token_id=0)),
}


def inputs(texts=TEXTS):
    return tiny_tokenizer()(texts, padding=True, return_tensors="pt", return_token_type_ids=False)


def embeddings(model, texts=TEXTS):
    with torch.no_grad():
        return model.eval()(**inputs(texts)).logits


@pytest.fixture
def encoder():
    return SentenceEncoder.from_model(tiny_bert(layers=3)).eval()


def test_embeddings_are_pooled_hidden_states_of_the_stock_model(encoder):
    stock = tiny_bert(layers=3).bert.eval()
    with torch.no_grad():
        states = stock(**inputs()).last_hidden_state
    expected = torch.stack([row[:length].mean(0) for row, length in zip(states, (5, 2, 1), strict=True)])
    torch.testing.assert_close(embeddings(encoder), normalize(expected, dim=-1))
    assert isinstance(encoder, SentenceEncoder) and isinstance(encoder, BertModel)
    assert task_of(encoder) is Task.SENTENCE_EMBEDDING and task_of(stock) is None
    assert encoder.pooler is None and not set(encoder.state_dict()) - set(stock.state_dict())


@pytest.mark.parametrize("kind", MODELS)
def test_other_architectures(tmp_path, kind):
    stock = MODELS[kind]().eval()
    encoder = SentenceEncoder.from_model(stock, pooling="last", normalize=False)
    with torch.no_grad():
        states = stock(**inputs()).last_hidden_state
    expected = torch.stack([row[length - 1] for row, length in zip(states, (5, 2, 1), strict=True)])
    torch.testing.assert_close(embeddings(encoder), expected)
    encoder.save_pretrained(tmp_path)
    torch.testing.assert_close(embeddings(SentenceEncoder.from_pretrained(tmp_path)), expected)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalized", [True, False], ids=["normalized", "as they are"])
def test_sentence_transformers_loads_the_folder(tmp_path, pooling, normalized):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = SentenceEncoder.from_model(tiny_bert(layers=2), pooling, normalized)
    encoder.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path), device="cpu", local_files_only=True)
    expected = embeddings(encoder)
    torch.testing.assert_close(torch.from_numpy(theirs.encode(TEXTS)), expected, rtol=1e-5, atol=1e-6)
    assert type(AutoModel.from_pretrained(tmp_path)) is BertModel
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["BertModel"]
    again = tmp_path / "again"
    theirs.save_pretrained(str(again))
    torch.testing.assert_close(embeddings(SentenceEncoder.from_pretrained(again)), expected)


def test_a_folder_knows_its_task(tmp_path, encoder):
    encoder.save_pretrained(tmp_path)
    assert SavedModel.find(str(tmp_path)).task is Task.SENTENCE_EMBEDDING
    torch.testing.assert_close(embeddings(load_as_saved(str(tmp_path))), embeddings(encoder))
    (tmp_path / "head").mkdir()
    tiny_bert().save_pretrained(tmp_path / "head")
    assert SavedModel.find(str(tmp_path / "head")).task is Task.SEQUENCE_CLASSIFICATION


def saved_stock(folder, kinds, pooling):
    """A folder of sentence-transformers as its versions before 6 wrote it."""
    tiny_bert().bert.save_pretrained(folder)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    modules += [{"path": f"1_{kind}", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


def test_a_folder_that_lacks_its_pooling_needs_one(tmp_path):
    saved_stock(tmp_path, ["Pooling"], {})
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"lacks 1_Pooling/config\.json, which its modules\.json names: pass"):
        SentenceEncoder.from_pretrained(tmp_path)
    config = SentenceEncoder.from_pretrained(tmp_path, pooling="mean").config
    assert (config.sentence_pooling, config.sentence_normalize) == ("mean", False)


@pytest.mark.parametrize(
    ("kinds", "pooling", "expected"),
    [
        (["Pooling"], {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls", False)),
        (["Pooling", "Normalize"], {"pooling_mode_mean_tokens": True}, ("mean", True)),
        (["Pooling", "Normalize"], {"pooling_mode": "lasttoken"}, ("last", True)),
    ],
)
def test_pooling_is_read_from_sentence_transformers(tmp_path, kinds, pooling, expected):
    saved_stock(tmp_path, kinds, pooling)
    assert saved_pooling(tmp_path) == expected
    config = SentenceEncoder.from_pretrained(tmp_path).config
    assert (config.sentence_pooling, config.sentence_normalize) == expected


@pytest.mark.parametrize(
    ("kinds", "pooling", "message"),
    [
        (["Pooling", "Dense"], {"pooling_mode": "mean"}, "Dense.*recorded.*teacher_logits"),
        ([], {}, "consists of"),
        (["Pooling"], {"pooling_mode": "max"}, r"pools hidden states by \['max'\]"),
        (["Pooling"], {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
    ],
)
def test_other_models_of_sentence_transformers_are_refused(tmp_path, kinds, pooling, message):
    saved_stock(tmp_path, kinds, pooling)
    with pytest.raises(ValueError, match=message):
        SentenceEncoder.from_pretrained(tmp_path)


def test_pooling_must_be_known(tmp_path):
    tiny_bert().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not say .* pass pooling, one of \['mean', 'cls', 'last'\]"):
        SentenceEncoder.from_pretrained(tmp_path)
    assert SentenceEncoder.from_pretrained(tmp_path, pooling="cls").config.sentence_pooling == "cls"
    with pytest.raises(ValueError, match="pooling must be one of"):
        SentenceEncoder.from_pretrained(tmp_path, pooling="max")


def test_students_are_made_of_sentence_encoders(encoder):
    student = create_student("1/16", encoder, layers="uniform")
    assert task_of(student) is Task.SENTENCE_EMBEDDING and student.config.sentence_pooling == "mean"
    torch.testing.assert_close(student.encoder.layer[0].state_dict(), encoder.encoder.layer[0].state_dict())
    new = create_student("2/64", task="sentence_embedding", vocab_size=VOCABULARY)
    assert embeddings(new).shape == (3, 64)
    classifier = create_student("1/16", encoder, task="sequence_classification", num_labels=3)
    assert task_of(classifier) is Task.SEQUENCE_CLASSIFICATION


def test_a_trimmed_encoder_gives_the_same_embeddings(encoder):
    smaller, tokenizer = trim_vocabulary(encoder, tiny_tokenizer(), TEXTS)
    assert len(tokenizer) < VOCABULARY and task_of(smaller) is Task.SENTENCE_EMBEDDING
    own = tokenizer(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        torch.testing.assert_close(smaller(**own).logits, embeddings(encoder))
