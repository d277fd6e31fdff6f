"""Processes on one machine that do the same work in one folder: one after the other."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

from tasks.storage.objects import is_s3

logger = logging.getLogger(__name__)

_NAME = ".at-work"
_POLL = 0.2  # seconds
_BEAT = 5.0  # seconds between two signs of life
_SILENCE = 30.0  # seconds without one after which a process is not waited for


@contextmanager
def own_turn(folder: str, work: str) -> Iterator[None]:
    """While it is open, no other process is at work in a local folder; wait until none is.

    The lock ends with its process (`flock`). One that shows no sign of life any more, as it was
    stopped, is not waited for. Without effect on a file system without locks, and for an s3://
    prefix.

    Args:
        folder: The folder; it is created if it is missing.
        work: What the other process does, for a warning.
    """
    if is_s3(folder):
        yield
        return
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    with (path / _NAME).open("a") as file:  # its time is the sign of life, and stays as it is
        lock = file.fileno()
        with _living(lock) if _is_own(lock, work) else nullcontext():
            yield


def _is_own(lock: int, work: str) -> bool:
    """Wait for a lock; returns False if it cannot be had."""
    seen, since, told = 0, time.monotonic(), False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        except OSError:
            logger.debug("The file system has no locks", exc_info=True)
            return False
        else:
            return True
        if not told:
            logger.warning("Another process %s; this one waits for its answers.", work)
            told = True
        sign = os.fstat(lock).st_mtime_ns
        if sign != seen:
            seen, since = sign, time.monotonic()
        elif time.monotonic() - since > _SILENCE:
            logger.warning("The process that %s shows no life; this one goes on without it.", work)
            return False
        time.sleep(_POLL)


@contextmanager
def _living(lock: int) -> Iterator[None]:
    """While it is open, give signs of life: change the time of the locked file in a thread."""
    ended = Event()

    def beat() -> None:
        while not ended.is_set():
            os.utime(lock)
            ended.wait(_BEAT)

    thread = Thread(target=beat, name="turn", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
