"""Processes on one machine that do the same work in one folder: one after the other."""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.storage.objects import is_s3

logger = logging.getLogger(__name__)

_NAME = ".at-work"


@contextmanager
def own_turn(folder: str, work: str) -> Iterator[None]:
    """While it is open, no other process is at work in a local folder; wait until none is.

    The lock ends with its process (`flock`). Without effect on a file system without locks, and
    for an s3:// prefix.

    Args:
        folder: The folder; it is created if it is missing.
        work: What the other process does, for a warning.
    """
    if is_s3(folder):
        yield
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / _NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("Another process %s; this one waits for its answers.", work)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            logger.debug("%s has no locks", folder)
        yield
