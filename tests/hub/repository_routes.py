"""Who am I, repositories, their files and names."""

from __future__ import annotations

import re

import yaml

from tests.hub.contents import Repository, StoredFile, git_oid, now
from tests.hub.http import Answer, HubError, Request, namespace_of, route


@route("whoami", "GET", "/api/whoami-v2")
def whoami(request: Request):
    user = request.user
    if user is None:
        raise HubError(401, "Invalid username or password.")
    return {
        "type": "user",
        "name": user.name,
        "fullname": user.name,
        "orgs": [{"name": name, "type": "org", "roleInOrg": "admin"} for name in user.organizations],
        "auth": {"type": "access_token", "accessToken": {"displayName": "test", "role": user.role}},
    }


@route("create", "POST", "/api/repos/create")
def create(request: Request):
    asked = request.json()
    namespace = asked["organization"] or request.user.name
    user = request.writer(namespace)
    public_name = f"{namespace}/{asked['name']}"
    name = "datasets/" * (asked.get("type") == "dataset") + public_name
    answer = {"url": f"{request.base_url}/{name}", "name": public_name, "id": public_name}
    if name in request.contents.repositories:
        raise HubError(409, "You already created this repo", **answer)
    request.contents.repositories[name] = Repository(name, asked.get("visibility") == "private", user.name)
    return answer


@route("info", "GET", "/api/models/{repo}")
def info(request: Request, repo: str):
    return revision_info(request, repo, "main")


@route("info", "GET", "/api/models/{repo}/revision/{rev}")
def revision_info(request: Request, repo: str, rev: str):
    repository, commit = request.repository(repo), request.commit(repo, rev)
    readme = commit.files.get("README.md")
    public_name = repo.removeprefix("datasets/")
    metadata, _ = parse_card(readme.content.decode()) if readme else ({}, [])
    return {
        "_id": repo,
        "id": public_name,
        "modelId": public_name,
        "author": namespace_of(repo),
        "sha": commit.oid,
        "lastModified": commit.date,
        "private": repository.private,
        "gated": False,
        "disabled": False,
        "tags": metadata.get("tags", []),
        "cardData": metadata,
        "siblings": [sibling(name, file, "blobs" in request.query) for name, file in sorted(commit.files.items())],
    }


def sibling(name: str, file: StoredFile, with_checksum: bool) -> dict:
    if not with_checksum:
        return {"rfilename": name}
    large = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}} if file.sha256 else {}
    return {"rfilename": name, "size": file.size, "blobId": file.oid} | large


@route("tree", "GET", "/api/models/{repo}/tree/{rev}")
@route("tree", "GET", "/api/models/{repo}/tree/{rev}/{path}")
def tree(request: Request, repo: str, rev: str, path: str = ""):
    start = path and path + "/"
    inside = {name: file for name, file in request.commit(repo, rev).files.items() if name.startswith(start)}
    if path and not inside:
        raise HubError(404, f"{path} does not exist on {rev!r}", "EntryNotFound")
    if request.query.get("recursive", ["false"])[0].lower() != "false":
        return [entry(request, name, file) for name, file in sorted(inside.items())]
    folders = sorted({start + name.removeprefix(start).split("/")[0] for name in inside} - inside.keys())
    files = [entry(request, name, file) for name, file in sorted(inside.items()) if "/" not in name.removeprefix(start)]
    return files + [{"type": "directory", "oid": git_oid(name.encode()), "size": 0, "path": name} for name in folders]


@route("paths-info", "POST", "/api/models/{repo}/paths-info/{rev}")
def paths_info(request: Request, repo: str, rev: str):
    files = request.commit(repo, rev).files
    return [entry(request, name, files[name]) for name in request.form().get("paths", []) if name in files]


def entry(request: Request, name: str, file: StoredFile) -> dict:
    found = {"type": "file", "oid": file.oid, "size": file.size, "path": name}
    if file.sha256:
        found["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        if request.contents.xet:
            found["xetHash"] = request.contents.xet.files()[file.sha256]
    return found


@route("refs", "GET", "/api/models/{repo}/refs")
def refs(request: Request, repo: str):
    kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/", "pullRequests": "refs/pr/"}
    found = request.repository(repo).refs.items()
    return {
        kind: [
            {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
            for ref, oid in found
            if ref.startswith(prefix)
        ]
        for kind, prefix in kinds.items()
    }


@route("commits", "GET", "/api/models/{repo}/commits/{rev}")
def commits(request: Request, repo: str, rev: str):
    return [
        {
            "id": commit.oid,
            "title": commit.title,
            "message": "",
            "date": commit.date,
            "authors": [{"user": commit.author}],
        }
        for commit in request.repository(repo).history(request.commit(repo, rev).oid)
    ]


@route("branch", "POST", "/api/models/{repo}/branch/{rev}")
def branch(request: Request, repo: str, rev: str):
    return _name(request, repo, f"refs/heads/{rev}", request.json().get("startingPoint") or "main")


@route("tag", "POST", "/api/models/{repo}/tag/{rev}")
def tag(request: Request, repo: str, rev: str):
    return _name(request, repo, f"refs/tags/{request.json()['tag']}", rev)


def _name(request: Request, repo: str, ref: str, revision: str):
    request.writer(namespace_of(repo))
    if ref in request.repository(repo).refs:
        raise HubError(409, f"Reference {ref} already exists")
    request.repository(repo).refs[ref] = request.commit(repo, revision).oid
    return {}


@route("settings", "PUT", "/api/models/{repo}/settings")
def settings(request: Request, repo: str):
    request.writer(namespace_of(repo))
    request.repository(repo).private = request.json()["visibility"] == "private"
    return {}


@route("discussions", "GET", "/api/models/{repo}/discussions")
def discussions(request: Request, repo: str):
    described = {"name": repo.removeprefix("datasets/"), "type": "dataset" if repo.startswith("datasets/") else "model"}
    found = [
        {**pull_request, "repo": described, "isPullRequest": True, "createdAt": now()}
        for pull_request in request.repository(repo).pull_requests
        if request.query.get("status", ["open"])[0] in (pull_request["status"], "all")
    ]
    return {"discussions": found, "count": len(found), "start": 0}


@route("resolve", "HEAD", "/{repo}/resolve/{rev}/{path}")
@route("resolve", "GET", "/{repo}/resolve/{rev}/{path}")
def resolve(request: Request, repo: str, rev: str, path: str):
    commit = request.commit(repo, rev)
    headers = {"X-Repo-Commit": commit.oid}
    file = commit.files.get(path)
    if file is None:
        return Answer({"error": "Entry not found"}, 404, headers | {"X-Error-Code": "EntryNotFound"})
    if file.content is not None:
        return Answer(file.content, 200, headers | {"ETag": f'"{file.oid}"'})
    headers |= {"ETag": f'"{file.sha256}"', "X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    headers["Location"] = f"{request.storage_url}/{file.sha256}"
    if request.contents.xet:
        headers["X-Xet-Hash"] = request.contents.xet.files()[file.sha256]
        kind = "" if repo.startswith("datasets/") else "models/"
        headers["X-Xet-Refresh-Route"] = f"{request.base_url}/api/{kind}{repo}/xet-read-token/{commit.oid}"
    return Answer(b"", 302, headers)


@route("validate-yaml", "POST", "/api/validate-yaml")
def validate_yaml(request: Request):
    _, errors = parse_card(request.json()["content"])
    return Answer({"errors": [{"message": error} for error in errors], "warnings": []}, 400 if errors else 200)


def parse_card(content: str) -> tuple[dict, list[str]]:
    """The metadata of a card, and what is wrong with it."""
    block = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", content, re.DOTALL)
    if block is None:
        return {}, []
    try:
        metadata = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        return {}, [f"not YAML: {error}"]
    if not isinstance(metadata, dict):
        return {}, ["metadata must be a mapping"]
    lists = [key for key in ("tags", "datasets", "metrics") if not isinstance(metadata.get(key, []), list)]
    errors = [f'"{key}" must be an array' for key in lists]
    if "license" in metadata and not isinstance(metadata["license"], (str, list)):
        errors.append('"license" must be a string')
    return metadata, errors
