"""From a client's files to a commit: preupload, LFS, xet, commit."""

from __future__ import annotations

import base64
import hashlib
import json
import time

from tests.hub.contents import MAIN, StoredFile
from tests.hub.http import Answer, HubError, Request, namespace_of, route

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".h5", ".onnx", ".arrow", ".parquet")
LARGE_BYTES = 10_000_000


@route("preupload", "POST", "/api/models/{repo}/preupload/{rev}")
def preupload(request: Request, repo: str, rev: str):
    _may_propose(request, repo)
    asked, files = request.json()["files"], request.commit(repo, rev).files
    if len(asked) > 256:
        raise HubError(413, "too many files")
    return {"files": [_mode(file, files.get(file["path"])) for file in asked]}


def _mode(asked: dict, there: StoredFile | None) -> dict:
    large = asked["path"].endswith(LARGE_SUFFIXES) or asked["size"] > LARGE_BYTES
    answer = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    return answer | ({"oid": there.sha256 or there.oid} if there else {})


def _may_propose(request: Request, repo: str) -> str:
    """Who may commit, or with `create_pr` who may see the repository at all."""
    if "create_pr" not in request.query:
        return request.writer(namespace_of(repo)).name
    request.repository(repo)
    return request.writer(request.user.name).name


@route("lfs-batch", "POST", "/{repo}.git/info/lfs/objects/batch")
def lfs_batch(request: Request, repo: str):
    request.repository(repo)
    return {"transfer": "basic", "objects": [_lfs_actions(request, each) for each in request.json()["objects"]]}


def _lfs_actions(request: Request, asked: dict) -> dict:
    if request.contents.has_object(asked["oid"]):
        return asked
    actions = {
        "upload": {"href": f"{request.storage_url}/{asked['oid']}"},
        "verify": {"href": f"{request.storage_url}/{asked['oid']}/verify"},
    }
    return asked | {"actions": actions}


@route("lfs-put", "PUT", "/objects/{oid}")
def lfs_put(request: Request, oid: str):
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise HubError(400, "the content is not what its name says")
    request.contents.lfs_objects[oid] = request.body
    return Answer()


@route("lfs-verify", "POST", "/objects/{oid}/verify")
def lfs_verify(request: Request, oid: str):
    if len(request.contents.lfs_objects.get(oid, b"")) != request.json()["size"]:
        raise HubError(404, "no such object")
    return {}


@route("lfs-get", "HEAD", "/objects/{oid}")
@route("lfs-get", "GET", "/objects/{oid}")
def lfs_get(request: Request, oid: str):
    if oid not in request.contents.lfs_objects:
        raise HubError(404, "no such object")
    return Answer(request.contents.lfs_objects[oid], headers={"ETag": f'"{oid}"'})


@route("xet-write-token", "GET", "/api/models/{repo}/xet-write-token/{rev}")
def xet_write_token(request: Request, repo: str, rev: str):
    _may_propose(request, repo)
    return _xet_token(request)


@route("xet-read-token", "GET", "/api/models/{repo}/xet-read-token/{rev}")
def xet_read_token(request: Request, repo: str, rev: str):
    request.commit(repo, rev)
    return _xet_token(request)


def _xet_token(request: Request):
    if request.contents.xet is None:
        raise HubError(404, "this Hub has no xet storage")
    url, end = request.contents.xet.url, int(time.time()) + 3600
    headers = {"X-Xet-Access-Token": "xet", "X-Xet-Cas-Url": url, "X-Xet-Token-Expiration": str(end)}
    return Answer({"accessToken": "xet", "casUrl": url, "exp": end}, headers=headers)


@route("commit", "POST", "/api/models/{repo}/commit/{rev}")
def commit(request: Request, repo: str, rev: str):
    author, repository = _may_propose(request, repo), request.repository(repo)
    lines = [json.loads(line) for line in request.body.splitlines()]
    (header,) = (line["value"] for line in lines if line["key"] == "header")
    parent = request.commit(repo, rev)
    if header.get("parentCommit", parent.oid) != parent.oid:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(parent.files)
    for line in lines:
        _apply(request, files, line["key"], line["value"])
    answer = {"success": True, "hookOutput": ""}
    if "create_pr" in request.query:
        number, made = repository.open_pull_request(files, header["summary"], author, parent.oid)
        answer["pullRequestUrl"] = f"{request.base_url}/{repo}/discussions/{number}"
    else:
        ref = MAIN if rev == "main" else f"refs/heads/{rev}"
        made = repository.add_commit(ref, files, header["summary"], author, parent.oid)
    return answer | {"commitOid": made.oid, "commitUrl": f"{request.base_url}/{repo}/commit/{made.oid}"}


def _apply(request: Request, files: dict[str, StoredFile], key: str, value: dict) -> None:
    """Carry out one line of a commit."""
    if key == "file":
        files[value["path"]] = StoredFile(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not request.contents.has_object(value["oid"]):
            raise HubError(400, f"{value['path']}: its LFS object {value['oid']} was never uploaded")
        files[value["path"]] = StoredFile(None, value["oid"], value["size"])
    elif key == "deletedFile":
        if files.pop(value["path"], None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    elif key == "deletedFolder":
        for name in [name for name in files if name.startswith(value["path"].rstrip("/") + "/")]:
            del files[name]
