"""New texts for a transfer set: the property of each method, determinism, exclusion of evaluation texts, resumption."""

from __future__ import annotations

import logging

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from hf_distill import FrozenTeacher, augment_transfer_set, label_transfer_set
from hf_distill.data.augmentation_methods import AugmentationMethod, TextAugmenter
from hf_distill.data.text_changes import Replacement, core_of, dropped_words, random_numbers, sampled_n_gram, with_core
from hf_distill.data.word_replacement import NearestWordReplacer, WholeWords
from tests.tiny_models import VOCABULARY, tiny_bert, tiny_tokenizer

TEXTS = [" ".join(f"w{4 + (7 * row + 3 * place) % 96}" for place in range(4 + row % 7)) for row in range(23)]
WORDS = {f"w{index}" for index in range(3, VOCABULARY)}
EVERY = {method.value: 1.0 for method in AugmentationMethod}


def fast_tokenizer(backend):
    """A tokenizer whose special tokens are not among its words."""
    names = dict(unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]")
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **names)


@pytest.fixture(scope="module")
def tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[MASK]", *(f"w{index}" for index in range(3, VOCABULARY))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    return fast_tokenizer(backend)


@pytest.fixture(scope="module")
def masked_lm():
    torch.manual_seed(0)
    sizes = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, initializer_range=0.5
    )
    return BertForMaskedLM(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **sizes))


@pytest.fixture
def augmented(masked_lm, tokenizer):
    """Augments with the model; the texts are TEXTS unless others are given."""

    def augment(copies=1, methods=EVERY, texts=TEXTS, **more):
        rows = texts if isinstance(texts, Dataset) else Dataset.from_dict({"text": texts})
        given = {"model": masked_lm, "tokenizer": tokenizer, "disable_tqdm": True}
        return augment_transfer_set(rows, copies, methods, **(given | more))

    return augment


def new_by(augmented, method, **more):
    """Original and new text of each row, where the new one is no duplicate."""
    new = augmented(methods={method: 1}, keep_originals=False, **more)["text"][:]
    assert len(new) == len(TEXTS)
    return [(old.split(), text.split()) for old, text in zip(TEXTS, new, strict=True)]


def differences(old, new):
    assert len(old) == len(new)
    return [index for index, pair in enumerate(zip(old, new, strict=True)) if pair[0] != pair[1]]


def test_new_texts_do_not_depend_on_batches_or_parts(augmented):
    expected = augmented(3)["text"][:]
    for batch_size, rows_per_part in [(1, 5), (7, 1), (64, 23)]:
        assert augmented(3, batch_size=batch_size, rows_per_part=rows_per_part)["text"][:] == expected
    assert augmented(3, seed=1)["text"][:] != expected


def test_a_copy_is_the_same_whatever_the_number_of_copies(augmented):
    once, thrice = (set(augmented(copies, keep_originals=False)["text"]) for copies in (1, 3))
    assert once < thrice


def test_global_random_state_and_training_mode_are_kept(augmented, masked_lm):
    masked_lm.train()
    state = torch.get_rng_state()
    augmented()
    assert masked_lm.training and torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("method", ["mask_fill", "nearest_words"])
def test_replaced_words_are_others_of_the_vocabulary(method, augmented):
    replaced = total = 0
    for old, new in new_by(augmented, method):
        changed = differences(old, new)
        assert changed and all(new[index] in WORDS for index in changed)
        replaced, total = replaced + len(changed), total + len(old)
    assert 0.2 < replaced / total < 0.6
    assert all(len(differences(*pair)) == 1 for pair in new_by(augmented, method, replaced_fraction=0.0))
    assert all(len(differences(*pair)) == len(pair[0]) for pair in new_by(augmented, method, replaced_fraction=1.0))


def test_masks_are_filled_with_the_most_probable_words(augmented, masked_lm, tokenizer):
    for old, new in new_by(augmented, "mask_fill", top_k=1):
        changed = differences(old, new)
        masked = ["[MASK]" if index in changed else word for index, word in enumerate(old)]
        inputs = tokenizer(" ".join(masked), return_tensors="pt")
        with torch.no_grad():
            logits = masked_lm.eval()(input_ids=inputs["input_ids"]).logits[0]
        for index in changed:
            for token in ["[PAD]", "[UNK]", "[MASK]", old[index]]:
                logits[index, tokenizer.convert_tokens_to_ids(token)] = -torch.inf
            assert new[index] == tokenizer.convert_ids_to_tokens(logits[index].argmax().item())


def test_nearest_words_are_those_with_the_greatest_cosine(masked_lm, tokenizer):
    replacer = NearestWordReplacer(masked_lm, tokenizer, top_k=3)
    vectors = masked_lm.get_input_embeddings().weight
    cosines = torch.nn.functional.cosine_similarity(vectors[10], vectors[replacer.vocabulary.ids])
    assert replacer.vocabulary.words[replacer.vocabulary.index("w10")] == "w10"
    nearest = [replacer.vocabulary.words[index] for index in cosines.topk(4).indices]
    candidates = {replacer.texts([replacement_of("w10", draw)])[0] for draw in (0.0, 0.4, 0.99)}
    assert nearest[0] == "w10" and candidates == set(nearest[1:])


def replacement_of(word, draw):
    return Replacement((word,), (0,), (draw,))


def test_dropout_leaves_out_some_words_and_not_all(augmented):
    words, lengths = [f"w{index}" for index in range(20)], {}
    for fraction in (0.0, 0.5, 1.0):
        for copy in range(100):
            found = dropped_words(words, fraction, random_numbers(0, 0, copy))
            assert [word for word in words if word in found] == found
            lengths.setdefault(fraction, set()).add(len(found))
    assert lengths[0.0] == {19} and lengths[1.0] == {1} and {8, 10, 12} < lengths[0.5] < {*range(1, 20)}
    assert dropped_words(["w5"], 0.5, random_numbers(0, 0, 0)) == ["w5"]
    assert all(len(new) < len(old) for old, new in new_by(augmented, "word_dropout"))


def test_n_grams_are_consecutive_words_of_equally_probable_lengths():
    words = [f"w{index}" for index in range(20)]
    lengths = []
    for copy in range(1000):
        found = sampled_n_gram(words, 5, random_numbers(0, 0, copy))
        start = words.index(found[0])
        assert found == words[start : start + len(found)]
        lengths.append(len(found))
    assert {length: lengths.count(length) // 100 for length in set(lengths)} == pytest.approx(
        dict.fromkeys(range(1, 6), 2), abs=1
    )
    assert (
        sampled_n_gram(["w5"], 5, random_numbers(0, 0, 0)) == ["w5"]
        and sampled_n_gram([], 5, random_numbers(0, 0, 0)) == []
    )


def test_mixed_texts_are_halves_of_two(augmented):
    halves = {" ".join(text.split()[len(text.split()) // 2 :]): text for text in TEXTS}
    for old, new in new_by(augmented, "mix"):
        first = (len(old) + 1) // 2
        assert new[:first] == old[:first]
        assert halves[" ".join(new[first:])] != " ".join(old)


def test_methods_are_drawn_by_weight(augmented):
    drawn = augmented(40, {"word_dropout": 3, "mix": 1, "mask_fill": 0}, keep_originals=False, dropped_fraction=0.0)
    originals = [set(text.split()) for text in TEXTS]
    dropped = sum(any(set(text.split()) < words for words in originals) for text in drawn["text"])
    made = augmented(40, {"mix": 1}, keep_originals=False)
    assert dropped and len(drawn) < len(made) + 23 * 9


def test_punctuation_stays_and_words_without_a_token_too(masked_lm, tokenizer):
    rows = Dataset.from_dict({"text": ['"w5, unknown  (w9)!']})
    (new,) = augment_transfer_set(
        rows,
        1,
        {"nearest_words": 1},
        masked_lm,
        tokenizer,
        keep_originals=False,
        replaced_fraction=1.0,
        disable_tqdm=True,
    )["text"]
    first, second, third = new.split(" ")
    assert (first[0], first[-1], second, third[0], third[-2:]) == ('"', ",", "unknown", "(", ")!")
    assert {first[1:-1], third[1:-2]} <= WORDS - {"w5", "w9"}
    assert (core_of("--"), core_of("'tis"), with_core("(well-made!)", "bad")) == (None, "tis", "(bad!)")


def test_texts_longer_than_the_model_are_filled_as_far_as_it_reads(augmented):
    text = " ".join(f"w{4 + place % 90}" for place in range(200))
    (new,) = augmented(1, {"mask_fill": 1}, texts=[text], keep_originals=False, replaced_fraction=1.0)["text"]
    assert differences(text.split(), new.split()) == list(range(64))


PIECES = ["[UNK]", "[PAD]", "[MASK]", "good", "##ly", "bad", "!", "[unused1]", "7"]
SENTENCE_PIECES = ["[UNK]", "[PAD]", "[MASK]", "▁good", "ly", "▁bad", "bad", "▁", "!", "▁7"]
WORD_PIECE = models.WordPiece({piece: index for index, piece in enumerate(PIECES)}, unk_token="[UNK]")
UNIGRAM = models.Unigram([(piece, -1.0 * len(piece)) for piece in SENTENCE_PIECES], unk_id=0)


@pytest.mark.parametrize(
    ("model", "before", "decoder"),
    [
        (WORD_PIECE, pre_tokenizers.Whitespace(), decoders.WordPiece()),
        (UNIGRAM, pre_tokenizers.Metaspace(), decoders.Metaspace()),
    ],
)
def test_pieces_of_words_and_special_tokens_are_no_candidates(model, before, decoder):
    backend = Tokenizer(model)
    backend.pre_tokenizer, backend.decoder = before, decoder
    vocabulary = WholeWords(fast_tokenizer(backend))
    assert vocabulary.words == ["good", "bad", "7"]
    assert [vocabulary.index(word) for word in ("bad", "(bad!)", "goodly", "!", "unseen")] == [1, 1, None, None, None]


def test_labels_and_teacher_columns_are_dropped_and_originals_come_first(augmented):
    rows = Dataset.from_dict({"text": TEXTS, "label": [0] * 23, "teacher_logits": [[0.5]] * 23})
    rows.info.license = "mit"
    with_originals = augmented(2, texts=rows)
    assert with_originals.column_names == ["text"] and with_originals["text"][:23] == TEXTS
    assert augmented(2, texts=rows, keep_originals=False)["text"][:] == with_originals["text"][23:]
    assert with_originals.info.license == "mit"


def test_of_pairs_one_text_or_both_are_changed(augmented):
    pairs = Dataset.from_dict({"question": TEXTS, "passage": TEXTS[::-1], "label": [1] * 23})
    new = augmented(1, {"word_dropout": 1}, texts=pairs, keep_originals=False)
    assert new.column_names == ["question", "passage"] and len(new) == 23
    kinds = {
        (row["question"] == old["question"], row["passage"] == old["passage"])
        for row, old in zip(new, pairs, strict=True)
    }
    assert kinds == {(True, False), (False, True), (False, False)}
    mixed = augmented(1, {"mix": 1}, texts=pairs, keep_originals=False)
    assert len(mixed) == 23


@pytest.mark.parametrize("as_list", [True, False])
def test_evaluation_texts_are_neither_read_nor_returned(augmented, as_list):
    free = augmented(2, {"word_dropout": 1}, keep_originals=False)
    evaluation = Dataset.from_dict(
        {"sentence": [TEXTS[3].upper(), f" {free['text'][0]}  ", "unseen"], "label": [0, 1, 1]}
    )
    kept = augmented(2, {"word_dropout": 1}, exclude=[evaluation] if as_list else evaluation)["text"][:]
    texts = {text.lower() for text in kept}
    assert TEXTS[3] not in texts and free["text"][0] not in texts
    originals = {frozenset(text.split()) for text in TEXTS if text != TEXTS[3]}
    assert all(any(set(text.split()) <= words for words in originals) for text in kept)


def test_duplicates_are_removed_and_counted(augmented, caplog):
    texts = ["w5 w6", "W5  w6", "w7", "w5"]
    with caplog.at_level(logging.INFO, logger="hf_distill"):
        rows = augmented(10, {"word_dropout": 1}, texts=texts)
    assert rows["text"][:] == [*texts, "w6"]
    expected = "1 new texts from 4. Left out were 39 duplicates, and texts of evaluation sets: 0 new ones, 0 of the transfer set."
    assert expected in caplog.text and rows.info.description.endswith(expected)


def test_a_killed_call_resumes_with_the_part_that_was_not_finished(augmented, tmp_path, monkeypatch):
    expected = augmented(2, rows_per_part=4)["text"][:]
    made, original = [], TextAugmenter.new_texts

    def until_killed(self, texts, first, *more):
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append(first)
        return original(self, texts, first, *more)

    monkeypatch.setattr(TextAugmenter, "new_texts", until_killed)
    with pytest.raises(KeyboardInterrupt):
        augmented(2, rows_per_part=4, output_dir=tmp_path)
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        augmented(2, rows_per_part=1, output_dir=tmp_path / "other")
    made[:] = ["one more may be made"]
    with pytest.raises(KeyboardInterrupt):
        augmented(2, rows_per_part=4, output_dir=tmp_path)
    assert made[1:] == [12, 16]
    made.clear()
    assert augmented(2, rows_per_part=4, output_dir=tmp_path)["text"][:] == expected
    assert made == [20]
    made.clear()
    assert augmented(2, rows_per_part=4, output_dir=tmp_path)["text"][:] == expected and not made


def test_a_damaged_part_is_made_again(augmented, tmp_path, caplog):
    expected = augmented(2, rows_per_part=8, output_dir=tmp_path)["text"][:]
    parts = sorted(tmp_path.glob("part-*.arrow"))
    assert len(parts) == 3
    content = parts[0].read_bytes()
    place = content.index(b" w") + 1
    parts[0].write_bytes(content[:place] + b"v" + content[place + 1 :])
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    parts[2].unlink()
    (tmp_path / ".part-00002.arrow.0.partial").write_bytes(b"")
    assert augmented(2, rows_per_part=8, output_dir=tmp_path)["text"][:] == expected
    assert caplog.text.count("it is made again") == 2 and not list(tmp_path.glob(".*partial"))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed 0"),
        ({"copies": 3}, "copies 1"),
        ({"texts": TEXTS[1:]}, "texts_sha256"),
        ({"methods": {"mix": 1}}, "methods"),
        ({"top_k": 3}, "top_k 15"),
        ({"rows_per_part": 3}, "rows_per_part 1024"),
        ({"model": tiny_bert()}, "model_sha256"),
    ],
)
def test_a_folder_of_other_texts_is_refused(augmented, tmp_path, change, name):
    start = {"methods": {"nearest_words": 1}, "output_dir": tmp_path}
    augmented(**start)
    augmented(**start, batch_size=3, keep_originals=False)
    with pytest.raises(ValueError, match=f"holds texts made with {name}.*choose another output_dir"):
        augmented(**(start | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": Dataset.from_dict({"label": [1]})}, "the transfer set has no column of strings, its columns are"),
        ({"texts": Dataset.from_dict({"text": ["w5", None]})}, "nothing in the column 'text', counted from 1: 2"),
        ({"texts": Dataset.from_dict({"text": ["w5 w6"]})}, "holds 1 texts that are not in exclude.*mix need at least 2"),
        ({"exclude": Dataset.from_dict({"text": TEXTS})}, "holds 0 texts that are not in exclude"),
        ({"exclude": {"test": Dataset.from_dict({"text": TEXTS})}}, "exclude must be data sets.*got a str"),
        ({"exclude": [Dataset.from_dict({"label": [1]})]}, "a data set of exclude has no column of strings"),
        ({"copies": -1}, "copies must be a whole number of at least 1, got -1"),
        ({"copies": 1.5}, "copies must be a whole number"),
        ({"methods": {}}, "at least one method must have a weight above 0, got {}"),
        ({"methods": {"mix": 0, "mask_fill": 0.0}}, "at least one method must have a weight above 0"),
        ({"methods": {"mix": -1}}, "weights of methods must be finite and at least 0, got {'mix': -1}"),
        ({"methods": {"mix": float("nan")}}, "weights of methods must be finite"),
        ({"methods": {"mask_filll": 1}}, "methods must be one of .*Did you mean 'mask_fill'"),
        ({"model": None}, "mask_fill needs a masked-language model as model, got none"),
        ({"model": tiny_bert()}, "mask_fill needs a masked-language model as model, got a BertForSequenceClassification"),
        ({"model": torch.nn.Linear(2, 2), "methods": {"nearest_words": 1}}, "nearest_words needs a model with input embeddings"),
        ({"model": None, "methods": {"nearest_words": 1}}, "nearest_words needs a model with input embeddings.*got none"),
        ({"tokenizer": None}, "mask_fill needs the model's tokenizer, got a NoneType"),
        ({"tokenizer": tiny_tokenizer()}, "mask_fill needs a tokenizer with a mask token"),
        ({"tokenizer": tiny_tokenizer(shift=5)}, "for ids up to 99"),
        ({"tokenizer": tiny_tokenizer(prefix="#"), "methods": {"nearest_words": 1}}, "tokens that are whole words"),
        ({"replaced_fraction": 1.5}, "replaced_fraction must be from 0 to 1, got 1.5"),
        ({"dropped_fraction": -0.1}, "dropped_fraction must be from 0 to 1"),
        ({"top_k": 0}, "top_k must be a whole number of at least 1"),
        ({"longest_n_gram": 0}, "longest_n_gram must be"),
        ({"rows_per_part": -4}, "rows_per_part must be"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_anything_is_made(augmented, monkeypatch, change, message):
    monkeypatch.setattr(TextAugmenter, "new_texts", None)
    with pytest.raises(ValueError, match=message):
        augmented(**change)


def test_streams_are_refused(augmented):
    with pytest.raises(ValueError, match=r"needs a datasets.Dataset, got a IterableDataset"):
        augment_transfer_set(Dataset.from_dict({"text": TEXTS}).to_iterable_dataset())


def test_default_methods_depend_on_the_model(augmented):
    assert (
        augmented(methods=None)["text"][:] == augmented(methods={"mask_fill": 0.75, "n_gram_sampling": 0.25})["text"][:]
    )
    plain = augmented(methods=None, model=None, tokenizer=None)["text"][:]
    assert plain == augmented(methods={"word_dropout": 0.75, "n_gram_sampling": 0.25})["text"][:]


def test_a_teacher_labels_the_new_texts(augmented, tokenizer):
    rows = augmented(2).map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
    labeled = label_transfer_set(rows, FrozenTeacher(tiny_bert()), tokenizer, disable_tqdm=True)
    assert len(labeled) > 2 * len(TEXTS) and {"text", "teacher_logits"} <= set(labeled.column_names)
    assert "new texts" in labeled.info.description
