"""Files that are being written under a temporary name, and removal of those of killed processes.

A process holds a lock on each of its part files, and the lock ends with the process. So a part file
without a lock was left by a process that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

_ENDING = ".part"


@contextmanager
def part_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in a folder, to be renamed when it is complete; else removed at the end.

    Args:
        folder: Where the complete file will lie; it is created if it is missing.

    Yields:
        Its path, and the file open for writing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, sink = _open_locked(folder)
    try:
        with sink:
            yield path, sink
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def linked_part(file: Path, folder: Path) -> Iterator[Path | None]:
    """A complete file under a temporary name in a folder as well, without copying it.

    Args:
        file: The file; it is on the disk after that.
        folder: As for `part_file`.

    Yields:
        The other name, to be renamed; None if the file lies on another file system, or has more
        names already: what changes one of them in place would change all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{uuid4().hex}{_ENDING}"
    with file.open("r+b") as locked:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(locked, fcntl.LOCK_EX)
        linked = os.fstat(locked.fileno()).st_nlink == 1 and _linked(file, path)
        try:
            if linked:
                os.fsync(locked.fileno())
            yield path if linked else None
        finally:
            path.unlink(missing_ok=True)


def _linked(file: Path, path: Path) -> bool:
    """Give a file another name; returns whether that could be done."""
    try:
        path.hardlink_to(file)
    except OSError:  # the names would lie on different file systems, or it has no links
        return False
    return True


def remove_abandoned(folder: Path) -> None:
    """Remove the part files of killed processes; those that may not be opened are left."""
    for path in folder.glob(f".*{_ENDING}"):
        with suppress(OSError), path.open("r+b") as part:  # its owner removes it meanwhile
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _open_locked(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".{uuid4().hex}{_ENDING}"
        # open(), unlike tempfile, creates the file with the permissions of the umask
        sink = path.open("xb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(sink, fcntl.LOCK_EX)
        if path.exists():  # otherwise another process removed it before it was locked
            return path, sink
        sink.close()


def write_synchronised(sink: BinaryIO, body: bytes | Path | Iterator[bytes]) -> None:
    """Write bytes, those of a file, or pieces, and have them on the disk."""
    if isinstance(body, Path):
        with body.open("rb") as source:
            shutil.copyfileobj(source, sink, 1 << 20)
    elif isinstance(body, bytes):
        sink.write(body)
    else:
        sink.writelines(body)
    sink.flush()
    os.fsync(sink.fileno())
