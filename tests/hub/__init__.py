"""A Hub to test against: what huggingface_hub 2.4 calls, on 127.0.0.1, with faults to order.

`contents` is what a Hub knows (repositories, users, collections), `repository_routes`, `upload_routes` and
`collection_routes` are its answers, `server` speaks HTTP, `faults` break it on request, and `environment` points a
client process at it.
"""
