"""How a client process finds the Hub of a test, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# A token as the real Hub makes them, so that whoever looks for one finds it.
TOKEN = "hf_" + "TestTokenThatMustNeverBeSeenAgainXyz"
# hf_xet's own retries, short; read once, when its first session begins.
XET_PATIENCE = {
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "20ms",
    "HF_XET_CLIENT_READ_TIMEOUT": "300ms",
}
_REPOSITORY = Path(__file__).parents[2]


def client_environment(url: str, home: Path, *, xet: bool, token: str | None = TOKEN) -> dict[str, str]:
    """Environment of a process that knows this Hub only, with an empty cache in `home`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    own = {
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONPATH": str(_REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    if not xet:
        own["HF_HUB_DISABLE_XET"] = "1"
    if token is not None:
        own["HF_TOKEN"] = token
    return inherited | XET_PATIENCE | own


def run_python(program: str, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    """Run a program in a fresh process; its output is captured."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
