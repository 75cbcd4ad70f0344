"""What a training shows of its log: lines that can be read, and metrics that trackers show in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainerState
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from hf_distill.objectives.objective import Objective

_TRACKERS = (TensorBoardCallback, TrackioCallback, WandbCallback)
_STAGES = ("eval_", "test_")  # what trackers turn into eval/ and test/; all else is in train/
_ALWAYS_EVALUATED = "hard_label_loss"
COSTS = ("spent_flops", "tokens_per_second", "flops_utilization", "budget_left", "step_gflops", "step_ms")
FIDELITY = ("teacher_agreement", "teacher_kl", "teacher_mse", "teacher_cosine")


def log_line(logs: Mapping[str, Any], step: int) -> str:
    """A log entry as one line, with numbers of four digits; the only term of a loss is not repeated beside it.

    Args:
        logs: The values by name.
        step: The optimizer step.

    Returns:
        The line, such as "step 40: loss 0.04496, spent_flops 1.84e+10, tokens_per_second 2,283".
    """
    of_loss = _text(logs["loss"]) if "loss" in logs else None
    repeated = [name for name, value in logs.items() if name.endswith("_loss") and _text(value) == of_loss]
    shown = [f"{name} {_text(value)}" for name, value in logs.items() if name not in ("total_flos", *repeated)]
    return f"step {step:,}: " + ", ".join(shown)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.{3 if abs(value) >= 1e6 else 4}g}"


class ReadableProgress(ProgressCallback):
    """transformers' progress bars with names, and log entries as lines of `log_line`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._ended_bar = 0.0  # when the bar was last written that a line follows

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Begin the bar of the training."""
        super().on_train_begin(args, state, control, **kwargs)
        bar: Any = self.training_bar
        self._name(bar, "Training")
        self.current_step = made = (
            state.global_step
        )  # above 0 where a training is resumed, whose rate is that of new steps
        if bar is not None:
            bar.initial = bar.n = bar.last_print_n = made
        is_unseen = bar is not None and not bar.disable and bar.delay > 0
        self._ended_bar = bar.last_print_t if is_unseen else 0.0

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        """Begin or continue the bar of an evaluation."""
        super().on_prediction_step(args, state, control, eval_dataloader, **kwargs)
        self._name(self.prediction_bar, "Evaluating")

    @staticmethod
    def _name(bar: Any, name: str) -> None:
        if bar is not None and not bar.disable and not bar.desc:
            bar.set_description(name, refresh=False)

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Write the entry above the bar; in a file, where a bar cannot be overwritten, below it."""
        bar: Any = self.training_bar
        if not state.is_world_process_zero or bar is None:
            return
        if bar.disable or bar.fp.isatty():
            bar.write(log_line(logs, state.global_step))
            return
        if bar.last_print_t != self._ended_bar:  # it was written since, without an end of its line
            bar.fp.write("\n")
            bar.fp.flush()
            self._ended_bar = bar.last_print_t
        print(log_line(logs, state.global_step), flush=True)


class ReadablePrinter(PrinterCallback):
    """transformers' printer, with log entries as lines of `log_line`."""

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print the entry."""
        if state.is_local_process_zero and logs:
            print(log_line(logs, state.global_step))


_READABLE = {ProgressCallback: ReadableProgress, PrinterCallback: ReadablePrinter}


def readable(callbacks: list[TrainerCallback]) -> None:
    """Replace transformers' own progress bar and printer, in place; those of notebooks and of users stay."""
    for index, callback in enumerate(callbacks):
        if replacement := _READABLE.get(type(callback)):
            callbacks[index] = replacement()


class _Grouped:
    """A tracker's `on_log` that gets terms, costs and fidelity by names with a group, such as "terms/soft_label_loss"."""

    def __init__(self, on_log: Callable[..., Any], objective: Callable[[], Objective]):
        self._on_log, self._objective = on_log, objective

    def __call__(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        terms = (_ALWAYS_EVALUATED, *(f"{term.name}_loss" for term in self._objective().terms))
        groups = {"terms": terms, "cost": COSTS, "fidelity": FIDELITY}
        grouped = {_in_group(name, groups): value for name, value in (logs or {}).items()}
        self._on_log(args, state, control, logs=grouped, **kwargs)


def _in_group(name: str, groups: Mapping[str, tuple[str, ...]]) -> str:
    stage = next((each for each in _STAGES if name.startswith(each)), "")
    rest = name.removeprefix(stage)  # several evaluation sets have their name before the metric's
    found = next((group for group, names in groups.items() if rest.endswith(names)), None)
    return name if found is None else f"{stage}{found}/{rest}"


def group_for_trackers(callbacks: Iterable[TrainerCallback], objective: Callable[[], Objective]) -> None:
    """Let TensorBoard, Trackio and Weights & Biases show terms, costs and fidelity in groups; the log keeps its names.

    Args:
        callbacks: The callbacks of a trainer; trackers among them are changed once.
        objective: A function that returns the training objective, whose terms are logged as `<term>_loss`.
    """
    for callback in callbacks:
        if isinstance(callback, _TRACKERS) and not isinstance(callback.on_log, _Grouped):
            setattr(callback, "on_log", _Grouped(callback.on_log, objective))  # noqa: B010  (a method, to mypy)
