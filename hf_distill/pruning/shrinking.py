"""A student that is pruned in place during training: target sizes, sizes after each event, and checkpoint state."""

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
from hf_distill.pruning.structure import Axis, keeps_head_size, require_whole_heads

logger = logging.getLogger(__name__)

_FILE, _SCORES = "pruning.json", "pruning_scores.safetensors"


@dataclass(frozen=True)
class ShrinkingPlan:
    """The targets, the schedule and the importance criterion of a student that is pruned during training.

    Attributes:
        target_hidden_size: The final hidden size. None: unchanged.
        target_intermediate_size: The final number of feed-forward neurons per layer. None: in proportion to the hidden size.
        target_num_attention_heads: The final number of attention heads per layer. None: unchanged, or in proportion to the hidden
            size where heads cannot become narrower.
        target_parameters: The final number of parameters, in place of a hidden size. None: the hidden size decides.
        schedule: The course of the sizes from the first event to the last.
        start: The share of the training, in [0, 1], after which the first event takes place.
        end: The share of the training, in [0, 1], at which the last event takes place.
        events: The number of pruning events.
        importance: The criterion by which units are ranked.
        smoothing: The weight of earlier steps in the moving average of importance, in [0, 1).
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
    """The sizes of an encoder.

    Attributes:
        hidden_size: The hidden size (width) of the model.
        heads: The number of attention heads per layer.
        neurons: The number of feed-forward neurons per layer.
    """

    hidden_size: int
    heads: int
    neurons: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> Sizes:
        """The sizes that a configuration defines."""
        return cls(config.hidden_size, config.num_attention_heads, feed_forward_size(config))


def target_sizes(plan: ShrinkingPlan, model: PreTrainedModel) -> Sizes:
    """The final sizes of a student.

    Args:
        plan: The targets.
        model: The student before the first event.

    Returns:
        The sizes after the last event.

    Raises:
        ValueError: The targets are not smaller than the student's sizes, or no configuration can express them.
    """
    present = Sizes.of(model.config)
    if plan.target_parameters is not None:
        return _nearest_sizes(plan.target_parameters, model, present, plan.target_num_attention_heads)
    hidden_size = plan.target_hidden_size or present.hidden_size
    heads = plan.target_num_attention_heads or _heads_of(hidden_size, model.config)
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
    require_whole_heads(model.config, hidden_size / heads)
    if hidden_size % heads or hidden_size // heads > widest:
        below, above = hidden_size // heads * heads, -(-hidden_size // heads) * heads
        fitting = sorted({size for size in (below, above) if 0 < size <= widest * heads} or {widest * heads})
        raise ValueError(
            f"target_hidden_size {hidden_size} cannot be shared among {heads} heads of at most {widest} dimensions; the "
            f"nearest that can are {fitting}"
        )
    return target


def _heads_of(hidden_size: int, config: PretrainedConfig) -> int:
    """The number of heads of a student for which none was asked: all, or as many as keep the head size."""
    present = config.num_attention_heads
    return max(hidden_size * present // config.hidden_size, 1) if keeps_head_size(config) else present


def _nearest_sizes(target: int, model: PreTrainedModel, present: Sizes, asked: int | None) -> Sizes:
    """The sizes whose number of parameters is nearest to the target: of narrower heads, or of fewer where these keep their size."""
    whole = keeps_head_size(model.config)
    if whole and asked is not None:
        raise ValueError(
            f"the heads of {model.config.model_type} models cannot become narrower, so target_parameters decides their number: "
            f"leave target_num_attention_heads out, got {asked}"
        )
    heads = asked or present.heads
    if heads > present.heads:
        raise ValueError(f"the student has heads {present.heads} and cannot shrink to {heads}")
    units = leading(
        score(model, Criterion.MAGNITUDE)
    )  # the number of parameters does not depend on which units are kept
    widest = present.hidden_size // present.heads

    def sizes(step: int) -> Sizes:
        hidden_size = step * (widest if whole else heads)
        neurons = max(present.neurons * hidden_size // present.hidden_size, 1)
        return Sizes(hidden_size, step if whole else heads, neurons)

    def parameters(step: int) -> int:
        shape = vars(sizes(step)).values()
        return narrowed_parameters(model, largest(model, units, *shape))

    most_steps = present.heads if whole else widest
    steps = range(1, most_steps if heads == present.heads else most_steps + 1)  # at least one size must fall
    smallest, most = parameters(1), model.num_parameters()
    if not smallest <= target < most:
        raise ValueError(
            f"target_parameters must be from {smallest:,} (hidden size {sizes(1).hidden_size}) to below the student's {most:,}, "
            f"got {target:,}"
        )
    above = bisect_left(steps, target, key=parameters)
    found = min(steps[max(above - 1, 0) : above + 1], key=lambda step: abs(parameters(step) - target))
    logger.warning(f"target_parameters {target:,}: nearest is {sizes(found)}, {parameters(found):,}")
    return sizes(found)


class ShrinkingStudent:
    """Prunes a student in place at scheduled events, and keeps the state that checkpoints need.

    Args:
        model: The student, before the first event of the same sizes as its teacher.
        plan: The targets, the schedule and the importance criterion.

    Raises:
        ValueError: The architecture is not supported, or the targets cannot be reached.
    """

    def __init__(self, model: PreTrainedModel, plan: ShrinkingPlan):
        self.model, self.plan = model, plan
        self.first, self.target = Sizes.of(model.config), target_sizes(plan, model)
        self.done = 0  # the number of events that have taken place
        self.kept_hidden = list(range(self.first.hidden_size))  # indices of the kept dimensions in the initial student
        self.scores: Scores = {}
        score(model, Criterion.MAGNITUDE)  # raises for architectures that are not supported

    def events(self, total_steps: int) -> list[int]:
        """The optimizer steps after which the student is pruned.

        Args:
            total_steps: The number of optimizer steps of the training.

        Returns:
            The steps, counted from 1, ascending.

        Raises:
            ValueError: There are fewer steps than events.
        """
        events, end = self.plan.events, round(self.plan.end * total_steps)
        earliest = (
            2 if self.plan.start and end > events else 1
        )  # in step 1 the student equals its teacher: no gradients
        start = max(earliest, round(self.plan.start * total_steps))
        return event_steps(start, start if events == 1 else max(start, end), events)

    def sizes_after(self, event: int) -> Sizes:
        """The sizes after an event (counted from 0), the hidden size a multiple of the number of heads."""

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
        """Update the moving average of importance from the current gradients, unless they are NaN or infinite."""
        new, share = score(self.model, self.plan.importance, seed), self.plan.smoothing
        is_finite = torch.stack([values.isfinite().all() for values in new.values()]).all()
        for unit, values in new.items():
            before = self.scores.get(unit, torch.zeros_like(values)).to(
                values.device
            )  # scores loaded from a checkpoint are on the CPU
            self.scores[unit] = torch.where(is_finite, share * before + (1 - share) * values, before)

    def shrink(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Prune the student to the sizes after the next event.

        Args:
            optimizer: The optimizer of the student's parameters, whose state is pruned with them. None: there is none.

        Raises:
            ValueError: The gradients since the last event are all about 0, so that they do not rank the units.
        """
        if self.plan.importance.reads_gradients and are_rounding_noise(self.model, self.scores):
            raise ValueError(
                f"the student cannot shrink by {self.plan.importance.value}: the importance of its units is computed from "
                "gradients, which are all about 0, as for a student that still equals its teacher and learns from nothing "
                "else. Train it on labels too (hard_label_weight above 0), give it dropout, or take importance 'magnitude'."
            )
        self._prune(largest(self.model, self.scores, *vars(self.sizes_after(self.done)).values()), optimizer)
        self.done += 1
        self.scores = {}

    def _prune(self, keep: Keep, optimizer: torch.optim.Optimizer | None) -> None:
        assert keep.hidden is not None  # `largest` names the kept dimensions
        compact_in_place(self.model, keep, optimizer)
        self.kept_hidden = [self.kept_hidden[index] for index in keep.hidden]

    def save(self, folder: Path) -> None:
        """Write the state of pruning, which the model's files do not hold, into a checkpoint folder."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {"done": self.done, "kept_hidden": self.kept_hidden}
        atomic_write(folder / _FILE, json.dumps(state) + "\n")
        named = {
            f"{axis.value}.{'' if layer is None else layer}": values for (axis, layer), values in self.scores.items()
        }
        atomic_write(folder / _SCORES, save({name: values.contiguous() for name, values in named.items()}))

    def load(self, folder: Path) -> None:
        """Restore the state of pruning from a checkpoint, and give the model its size, before its weights are loaded.

        Args:
            folder: The checkpoint folder.

        Raises:
            FileNotFoundError: The checkpoint holds no state of pruning.
        """
        if not (folder / _FILE).exists():
            raise FileNotFoundError(f"{folder} holds no {_FILE}: it was not written by a run that shrinks its student")
        state = read_json(folder / _FILE, {"done": int, "kept_hidden": list[int]})
        if state["done"] > self.done:
            sizes = self.sizes_after(state["done"] - 1)
            units = leading(score(self.model, Criterion.MAGNITUDE))
            self._prune(largest(self.model, units, *vars(sizes).values()), None)
        self.done, self.kept_hidden = state["done"], state["kept_hidden"]
        parts = {tuple(name.split(".")): values for name, values in load_file(folder / _SCORES).items()}
        self.scores = {(Axis(axis), int(layer) if layer else None): values for (axis, layer), values in parts.items()}
