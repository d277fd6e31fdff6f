"""The supervisor of a command's child processes."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from deployments.local.process import Process

_POLL_INTERVAL = 0.05  # seconds


class Processes:
    """The child processes of one `with` block; at its end they are stopped, all at once.

    They are also stopped after Ctrl-C (once or twice), SIGTERM, SIGHUP or an error; after SIGKILL,
    their guards end them. Within the block, SIGTERM and SIGHUP raise SystemExit, so that the
    program's other cleanup runs too.

    Args:
        started_again: `watch` starts a child process again that has ended, then calls this with the
            process and how it ended; None if the end of a child process is an error.
        lock: Descriptor of a locked file; the lock lasts until all child processes have ended.
    """

    def __init__(
        self,
        started_again: Callable[[Process, str], None] | None = None,
        lock: int | None = None,
    ) -> None:
        self._started_again, self._lock = started_again, lock
        self._children: list[Process] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Install handlers of SIGTERM and SIGHUP, and of SIGINT even if a shell ignores it."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, _exit_on_signal)
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every child process."""
        try:
            for child in self._children:
                child.release()
            for child in self._children:
                child.stop()
        finally:
            for child in self._children:  # an interrupt may have come before that
                child.release()
            self._children.clear()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
        grace: float = 5.0,
    ) -> Process:
        """Start a program without waiting; `Process.wait_until` waits until it is ready.

        Args:
            name: Name of the program in messages.
            argv: Program and arguments.
            env: The complete environment.
            log: File for the output, replaced if it exists.
            cwd: Working directory; None for the current one.
            grace: Seconds from SIGTERM to SIGKILL.
        """
        child = Process(name, argv, env=env, log=log, cwd=cwd, grace=grace, lock=self._lock)
        self._children.append(child)
        return child

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Run a program and wait for its end.

        Args:
            name: Name of the program in messages.
            argv: Program and arguments.
            env: The complete environment.
            log: File for the output, replaced if it exists.
            cwd: Working directory; None for the current one.
            timeout: Maximum seconds.

        Raises:
            StackError: It failed, or did not end in time.
        """
        child = self.start(name, argv, env=env, log=log, cwd=cwd)
        child.finish(timeout)
        child.stop()
        self._children.remove(child)

    def watch(self, seconds: float | None = None) -> None:
        """Wait, and start child processes again that end, or raise if that is not wanted.

        Args:
            seconds: Seconds to wait; 0 checks once, None waits without an end.

        Raises:
            StackError: A child process ended; or, if they are started again, ended at once several
                times in a row.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            for child in self._children:
                if self._started_again is None:
                    child.check()
                elif end := child.start_again():
                    self._started_again(child, end)
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(_POLL_INTERVAL if deadline is not None else 0.5)


def _exit_on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
