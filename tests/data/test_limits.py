"""Tokens and texts that a model has no embedding for are found in Arrow, and named with their row."""

import datasets
import pytest
import torch
import transformers

from hf_distill.data.limits import ReadingLimits, WithinLimits, require_padding_token, require_readable
from hf_distill.tasks import Task
from tests.tiny_architectures import tiny_model
from tests.tiny_models import encoded_sentences, tiny_bert, tiny_tokenizer

LIMITS = ReadingLimits("the student (X)", vocabulary_size=100, max_length=64)


def tiny(model_type, **config):
    return transformers.AutoModelForSequenceClassification.from_config(
        transformers.AutoConfig.for_model(model_type, vocab_size=100, **config)
    )


def with_row(tokens, rows=80):
    """Many rows, in two tables, the last of which holds these tokens."""
    last = datasets.Dataset.from_dict({"input_ids": [tokens], "attention_mask": [[1] * len(tokens)]})
    return datasets.concatenate_datasets([encoded_sentences(rows, labels=None), last])


@pytest.mark.parametrize(
    ("architecture", "positions"),
    [
        ("bert", 64), ("electra", 64), ("albert", 64), ("distilbert", 64), ("deberta-v2", 64),
        ("roberta", 63),  # 64 rows, of which those up to the padding's own, 0, are no position of a token
        ("modernbert", None), ("llama", None),  # rotary
    ],
)  # fmt: skip
def test_positions_are_read_off_the_table(architecture, positions):
    model = tiny_model(architecture)
    found = ReadingLimits.of(model, "teacher")
    assert (found.vocabulary_size, found.max_length) == (100, positions)
    assert found.name == f"the teacher ({type(model).__name__})"
    if positions is not None:
        model(input_ids=torch.full((1, positions), 5))
        with pytest.raises((IndexError, RuntimeError)):
            model(input_ids=torch.full((1, positions + 1), 5))


@pytest.mark.parametrize(
    ("model_type", "config", "positions"),
    [
        ("gpt2", dict(n_embd=16, n_layer=1, n_head=2, n_positions=40, bos_token_id=1, eos_token_id=2), 40),
        ("bart", dict(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                      encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=32), 32),
        ("nystromformer", dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=64), 64),
        ("deberta-v2", dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                            position_biased_input=False, relative_attention=True), None),
        ("funnel", dict(block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=16), None),
    ],
)  # fmt: skip
def test_positions_of_other_tables(model_type, config, positions):
    assert ReadingLimits.of(tiny(model_type, **config), "teacher").max_length == positions


def test_of_images_and_models_of_ones_own_nothing_is_known():
    for model in (tiny_model("vit"), torch.nn.Linear(2, 2)):
        limits = ReadingLimits.of(model, "student")
        assert (limits.vocabulary_size, limits.max_length) == (None, None)
        require_readable(with_row([5] * 900), "train_dataset", [limits])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([5, 100, 6], r"row 80 of train_dataset holds the token id 100, but the student \(X\) has an embedding table of 100"),
        ([5, -1], r"row 80 of train_dataset holds the token id -1"),
        ([5] * 65, r"row 80 of train_dataset is 65 tokens long, but the student \(X\) has positions for 64.*max_length=64"),
        ([], r"row 80 of train_dataset has no tokens: its input_ids is empty"),
    ],
)  # fmt: skip
def test_a_late_row_is_named(tokens, message):
    rows = with_row(tokens)
    for dataset in (rows, rows.with_format("torch")):
        with pytest.raises(ValueError, match=message):
            require_readable(dataset, "train_dataset", [LIMITS])
    with pytest.raises(ValueError, match=message.replace("row 80", "row 0")):
        require_readable(rows.select([80, 3]), "train_dataset", [LIMITS])


def test_a_row_is_named_by_its_number_in_a_shuffled_data_set(monkeypatch):
    rows = with_row([5, 100, 6]).shuffle(seed=1)
    place = next(number for number, tokens in enumerate(rows["input_ids"][:]) if 100 in tokens)
    with (
        monkeypatch.context() as patch,
        pytest.raises(ValueError, match=f"row {place} of train_dataset .* token id 100"),
    ):
        patch.delattr(datasets.table.IndexedTableMixin, "fast_gather")  # by which shuffled rows are read one by one
        require_readable(rows, "train_dataset", [LIMITS])
    others = rows.filter(lambda row: 100 not in row["input_ids"])
    assert len(others) == 80
    require_readable(others, "train_dataset", [LIMITS])  # the row is stored, and not read by anyone
    require_readable(others.shuffle(seed=2), "train_dataset", [LIMITS])


def test_what_can_be_read_and_what_cannot_be_seen_passes():
    require_readable(with_row([99] * 64), "train_dataset", [LIMITS])
    beyond = with_row([5] * 65)
    require_readable(beyond.with_transform(lambda rows: rows), "train_dataset", [LIMITS])
    require_readable(beyond.to_iterable_dataset(), "train_dataset", [LIMITS])
    require_readable([{"input_ids": [5] * 65}], "train_dataset", [LIMITS])


def test_padding_takes_no_position_of_a_model_that_does_not_number_it():
    limits = ReadingLimits.of(tiny_model("roberta"), "teacher")
    require_readable(with_row([5] * 63 + [0] * 20), "train_dataset", [limits])
    WithinLimits(lambda rows: rows, [limits])({"input_ids": torch.tensor([[5] * 63 + [0] * 20])})
    with pytest.raises(ValueError, match=r"row 80 of train_dataset is 64 tokens long"):
        require_readable(with_row([5] * 64 + [0] * 20), "train_dataset", [limits])


def test_another_models_tokens_are_in_columns_of_their_own():
    rows = with_row([5]).rename_column("input_ids", "teacher_input_ids")
    with pytest.raises(ValueError, match=r"holds the token id 99, but the teacher \(Y\)"):
        require_readable(rows, "train_dataset", [LIMITS, ReadingLimits("the teacher (Y)", 99, None, prefix="teacher_")])


@pytest.mark.parametrize(
    ("tokens", "message"), [([5] * 65, r"a batch of input_ids is 65 tokens long"), ([100], r"holds the token id 100")]
)
def test_batches_are_looked_at_too(tokens, message):
    collate = WithinLimits(tiny_tokenizer().pad, [LIMITS])
    assert collate([{"input_ids": [5, 6]}])["input_ids"] == [[5, 6]]
    with pytest.raises(ValueError, match=message):
        WithinLimits(lambda rows: {"input_ids": torch.tensor(rows)}, [LIMITS])([tokens])


def test_tokens_added_to_a_tokenizer_alone():
    tokenizer = tiny_tokenizer()
    LIMITS.require_tokenizer(tokenizer)
    tokenizer.add_tokens(["<user>"])
    with pytest.raises(ValueError, match=r"token '<user>' has the id 100, but the student \(X\) .* 100 rows.*\(101\)"):
        LIMITS.require_tokenizer(tokenizer)


def test_a_classifier_of_the_last_token_needs_to_know_padding():
    model = tiny("gpt2", n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    with pytest.raises(
        ValueError, match=r"the teacher \(GPT2ForSequenceClassification\) has no padding token.*by name"
    ):
        require_padding_token(model, "teacher", Task.SEQUENCE_CLASSIFICATION)
    model.config.pad_token_id = 0
    require_padding_token(model, "teacher", Task.SEQUENCE_CLASSIFICATION)
    bert = tiny_bert(pad_token_id=None)  # which reads its first token
    require_padding_token(bert, "teacher", Task.SEQUENCE_CLASSIFICATION)
