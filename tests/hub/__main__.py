"""A Hub to try things by hand: `python -m tests.hub FOLDER [--xet]` serves until interrupted.

It prints the environment that points a shell at it; the token is alice's, who is in the organization `lab`.
"""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path

from tests.hub.contents import User
from tests.hub.environment import TOKEN, client_environment
from tests.hub.server import Hub

parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
parser.add_argument("folder", type=Path, help="for the objects of xet clients and a cache; must not exist")
parser.add_argument("--xet", action="store_true", help="offer xet storage, else LFS alone")
options = parser.parse_args()
options.folder.mkdir(parents=True)
hub = Hub(options.folder, xet=options.xet)
hub.add_user(TOKEN, User("alice", organizations=("lab",)))
for name, value in client_environment(hub.url, options.folder / "home", xet=options.xet).items():
    if name.startswith("HF_") or name == "NO_PROXY":
        print(f"export {name}={shlex.quote(value)}", flush=True)
signal.sigwait({signal.SIGINT, signal.SIGTERM})
