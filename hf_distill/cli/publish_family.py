"""`hf-distill publish-family`: several students to the Hub, as one family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.publish import as_record, described


def publish_family(
    folders: Annotated[list[Path], typer.Argument(help="Students, each in a folder named as its repository will be.")],
    title: Annotated[str, typer.Option(help="Of the collection and of the table in the cards.")],
    namespace: Annotated[str, typer.Option(help="The user or organization whose they will be.")],
    description: Annotated[str | None, typer.Option(help="Of the collection. None: nothing.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Seen by the namespace only.")] = False,
    tag: Annotated[str | None, typer.Option(help="Name for the commit in each repository. None: no name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list, send nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Publish students that belong together: cards that show one another, and a collection.

    The token is that of HF_TOKEN or of `hf auth login`.

    Example: hf-distill publish-family outputs/tiny outputs/mini --title "Small reviewers" --namespace alice
    """
    from hf_distill.publishing.family import publish_family as publish_students
    from hf_distill.text.plain import printable

    options = dict(description=description, private=private, tag=tag, dry_run=dry_run)
    done = publish_students(folders, title, namespace, **options)
    if as_json:
        shown = {name: getattr(done, name) for name in ("title", "namespace", "private", "table", "collection")}
        print_json(shown | {"students": [as_record(each) for each in done.students]})
        return
    lines = [line for student in done.students for line in [*described(student), ""]]
    collection = f"Collection {title!r}: {done.collection or 'not made'}"
    typer.echo(printable("\n".join([*lines, done.table, "", collection])))
