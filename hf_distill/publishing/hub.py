"""Publishing of a student, or of a labeled transfer set, in one atomic commit that can be retried at any time."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import cast

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelCard, constants, get_token
from huggingface_hub.hf_api import CommitInfo, DatasetInfo, ModelInfo, RepoSibling
from huggingface_hub.utils import validate_repo_id

from hf_distill.publishing.exports import exported_files, is_export
from hf_distill.publishing.hub_session import HubSession, PublishError, RetryPolicy
from hf_distill.publishing.labeled_folder import is_labeled, is_shard, labeled_files
from hf_distill.publishing.publication import Publication
from hf_distill.publishing.student_folder import PublishedFile, files_to_publish, is_weights, left_out, with_repository

# Names that `git check-ref-format` accepts, restricted to characters that need no quoting.
_TAG = re.compile(r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)))[A-Za-z0-9_](?:[A-Za-z0-9_./+-]*[A-Za-z0-9_+-])?")
_RepoInfo = ModelInfo | DatasetInfo
_AGAIN = "The folder was only read; the same command continues."


def publish(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
    message: str | None = None,
    dry_run: bool = False,
    exports: str | os.PathLike | None = None,
    patience: RetryPolicy | None = None,
) -> Publication:
    """Publish a student, or a labeled transfer set, on the Hub.

    All files are uploaded in one commit. Files that the repository already has are not uploaded again, so that a call
    after a failed one resumes it, and a call after a successful one changes nothing. Weights of an earlier student under
    other names (shards, an adapter), or rows of an earlier data set, are deleted by the same commit; other files are
    kept. The checksums of the files in the commit are compared with those in the folder.

    Args:
        folder: The folder of a student (weights as safetensors, configuration, card), of which only the files needed to
            use it are published, never optimizer states, logs or checkpoints; or of a labeled transfer set, as written
            by `label_transfer_set`, which becomes a data set. The folder is not modified; the published card's code
            names the repository.
        repo_id: The repository, "namespace/name"; it is created if it does not exist.
        private: Whether the repository is to be private; an existing public repository is refused.
        create_pr: Whether to propose the commit to an existing repository as a pull request.
        tag: The git tag to set on the commit, such as "v1.0". None: no tag.
        token: The Hub token. None: the token of HF_TOKEN or of `hf auth login`.
        message: The title of the commit. None: "Publish a student" or "Publish a labeled transfer set".
        dry_run: Only check and list the files; nothing is uploaded.
        exports: The folder of the student's export (`export_student`), whose ONNX files are published in a folder `onnx/`
            beside the weights, in place of those there. None: only the student; exports that are there are kept.
        patience: The policy of retries. None: retries for a few minutes.

    Returns:
        The publication.

    Raises:
        FileNotFoundError: The folder lacks a required file, see `files_to_publish` and `labeled_files`.
        ValueError: The folder or the arguments cannot be published as they are.
        PublishError: The Hub cannot be reached or refuses; the message gives the reason and what to do.
    """
    session = None if dry_run else HubSession(token, patience)
    plan = plan_publication(
        folder, repo_id, private=private, create_pr=create_pr, tag=tag, token=token, exports=exports
    )
    what = "student" if plan.repo_type == "model" else "labeled transfer set"
    return plan if session is None else send(session, plan, message or f"Publish a {what}")


def plan_publication(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool = False,
    create_pr: bool = False,
    tag: str | None = None,
    token: str | None = None,
    exports: str | os.PathLike | None = None,
) -> Publication:
    """The publication that `publish` would make, after all checks that need no connection; the arguments are the same."""
    if repo_id.count("/") != 1:
        raise ValueError(f"repo_id must be 'namespace/name', got {repo_id!r}")
    validate_repo_id(repo_id)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+", repo_id):  # validate_repo_id takes any alphabet
        raise ValueError(f"repo_id must be of letters from a to z, digits, '-', '_' and '.', got {repo_id!r}")
    if tag is not None and not _TAG.fullmatch(tag):
        raise ValueError(f"tag must be a name that git takes, such as 'v1.0', got {tag!r}")
    if create_pr and tag:
        raise ValueError(f"a pull request has no commit to name before it is merged, got tag={tag!r}")
    is_dataset, secret = is_labeled(folder), token or get_token()
    if is_dataset and exports is not None:
        raise ValueError(f"exports are of students, and {folder} is a labeled transfer set")
    files = (labeled_files if is_dataset else files_to_publish)(folder, secret)
    files += [] if exports is None else exported_files(exports, files, secret)
    files = [with_repository(file, repo_id) if file.name == "README.md" else file for file in files]
    url = f"{constants.ENDPOINT}/{'datasets/' * is_dataset}{repo_id}"
    kept = tuple(left_out(folder, files))
    repo_type = "dataset" if is_dataset else "model"
    return Publication(repo_id, private, tuple(files), kept, url, tag, create_pr, repo_type=repo_type)


def send(session: HubSession, plan: Publication, message: str) -> Publication:
    """Upload a planned publication.

    Args:
        session: The session with the Hub.
        plan: The publication, as `plan_publication` returns it.
        message: The title of the commit.

    Returns:
        The publication with the commit, the URL and the visibility of the repository.

    Raises:
        PublishError: The Hub cannot be reached or refuses.
    """
    push = _Push(session, plan, message)
    try:
        return push.run()
    except PublishError as error:
        landed = f"Commit {push.landed[:8]} landed. " if push.landed else ""
        raise PublishError(f"{plan.repo_id}: {error}. {landed}{_AGAIN}") from None


class _Push:
    """The upload of one planned publication."""

    def __init__(self, session: HubSession, plan: Publication, message: str):
        self.session, self.api, self.plan, self.message = session, session.api, plan, message
        self.repo = {"repo_id": plan.repo_id, "repo_type": plan.repo_type}
        self.parent: str | None = None  # the commit that ours was based on
        self.url = plan.url
        self.changed = False
        self.landed = ""  # the commit that holds all files
        self.revision = ""  # the revision to read it from; "": the commit itself

    def run(self) -> Publication:
        plan, persist = self.plan, self.session.persist
        self._check_rights()
        (card,) = (file for file in plan.files if file.name == "README.md")
        persist("checking the card's metadata", ModelCard.load(card.path).validate, plan.repo_type)
        if not plan.create_pr:
            create = dict(private=plan.private, exist_ok=True)
            persist("creating the repository", self.api.create_repo, **self.repo, **create)
        private = bool(persist("reading the repository", self._repository).private)
        if plan.private and not private:
            raise PublishError("the repository exists and is public, private was asked for: change it on the Hub")
        if plan.tag:
            persist("reading the tags", self._tag_is_ours)
        self.landed = persist("committing", self._propose if plan.create_pr else self._commit)
        persist("verifying what landed", self._verify)
        if plan.tag:
            persist("setting the tag", self._tag)
        return replace(plan, private=private, commit=self.landed, changed=self.changed, url=self.url)

    def _check_rights(self) -> None:
        account = self.session.account()
        token = account.get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise PublishError("the token may only read: log in with one that has write permission")
        namespaces = [account["name"], *(each["name"] for each in account.get("orgs", []))]
        namespace = self.plan.repo_id.split("/")[0]
        if namespace not in namespaces and not self.plan.create_pr:
            raise PublishError(f"the token's account may write to {', '.join(namespaces)}, not to {namespace!r}")

    def _commit(self) -> str:
        """Make the commit, unless the head already holds all files, as after an attempt whose response was lost."""
        head = self._repository()
        if self._holds_everything(head):
            self.changed = self.parent not in (None, head.sha)
            return _commit_of(head)
        if self.parent not in (None, head.sha):
            raise PublishError("somebody else committed to the repository meanwhile; look at it before you try again")
        self.parent = head.sha
        made = self._send_commit(head)
        self.changed = True
        return made.oid

    def _propose(self) -> str:
        """Open a pull request, unless main or an open one of this account already holds all files."""
        name, head = self.session.account()["name"], self._repository()
        if self._holds_everything(head):
            return _commit_of(head)
        opened = self.session.call(
            "reading the pull requests",
            lambda: list(
                self.api.get_repo_discussions(
                    **self.repo, author=name, discussion_type="pull_request", discussion_status="open"
                )
            ),
        )
        for pull in opened:
            revision = f"refs/pr/{pull.num}"
            if pull.author == name and self._holds_everything(proposed := self._repository(revision)):
                self.url, self.revision, self.changed = pull.url, revision, self.parent is not None
                return _commit_of(proposed)
        self.parent = head.sha
        made = self._send_commit(head)
        self.url, self.revision, self.changed = cast(str, made.pr_url), cast(str, made.pr_revision), True
        return made.oid

    def _send_commit(self, head: _RepoInfo) -> CommitInfo:
        """Upload large files, then commit all files at once, with new operations: the client keeps state in used ones."""
        create_pr = self.plan.create_pr
        differing, stale = self._compare(head)
        additions = [CommitOperationAdd(file.name, file.content or str(file.path)) for file in differing]
        upload = dict(additions=additions, create_pr=create_pr, free_memory=False)
        self.session.call("uploading the large files", self.api.preupload_lfs_files, **self.repo, **upload)
        return self.session.call(
            "sending the commit",
            self.api.create_commit,
            **self.repo,
            operations=[*additions, *(CommitOperationDelete(name) for name in stale)],
            commit_message=self.message,
            parent_commit=head.sha,
            create_pr=create_pr,
        )

    def _repository(self, revision: str | None = None) -> _RepoInfo:
        """The repository at a revision, with checksums of all files; of the reading calls only this one has a timeout."""
        options = dict(revision=revision, files_metadata=True, timeout=self.session.patience.timeout)
        found = self.session.call("reading the repository", self.api.repo_info, **self.repo, **options)
        return cast(_RepoInfo, found)

    def _compare(self, found: _RepoInfo) -> tuple[list[PublishedFile], list[str]]:
        """The files that a revision lacks or has different content for, and stale weights or rows that it should not have."""
        there = {file.rfilename: file for file in found.siblings or ()}
        ours = {file.name for file in self.plan.files}
        differing = [file for file in self.plan.files if not _same(file, there.get(file.name))]
        is_ours = is_weights if self.plan.repo_type == "model" else is_shard
        stale = [name for name in there if is_ours(name) or (is_export(name) and any(map(is_export, ours)))]
        return differing, [name for name in stale if name not in ours]

    def _holds_everything(self, found: _RepoInfo) -> bool:
        return self._compare(found) == ([], [])

    def _verify(self) -> None:
        differing, stale = self._compare(self._repository(self.revision or self.landed))
        if differing or stale:
            names = [*(file.name for file in differing), *stale]
            raise PublishError(f"what landed is not what was sent, in {', '.join(names)}: the folder seems to change")

    def _tag_is_ours(self) -> str | None:
        """Check that the tag is unused or names a commit that holds all files.

        Returns:
            The commit that the tag names; None if there is no such tag.

        Raises:
            PublishError: The tag names a commit with other content.
        """
        tags = self.session.call("reading the tags", self.api.list_repo_refs, **self.repo).tags
        there = next((each.target_commit for each in tags if each.name == self.plan.tag), None)
        if there not in (None, self.landed) and not self._holds_everything(self._repository(there)):
            raise PublishError(
                f"the tag {self.plan.tag!r} names another version, commit {there[:8]}: choose another tag"
            )
        return there

    def _tag(self) -> None:
        if self._tag_is_ours() is None:
            naming = dict(tag=self.plan.tag, revision=self.landed)
            self.session.call("setting the tag", self.api.create_tag, **self.repo, **naming)


def _commit_of(found: _RepoInfo) -> str:
    """The commit id of a revision, which the Hub always sends, though the client's type allows None."""
    return cast(str, found.sha)


def _same(file: PublishedFile, there: RepoSibling | None) -> bool:
    """Whether a file on the Hub has the content of a local one, by the checksum that the Hub stores."""
    if there is None or there.size != file.size:
        return False
    return there.lfs.sha256 == file.sha256 if there.lfs else there.blob_id == file.git_oid
