"""The tables and lists of a student's model card, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from hf_distill.evaluation.metric_text import agreement_label, agreement_text, metric_label, metric_name, value_text
from hf_distill.evaluation.row_values import latency_of, megabytes_of_row, megabytes_text, parameters_text
from hf_distill.publishing.run_record import RunRecord
from hf_distill.text.markdown import Markdown, code, escaped, joined, table

_SPLITS = {"eval": "validation", "test": "test"}  # keys: prefixes of metric names
_ROLES = {"teacher": "(teacher)", "other": ""}
_MANY = 50  # the largest number of class names in a card
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


def scores_of(record: RunRecord) -> dict[str, dict[str, float]]:
    """The quality metrics of a run, by metric and split; run times are left out."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        prefix, _, name = key.partition("_")
        if prefix in _SPLITS and is_result(name) and value is not None:
            found.setdefault(name, {})[_SPLITS[prefix]] = value
    return found


def is_result(name: str) -> bool:
    """Whether a metric measures quality, not run time or the number of examples."""
    return not name.endswith(("runtime", "per_second", "_time", "samples"))


def scores_table(record: RunRecord) -> Markdown | None:
    """The table of metrics by split; None if there are none."""
    scores = scores_of(record)
    splits = [split for split in _SPLITS.values() if any(split in values for values in scores.values())]
    rows = [
        [words(name), *(f"{values[split]:.4g}" if split in values else "" for split in splits)]
        for name, values in scores.items()
    ]
    return table([["", *splits], *rows]) if rows else None


def comparison_table(evaluation: Mapping[str, Any]) -> Markdown:
    """The table of a comparison, with the student of the card in bold."""
    rows, metric = evaluation["rows"], evaluation["metric"]
    is_timed = all(latency_of(row) is not None for row in rows)
    headings = ["model", "trained on", metric_label(evaluation), "against the teacher", agreement_label(evaluation)]
    headings += ["parameters"]
    is_sized = any(megabytes_of_row(row) is not None for row in rows)
    headings += ["MB"] if is_sized else []
    lines: list[list[Any]] = [[*headings, *(["latency"] if is_timed else [])]]
    for index, row in enumerate(rows):
        against, name = row.get("against_teacher") or {}, escaped(row["name"])
        change, *interval = (
            value_text(evaluation, against[key], "+") if against else "" for key in ("difference", "low", "high")
        )
        cells = [
            Markdown(f"**{name}** (this model)") if index == evaluation.get("this") else name,
            _ROLES.get(row["role"], row["role"]),
            value_text(evaluation, row["metrics"][metric]),
            Markdown(f"{change} ({' to '.join(interval)})") if against else "",
            agreement_text(row),
            parameters_text(row["parameters"]),
            *([megabytes_text(megabytes_of_row(row))] if is_sized else []),
        ]
        lines.append([*cells, *([f"{latency_of(row):.2f} ms"] if is_timed else [])])
    return table(lines, left=2)


def speed_table(evaluation: Mapping[str, Any], own: Mapping[str, Any]) -> Markdown | None:
    """The table of the student's latencies besides the teacher's; None if none was measured."""
    teachers = [row for row in evaluation["rows"] if row["role"] == "teacher" and row is not own]
    taught = {_measured_as(each): each["median_ms"] for row in teachers[:1] for each in row.get("latency", ())}
    sizes = {each["format"]: megabytes_of_row(own, each["format"]) for each in own.get("latency", ())}
    is_sized = any(size is not None for size in sizes.values())
    headings = [
        "format",
        *(["MB"] if is_sized else []),
        "batch",
        "length",
        "median ms",
        "p95 ms",
        "examples per second",
    ]
    rows = [
        [
            each["format"],
            *([megabytes_text(sizes[each["format"]])] if is_sized else []),
            each["batch_size"],
            each.get("sequence_length") or "",
            *(f"{each[name]:.2f}" if name in each else "" for name in ("median_ms", "p95_ms")),
            f"{each['sequences_per_second']:,.0f}" if "sequences_per_second" in each else "",
            *([f"{taught[_measured_as(each)]:.2f}" if _measured_as(each) in taught else ""] if taught else []),
        ]
        for each in own.get("latency", ())
    ]
    return table([[*headings, *(["teacher's median ms"] if taught else [])], *rows]) if rows else None


def exports_table(exports: Mapping[str, Any]) -> Markdown:
    """The table of a student's exports: size, quality, agreement with the student, and latency."""
    rows, metric = exports["rows"], exports.get("metric")
    is_timed = all(row.get("latency") for row in rows)
    headings = ["format", "file", "MB", *([metric_label(exports)] if metric else []), "agreement", "in fp32"]
    lines: list[list[Any]] = [[*headings, *(["latency"] if is_timed else [])]]
    for row in rows:
        agreement, kept = row.get("agreement"), row.get("kept_layers") or ()
        quality = row.get("metrics", {}).get(metric)
        cells = [
            row["format"],
            code(row["file"]) if row["file"] else "",
            megabytes_text(row["megabytes"]),
            *(["" if quality is None else value_text(exports, quality)] if metric else []),
            "" if agreement is None else f"{100 * agreement:.1f} %",
            counted(len(kept), "layer") if kept else "",
        ]
        lines.append([*cells, *([f"{latency_of(row, row['format']):.2f} ms"] if is_timed else [])])
    return table(lines, left=2)


def _measured_as(latency: Mapping[str, Any]) -> tuple[Any, ...]:
    return latency["format"], latency["batch_size"], latency.get("sequence_length")


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
    rest = f" and {len(labels) - _MANY:,} more" if len(labels) > _MANY else ""
    return Markdown(joined(map(code, labels[:_MANY]), ", ") + rest)


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
