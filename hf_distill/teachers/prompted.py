"""A causal language model as a teacher of classifiers: it scores the words of every label after a prompt."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from hf_distill.data.limits import ReadingLimits
from hf_distill.objectives.label_words import LabelScore, label_log_probabilities, token_log_probabilities
from hf_distill.objectives.logits import average_probabilities
from hf_distill.tasks import SINGLE_LABEL, Task, class_of, task_of, unwrapped
from hf_distill.teachers.base import TeacherOutputs
from hf_distill.teachers.frozen import FrozenTeacher
from hf_distill.teachers.prompts import Prompt, PromptEncoder

_LARGEST_CHANGE = 0.05  # of logits because of padding, relative; rounding in half precision stays below
_MOST_ROWS = 1024  # of a forward pass over the further tokens of several labels


@dataclass(frozen=True)
class PromptedOutputs(TeacherOutputs):
    """The outputs of a prompted language model.

    Attributes:
        template_logits: Log-probabilities of the labels by template, (batch, templates, labels), whose mean distribution
            `logits` has.
    """

    template_logits: Tensor | None = None


class PromptedTeacher(FrozenTeacher):
    """A causal language model that classifies texts by the words that it expects after a prompt.

    The prompt of a text is read once. Labels of one token are read from the distribution of the next token; the further
    tokens of longer labels are read after the cached keys and values of the prompt.

    Args:
        model: A causal language model, see `AutoModelForCausalLM`.
        tokenizer: The tokenizer of the model.
        prompt: The templates and the words of the labels.
        text_columns: The column of texts, or the two columns of pairs of texts.
        max_length: Tokens that longer texts are cut to. None: as many as the model can read.
        dtype: The precision to compute in, see `FrozenTeacher`.
        device: The device to compute on; None leaves the model where it is.
        sharding: "always", "never" or "auto", see `FrozenTeacher`.

    Attributes:
        prompt: The prompt.
        encoder: The data collator that makes prompts of rows with the columns of texts.

    Raises:
        ValueError: The model is no causal language model, or reads padding in spite of the attention mask; or the prompt
            does not fit it or its tokenizer.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Prompt,
        text_columns: Sequence[str] = ("text",),
        max_length: int | None = None,
        dtype: str = "auto",
        device: torch.device | str | None = None,
        sharding: str = "never",
    ):
        if task_of(model) is not Task.CAUSAL_LM:
            raise ValueError(f"a prompt is for a causal language model, got a {class_of(model).__name__}")
        self.prompt = prompt
        self.encoder = PromptEncoder(tokenizer, prompt, text_columns, max_length, context_of(model))
        super().__init__(model, dtype, device, input_prefix="prompted_", sharding=sharding)
        self._calibrations: dict[torch.dtype, Tensor] = {}
        self._require_blindness_to_padding()

    @property
    def input_names(self) -> set[str]:
        """The columns of texts, and the tokens that its encoder makes of them."""
        return super().input_names | set(self.encoder.columns)

    @property
    def task(self) -> Task:
        """The task of its outputs, which are those of a classifier of texts."""
        return Task.SEQUENCE_CLASSIFICATION

    @property
    def config(self) -> PretrainedConfig:
        """The model's configuration, with the labels of the prompt."""
        found: Any = copy.copy(unwrapped(self.model).config)
        found.id2label = dict(enumerate(self.prompt.labels))
        found.label2id = {label: index for index, label in enumerate(self.prompt.labels)}
        found.problem_type = SINGLE_LABEL
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """What its outputs depend on beside the model: the prompt, and what the numbers are."""
        return self.prompt.description() | {"outputs": "log_probabilities"}

    def identity(self) -> Any:
        """The fingerprint of the weights, and the prompt."""
        return super().identity() | {"prompt": self.prompt.description()}

    def outputs(self, inputs: Mapping[str, Any]) -> PromptedOutputs:
        """The log-probabilities of the labels.

        Args:
            inputs: What the encoder makes of rows, with the prefix of the teacher's inputs.

        Returns:
            Log-probabilities (batch, labels), and those of every template.
        """
        if self.model.training:
            self.model.eval()
        tokens, mask = (inputs[self.input_prefix + name] for name in ("input_ids", "attention_mask"))
        found = self._label_logits(tokens, mask, self._calibration(tokens.device))
        count = found.shape[1]
        return PromptedOutputs(average_probabilities(found.unbind(1), [1 / count] * count), template_logits=found)

    def _calibration(self, device: torch.device) -> Tensor | None:
        """Log-probabilities of the labels for texts without content, (templates, labels), in the present precision."""
        if not self.prompt.content_free:
            return None
        if self.dtype not in self._calibrations:
            batch = {name: value.to(device) for name, value in self.encoder.content_free().items()}
            found = self._label_logits(batch["input_ids"], batch["attention_mask"], None)
            self._calibrations[self.dtype] = average_probabilities(found.unbind(0), [1 / len(found)] * len(found))
        return self._calibrations[self.dtype]

    def _label_logits(self, tokens: Tensor, mask: Tensor, content_free: Tensor | None) -> Tensor:
        """Log-probabilities (batch, templates, labels) for prompts (batch * templates, tokens)."""
        is_token = self.encoder.is_label_token.to(tokens.device)
        with torch.inference_mode():
            scores = self._token_scores(tokens, mask)
        scores = scores.clone().view(-1, *is_token.shape)
        return label_log_probabilities(scores, is_token, LabelScore(self.prompt.score), content_free)

    def _token_scores(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Log-probabilities of the labels' tokens after prompts, (prompts, labels, tokens); 0 where there is no token."""
        own = self.encoder.label_tokens
        labels = own.repeat(len(tokens) // len(own), 1, 1).to(tokens.device)
        is_longer = self.encoder.is_label_token[..., 1:].any(dim=-1).any(dim=0)  # of one template at least
        longer = is_longer.nonzero()[:, 0].to(tokens.device)
        logits, cache = self._next_token_logits(tokens, mask, use_cache=len(longer) > 0)
        scores = torch.zeros(labels.shape, dtype=torch.promote_types(logits.dtype, torch.float32), device=tokens.device)
        scores[..., 0] = token_log_probabilities(logits, labels[..., 0])
        size = max(1, _MOST_ROWS // len(tokens))
        for chosen in longer.split(size) if len(longer) else ():
            scores[:, chosen, 1:] = self._further_scores(tokens, mask, cache, labels[:, chosen], len(chosen))
        return scores

    def _next_token_logits(self, tokens: Tensor, mask: Tensor, use_cache: bool) -> tuple[Tensor, Any]:
        """The logits after each prompt, (prompts, vocabulary), and the cache; None of a model that has none to be expanded."""
        options = {"use_cache": use_cache, "logits_to_keep": 1}
        output = self._forward(tokens, mask, options)
        cache = getattr(output, "past_key_values", None)
        return output.logits[:, -1], cache if hasattr(cache, "batch_repeat_interleave") else None

    def _further_scores(self, tokens: Tensor, mask: Tensor, cache: Any, labels: Tensor, count: int) -> Tensor:
        """Log-probabilities of all but the first token of labels (prompts, count, tokens), (prompts, count, tokens - 1)."""
        read, length = labels[..., :-1].flatten(0, 1), labels.shape[-1] - 1
        mask = torch.cat([mask.repeat_interleave(count, dim=0), torch.ones_like(read)], dim=1)
        options: dict[str, Any] = {"use_cache": cache is not None, "logits_to_keep": length}
        if cache is None:
            read = torch.cat([tokens.repeat_interleave(count, dim=0), read], dim=1)
        else:
            options["past_key_values"] = copy.deepcopy(cache)
            options["past_key_values"].batch_repeat_interleave(count)
        logits = self._forward(read, mask, options).logits[:, -length:]
        return token_log_probabilities(logits, labels[..., 1:].flatten(0, 1)[..., None])[..., 0].view(-1, count, length)

    def _require_blindness_to_padding(self) -> None:
        """Refuse a model that ignores the attention mask, as some recurrent ones do."""
        tokens = self.encoder.batch([[""] * len(self.encoder.columns)])["input_ids"][:1].to(self.device)
        padded, mask = (
            torch.cat([torch.zeros_like(tokens), each], dim=1) for each in (tokens, torch.ones_like(tokens))
        )
        with torch.inference_mode():
            alone, _ = self._next_token_logits(tokens, torch.ones_like(tokens), use_cache=False)
            other, _ = self._next_token_logits(padded, mask, use_cache=False)
        if not (alone - other).norm() <= _LARGEST_CHANGE * alone.norm():
            raise ValueError(
                f"{class_of(self.model).__name__} gives other outputs where padding precedes a text: it does not read the "
                "attention mask, and so cannot be a prompted teacher"
            )

    def _forward(self, tokens: Tensor, mask: Tensor, options: Mapping[str, Any]) -> Any:
        """Run the model on the last of the tokens that the mask is for; padding before them has no positions."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        given = {"input_ids": tokens, "attention_mask": mask, "position_ids": positions, **options}
        return self.model(**{name: value for name, value in given.items() if name in self._accepted})


def context_of(model: nn.Module) -> int | None:
    """The number of tokens that a language model can read; None where its configuration does not say."""
    limit = ReadingLimits.of(model, "teacher").max_length
    config: Any = unwrapped(model).config
    return limit or getattr(config.get_text_config(), "max_position_embeddings", None)
