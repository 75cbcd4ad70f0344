"""Publishing of a family of students: repositories whose cards link to one another, and a Hub collection of them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from hf_distill.evaluation.metric_text import metric_name
from hf_distill.evaluation.row_values import latency_of
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
_SPLITS = {"test": "test", "eval": "validation"}  # keys: prefixes of metric names


@dataclass(frozen=True)
class FamilyPublication:
    """A published family of students, or the plan of a dry run.

    Attributes:
        title: The title of the collection.
        namespace: The user or organization that owns the repositories and the collection.
        private: Whether the repositories and the collection are private.
        students: One publication per student, in the order of the folders given.
        table: The table of the family that every card contains, as Markdown.
        collection: The URL of the collection; "" after a dry run.
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
    """Publish several students, each in a repository with its folder's name, and a collection of them.

    Each card gets a table of all students, with links. All folders are checked before the first is uploaded; the folders
    are not modified. If a call fails, the same call resumes it.

    Args:
        folders: The folders of at least two students, with run records and cards, see `publish`.
        title: The title of the collection and of the table.
        namespace: The user or organization that will own the repositories and the collection.
        description: The description of the collection. None: it has none.
        private: Whether to create private repositories and a private collection.
        tag: The git tag to set on the commit in each repository. None: no tag.
        token: The Hub token. None: the token of HF_TOKEN or of `hf auth login`.
        dry_run: Only check and list the files; nothing is uploaded.
        patience: The policy of retries for each step. None: retries for a few minutes.

    Returns:
        The published family.

    Raises:
        FileNotFoundError: A folder lacks a required file.
        ValueError: A folder or the arguments cannot be published as they are.
        PublishError: The Hub cannot be reached or refuses; students that are already published remain.
    """
    records = _records(folders, title, namespace)
    session = None if dry_run else HubSession(token, patience)
    plans = [
        plan_publication(folder, name, private=private, tag=tag, token=token)
        for name, folder in zip(records, folders, strict=True)
    ]
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
        records: The run record of each student, by repository id.
        this: The id of the repository whose card the table is for. None: no student is marked.
        hub: The URL of the Hub.

    Returns:
        The table, with the columns name (a link), layers, hidden size and parameters, and one column for each quality
        and latency that any of the students was measured with.
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
    """A card with the family's table, which replaces an earlier one, before the limitations or else at the end."""
    card = _SECTION.sub("", card)
    position = card.find("\n## Limitations") + 1 or len(card)
    section = f"{_BEGIN}\n## The family: {escaped(title)}\n\n{table}\n{_END}\n"
    return f"{card[:position].rstrip()}\n\n{section}\n{card[position:]}".rstrip() + "\n"


def _records(folders: Sequence[str | os.PathLike], title: str, namespace: str) -> dict[str, RunRecord]:
    """The run record of each student, by repository id."""
    names = [f"{namespace}/{Path(folder).resolve().name}" for folder in folders]
    if len(set(names)) < max(len(names), 2):
        raise ValueError(f"a family has at least two students, in folders of different names, got {names}")
    if not title.strip():
        raise ValueError(f"a family must have a title, got {title!r}")
    return {name: RunRecord.load(folder) for name, folder in zip(names, folders, strict=True)}


def _with_card(plan: Publication, records: Mapping[str, RunRecord], title: str) -> Publication:
    """A planned publication whose card is sent with the family's table; the file in the folder is not modified."""
    (own,) = (file for file in plan.files if file.name == "README.md")
    shown = family_table(records, plan.repo_id, constants.ENDPOINT)
    card = describe_content(own.path, with_family(own.read().decode(), title, shown).encode())
    return replace(plan, files=tuple(card if file is own else file for file in plan.files))


def _collect(
    session: HubSession, family: FamilyPublication, records: Mapping[str, RunRecord], description: str | None
) -> str:
    """Create the collection, or add the students that it lacks, and return its URL."""
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
    """Quality and latency in a run record: from its evaluation, else from the run's metrics, preferably on the test split."""
    found: dict[str, float] = {}
    for quality in _QUALITIES:
        prefix = next((prefix for prefix in _SPLITS if f"{prefix}_{quality}" in record.metrics), None)
        if prefix is not None:
            found[f"{quality.replace('_', ' ')} ({_SPLITS[prefix]})"] = record.metrics[f"{prefix}_{quality}"]
    evaluation = record.evaluation or {}
    if "this" in evaluation:
        own, metric = evaluation["rows"][evaluation["this"]], evaluation["metric"]
        found = {f"{metric_name(metric)} ({evaluation['data']['split']})": own["metrics"][metric]}
        if (latency := latency_of(own)) is not None:
            found["latency (ms)"] = latency
    return found


def _short(repo_id: str) -> str:
    return repo_id.split("/")[-1]


def _cell(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
