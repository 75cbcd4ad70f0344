"""Texts, models and sets that do not go together are refused before training, by the name of what is wrong."""

import datasets
import pytest
import torch
from transformers import (
    BartConfig,
    BartForSequenceClassification,
    BertForMaskedLM,
    BertModel,
    FunnelConfig,
    FunnelForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

from hf_distill import DistillationTrainer, ProgressiveTrainer, PruningDistillTrainer, PruningDistillTrainingArguments
from hf_distill.trainers.progressive_arguments import ProgressiveTrainingArguments
from tests.tiny_models import FixedMasks, encoded_sentences, tiny_bert, tiny_tokenizer


def make(arguments, student=None, teacher=None, dataset=None, eval_dataset=None, **overrides):
    return DistillationTrainer(
        student or tiny_bert(), arguments(**overrides), processing_class=tiny_tokenizer(), eval_dataset=eval_dataset,
        train_dataset=encoded_sentences(9) if dataset is None else dataset,
        teacher_model=tiny_bert(seed=1) if teacher is None else teacher,
    )  # fmt: skip


def with_row(tokens, rows=70):
    last = datasets.Dataset.from_dict({"input_ids": [tokens], "attention_mask": [[1] * len(tokens)], "labels": [0]})
    return datasets.concatenate_datasets([encoded_sentences(rows), last])


def funnel():
    return FunnelForSequenceClassification(
        FunnelConfig(vocab_size=100, block_sizes=[1, 1], d_model=16, n_head=2, d_head=8, d_inner=16)
    )


def bart():
    return BartForSequenceClassification(
        BartConfig(
            vocab_size=100, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, num_labels=2,
            pad_token_id=0, bos_token_id=2, eos_token_id=3, decoder_start_token_id=3, forced_eos_token_id=None,
        )
    )  # fmt: skip


def gpt2(**config):
    sizes = dict(vocab_size=100, n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
    return GPT2ForSequenceClassification(GPT2Config(**sizes, **config))


def test_the_model_that_cannot_read_a_late_text_is_named(arguments):
    short = tiny_bert(seed=1)
    short.bert.embeddings.position_embeddings = torch.nn.Embedding(30, 16)
    with pytest.raises(ValueError, match=r"row 70 of train_dataset is 31 tokens long, but the teacher \(Bert.* for 30"):
        make(arguments, teacher=short, dataset=with_row([5] * 31))
    with pytest.raises(ValueError, match=r"row 70 of train_dataset is 65 tokens long, but the student \(Bert.* for 64"):
        make(arguments, dataset=with_row([5] * 65))
    with pytest.raises(ValueError, match=r"row 2 of eval_dataset\['hard'\] is 65 tokens long"):
        make(arguments, eval_dataset={"easy": encoded_sentences(3), "hard": with_row([5] * 65, rows=2)})
    with pytest.raises(ValueError, match=r"row 70 of train_dataset has no tokens"):
        make(arguments, dataset=with_row([]))


def test_of_a_stream_the_batch_is_named(arguments):
    trainer = make(arguments, dataset=with_row([5] * 65, rows=5).to_iterable_dataset(), max_steps=9)
    with pytest.raises(ValueError, match=r"a batch of input_ids is 65 tokens long, but the student"):
        trainer.train()


def test_a_set_given_to_evaluate_is_looked_at(arguments):
    with pytest.raises(ValueError, match=r"a batch's input_ids holds the token id 100, but the student"):
        make(arguments).evaluate(with_row([100], rows=3))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_token_ids_beyond_a_table(arguments, side):
    models = {"student": tiny_bert(), "teacher": tiny_bert(seed=1)}
    models[side].resize_token_embeddings(99)
    models[side].config.vocab_size = 100
    with pytest.raises(ValueError, match=rf"'w99' has the id 99, but the {side} \(Bert.* table of 99 rows"):
        make(arguments, **models)


@pytest.mark.parametrize("as_stream", [False, True])
@pytest.mark.parametrize("eval_strategy", ["no", "epoch"])
def test_an_empty_evaluation_set(arguments, as_stream, eval_strategy):
    rows = encoded_sentences(5)
    empty = rows.to_iterable_dataset().filter(lambda row: False) if as_stream else rows.select([])
    with pytest.raises(ValueError, match=r"eval_.* holds 0 examples; evaluation needs at least 1"):
        make(arguments, eval_dataset={"a": rows, "b": empty}, eval_strategy=eval_strategy).evaluate()


def test_without_a_teacher_and_with_plain_arguments_nothing_is_checked(tmp_path):
    args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    rows = encoded_sentences(5)
    trainer = DistillationTrainer(
        tiny_bert(),
        args,
        train_dataset=with_row([5] * 65),
        eval_dataset=rows.select([]),
        processing_class=tiny_tokenizer(),
    )
    assert "eval_runtime" in trainer.evaluate()


@pytest.mark.parametrize("weight", ["hidden_state_weight", "embedding_weight"])
def test_hidden_states_of_an_encoder_decoder(arguments, weight):
    rows = encoded_sentences(5).map(lambda row: {"input_ids": [*row["input_ids"][:-1], 3]})
    with pytest.raises(
        ValueError, match=r"BartForSequenceClassification has an encoder and a decoder.*one stack of layers"
    ):
        make(arguments, teacher=bart(), dataset=rows, **{weight: 1.0})
    assert make(arguments, teacher=bart(), dataset=rows, max_steps=1).train()


def test_hidden_states_of_different_lengths(arguments):
    with pytest.raises(ValueError, match=r"layers of FunnelForSequenceClassification have outputs of different shapes"):
        make(arguments, teacher=funnel(), hidden_state_weight=1.0)
    assert make(arguments, teacher=funnel(), max_steps=1).train()


def test_different_numbers_of_positions(arguments):
    def vit(patch_size):
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
        return ViTForImageClassification(ViTConfig(image_size=8, num_channels=1, patch_size=patch_size, **sizes))

    images = datasets.Dataset.from_dict({"pixel_values": torch.rand(5, 1, 8, 8).tolist(), "labels": [0] * 5})
    for objective in (dict(hidden_state_weight=1.0), dict(recipe="minilmv2")):
        with pytest.raises(ValueError, match=r"the student makes 5 positions of the example inputs, the teacher 17"):
            DistillationTrainer(
                vit(4), arguments(**objective), train_dataset=images.with_format("torch"), teacher_model=vit(2)
            )


def test_a_classifier_without_a_padding_token(arguments):
    with pytest.raises(ValueError, match=r"the teacher \(GPT2ForSequenceClassification\) has no padding token"):
        make(arguments, teacher=gpt2())
    with pytest.raises(ValueError, match=r"the student \(GPT2ForSequenceClassification\) has no padding token"):
        make(arguments, student=gpt2())
    assert make(arguments, student=gpt2(), per_device_train_batch_size=1, max_steps=1).train()
    assert make(arguments, teacher=gpt2(pad_token_id=0), max_steps=1).train()


def test_a_student_in_float16(arguments):
    with pytest.raises(ValueError, match=r"the student \(Bert.*\) has float16 weights.*student.float\(\)"):
        make(arguments, student=tiny_bert().half())
    assert make(arguments, teacher=tiny_bert(seed=1).half(), max_steps=1).train()
    with pytest.raises(ValueError, match=r"has float16 weights"):
        PruningDistillTrainer(
            None, of_kind(PruningDistillTrainingArguments, arguments, target_hidden_size=8),
            train_dataset=encoded_sentences(5), processing_class=tiny_tokenizer(), teacher_model=tiny_bert().half(),
        )  # fmt: skip


def of_kind(kind, arguments, **more):
    plain = arguments()
    return kind(plain.output_dir, report_to="none", use_cpu=True, bf16=False, save_strategy="no", **more)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("teacher_logits", [[0.0, 1.0, 2.0]] * 9, r"row 0 of train_dataset has 3 numbers .* student has 2 classes"),
        ("teacher_logits", [[0.0, 1.0]] * 8 + [[0.0]], r"row 8 of train_dataset has 1 numbers in .*'teacher_logits'"),
        ("teacher_logits", [[0.0, 1.0]] * 8 + [None], r"row 8 of train_dataset has 0 numbers in .*'teacher_logits'"),
        ("labels", [0] * 8 + [7], r"train_dataset has the label 7 in .*'labels', but .* has the classes 0 to 1"),
        ("labels", [0] * 8 + [-1], r"train_dataset has the label -1 in its column 'labels'"),
        ("labels", [0] * 8 + [None], r"row 8 of train_dataset has no value in its column 'labels'; give it -100"),
        ("labels", ["a"] * 9, r"train_dataset has strings in its column 'labels'.*class_encode_column"),
    ],
)
def test_columns_that_are_not_about_the_students_classes(arguments, column, values, message):
    rows = encoded_sentences(9)
    rows = rows.remove_columns([name for name in [column] if name in rows.column_names]).add_column(column, values)
    with pytest.raises(ValueError, match=message):
        make(arguments, dataset=rows, hard_label_weight=1.0)


def test_labels_that_nothing_learns_from_may_be_of_another_task(arguments):
    rows = encoded_sentences(9).remove_columns("labels").add_column("labels", [7] * 9)
    assert make(arguments, dataset=rows, max_steps=1).train()
    with pytest.raises(ValueError, match=r"eval_dataset has the label 7"):
        make(arguments, eval_dataset=rows)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(dataset="data.csv"), r"train_dataset must be a data set, got 'data.csv': open it with load_dataset"),
        (dict(dataset=datasets.DatasetDict(train=encoded_sentences(3))), r"train_dataset must be one .* one of \['train'\]"),
        (dict(dataset=datasets.Dataset.from_dict({"text": ["a"], "labels": [0]})), r"columns \['text', 'labels'\], none of"),
        (dict(teacher=5), r"teacher_model must be a model, a Hub id, a local path or a Teacher, got a int"),
        (dict(teacher=BertModel), r"teacher_model must be a model, .*, got BertModel"),
        (dict(teacher=[]), r"teacher_model must be a model, .* at least one of them, got an empty list"),
        (dict(teacher=tiny_bert().bert), r"the teacher is a BertModel, which has no head and gives no logits"),
        (dict(student=tiny_bert().bert), r"the student is a BertModel, which has no head and gives no logits"),
        (dict(student=tiny_bert().requires_grad_(False)), r"no weight of the student \(Bert.*\) learns"),
        (dict(teacher_weights=[1.0, 2.0]), r"teacher_weights is for a list of teachers, got \[1.0, 2.0\] and one teacher"),
        (dict(dataloader_drop_last=True, per_device_train_batch_size=64), r"holds 9 examples, a batch 64, and .*drop_last"),
        (dict(soft_label_weight=1e39), r"soft_label_weight must be .* at most 1e\+30, got 1e\+39"),
        (dict(soft_label_weight="1"), r"soft_label_weight must be a finite number .*, got '1'"),
        (dict(temperature=1e20), r"temperature must be a number above 0, from 0.001 to 1000.0, got 1e\+20"),
        (dict(temperature="2"), r"temperature must be a number above 0, .*, got '2'"),
        (dict(student="bert-base"), r"model must be the student itself, got 'bert-base'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_nothing_can_be_done_with(arguments, given, message):
    with pytest.raises(ValueError, match=message):
        make(arguments, **given)


def test_arguments_of_another_kind(arguments):
    given = dict(train_dataset=encoded_sentences(5), processing_class=tiny_tokenizer())
    with pytest.raises(ValueError, match=r"args must be TrainingArguments, got a dict"):
        DistillationTrainer(tiny_bert(), {"output_dir": "x"}, **given)
    with pytest.raises(ValueError, match=r"ProgressiveTrainingArguments\(teacher_checkpoints=...\), got none there"):
        ProgressiveTrainer(tiny_bert(), arguments(), **given)
    with pytest.raises(ValueError, match=r"teacher_checkpoints must be a folder or a list of them, got 5"):
        of_kind(ProgressiveTrainingArguments, arguments, teacher_checkpoints=5)
    with pytest.raises(ValueError, match=r"args must be PruningDistillTrainingArguments, got a Distillation"):
        PruningDistillTrainer(tiny_bert(), arguments(), teacher_model=tiny_bert(), **given)
    shrinking = of_kind(PruningDistillTrainingArguments, arguments, target_hidden_size=8)
    with pytest.raises(ValueError, match=r"model is None, .* teacher_model must be a model, got a str"):
        PruningDistillTrainer(None, shrinking, teacher_model="folder", **given)
    with pytest.raises(ValueError, match=r"teacher_model_init_kwargs must be a dict, got 5"):
        make(arguments, teacher_model_init_kwargs=5)


def test_masked_words_of_a_teacher_with_layers_of_other_shapes(arguments):
    def shorten(module, args, output):
        if output.hidden_states is not None:
            output["hidden_states"] = tuple(each if each is None else each[:, ::2] for each in output.hidden_states)
        return output

    teacher = BertForMaskedLM(tiny_bert().config)
    teacher.register_forward_hook(shorten)
    with pytest.raises(ValueError, match=r"the student makes 20 positions of the example inputs, the teacher 10"):
        DistillationTrainer(
            BertForMaskedLM(tiny_bert().config), arguments(hidden_state_weight=1.0), data_collator=FixedMasks(),
            train_dataset=encoded_sentences(20, labels=None), processing_class=tiny_tokenizer(), teacher_model=teacher,
        )  # fmt: skip
