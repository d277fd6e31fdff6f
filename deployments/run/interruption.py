"""The early end of a run: Ctrl-C, a signal, or a Prefect server that stopped."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread, Timer
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from rich.console import Console

from deployments.run.options import KEPT
from tasks.storage.temporary import remove_all

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLEANUP_SECONDS = 1.0  # in which the run may end by itself, before its process is ended
_LAST_SECONDS = 0.6  # for the last step


class Interruption:
    """Ends a run, and then its process within two seconds, after Ctrl-C, SIGTERM or SIGHUP.

    The context gets a KeyboardInterrupt or SystemExit, so that it can clean up. As a call in
    another thread may last, the process is then ended without waiting for it; at a second signal,
    at once. Ctrl-C also works where a shell ignores it, as for a command in the background of a
    script.

    Args:
        console: Where to say that the run is stopping.
        out: Folder for the results; it is removed at the end if it was made in the context and
            holds neither results nor answers.

    Attributes:
        last_step: What is still done, for a moment, before the process is ended without waiting.
    """

    def __init__(self, console: Console, out: Path) -> None:
        self._console = console
        self._new = None if out.exists() else out
        self._handlers: dict[signal.Signals, Any] = {}
        self._ending = False
        self.last_step: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        """Install the handlers of the signals."""
        self._handlers = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the handlers, and remove an empty folder."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._remove_empty()

    def end_now(self, status: int) -> NoReturn:
        """End the process whatever its threads do, without temporary folders left."""
        step = Thread(target=self.last_step, daemon=True)
        step.start()
        remove_all()
        self._remove_empty()
        self._console.show_cursor()  # which a progress bar hides
        sys.stdout.flush()
        step.join(_LAST_SECONDS)
        os._exit(status)

    def _stop(self, number: int, _: FrameType | None) -> NoReturn:
        status = 128 + number
        if self._ending:
            self.end_now(status)
        self._ending = True
        timer = Timer(_CLEANUP_SECONDS, self.end_now, (status,))
        timer.daemon = True
        timer.start()
        self._console.print("Stopping …")
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(status)

    def _remove_empty(self) -> None:
        """Remove the folder for the results if it is new and no answer was kept in it."""
        if self._new is not None:
            kept = self._new / KEPT
            if not any(kept.rglob("*.arrow")):
                shutil.rmtree(kept, ignore_errors=True)
            with suppress(OSError):  # it is not empty, or was not made
                self._new.rmdir()
