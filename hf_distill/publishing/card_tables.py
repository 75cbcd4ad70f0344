"""The tables and lists of a student's card, ready to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from hf_distill.evaluation.report import in_percent, is_share, latency_of, metric_label
from hf_distill.publishing.run_record import RunRecord
from hf_distill.text.markdown import Markdown, code, escaped, joined, table

_SPLITS = {"eval": "validation", "test": "test"}  # by the prefix of their metrics
_ROLES = {"teacher": "(teacher)", "other": ""}
_MANY = 50  # names of classes that a card lists
_COLUMNS = 5  # of a training log, beside the step
# Shown whatever they are, in this order.
_SETTINGS = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "train_batch_size", "optimizer"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps"),
)
_IN_WORDS = {"train_batch_size": "examples of an optimizer step", "optimizer": "optimizer"}  # no arguments
_TRIVIAL = {"gradient_accumulation_steps": 1, "warmup_steps": 0, "weight_decay": 0}  # shown where they are otherwise
_ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
# How a run was watched, stored and loaded, which nobody needs to know who repeats it.
_HOUSEKEEPING = {
    *("disable_tqdm", "report_to", "project", "per_device_eval_batch_size", "eval_accumulation_steps", "use_cpu"),
    *("skip_memory_metrics", "remove_unused_columns", "run_name", "output_dir", "overwrite_output_dir", "push_to_hub"),
    *("restore_callback_states_from_checkpoint", "enable_jit_checkpoint", "skip_unreadable_checkpoints"),
}
_HOUSEKEEPING_PREFIXES = ("log_", "logging_", "save_", "hub_", "dataloader_", "ddp_", "include_", "trackio_", "do_")


def scores_of(record: RunRecord) -> dict[str, dict[str, float]]:
    """What was measured on each split, by metric; not how long it took."""
    found: dict[str, dict[str, float]] = {}
    for key, value in record.metrics.items():
        prefix, _, name = key.partition("_")
        if prefix in _SPLITS and is_result(name) and value is not None:
            found.setdefault(name, {})[_SPLITS[prefix]] = value
    return found


def is_result(name: str) -> bool:
    """Whether a metric says how good a model is, not how long that took or on how many examples."""
    return not name.endswith(("runtime", "per_second", "_time", "samples"))


def scores_table(record: RunRecord) -> Markdown | None:
    """Metrics by split; None without any."""
    scores = scores_of(record)
    splits = [split for split in _SPLITS.values() if any(split in values for values in scores.values())]
    rows = [
        [words(name), *(f"{values[split]:.4g}" if split in values else "" for split in splits)]
        for name, values in scores.items()
    ]
    return table([["", *splits], *rows]) if rows else None


def comparison_table(evaluation: Mapping[str, Any]) -> Markdown:
    """The student among the models it was compared with, in bold."""
    rows, metric = evaluation["rows"], evaluation["metric"]
    is_timed = all(latency_of(row) is not None for row in rows)
    scale = 100 if is_share(evaluation) else 1
    headings = ["model", "trained on", metric_label(evaluation), "against the teacher", "agreement", "parameters"]
    lines: list[list[Any]] = [[*headings, *(["latency"] if is_timed else [])]]
    for index, row in enumerate(rows):
        against, fidelity = row.get("against_teacher") or {}, row.get("fidelity") or {}
        agreement, name = fidelity.get("teacher_agreement"), escaped(row["name"])
        interval = [f"{scale * against[end]:+.1f}" for end in ("low", "high")] if against else []
        cells = [
            Markdown(f"**{name}** (this model)") if index == evaluation.get("this") else name,
            _ROLES.get(row["role"], row["role"]),
            in_percent(evaluation, row["metrics"][metric]),
            Markdown(f"{scale * against['difference']:+.1f} ({' to '.join(interval)})") if against else "",
            f"{100 * agreement:.1f} %" if agreement is not None else "",
            f"{row['parameters'] / 1e6:.1f}M",
        ]
        lines.append([*cells, *([f"{latency_of(row):.2f} ms"] if is_timed else [])])
    return table(lines, left=2)


def speed_table(evaluation: Mapping[str, Any], own: Mapping[str, Any]) -> Markdown | None:
    """Every time that was measured of the student, beside the teacher's; None without any."""
    teacher = next((row for row in evaluation["rows"] if row["role"] == "teacher" and row is not own), {})
    taught = {_measured_as(each): each["median_ms"] for each in teacher.get("latency", ())}
    headings = ["format", "batch", "length", "median ms", "p95 ms", "examples per second"]
    rows = [
        [
            each["format"],
            each["batch_size"],
            each.get("sequence_length") or "",
            *(f"{each[name]:.2f}" if name in each else "" for name in ("median_ms", "p95_ms")),
            f"{each['sequences_per_second']:,.0f}" if "sequences_per_second" in each else "",
            *([f"{taught[_measured_as(each)]:.2f}" if _measured_as(each) in taught else ""] if taught else []),
        ]
        for each in own.get("latency", ())
    ]
    return table([[*headings, *(["teacher's median ms"] if taught else [])], *rows]) if rows else None


def _measured_as(latency: Mapping[str, Any]) -> tuple[Any, ...]:
    return latency["format"], latency["batch_size"], latency.get("sequence_length")


def stages_table(record: RunRecord) -> Markdown | None:
    """What the student went through, one training a row; None for a single one."""
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
    """Loss and evaluation at some steps; None where they were not recorded."""
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
    """The settings that decide a training, those among them that are their defaults too.

    Args:
        part: `arguments` and `training` of a record or of a stage in it.
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
    """An optimizer in words.

    Args:
        name: Of its class, or as transformers calls it.
        betas: Of Adam's kind; None: not known, or of another kind.
        epsilon: Likewise.
    """
    if betas is None or epsilon is None:
        return name
    return f"{name} (betas {' and '.join(map(str, betas))}, epsilon {epsilon})"


def settings_table(record: RunRecord) -> Markdown:
    """Batch, optimizer and schedule, then all other arguments that differ from their defaults but for housekeeping."""
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
        [_IN_WORDS[name], value] if name in _IN_WORDS else [code(name), code(value)]
        for name, value in shown.items()
        if _TRIVIAL.get(name) != value
    ]
    return table([["argument", "value"], *rows], left=2)


def objective_list(record: RunRecord) -> Markdown:
    """The terms of the loss."""
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
        told = ", ".join(f"{words(name)}: {code(value)}" for name, value in settings.items())
        what = words(term["name"]) + (f" ({told})" if told else "")
    return Markdown(f"{weight} × {what}")


def classes(labels: list[str]) -> Markdown:
    """Names of classes, of many the first."""
    rest = f" and {len(labels) - _MANY:,} more" if len(labels) > _MANY else ""
    return Markdown(joined(labels[:_MANY], ", ") + rest)


def shape(model: Mapping[str, Any]) -> str:
    """Layers and hidden size of a model, as far as they are known."""
    layers, hidden = model.get("num_hidden_layers"), model.get("hidden_size")
    found = [] if layers is None else [counted(layers, "layer")]
    return ", ".join(found + ([] if hidden is None else [f"hidden size {hidden}"]))


def counted(number: float, what: str) -> str:
    """A number of things, of one in the singular."""
    shown = f"{number:,.0f}"
    return f"{shown} {what}{'' if shown == '1' else 's'}"


def size(examples: int | None) -> str:
    """How many examples, in words where they were a stream."""
    return f"{examples:,}" if examples else "a stream"


def words(name: str) -> Markdown:
    """A name of the code in words."""
    return escaped(name.replace("_", " "))


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else f"{value:,}"
