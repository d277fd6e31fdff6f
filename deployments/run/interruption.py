"""The early end of a run: Ctrl-C, a signal, or a Prefect server that stopped."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import NoReturn

from rich.console import Console

from tasks.storage.temporary import remove_all

_CLEANUP_SECONDS = 1.5  # in which the run may end by itself, before its process is ended


@contextmanager
def interruptible(console: Console) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end the block, and then the process within two seconds.

    The block gets a KeyboardInterrupt or SystemExit, so that it can clean up. As a call in another
    thread may last, the process is then ended without waiting for it. Ctrl-C also works where a
    shell ignores it, as for a command in the background of a script.

    Args:
        console: Where to say that the run is stopping.
    """

    def stop(number: int, _: FrameType | None) -> NoReturn:
        console.print("Stopping …")
        end_soon(console, 128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def not_left_empty(folder: Path) -> Iterator[None]:
    """Remove a folder at the end of the block, if it was made in the block and is empty.

    Args:
        folder: It may not exist.
    """
    existed = folder.exists()
    try:
        yield
    finally:
        if not existed:
            with suppress(OSError):  # it is not empty, or was not made
                folder.rmdir()


def end_soon(console: Console, status: int) -> None:
    """End the process as `end_now`, but let it clean up first, for a moment."""
    timer = Timer(_CLEANUP_SECONDS, end_now, (console, status))
    timer.daemon = True
    timer.start()


def end_now(console: Console, status: int) -> NoReturn:
    """End the process whatever its threads do, without temporary folders left.

    Args:
        console: Its cursor is shown again, which a progress bar hides.
        status: Exit status.
    """
    remove_all()
    console.show_cursor()
    sys.stdout.flush()
    os._exit(status)
