"""A family of students on the Hub: repositories whose cards show one another, and a collection of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hf_distill.evaluation.report import latency_of
from hf_distill.publishing.card_tables import shape
from hf_distill.publishing.hub import Publication, plan_publication, send
from hf_distill.publishing.hub_session import HubSession, PublishError, RetryPolicy
from hf_distill.publishing.run_record import RunRecord
from hf_distill.publishing.student_folder import describe_content
from hf_distill.text.markdown import Markdown, escaped, table

_BEGIN, _END = "<!-- family -->", "<!-- end of the family -->"
_SECTION = re.compile(f"{_BEGIN}.*?{_END}\n*", re.DOTALL)
_HUB = "https://huggingface.co"
_QUALITIES = ("accuracy", "f1", "matthews_correlation", "pearson", "exact_match", "teacher_agreement")
_SPLITS = {"test": "test", "eval": "validation"}  # by the prefix of their metrics


@dataclass(frozen=True)
class FamilyPublication:
    """A published family, or one that would be.

    Attributes:
        title: Of the collection.
        namespace: Whose it is.
        private: Visibility of the repositories and the collection.
        students: One publication per student, in the order of the table.
        table: Markdown table that every card holds.
        collection: Where the collection is. "": nothing was sent, this was a dry run.
    """

    title: str
    namespace: str
    private: bool
    students: tuple[Publication, ...]
    table: str
    collection: str = ""


def publish_family(
    folders: Sequence[str | os.PathLike],
    title: str,
    namespace: str,
    *,
    description: str | None = None,
    private: bool = False,
    tag: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    patience: RetryPolicy | None = None,
) -> FamilyPublication:
    """Publish students that belong together, each in a repository named as its folder, and a collection of them.

    The card of each gets a table of all, with links. Every folder is checked before the first is sent; the folders
    are only read. A call after a failed one continues it.

    Args:
        folders: Students with run records and cards, see `publish`; at least two.
        title: Of the collection and the table.
        namespace: The user or organization whose they will be.
        description: Of the collection. None: nothing.
        private: The namespace alone sees the repositories and the collection.
        tag: Name for the commit in each repository. None: no name.
        token: Of the Hub. None: that of HF_TOKEN or of `hf auth login`.
        dry_run: Check and list, send nothing.
        patience: How long to keep trying each step. None: a few minutes.

    Returns:
        What is there now.

    Raises:
        FileNotFoundError: A folder lacks something.
        ValueError: A folder or the arguments cannot be published as they are.
        PublishError: The Hub could not be reached or refused; students that had landed stay.
    """
    records = _records(folders, title, namespace)
    session = None if dry_run else HubSession(token, patience)
    options = dict(private=private, tag=tag, token=token)
    plans = [plan_publication(folder, name, **options) for name, folder in zip(records, folders, strict=True)]
    family = FamilyPublication(title, namespace, private, tuple(plans), family_table(records, hub=constants.ENDPOINT))
    plans = [_with_card(plan, records, title) for plan in plans]
    if session is None:
        return replace(family, students=tuple(plans))
    sent = tuple(send(session, plan, f"Publish a student of the family {title!r}") for plan in plans)
    family = replace(family, students=sent)
    try:
        return replace(family, collection=_collect(session, family, records, description))
    except PublishError as error:
        raise PublishError(f"{title!r}: {error}. The students are published; the same command continues.") from None


def family_table(records: Mapping[str, RunRecord], this: str | None = None, hub: str = _HUB) -> str:
    """A Markdown table of a family, the smallest student first.

    Args:
        records: Record of each student, by the repository it is, or will be, in.
        this: The repository whose card it is for. None: nobody's.
        hub: Where the repositories are.

    Returns:
        Name with a link, layers, hidden size, parameters; and of each measurement that any of them has, quality and
        latency.
    """
    rows = [
        {
            "student": _linked(name, this, hub),
            "layers": record.student.get("num_hidden_layers"),
            "hidden size": record.student.get("hidden_size"),
            "parameters": record.student["parameters"],
            **_measured(record),
        }
        for name, record in sorted(records.items(), key=lambda each: (each[1].student["parameters"], each[0]))
    ]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return table([columns, *([_cell(row.get(each)) for each in columns] for row in rows)])


def _linked(name: str, this: str | None, hub: str) -> Markdown:
    short = escaped(_short(name))
    return Markdown(f"**{short}** (this model)" if name == this else f"[{short}]({hub}/{name})")


def with_family(card: str, title: str, table: str) -> str:
    """A card with the table of its family before its limitations, or at its end; in place of an earlier one."""
    card = _SECTION.sub("", card)
    position = card.find("\n## Limitations") + 1 or len(card)
    section = f"{_BEGIN}\n## The family: {escaped(title)}\n\n{table}\n{_END}\n"
    return f"{card[:position].rstrip()}\n\n{section}\n{card[position:]}".rstrip() + "\n"


def _records(folders: Sequence[str | os.PathLike], title: str, namespace: str) -> dict[str, RunRecord]:
    """Record of each student by its repository."""
    names = [f"{namespace}/{Path(folder).resolve().name}" for folder in folders]
    if len(set(names)) < max(len(names), 2):
        raise ValueError(f"a family has at least two students, in folders of different names, got {names}")
    if not title.strip():
        raise ValueError(f"a family must have a title, got {title!r}")
    return {name: RunRecord.load(folder) for name, folder in zip(names, folders, strict=True)}


def _with_card(plan: Publication, records: Mapping[str, RunRecord], title: str) -> Publication:
    """A student with the family in its card as it is sent: the folder is only read."""
    (own,) = (file for file in plan.files if file.name == "README.md")
    shown = family_table(records, plan.repo_id, constants.ENDPOINT)
    card = describe_content(own.path, with_family(own.read().decode(), title, shown).encode())
    return replace(plan, files=tuple(card if file is own else file for file in plan.files))


def _collect(
    session: HubSession, family: FamilyPublication, records: Mapping[str, RunRecord], description: str | None
) -> str:
    """Make the collection, or complete it."""
    options = dict(namespace=family.namespace, description=description, private=family.private, exists_ok=True)
    made = session.persist("creating the collection", session.api.create_collection, family.title, **options)
    if family.private and not made.private:
        raise PublishError("the collection exists and is public, private was asked for: change it on the Hub")
    for student in family.students:
        if student.repo_id not in {item.item_id for item in made.items}:
            described = records[student.repo_id].student
            note = ", ".join(filter(None, [shape(described), f"{described['parameters']:,} parameters"]))
            item = dict(item_type="model", note=note, exists_ok=True)
            session.persist("collecting", session.api.add_collection_item, made.slug, student.repo_id, **item)
    found = session.persist("verifying the collection", session.api.get_collection, made.slug)
    missing = {student.repo_id for student in family.students} - {item.item_id for item in found.items}
    if missing:
        raise PublishError(f"the collection lacks {', '.join(sorted(missing))}")
    return found.url


def _measured(record: RunRecord) -> dict[str, float]:
    """What a record says of quality and latency: its evaluation, else the metrics of its run, of the test split if it has them."""
    found = {}
    for quality in _QUALITIES:
        prefix = next((prefix for prefix in _SPLITS if f"{prefix}_{quality}" in record.metrics), None)
        if prefix is not None:
            found[f"{quality.replace('_', ' ')} ({_SPLITS[prefix]})"] = record.metrics[f"{prefix}_{quality}"]
    evaluation = record.evaluation or {}
    if "this" in evaluation:
        own, metric = evaluation["rows"][evaluation["this"]], evaluation["metric"]
        found = {f"{metric.replace('_', ' ')} ({evaluation['data']['split']})": own["metrics"][metric]}
        if latency_of(own) is not None:
            found["latency (ms)"] = latency_of(own)
    return found


def _short(repo_id: str) -> str:
    return repo_id.split("/")[-1]


def _cell(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
