"""`hf-distill publish-family`: upload several students to the Hub as a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hf_distill.cli.json_output import print_json
from hf_distill.cli.publish import as_record, publication_lines


def publish_family(
    folders: Annotated[list[Path], typer.Argument(help="Students, each in a folder with the name of its repository.")],
    title: Annotated[str, typer.Option(help="Title of the collection and of the table in the cards.")],
    namespace: Annotated[str, typer.Option(help="User or organization that will own the repositories.")],
    description: Annotated[str | None, typer.Option(help="Description of the collection. Default: none.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Visible to the namespace only.")] = False,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit in each repository. Default: none.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the files without uploading.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Publish students that belong together: each card has a table of all of them, and a collection lists them.

    The token is that of HF_TOKEN or of `hf auth login`.

    Example: hf-distill publish-family outputs/tiny outputs/mini --title "Small reviewers" --namespace alice
    """
    from hf_distill.publishing.family import publish_family as publish_students
    from hf_distill.text.plain import printable

    done = publish_students(
        folders, title, namespace, description=description, private=private, tag=tag, dry_run=dry_run
    )
    if as_json:
        shown = {name: getattr(done, name) for name in ("title", "namespace", "private", "table", "collection")}
        print_json(shown | {"students": [as_record(each) for each in done.students]})
        return
    lines = [line for student in done.students for line in [*publication_lines(student), ""]]
    collection = f"Collection {title!r}: {done.collection or 'not made'}"
    typer.echo(printable("\n".join([*lines, done.table, "", collection])))
