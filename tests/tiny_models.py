"""Models and data small enough that a training run takes a second; also imported by worker processes."""

from __future__ import annotations

import dataclasses

import datasets
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
    TrainingArguments,
)

VOCABULARY = 100


def tiny_tokenizer(lowercase: bool = True, prefix: str = "w", shift: int = 0) -> PreTrainedTokenizerFast:
    """100 words w0 ... w99, of which the first four are special; their numbers may start at `shift`."""
    words = {f"{prefix}{index}": index + shift for index in range(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=f"{prefix}1"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=f"{prefix}0", unk_token=f"{prefix}1", model_max_length=64
    )


def tiny_bert(hidden_size: int = 16, layers: int = 1, seed: int = 0, dropout: float = 0.0, **config):
    """A BERT classifier with random weights large enough to give different answers to different texts."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=config.pop("vocab_size", VOCABULARY),
            hidden_size=hidden_size,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * hidden_size,
            max_position_embeddings=64,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.3,
            **config,
        )
    )
    torch.manual_seed(0)
    return model


def encoded_sentences(rows: int, labels: str | None = "class") -> datasets.Dataset:
    """Random sequences of 3 to 20 tokens with labels of a kind: "class", "multi", "float" or None."""
    generator = torch.Generator().manual_seed(7)
    examples = []
    for row in range(rows):
        length = int(torch.randint(3, 21, (1,), generator=generator))
        tokens = torch.randint(4, VOCABULARY, (length,), generator=generator).tolist()
        label = {"class": row % 2, "multi": [float(row % 2), float(row % 3 == 0), 1.0], "float": row / rows, None: None}
        examples.append({"input_ids": tokens, "attention_mask": [1] * length, "labels": label[labels]})
        if labels is None:
            del examples[-1]["labels"]
    return datasets.Dataset.from_list(examples)


class FixedMasks:
    """Masks every third position, so that two runs see the same masks."""

    def __init__(self):
        self.pad = DataCollatorForLanguageModeling(tiny_tokenizer(), mlm=False)

    def __call__(self, rows):
        batch = self.pad([{name: row[name] for name in ("input_ids", "attention_mask")} for row in rows])
        masked = torch.zeros_like(batch["labels"], dtype=torch.bool)
        masked[:, ::3] = True
        batch["labels"] = torch.where(masked & batch["attention_mask"].bool(), batch["input_ids"], -100)
        batch["input_ids"] = torch.where(masked, 3, batch["input_ids"])
        return batch


def parameters_of(model) -> torch.Tensor:
    """All parameters of a model as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def named_as_here(options: dict) -> dict:
    """Training arguments by the names that transformers had for them before 5.23, where it is older."""
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    names = {name: name if name in known else name.replace("activation_", "gradient_") for name in options}
    return {names[name]: value for name, value in options.items()}
