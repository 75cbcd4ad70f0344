"""The tables and lists of a model card about a training, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from hf_distill.evaluation.metric_text import metric_name
from hf_distill.publishing.run_record import RunRecord
from hf_distill.text.markdown import Markdown, code, escaped, joined, table

MANY_CLASSES = 50  # the largest number of classes that a card names
_COLUMNS = 5  # the largest number of columns of a training log, besides the step
# Settings that are always shown, in this order.
_SETTINGS = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "train_batch_size", "optimizer"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps"),
)
_IN_WORDS = {
    "train_batch_size": "examples of an optimizer step",
    "optimizer": "optimizer",
    "precision": "precision",
}  # not arguments, so described in words
_TRIVIAL = {"gradient_accumulation_steps": 1, "warmup_steps": 0, "weight_decay": 0}  # hidden if they have these values
_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
# Arguments of logging, saving and data loading, which do not matter to the reproduction of a run.
_HOUSEKEEPING = {
    *("disable_tqdm", "report_to", "project", "per_device_eval_batch_size", "eval_accumulation_steps", "use_cpu"),
    *("skip_memory_metrics", "remove_unused_columns", "run_name", "output_dir", "overwrite_output_dir", "push_to_hub"),
    *("restore_callback_states_from_checkpoint", "enable_jit_checkpoint", "skip_unreadable_checkpoints"),
}
_HOUSEKEEPING_PREFIXES = ("log_", "logging_", "save_", "hub_", "dataloader_", "ddp_", "include_", "trackio_", "do_")


def stages_table(record: RunRecord) -> Markdown | None:
    """The table of the training stages, one per row; None for a single training."""
    headings = ["stage", "loss", "steps", "batch size", "learning rate", "examples", "seconds"]
    rows = [
        [
            stage["name"].replace("_", "-"),
            joined((words(term["name"]) for term in stage["objective"]), " + "),
            f"{stage['training']['steps']:,}",
            *(settings_of(stage)[name] for name in ("per_device_train_batch_size", "learning_rate")),
            size(stage["data"].get("train_examples")),
            f"{stage['training']['seconds']:,.0f}",
        ]
        for stage in record.stages
    ]
    return table([headings, *rows], left=2) if rows else None


def log_table(training: Mapping[str, Any]) -> Markdown | None:
    """The table of loss and evaluation metrics at some steps; None if they were not recorded."""
    entries = training.get("log", [])
    found = {name for entry in entries for name in entry} - {"step"}
    names = sorted(found, key=lambda name: (name != "loss", name != "eval_loss", name))[:_COLUMNS]
    rows = [[f"{entry['step']:,}", *(_number(entry.get(name)) for name in names)] for entry in entries]
    headings = [
        "step",
        *(f"validation {words(name[5:])}" if name.startswith("eval_") else words(name) for name in names),
    ]
    return table([headings, *rows], left=0) if rows else None


def settings_of(part: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that determine a training, those with default values included.

    Args:
        part: The `arguments` and `training` of a run record, or of a stage in it.

    Returns:
        The values by name; None if a value is not known.
    """
    arguments, training = part["arguments"], part["training"]
    defaults = {each.name: each.default for each in fields(TrainingArguments)}
    found = {name: arguments.get(name, defaults.get(name)) for name in _SETTINGS}
    name = str(arguments.get("optim", getattr(defaults["optim"], "value", defaults["optim"])))
    *betas, epsilon = (arguments.get(each, defaults[each]) for each in _ADAM)
    found["optimizer"] = optimizer_text(name, *((betas, epsilon) if "adam" in name else (None, None)))
    batch = found["per_device_train_batch_size"], found["gradient_accumulation_steps"], training.get("processes") or 1
    found["train_batch_size"] = batch[0] * batch[1] * batch[2] if all(isinstance(each, int) for each in batch) else None
    return found | training.get("settings", {})


def optimizer_text(name: str, betas: Sequence[float] | None, epsilon: float | None) -> str:
    """Describe an optimizer.

    Args:
        name: The name of the optimizer's class, or its name in transformers.
        betas: The betas of an optimizer of Adam's kind. None: unknown, or another kind.
        epsilon: The epsilon of an optimizer of Adam's kind. None: unknown, or another kind.

    Returns:
        The name, followed by betas and epsilon if they are given.
    """
    if betas is None or epsilon is None:
        return name
    return f"{name} (betas {' and '.join(map(str, betas))}, epsilon {epsilon})"


def settings_table(record: RunRecord) -> Markdown:
    """The table of settings: batch, optimizer and schedule, then all other relevant arguments with non-default values."""
    settings = settings_of({"arguments": record.arguments, "training": record.training})
    if (settings["max_steps"] or -1) > 0:
        settings["num_train_epochs"] = None
    elif settings["max_steps"] is not None:
        settings["max_steps"] = None
    shown = {name: value for name, value in settings.items() if value is not None}
    left_out = {*_SETTINGS, "optim", *_ADAM, "seed", *_HOUSEKEEPING}
    others = {
        name: value
        for name, value in sorted(record.arguments.items())
        if name not in left_out and not name.startswith(_HOUSEKEEPING_PREFIXES)
    }
    shown |= {"seed": record.training["seed"]} | others
    rows = [
        [_IN_WORDS[name], value] if name in _IN_WORDS else [code(name), _setting(name, value)]
        for name, value in shown.items()
        if _TRIVIAL.get(name) != value
    ]
    return table([["argument", "value"], *rows], left=2)


def _setting(name: str, value: Any) -> Markdown:
    is_share = name == "warmup_steps" and isinstance(value, float) and 0 < value < 1
    return Markdown(f"{code(value)} ({100 * value:g} % of all steps)") if is_share else code(value)


def objective_list(record: RunRecord) -> Markdown:
    """The list of the terms of the loss."""
    return Markdown("\n".join(f"- {_term(term)}" for term in record.objective))


def _term(term: Mapping[str, Any]) -> Markdown:
    weight = escaped(term["weight"])
    if term["name"] == "hard_label":
        return Markdown(f"{weight} × hard labels (the student's own loss on the labels)")
    settings = {name: value for name, value in term.items() if name not in ("name", "weight")}
    if term["name"] == "soft_label" and {"loss", "temperature"} <= settings.keys():
        loss, temperature = code(settings.pop("loss")), escaped(settings.pop("temperature"))
        what = f"soft labels ({loss} between the student's and the teacher's logits, temperature {temperature}"
        what += "".join(f", {words(name)}: {code(value)}" for name, value in settings.items()) + ")"
    else:
        details = ", ".join(f"{words(name)}: {code(value)}" for name, value in settings.items())
        what = words(term["name"]) + (f" ({details})" if details else "")
    return Markdown(f"{weight} × {what}")


def classes(labels: list[str]) -> Markdown:
    """The names of the classes as code; of more than 50 the first 50 and the number of the others."""
    rest = f" and {len(labels) - MANY_CLASSES:,} more" if len(labels) > MANY_CLASSES else ""
    return Markdown(joined(map(code, labels[:MANY_CLASSES]), ", ") + rest)


def shape(model: Mapping[str, Any]) -> str:
    """The number of layers and the hidden size of a model, as text, as far as they are known."""
    layers, hidden = model.get("num_hidden_layers"), model.get("hidden_size")
    found = [] if layers is None else [counted(layers, "layer")]
    return ", ".join(found + ([] if hidden is None else [f"hidden size {hidden}"]))


def counted(number: float, what: str) -> str:
    """A number with its noun, in the singular or the plural."""
    shown = f"{number:,.0f}"
    return f"{shown} {what}{'' if shown == '1' else 's'}"


def size(examples: int | None) -> str:
    """The number of examples as text; "a stream" if it is not known."""
    return f"{examples:,}" if examples else "a stream"


def words(name: str) -> Markdown:
    """An identifier with spaces in place of underscores, escaped."""
    return escaped(name.replace("_", " "))


def metric_heading(metric: str) -> str:
    """A metric at the beginning of a sentence: "MRR", "Accuracy"."""
    name = metric_name(metric)
    return name[:1].upper() + name[1:]


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
