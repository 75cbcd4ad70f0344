"""What was published on the Hub, or would be."""

from __future__ import annotations

from dataclasses import dataclass

from huggingface_hub import metadata_load

from hf_distill.publishing.student_folder import PublishedFile


@dataclass(frozen=True)
class Publication:
    """A published student or labeled transfer set, or the plan of a dry run.

    Attributes:
        repo_id: The id of the repository, "namespace/name".
        private: Whether the repository is private; in a plan, whether it is to be.
        files: The files to publish, sorted by name.
        left_out: The names of the files and folders that are not published.
        url: The URL of the repository or, once there is one, of the pull request.
        tag: The git tag of the commit. None: it has none.
        create_pr: Whether the commit is proposed as a pull request.
        commit: The commit id. None: nothing was uploaded, as in a dry run.
        changed: Whether this call made a commit; False if the repository already held all files.
        repo_type: The type of the repository: "model", or "dataset" for a labeled transfer set.
    """

    repo_id: str
    private: bool
    files: tuple[PublishedFile, ...]
    left_out: tuple[str, ...]
    url: str
    tag: str | None = None
    create_pr: bool = False
    commit: str | None = None
    changed: bool = False
    repo_type: str = "model"

    @property
    def license(self) -> str | None:
        """The license that the card's metadata names, as the Hub calls it. None: it names none."""
        (card,) = (file.path for file in self.files if file.name == "README.md")
        return (metadata_load(card) or {}).get("license")
