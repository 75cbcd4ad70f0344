"""A student on its way to its last size: the sizes after each event, and what is left of what it began with."""

from __future__ import annotations

import json
import logging
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from transformers import PretrainedConfig, PreTrainedModel

from hf_distill.files import atomic_write, read_json
from hf_distill.pruning.compaction import Keep, compact_in_place, feed_forward_size, narrowed_parameters
from hf_distill.pruning.importance import Criterion, Scores, are_rounding_noise, largest, leading, score
from hf_distill.pruning.schedule import Shrinking, event_steps, size_at
from hf_distill.pruning.structure import Axis

logger = logging.getLogger(__name__)

_FILE, _SCORES = "pruning.json", "pruning_scores.safetensors"


@dataclass(frozen=True)
class ShrinkingPlan:
    """What a student shrinks to, when, and by what its units are judged.

    Attributes:
        target_hidden_size: Final width. None: unchanged.
        target_intermediate_size: Final feed-forward neurons per layer. None: in proportion to the width.
        target_num_attention_heads: Final attention heads per layer. None: unchanged.
        target_parameters: Final number of parameters, in place of a width. None: the width decides.
        schedule: How sizes fall.
        start: Share of the training after which the first event comes.
        end: Share of the training at which the last event comes.
        events: Number of events.
        importance: What a unit is worth.
        smoothing: Weight of earlier steps in the moving average of importance.
    """

    target_hidden_size: int | None = None
    target_intermediate_size: int | None = None
    target_num_attention_heads: int | None = None
    target_parameters: int | None = None
    schedule: Shrinking = Shrinking.CUBIC
    start: float = 0.1
    end: float = 0.75
    events: int = 10
    importance: Criterion = Criterion.SENSITIVITY
    smoothing: float = 0.9


@dataclass(frozen=True)
class Sizes:
    """Width, attention heads per layer and feed-forward neurons per layer of an encoder."""

    hidden_size: int
    heads: int
    neurons: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Sizes:
        """Those of a configuration."""
        return cls(config.hidden_size, config.num_attention_heads, feed_forward_size(config))


def target_sizes(plan: ShrinkingPlan, model: PreTrainedModel) -> Sizes:
    """The last sizes.

    Raises:
        ValueError: No configuration can say them, or they are no smaller.
    """
    present = Sizes.of(model.config)
    if plan.target_parameters is not None:
        return _nearest_sizes(plan, model, present)
    hidden_size = plan.target_hidden_size or present.hidden_size
    heads = plan.target_num_attention_heads or present.heads
    neurons = plan.target_intermediate_size or present.neurons * hidden_size // present.hidden_size
    target = Sizes(hidden_size, heads, neurons)
    for name in ("hidden_size", "heads", "neurons"):
        if getattr(target, name) > getattr(present, name):
            raise ValueError(
                f"the student has {name} {getattr(present, name)} and cannot shrink to {getattr(target, name)}"
            )
    if target == present:
        raise ValueError(f"the targets are the student's sizes, {present}: nothing would shrink")
    widest = present.hidden_size // present.heads
    if hidden_size % heads or hidden_size // heads > widest:
        below, above = hidden_size // heads * heads, -(-hidden_size // heads) * heads
        fitting = sorted({size for size in (below, above) if 0 < size <= widest * heads} or {widest * heads})
        raise ValueError(
            f"target_hidden_size {hidden_size} cannot be shared among {heads} heads of at most {widest} dimensions; the "
            f"nearest that can are {fitting}"
        )
    return target


def _nearest_sizes(plan: ShrinkingPlan, model: PreTrainedModel, present: Sizes) -> Sizes:
    """Those with which a model's parameters are nearest to the target."""
    heads = plan.target_num_attention_heads or present.heads
    if heads > present.heads:
        raise ValueError(f"the student has heads {present.heads} and cannot shrink to {heads}")

    units = leading(score(model, Criterion.MAGNITUDE))  # which of them stay does not matter to the number

    def sizes(head_size: int) -> Sizes:
        hidden_size = head_size * heads
        return Sizes(hidden_size, heads, max(present.neurons * hidden_size // present.hidden_size, 1))

    def parameters(head_size: int) -> int:
        shape = vars(sizes(head_size)).values()
        return narrowed_parameters(model, largest(model, units, *shape))

    widest = present.hidden_size // present.heads
    head_sizes = range(1, widest if heads == present.heads else widest + 1)  # something has to go
    smallest, most = parameters(1), model.num_parameters()
    if not smallest <= plan.target_parameters < most:
        raise ValueError(
            f"target_parameters must be from {smallest:,} ({heads} wide) to below the student's {most:,}, got "
            f"{plan.target_parameters:,}"
        )
    above = bisect_left(head_sizes, plan.target_parameters, key=parameters)
    found = min(
        head_sizes[max(above - 1, 0) : above + 1], key=lambda size: abs(parameters(size) - plan.target_parameters)
    )
    logger.warning(f"target_parameters {plan.target_parameters:,}: nearest is {sizes(found)}, {parameters(found):,}")
    return sizes(found)


class ShrinkingStudent:
    """Shrinks a model in place at its events, and keeps account of it.

    Args:
        model: The student, at first as wide as its teacher.
        plan: Targets, schedule and importance.

    Raises:
        ValueError: The family is not supported, or the targets cannot be.
    """

    def __init__(self, model: PreTrainedModel, plan: ShrinkingPlan):
        self.model, self.plan = model, plan
        self.first, self.target = Sizes.of(model.config), target_sizes(plan, model)
        self.done = 0  # events
        self.kept_hidden = list(range(self.first.hidden_size))  # of the dimensions it began with
        self.scores: Scores = {}
        score(model, Criterion.MAGNITUDE)  # refuses families whose units are not known

    def events(self, total_steps: int) -> list[int]:
        """The steps after which it shrinks.

        Raises:
            ValueError: There are fewer steps than events.
        """
        events, end = self.plan.events, round(self.plan.end * total_steps)
        earliest = 2 if self.plan.start and end > events else 1  # in step 1 it equals its teacher
        start = max(earliest, round(self.plan.start * total_steps))
        return event_steps(start, start if events == 1 else max(start, end), events)

    def sizes_after(self, event: int) -> Sizes:
        """Sizes after an event, the hidden size a multiple of the heads."""

        def size(name: str) -> int:
            first, last = getattr(self.first, name), getattr(self.target, name)
            return size_at(event, self.plan.events, first, last, self.plan.schedule)

        heads = size("heads")
        widest = self.first.hidden_size // self.first.heads
        hidden_size = (
            min(max(size("hidden_size") // heads, self.target.hidden_size // self.target.heads), widest) * heads
        )
        return Sizes(hidden_size, heads, size("neurons"))

    def note_gradients(self, seed: int) -> None:
        """Add a step's gradients to the moving average of importance, unless they overflowed."""
        new, share = score(self.model, self.plan.importance, seed), self.plan.smoothing
        is_finite = torch.stack([values.isfinite().all() for values in new.values()]).all()
        for unit, values in new.items():
            before = self.scores.get(unit, torch.zeros_like(values)).to(values.device)  # a checkpoint's are on the CPU
            self.scores[unit] = torch.where(is_finite, share * before + (1 - share) * values, before)

    def shrink(self, optimizer: torch.optim.Optimizer | None) -> None:
        """The next event.

        Raises:
            ValueError: The gradients since the last one do not say what units are worth.
        """
        if self.plan.importance.reads_gradients and are_rounding_noise(self.model, self.scores):
            raise ValueError(
                f"the student cannot shrink by {self.plan.importance.value}: what its units are worth comes from gradients, "
                "which are all about 0, as where it still equals its teacher and learns from nothing else. Let it learn from "
                "labels too (hard_label_weight above 0), give it dropout, or take importance 'magnitude'."
            )
        self._take(largest(self.model, self.scores, *vars(self.sizes_after(self.done)).values()), optimizer)
        self.done += 1
        self.scores = {}

    def _take(self, keep: Keep, optimizer: torch.optim.Optimizer | None) -> None:
        compact_in_place(self.model, keep, optimizer)
        self.kept_hidden = [self.kept_hidden[index] for index in keep.hidden]

    def save(self, folder: Path) -> None:
        """Write into a checkpoint what its model does not say."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {"done": self.done, "kept_hidden": self.kept_hidden}
        atomic_write(folder / _FILE, json.dumps(state) + "\n")
        named = {
            f"{axis.value}.{'' if layer is None else layer}": values for (axis, layer), values in self.scores.items()
        }
        atomic_write(folder / _SCORES, save({name: values.contiguous() for name, values in named.items()}))

    def load(self, folder: Path) -> None:
        """Give the model the size it had in a checkpoint, before its weights are loaded.

        Raises:
            FileNotFoundError: The checkpoint does not say.
        """
        if not (folder / _FILE).exists():
            raise FileNotFoundError(f"{folder} holds no {_FILE}: it was not written by a run that shrinks its student")
        state = read_json(folder / _FILE, {"done": int, "kept_hidden": list[int]})
        if state["done"] > self.done:
            sizes = self.sizes_after(state["done"] - 1)
            units = leading(score(self.model, Criterion.MAGNITUDE))
            self._take(largest(self.model, units, *vars(sizes).values()), None)
        self.done, self.kept_hidden = state["done"], state["kept_hidden"]
        parts = {tuple(name.split(".")): values for name, values in load_file(folder / _SCORES).items()}
        self.scores = {(Axis(axis), int(layer) if layer else None): values for (axis, layer), values in parts.items()}
