"""A student, or a labeled transfer set, on the Hub: one commit, complete or not there, however often the line breaks."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelCard, constants, get_token
from huggingface_hub.hf_api import CommitInfo, DatasetInfo, ModelInfo, RepoSibling
from huggingface_hub.utils import validate_repo_id

from hf_distill.publishing.hub_session import HubSession, PublishError, RetryPolicy
from hf_distill.publishing.labeled_folder import is_labeled, is_shard, labeled_files
from hf_distill.publishing.student_folder import PublishedFile, files_to_publish, is_weights, left_out, with_repository

# What `git check-ref-format` takes, of the characters that need no quoting.
_TAG = re.compile(r"(?!.*(?:\.\.|//|/\.|\.lock(?:/|$)))[A-Za-z0-9_](?:[A-Za-z0-9_./+-]*[A-Za-z0-9_+-])?")
_RepoInfo = ModelInfo | DatasetInfo
_AGAIN = "The folder was only read; the same command continues."


@dataclass(frozen=True)
class Publication:
    """What was published, or would be.

    Attributes:
        repo_id: Where.
        private: Visibility: asked for before, found after.
        files: What the repository holds of the student, by name.
        left_out: What stayed in the folder, by name.
        url: Where to look at it: the repository or, once there is one, the pull request.
        tag: Name of the commit. None: it has none.
        create_pr: As a pull request.
        commit: Its id. None: nothing was sent, this was a dry run.
        changed: This call made a commit; else the Hub had all of it.
        repo_type: "model", or "dataset" for a labeled transfer set.
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
    patience: RetryPolicy | None = None,
) -> Publication:
    """Publish a student, or a labeled transfer set, on the Hub.

    All its files arrive in one commit or none does. What the repository held already is not sent again, so that a
    call after a failed one continues it, and a call after a successful one changes nothing. Weights of an earlier
    student under other names (shards, an adapter), or rows of an earlier set, are removed by the same commit,
    anything else stays. What landed is compared with the folder, by checksum.

    Args:
        folder: The student: weights as safetensors, configuration, card. Only files that a stranger needs are sent,
            never optimizer states, logs or checkpoints. Or a labeled transfer set, as `label_transfer_set` wrote it,
            which becomes a data set. It is only read; the code of the card that is sent names the repository.
        repo_id: "namespace/name"; made where it does not exist.
        private: Seen by the namespace only. Refused where the repository exists and is public.
        create_pr: Propose the commit to a repository that exists, as a pull request.
        tag: Name for the commit, such as "v1.0". None: no name.
        token: Of the Hub. None: that of HF_TOKEN or of `hf auth login`.
        message: Title of the commit. None: that a student, or a labeled transfer set, is published.
        dry_run: Check and list, send nothing.
        patience: How long to keep trying. None: a few minutes.

    Returns:
        What is there now.

    Raises:
        FileNotFoundError: The folder lacks something, see `files_to_publish` and `labeled_files`.
        ValueError: The folder or the arguments cannot be published as they are.
        PublishError: The Hub could not be reached or refused; the message says why, and what to do.
    """
    session = None if dry_run else HubSession(token, patience)
    plan = plan_publication(folder, repo_id, private=private, create_pr=create_pr, tag=tag, token=token)
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
) -> Publication:
    """What `publish` would send, after every check that needs no Hub; arguments as there."""
    if repo_id.count("/") != 1:
        raise ValueError(f"repo_id must be 'namespace/name', got {repo_id!r}")
    validate_repo_id(repo_id)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+", repo_id):  # validate_repo_id takes any alphabet
        raise ValueError(f"repo_id must be of letters from a to z, digits, '-', '_' and '.', got {repo_id!r}")
    if tag is not None and not _TAG.fullmatch(tag):
        raise ValueError(f"tag must be a name that git takes, such as 'v1.0', got {tag!r}")
    if create_pr and tag:
        raise ValueError(f"a pull request has no commit to name before it is merged, got tag={tag!r}")
    is_dataset = is_labeled(folder)
    files = (labeled_files if is_dataset else files_to_publish)(folder, token or get_token())
    files = [with_repository(file, repo_id) if file.name == "README.md" else file for file in files]
    url = f"{constants.ENDPOINT}/{'datasets/' * is_dataset}{repo_id}"
    kept = tuple(left_out(folder, files))
    repo_type = "dataset" if is_dataset else "model"
    return Publication(repo_id, private, tuple(files), kept, url, tag, create_pr, repo_type=repo_type)


def send(session: HubSession, plan: Publication, message: str) -> Publication:
    """Carry out what a dry run showed.

    Raises:
        PublishError: The Hub could not be reached or refused.
    """
    push = _Push(session, plan, message)
    try:
        return push.run()
    except PublishError as error:
        landed = f"Commit {push.landed[:8]} landed. " if push.landed else ""
        raise PublishError(f"{plan.repo_id}: {error}. {landed}{_AGAIN}") from None


class _Push:
    """One folder on its way."""

    def __init__(self, session: HubSession, plan: Publication, message: str):
        self.session, self.api, self.plan, self.message = session, session.api, plan, message
        self.repo = {"repo_id": plan.repo_id, "repo_type": plan.repo_type}
        self.parent: str | None = None  # what we meant to commit on
        self.url = plan.url
        self.changed = False
        self.landed = ""  # the commit that holds all of it
        self.revision = ""  # and where to find it

    def run(self) -> Publication:
        plan, persist = self.plan, self.session.persist
        self._check_rights()
        (card,) = (file for file in plan.files if file.name == "README.md")
        persist("checking the card's metadata", ModelCard.load(card.path).validate, plan.repo_type)
        if not plan.create_pr:
            create = dict(private=plan.private, exist_ok=True)
            persist("creating the repository", self.api.create_repo, **self.repo, **create)
        private = persist("reading the repository", self._look).private
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
        """Make the commit, unless the head holds everything already: then an earlier try landed unheard."""
        head = self._look()
        if self._holds_everything(head):
            self.changed = self.parent not in (None, head.sha)
            return head.sha
        if self.parent not in (None, head.sha):
            raise PublishError("somebody else committed to the repository meanwhile; look at it before you go on")
        self.parent = head.sha
        made = self._send_commit(head)
        self.changed = True
        return made.oid

    def _propose(self) -> str:
        """Open a pull request, unless main or an open one of ours holds everything already."""
        name, head = self.session.account()["name"], self._look()
        if self._holds_everything(head):
            return head.sha
        asked = dict(author=name, discussion_type="pull_request", discussion_status="open")
        opened = self.session.call(
            "reading the pull requests", lambda: list(self.api.get_repo_discussions(**self.repo, **asked))
        )
        for pull in opened:
            revision = f"refs/pr/{pull.num}"
            if pull.author == name and self._holds_everything(proposed := self._look(revision)):
                self.url, self.revision, self.changed = pull.url, revision, self.parent is not None
                return proposed.sha
        self.parent = head.sha
        made = self._send_commit(head)
        self.url, self.revision, self.changed = made.pr_url, made.pr_revision, True
        return made.oid

    def _send_commit(self, head: _RepoInfo) -> CommitInfo:
        """Upload what is large, then commit everything at once. Operations are fresh: used ones remember too much."""
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

    def _look(self, revision: str | None = None) -> _RepoInfo:
        """The repository at a revision, with the checksum of every file. The only reading call that takes a timeout."""
        options = dict(revision=revision, files_metadata=True, timeout=self.session.patience.timeout)
        return self.session.call("reading the repository", self.api.repo_info, **self.repo, **options)

    def _compare(self, found: _RepoInfo) -> tuple[list[PublishedFile], list[str]]:
        """Files that a revision lacks or holds otherwise, and weights or rows that a loader would mix up with ours."""
        there = {file.rfilename: file for file in found.siblings}
        ours = {file.name for file in self.plan.files}
        differing = [file for file in self.plan.files if not _same(file, there.get(file.name))]
        is_ours = is_weights if self.plan.repo_type == "model" else is_shard
        return differing, [name for name in there if is_ours(name) and name not in ours]

    def _holds_everything(self, found: _RepoInfo) -> bool:
        return self._compare(found) == ([], [])

    def _verify(self) -> None:
        differing, stale = self._compare(self._look(self.revision or self.landed))
        if differing or stale:
            names = [*(file.name for file in differing), *stale]
            raise PublishError(f"what landed is not what was sent, in {', '.join(names)}: the folder seems to change")

    def _tag_is_ours(self) -> str | None:
        """The commit that the tag names, if any.

        Raises:
            PublishError: It is another student's.
        """
        tags = self.session.call("reading the tags", self.api.list_repo_refs, **self.repo).tags
        there = next((each.target_commit for each in tags if each.name == self.plan.tag), None)
        if there not in (None, self.landed) and not self._holds_everything(self._look(there)):
            raise PublishError(
                f"the tag {self.plan.tag!r} names another version, commit {there[:8]}: choose another tag"
            )
        return there

    def _tag(self) -> None:
        if self._tag_is_ours() is None:
            naming = dict(tag=self.plan.tag, revision=self.landed)
            self.session.call("setting the tag", self.api.create_tag, **self.repo, **naming)


def _same(file: PublishedFile, there: RepoSibling | None) -> bool:
    """Whether a file of the Hub has our content, by the checksum the Hub keeps of it."""
    if there is None or there.size != file.size:
        return False
    return there.lfs.sha256 == file.sha256 if there.lfs else there.blob_id == file.git_oid
