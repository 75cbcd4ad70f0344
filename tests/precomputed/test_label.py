"""The outputs that `label_transfer_set` stores are the teacher's, for every task."""

import datasets
import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForTokenClassification,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from hf_distill import FrozenTeacher, label_transfer_set, load_teacher_outputs
from hf_distill.objectives.logits import MASKED_LOGIT, forward_kl
from hf_distill.objectives.top_k import sampled_classes, spread_tail, top_k_kl, top_k_with_tail
from hf_distill.precomputed.labeling_options import LabelingOptions
from tests.publishing.poison import live_parts
from tests.tiny_models import VOCABULARY, encoded_sentences, tiny_tokenizer

QUIET = dict(disable_tqdm=True, batch_size=7, rows_per_shard=10)


def tiny(head, **config):
    torch.manual_seed(1)
    sizes = dict(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, initializer_range=0.3,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return head(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, **sizes, **config)).eval()


def masking_tokenizer(**settings):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "w3"})
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer


def outputs_alone(model, row):
    """A model's outputs for one row, without padding."""
    names = ("input_ids", "attention_mask")
    with torch.no_grad():
        return model(**{name: torch.tensor([row[name]]) for name in names}, output_hidden_states=True)


@pytest.fixture
def rows():
    return encoded_sentences(29, labels=None)


def test_a_forward_pass_reads_as_many_rows_as_the_device_is_fast_with(monkeypatch):
    rows, read = encoded_sentences(40, labels=None), []
    teacher = FrozenTeacher(tiny(BertForTokenClassification), "float32")
    outputs = teacher.outputs
    monkeypatch.setattr(teacher, "outputs", lambda inputs: read.append(len(inputs["input_ids"])) or outputs(inputs))
    label_transfer_set(rows, teacher, tiny_tokenizer(), disable_tqdm=True)
    label_transfer_set(rows, teacher, tiny_tokenizer(), disable_tqdm=True, batch_size=20)
    assert read == [32, 8, 20, 20]
    assert LabelingOptions().rows_per_batch(torch.device("cuda")) == 128
    assert [LabelingOptions().first_rows(rows) for rows in (7, 100, 1600, 4096)] == [7, 32, 100, 128]
    assert LabelingOptions(batch_size=20).first_rows(4096) == 20


def test_classes_of_sequences_and_states(rows, teacher):
    labeled = label_transfer_set(rows, teacher, tiny_tokenizer(), hidden_states=[0, 2], cls_states=[1], **QUIET)
    assert labeled.remove_columns([name for name in labeled.column_names if "teacher" in name])[:] == rows[:]
    for row in labeled:
        alone = outputs_alone(teacher, row)
        torch.testing.assert_close(torch.tensor(row["teacher_logits"]), alone.logits[0])
        for index in (0, 2):
            torch.testing.assert_close(
                torch.tensor(row[f"teacher_hidden_state_{index}"]), alone.hidden_states[index][0], rtol=1e-4, atol=1e-5
            )
        torch.testing.assert_close(
            torch.tensor(row["teacher_cls_state_1"]), alone.hidden_states[1][0, 0], atol=1e-5, rtol=0
        )
    assert not hasattr(teacher(torch.tensor([[5, 6]])), "distillation_features")


@pytest.mark.parametrize("side", ["left", "right"])
def test_classes_of_tokens(rows, side):
    teacher = tiny(BertForTokenClassification, num_labels=3)
    labeled = label_transfer_set(rows, teacher, masking_tokenizer(padding_side=side), **QUIET)
    for row in labeled:
        expected = outputs_alone(teacher, row).logits[0]
        if side == "right":  # to the left BERT counts padding as positions
            torch.testing.assert_close(torch.tensor(row["teacher_logits"]), expected)
        assert len(row["teacher_logits"]) == len(row["input_ids"])


def test_starts_and_ends(rows):
    teacher = tiny(BertForQuestionAnswering)
    for row in label_transfer_set(rows, teacher, tiny_tokenizer(), **QUIET):
        alone = outputs_alone(teacher, row)
        expected = torch.cat([alone.start_logits, alone.end_logits])
        torch.testing.assert_close(torch.tensor(row["teacher_logits"]), expected)


def test_images_made_by_a_transform(tmp_path):
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=4,
                       patch_size=2, num_channels=1, num_labels=3, initializer_range=0.3)  # fmt: skip
    torch.manual_seed(0)
    teacher = ViTForImageClassification(config).eval()
    pixels = torch.rand(13, 1, 4, 4)
    rows = datasets.Dataset.from_dict({"levels": pixels.flatten(1).tolist(), "labels": [0] * 13}).with_transform(
        lambda batch: {"pixel_values": [torch.tensor(each).view(1, 4, 4) for each in batch["levels"]]}
    )
    from transformers import default_data_collator

    labeled = label_transfer_set(rows, teacher, default_data_collator, output_dir=tmp_path, **QUIET)
    with torch.no_grad():
        expected = teacher(pixel_values=pixels).logits
    torch.testing.assert_close(torch.tensor(labeled["teacher_logits"][:]), expected)
    assert set(labeled.column_names) >= {"levels", "labels"} and "pixel_values" not in labeled.column_names
    for states in (dict(hidden_states=[0]), dict(cls_states=[0])):
        with pytest.raises(
            ValueError, match=r"hidden states are stored for tokenized texts only, .* \['pixel_values'\]"
        ):
            label_transfer_set(rows, teacher, default_data_collator, **states, **QUIET)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("epochs", [1, 3])
def test_masked_tokens(rows, sampled, epochs):
    teacher = tiny(BertForMaskedLM)
    collator = DataCollatorForLanguageModeling(masking_tokenizer(), mlm_probability=0.4)
    options = dict(top_k=5, sampled=sampled, mask_epochs=epochs, temperature=2.0) | QUIET
    labeled = label_transfer_set(rows, teacher, collator, **options)
    assert len(labeled) == 29 * epochs
    hidden = 0
    for number, row in enumerate(labeled):
        labels, original = torch.tensor(row["labels"]), rows[number % 29]["input_ids"]
        masked = labels != -100
        assert row["teacher_positions"] == masked.nonzero()[:, 0].tolist()
        assert torch.where(masked, labels, torch.tensor(row["input_ids"])).tolist() == original
        if not masked.any():
            continue
        hidden += int(masked.sum())
        logits = outputs_alone(teacher, row).logits[0][masked]
        classes, kept = torch.tensor(row["teacher_classes"]), torch.tensor(row["teacher_logits"])
        if sampled:
            assert classes.shape == (len(logits), 5) and kept[:, -1].eq(MASKED_LOGIT).all()
        else:
            expected_classes, expected = top_k_with_tail(logits, 5, 2.0)
            assert classes.tolist() == expected_classes.tolist()
            torch.testing.assert_close(kept, expected, rtol=1e-4, atol=1e-5)
    words = sum(map(len, rows["input_ids"])) * epochs
    assert 0.3 < hidden / words < 0.5
    if epochs > 1:
        assert labeled[:29]["input_ids"] != labeled[29:58]["input_ids"]
    again = label_transfer_set(rows, teacher, collator, **options | dict(batch_size=3))
    assert again["input_ids"][:] == labeled["input_ids"][:] and again["labels"][:] == labeled["labels"][:]


def test_sampled_classes_have_the_gradient_of_the_whole_distribution_on_average():
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 1, 50, generator=generator, dtype=torch.float64).mul(2).unbind()
    student.requires_grad_()
    (exact,) = torch.autograd.grad(forward_kl(student, teacher).sum(), student)
    draws = torch.rand(20_000, 8, generator=generator, dtype=torch.float64)
    sampled = sampled_classes(teacher.expand(20_000, -1), draws)
    (mean,) = torch.autograd.grad(top_k_kl(student.expand(20_000, -1), *sampled).mean(), student)
    torch.testing.assert_close(mean, exact, rtol=0, atol=2e-3)
    (cut,) = torch.autograd.grad(top_k_kl(student, *top_k_with_tail(teacher, 8)).sum(), student)
    assert (mean - exact).abs().max() < 0.2 * (cut - exact).abs().max()


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_loss_of_sampled_classes_is_a_divergence_from_what_was_drawn(temperature):
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(2, 40, 10, generator=generator, dtype=torch.float64).mul(2).unbind()
    draws = torch.rand(40, 8, generator=generator, dtype=torch.float64)
    classes, log_probabilities = sampled_classes(teacher, draws, temperature)
    shares = torch.zeros(40, 10, dtype=torch.float64).scatter_add(1, classes, torch.full_like(draws, 1 / 8))
    assert (shares > 1 / 8).any()  # some are drawn twice
    values = top_k_kl(student, classes, log_probabilities, temperature)
    softened = (student / temperature).log_softmax(-1)
    expected = temperature**2 * torch.nn.functional.kl_div(softened, shares, reduction="none").sum(-1)
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)
    assert (values > 0).all()
    agreeing = top_k_kl(temperature * shares.clamp(min=1e-30).log(), classes, log_probabilities, temperature)
    torch.testing.assert_close(agreeing, torch.zeros_like(agreeing), rtol=0, atol=1e-5)
    assert (top_k_kl(teacher, classes, log_probabilities, temperature) > 0).all()


def test_spread_tail_gives_the_buckets_back():
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    classes, buckets = top_k_with_tail(logits, 6)
    again, found = top_k_with_tail(spread_tail(classes, buckets, 50), 6)
    assert torch.equal(again, classes)
    torch.testing.assert_close(found, buckets)


def test_half_precision_and_streams_and_labels_in_another_order(rows, teacher, tmp_path):
    whole = label_transfer_set(rows, teacher, tiny_tokenizer(), output_dir=tmp_path / "whole", **QUIET)
    half = label_transfer_set(rows, teacher, tiny_tokenizer(), output_dir=tmp_path / "half", dtype="float16", **QUIET)
    assert half.features["teacher_logits"].feature.dtype == "float16"
    torch.testing.assert_close(
        torch.tensor(half["teacher_logits"][:]), torch.tensor(whole["teacher_logits"][:]), rtol=1e-3, atol=0
    )
    stream = label_transfer_set(
        rows.to_iterable_dataset(), teacher, tiny_tokenizer(), output_dir=tmp_path / "stream", max_length=20, **QUIET
    )
    assert stream[:] == whole[:]
    for file in sorted({*(tmp_path / "whole").iterdir()} - {tmp_path / "whole" / "cost.json"}):
        assert file.read_bytes() == (tmp_path / "stream" / file.name).read_bytes(), file.name
    swapped = label_transfer_set(rows, FrozenTeacher(teacher, label_permutation=[1, 0]), tiny_tokenizer(), **QUIET)
    torch.testing.assert_close(
        torch.tensor(swapped["teacher_logits"][:]), torch.tensor(whole["teacher_logits"][:]).flip(-1)
    )


def test_a_stream_is_read_no_further_than_a_shard_ahead(rows, teacher, tmp_path):
    seen = []

    def stream():
        for number, row in enumerate(rows):
            seen.append(len(list(tmp_path.glob("labeled/shard-*.arrow"))) >= number // 10 - 1)
            yield row

    # Once for the first shard, which decides on columns, and once for all.
    label_transfer_set(
        datasets.IterableDataset.from_generator(stream), teacher, tiny_tokenizer(), tmp_path / "labeled", **QUIET
    )
    assert len(seen) <= 29 + 11 and all(seen)


def test_rows_that_change_are_refused(rows, teacher):
    class Drops(DataCollatorWithPadding):
        def __call__(self, examples):
            batch = super().__call__(examples)
            batch["attention_mask"] = batch["attention_mask"] * (torch.rand(batch["attention_mask"].shape) > 0.3)
            return batch

    with pytest.raises(ValueError, match=r"gave other \['attention_mask'\] when read again"):
        label_transfer_set(rows, teacher, Drops(tiny_tokenizer()), **QUIET)


def test_the_last_names_of_paths_alone_get_out(rows, teacher, tmp_path):
    teacher.save_pretrained(tmp_path / "secret" / "my-teacher")
    loaded = type(teacher).from_pretrained(tmp_path / "secret" / "my-teacher")
    label_transfer_set(rows, loaded, tiny_tokenizer(), output_dir=tmp_path / "labeled", **QUIET)
    for file in (tmp_path / "labeled").iterdir():
        content = file.read_bytes()
        assert b"secret" not in content and b"my-teacher" in content


def test_it_is_a_dataset(rows, teacher, tmp_path):
    labeled = label_transfer_set(rows, teacher, tiny_tokenizer(), output_dir=tmp_path / "labeled", **QUIET)
    loaded = datasets.load_dataset(str(tmp_path / "labeled"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded[:] == labeled[:] and loaded.features == labeled.features
    labeled.to_parquet(str(tmp_path / "file.parquet"))  # as push_to_hub writes it
    loaded = datasets.load_dataset("parquet", data_files=str(tmp_path / "file.parquet"), split="train",
                                   cache_dir=str(tmp_path / "cache"))  # fmt: skip
    assert loaded[:] == labeled[:] and loaded.features == labeled.features
    assert len(labeled.cache_files) == 3  # on disk, where it was written
    card = (tmp_path / "labeled" / "README.md").read_text()
    assert "BertForSequenceClassification" in card and "29 rows" in card and "`teacher_logits`" in card


@pytest.mark.parametrize(
    "evil", ["![x](http://evil/p.png)<img src=x>", "neg\n\n# Owned\n\n<b>", "a|b` c", "\x1b[31m[a](b)"]
)
def test_nothing_in_the_names_of_a_teacher_is_markup_in_the_card(rows, teacher, evil, tmp_path):
    teacher.config.id2label = {0: evil, 1: "positive"}
    teacher.config.label2id = {evil: 0, "positive": 1}
    teacher.config._name_or_path, teacher.config._commit_hash = evil.replace("/", ""), evil
    rows = rows.add_column(evil, ["x"] * len(rows))
    label_transfer_set(rows, teacher, tiny_tokenizer(), tmp_path / "labeled", text_columns=[evil], **QUIET)
    card = (tmp_path / "labeled" / "README.md").read_text()
    headings = ("The teacher", "Columns", "Use")
    assert [each for each in live_parts(card) if not each.startswith("the heading")] == []
    assert [each for each in live_parts(card) if each not in [f"the heading {name!r}" for name in headings]] == []


def test_impossible_calls_are_refused_early(rows, teacher, tmp_path):
    tokenizer = tiny_tokenizer()
    labeled = label_transfer_set(rows, teacher, tokenizer, **QUIET)
    with pytest.raises(ValueError, match=r"teacher outputs already, \['teacher_logits', 'teacher_provenance'\]"):
        label_transfer_set(labeled, teacher, tokenizer)
    with pytest.raises(ValueError, match="holds 0 rows"):
        label_transfer_set(rows.select([]), teacher, tokenizer)
    with pytest.raises(ValueError, match="got a list"):
        label_transfer_set(rows.to_list(), teacher, tokenizer)
    with pytest.raises(ValueError, match="must be a model or a FrozenTeacher, got a str"):
        label_transfer_set(rows, "bert-base-uncased", tokenizer)
    with pytest.raises(ValueError, match="the teacher is a GPT2LMHeadModel"):
        label_transfer_set(rows, GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=100)), tokenizer)
    with pytest.raises(ValueError, match="mask_epochs is for masked-language models"):
        label_transfer_set(rows, teacher, tokenizer, mask_epochs=2)
    with pytest.raises(ValueError, match="needs DataCollatorForLanguageModeling or a tokenizer"):
        label_transfer_set(rows, tiny(BertForMaskedLM), DataCollatorWithPadding(tokenizer))
    for options, message in (
        (dict(dtype="bfloat16"), "dtype must be one of"),
        (dict(batch_size=0), "batch_size must be at least 1, got 0"),
        (dict(temperature=0), "temperature must be above 0"),
        (dict(cls_states=[-1]), r"counted from 0, got \[-1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            label_transfer_set(rows, teacher, tokenizer, **options)
    with pytest.raises(FileNotFoundError, match=r"holds no manifest.json \(it was not written by label_transfer_set"):
        load_teacher_outputs(tmp_path)
    teacher.classifier.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="not finite for rows"):
        label_transfer_set(rows, teacher, tokenizer, **QUIET)
    teacher.classifier.bias.data[0] = 1e6
    with pytest.raises(ValueError, match="float16 ends at 65504"):
        label_transfer_set(rows, teacher, tokenizer, dtype="float16", **QUIET)
