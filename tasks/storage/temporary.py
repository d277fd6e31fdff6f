"""Temporary folders that do not outlive their process for long, however it ends.

A process holds a lock on each of its folders, and the lock ends with the process. So a folder
without a lock was left by a process that was killed, and the next that makes one removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "swath-work-"
_held: set[Path] = set()  # the folders of this process


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in `TMPDIR` that is removed when the context is left.

    A fork of this process that leaves the context too removes nothing.

    Raises:
        OSError: It cannot be made.
    """
    root = Path(tempfile.gettempdir())
    _remove_abandoned(root)
    folder, lock = _make_locked(root)
    _held.add(folder)
    owner = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)
        _held.discard(folder)
        os.close(lock)


def remove_all() -> None:
    """Remove every folder of this process, which is about to end without leaving its contexts."""
    for folder in list(_held):
        shutil.rmtree(folder, ignore_errors=True)


def _make_locked(root: Path) -> tuple[Path, int]:
    """A new folder, and the descriptor that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
        # until it is locked, another process may take it for abandoned and remove it
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def _remove_abandoned(root: Path) -> None:
    """Remove the folders of killed processes; another user's are left, as they cannot be opened."""
    for folder in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # its owner, or another process, removes it meanwhile
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
