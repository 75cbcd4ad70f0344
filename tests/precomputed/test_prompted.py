"""Outputs of a prompted language model in a folder: written, resumed, described, and filtered."""

from __future__ import annotations

import json

import datasets
import pytest
import torch

from hf_distill import label_transfer_set, load_teacher_outputs
from hf_distill.precomputed.distributions import RowFilter, filter_teacher_outputs, label_distributions
from hf_distill.precomputed.external import teacher_outputs_from
from hf_distill.precomputed.labeling_cost import labeling_cost
from hf_distill.precomputed.provenance import provenances
from hf_distill.precomputed.shards import Manifest
from hf_distill.teachers.prompted import PromptedTeacher
from hf_distill.teachers.prompts import Prompt
from tests.teachers.test_prompted import ONE_TOKEN, TEMPLATES, model_of
from tests.tiny_tokenizers import random_texts, tiny_tokenizer

ROWS = 23
QUIET = dict(disable_tqdm=True, batch_size=4, rows_per_shard=6)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer("BPE of bytes")


def rows() -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": random_texts(ROWS, seed=1, words=20), "number": list(range(ROWS))})


def teacher(tokenizer, templates=TEMPLATES) -> PromptedTeacher:
    return PromptedTeacher(model_of("llama"), tokenizer, Prompt(templates, ONE_TOKEN), dtype="float32")


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "labeled"
    label_transfer_set(rows(), teacher(tokenizer), tokenizer, folder, **QUIET)
    return folder


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "cost.json"}


def test_the_outputs_are_the_teachers_and_say_where_they_are_from(whole, tokenizer):
    labeled = load_teacher_outputs(whole)
    assert (
        labeled.remove_columns([name for name in labeled.column_names if "te" in name and name != "text"])[:]
        == rows()[:]
    )
    own = teacher(tokenizer)
    batch = own.encoder(rows().to_list())
    found = own.outputs({f"prompted_{name}": value for name, value in batch.items()})
    logits = torch.tensor(labeled["teacher_logits"][:])
    torch.testing.assert_close(logits, found.require_logits(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.tensor(labeled["template_logits"][:]), found.template_logits, atol=1e-4, rtol=1e-4)
    (provenance,) = provenances(labeled).values()
    assert provenance.labels == ["positive", "negative"] and provenance.processing_class is None
    assert provenance.teacher["templates"] == TEMPLATES and provenance.teacher["verbalizers"] == ONE_TOKEN
    assert provenance.teacher["label_score"] == "sum" and provenance.teacher["content_free"] == []
    card = (whole / "README.md").read_text()
    assert "a language model that was prompted" in card and "| template | `{text} It was` |" in card
    assert "`template_logits`" in card


def test_an_interrupted_call_resumes_to_the_same_bytes(whole, tokenizer, tmp_path, monkeypatch):
    outputs, calls = PromptedTeacher.outputs, []

    def interrupted(self, inputs):
        calls.append(len(calls))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return outputs(self, inputs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(PromptedTeacher, "outputs", interrupted)
        label_transfer_set(rows(), teacher(tokenizer), tokenizer, tmp_path / "labeled", **QUIET)
    assert (tmp_path / "labeled" / "unfinished.json").exists() and (tmp_path / "labeled" / "shard-00000.arrow").exists()
    label_transfer_set(rows(), teacher(tokenizer), tokenizer, tmp_path / "labeled", **QUIET)
    assert contents(tmp_path / "labeled") == contents(whole)


def test_outputs_of_another_prompt_are_not_mixed_with_them(whole, tokenizer):
    other = teacher(tokenizer, ["{text} It was", TEMPLATES[0]])
    with pytest.raises(ValueError, match=r"holds teacher outputs with teacher\.templates"):
        label_transfer_set(rows(), other, tokenizer, whole, **QUIET)


def test_flops_are_of_prompts_and_of_further_tokens(tokenizer, tmp_path):
    """Short labels cost the prompts alone, with one prediction each."""
    short, long = (
        PromptedTeacher(model_of("llama"), tokenizer, Prompt(TEMPLATES[:1], words), dtype="float32")
        for words in (ONE_TOKEN, {"positive": " good", "negative": " bad film"})
    )
    costs = []
    for number, each in enumerate((short, long)):
        label_transfer_set(rows(), each, tokenizer, tmp_path / str(number), **QUIET)
        costs.append(labeling_cost(tmp_path / str(number)).flops)
    per_token = 2 * 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64) + 2 * 32 * 800  # two layers, and the head
    assert ROWS * per_token < costs[1] - costs[0] < 1.2 * ROWS * per_token


def test_rows_are_filtered_into_a_folder_like_any_other(whole, tmp_path):
    everything = load_teacher_outputs(whole)
    found = label_distributions(everything)
    p = torch.tensor(everything["teacher_logits"][:]).softmax(-1)
    torch.testing.assert_close(found.confidence, p.amax(-1))
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum(-1) / torch.log(torch.tensor(2.0)))
    chosen = RowFilter(max_entropy=0.95, min_agreement=1.0)
    filtered = filter_teacher_outputs(everything, chosen, tmp_path / "kept", whole)
    agree = [
        row["number"]
        for row in everything
        if len({max((0, 1), key=each.__getitem__) for each in [*row["template_logits"], row["teacher_logits"]]}) == 1
    ]
    kept = [number for number in agree if found.entropy[number] <= 0.95]
    assert 0 < len(kept) < ROWS and filtered["number"][:] == kept
    assert filtered["teacher_logits"][:] == everything.select(kept)["teacher_logits"][:]
    manifest = json.loads((tmp_path / "kept" / "manifest.json").read_text())
    assert manifest["provenance"]["filtered"] == {"max_entropy": 0.95, "min_agreement": 1.0, "before": ROWS}
    assert list(provenances(load_teacher_outputs(tmp_path / "kept")).values()) == [
        Manifest.load(tmp_path / "kept").provenance
    ]
    assert labeling_cost(tmp_path / "kept").flops == pytest.approx(labeling_cost(whole).flops)  # all rows were read
    assert (
        f"| rows kept | {len(kept)} of {ROWS}, by max entropy 0.95, min agreement 1.0 |"
        in (tmp_path / "kept" / "README.md").read_text()
    )


def test_outputs_from_elsewhere_are_filtered_too(tmp_path):
    answered = datasets.Dataset.from_dict(
        {"text": ["a", "b", "c"], "teacher_outputs": [{"x": 0.9}, {"x": 0.4, "y": 0.4}, {"z": 1.0}]}
    )
    answers = teacher_outputs_from(answered, ["x", "y", "z"])
    probabilities = label_distributions(answers).logits.softmax(-1)
    torch.testing.assert_close(probabilities[:2], torch.tensor([[0.9, 0.05, 0.05], [0.4, 0.4, 0.2]]))
    kept = filter_teacher_outputs(answers, RowFilter(min_confidence=0.5), tmp_path / "kept")
    assert kept["text"][:] == ["a", "c"] and not (tmp_path / "kept" / "cost.json").exists()
    card = (tmp_path / "kept" / "README.md").read_text()
    assert "recorded elsewhere" in card and "architecture" not in card and "masks" not in card
    with pytest.raises(ValueError, match="compares several templates"):
        filter_teacher_outputs(answers, RowFilter(min_agreement=0.5), tmp_path / "other")
    with pytest.raises(ValueError, match="none of 3 rows is within"):
        filter_teacher_outputs(answers.select([1, 1, 1]), RowFilter(min_confidence=0.5), tmp_path / "other")


def test_filters_that_filter_nothing_are_refused():
    with pytest.raises(ValueError, match="needs at least one of"):
        RowFilter()
    with pytest.raises(ValueError, match=r"max_entropy must be between 0 and 1, got 1\.5"):
        RowFilter(max_entropy=1.5)
