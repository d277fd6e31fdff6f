"""The model server in a separate process: `python -m deployments.model_server`."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def model_server() -> Iterator[str]:
    """The URL of the server while the block lasts; it ends also if a call waits for a tile."""
    process, port = start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


def start() -> tuple[subprocess.Popen[str], int]:
    """Start the server and wait until it answers; return its process and port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.model_server", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], 60)
    line = process.stdout.readline() if ready else ""
    if not line.startswith("models at http://127.0.0.1:"):
        process.kill()
        pytest.fail(f"the server printed {line!r} and {process.communicate()[1]!r}")
    return process, int(line.rsplit(":", 1)[1])
