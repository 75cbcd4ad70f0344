"""Collections: lists of repositories."""

from __future__ import annotations

import re

from tests.hub.contents import now
from tests.hub.http import HubError, Request, route


@route("collection-create", "POST", "/api/collections")
def create(request: Request):
    asked = request.json()
    request.writer(asked["namespace"])
    start = f"{asked['namespace']}/{re.sub(r'[^a-z0-9]+', '-', asked['title'].lower()).strip('-')}-"
    for slug in request.contents.collections:
        if slug.startswith(start):
            raise HubError(409, "This collection already exists", slug=slug)
    slug = f"{start}{next(request.contents.numbers):024x}"
    request.contents.collections[slug] = {
        "slug": slug,
        "title": asked["title"],
        "description": asked.get("description"),
        "private": asked["private"],
        "owner": {"name": asked["namespace"]},
        "items": [],
        "lastUpdated": now(),
        "position": 0,
        "theme": "orange",
        "upvotes": 0,
    }
    return request.contents.collections[slug]


@route("collection-list", "GET", "/api/collections")
def listing(request: Request):
    owners = request.query.get("owner", [])
    found = request.contents.collections.values()
    return [
        {key: value for key, value in each.items() if key != "position"}
        for each in found
        if each["owner"]["name"] in owners or not owners
    ]


@route("collection-get", "GET", "/api/collections/{slug}")
def get(request: Request, slug: str):
    return _collection(request, slug)


@route("collection-update", "PATCH", "/api/collections/{slug}")
def update(request: Request, slug: str):
    collection = _own_collection(request, slug)
    collection.update(request.json())
    return {"success": True, "data": collection}


@route("collection-add", "POST", "/api/collections/{slug}/items")
def add(request: Request, slug: str):
    collection, asked = _own_collection(request, slug), request.json()
    if asked["item"]["type"] == "model":
        request.repository(asked["item"]["id"])
    if any(item["id"] == asked["item"]["id"] for item in collection["items"]):
        raise HubError(409, "This item is already in the collection")
    item = {"_id": f"{next(request.contents.numbers):024x}", **asked["item"], "position": len(collection["items"])}
    collection["items"].append(item | ({"note": {"text": asked["note"], "html": ""}} if asked.get("note") else {}))
    return collection


@route("collection-update-item", "PATCH", "/api/collections/{slug}/items/{oid}")
def update_item(request: Request, slug: str, oid: str):
    (item,) = (item for item in _own_collection(request, slug)["items"] if item["_id"] == oid)
    asked = request.json()
    if "note" in asked:
        item["note"] = {"text": asked["note"], "html": ""}
    return {}


def _collection(request: Request, slug: str) -> dict:
    collection = request.contents.collections.get(slug)
    user = request.user
    if collection is None or (collection["private"] and not (user and user.may_write(slug.split("/")[0]))):
        raise HubError(404, "Collection not found")
    return collection


def _own_collection(request: Request, slug: str) -> dict:
    request.writer(slug.split("/")[0])
    return _collection(request, slug)
