"""The child processes of a command: up in time or it says why not, and gone when it ends."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from deployments.local.process import Process

_POLL = 0.05  # seconds between looks


class Processes:
    """The running children of one `with` block, stopped last first when it is left.

    Left by Ctrl-C (once or twice), SIGTERM, SIGHUP or an error, nothing runs on; after SIGKILL,
    the guards see to that. Within the block SIGTERM and SIGHUP raise SystemExit, so that whatever
    else the program has to put away is put away too.
    """

    def __init__(self) -> None:
        self._children: list[Process] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Turn SIGTERM and SIGHUP into an orderly end, and SIGINT even where a shell ignores it."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._handlers[number] = signal.signal(number, _leave)
            self._handlers[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop every child."""
        try:
            for child in reversed(self._children):
                child.stop()
        finally:
            for child in self._children:  # all at once, if we were interrupted while stopping
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
        """Start a program and return at once; `Process.wait_until` waits for it to be ready.

        Args:
            name: What to call it in messages.
            argv: Program and arguments.
            env: Its whole environment.
            log: File for its output, made anew.
            cwd: Folder that it runs in, or None for ours.
            grace: Seconds that it may take to end before it is killed.
        """
        child = Process(name, argv, env=env, log=log, cwd=cwd, grace=grace)
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
        """Run a program to its end.

        Args:
            name: What to call it in messages.
            argv: Program and arguments.
            env: Its whole environment.
            log: File for its output, made anew.
            cwd: Folder that it runs in, or None for ours.
            timeout: Seconds that it may take.

        Raises:
            StackError: It failed, or did not end in time.
        """
        child = self.start(name, argv, env=env, log=log, cwd=cwd)
        child.finish(timeout)
        child.stop()
        self._children.remove(child)

    def watch(self, seconds: float | None = None) -> None:
        """Wait, and notice a child that ends.

        Args:
            seconds: Time to wait; 0 looks once, None never returns.

        Raises:
            StackError: A child ended.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            for child in self._children:
                child.check()
            if deadline is not None and time.monotonic() >= deadline:
                return
            time.sleep(_POLL if deadline is not None else 0.5)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
