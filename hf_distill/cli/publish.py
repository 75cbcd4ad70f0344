"""`hf-distill publish`: upload a student, or a labeled transfer set, to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_distill.cli.json_output import print_json

if TYPE_CHECKING:
    from hf_distill.publishing.publication import Publication


def publish(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A student with weights, configuration and card, or a folder that `hf-distill label` wrote."
        ),
    ],
    repo_id: Annotated[str, typer.Argument(help="namespace/name; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Visible to the namespace only.")] = False,
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Open a pull request in a repository that exists.")
    ] = False,
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, such as v1.0. Default: none.")] = None,
    message: Annotated[str | None, typer.Option(help="Title of the commit.")] = None,
    exports: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the student's export (`hf-distill export`), published beside the weights in onnx/."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the files without uploading.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Publish a student or a labeled transfer set: one commit, verified; the same command continues one that failed.

    The token is that of HF_TOKEN or of `hf auth login`.

    Example: hf-distill publish outputs/student alice/bert-tiny-reviews --private --dry-run
    """
    from hf_distill.publishing.hub import publish as publish_student
    from hf_distill.text.plain import printable

    done = publish_student(
        folder,
        repo_id,
        private=private,
        create_pr=create_pr,
        tag=tag,
        message=message,
        dry_run=dry_run,
        exports=exports,
    )
    if as_json:
        print_json(as_record(done))
    else:
        typer.echo(printable("\n".join(publication_lines(done))))


def as_record(publication: Publication) -> dict[str, Any]:
    """The publication as JSON content, without local paths."""
    files = [{"name": each.name, "size": each.size, "sha256": each.sha256} for each in publication.files]
    shown = ("repo_id", "repo_type", "private", "create_pr", "tag", "commit", "changed", "url")
    described = {"files": files, "left_out": publication.left_out, "license": publication.license}
    return {name: getattr(publication, name) for name in shown} | described


def publication_lines(publication: Publication) -> list[str]:
    """The publication as lines of text."""
    sent = publication.commit is not None
    target = "a pull request to " * publication.create_pr + publication.repo_id
    visibility = "private" if publication.private else "public"
    tagged = f", tagged {publication.tag}" if publication.tag else ""
    width = max(len(file.name) for file in publication.files)
    lines = [f"{'Published' if sent else 'Would publish'} {target} ({visibility}{tagged}):"]
    lines += [f"  {file.name:<{width}}  {file.size:>13,} bytes" for file in publication.files]
    lines += [f"  {'':<{width}}  {sum(file.size for file in publication.files):>13,} bytes in all"]
    lines += [f"Stays here: {', '.join(publication.left_out) or 'nothing'}"]
    if publication.license is None:
        of_student = "`hf-distill card FOLDER --license apache-2.0` writes one into it"
        of_rows = "`license: ...` between the first lines of README.md, which are ---, names one"
        lines += [f"The card names no license: {of_student if publication.repo_type == 'model' else of_rows}."]
    if sent:
        already = "" if publication.changed else " (the Hub had it already)"
        lines += [f"Commit {publication.commit}{already}"]
    return [*lines, publication.url]
