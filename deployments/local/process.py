"""One child process, which ends when we do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil

from deployments.local.loopback import answers
from tasks.errors import StackError

_GUARD = Path(__file__).with_name("guard.py")
_POLL = 0.05  # seconds between looks
_LOG_LINES = 15


class Process:
    """A program under a guard (see `guard.py`) that ends it, and all it started, when we end.

    Attributes:
        name: What it is called in messages.
        log: File that its output goes to.
        pid: The guard's process id; the program and its descendants are the guard's.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path | None = None,
        grace: float = 5.0,
    ) -> None:
        self.name = name
        self.log = log
        self._grace = grace
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - our own guard
                [sys.executable, "-I", str(_GUARD), str(grace), *argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,  # Ctrl-C in the terminal is for us alone
            )
        self.pid = self._guard.pid

    def check(self) -> None:
        """Raise StackError if the program has ended."""
        code = self._guard.poll()
        if code is not None:
            self._fail(f"ended with exit code {code}")

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until the program does its job.

        Args:
            ready: Tells whether it does.
            timeout: Seconds to wait.

        Raises:
            StackError: It ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                self._fail(f"was not ready within {timeout:g} s")
            time.sleep(_POLL)
        self.check()

    def answers(self, port: int, path: str) -> bool:
        """Whether this program, and no other, answers GET with 200.

        Args:
            port: Port on loopback.
            path: Path to ask for.
        """
        return self._listens(port) and answers(port, path)

    def _listens(self, port: int) -> bool:
        with suppress(psutil.Error):  # it may end while we look
            return any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port
                for process in psutil.Process(self.pid).children(recursive=True)
                for each in process.net_connections("tcp")
            )
        return False

    def finish(self, timeout: float) -> None:
        """Wait until the program has ended well.

        Args:
            timeout: Seconds to wait.

        Raises:
            StackError: It failed, or did not end in time.
        """
        try:
            code = self._guard.wait(timeout)
        except subprocess.TimeoutExpired:
            self._fail(f"did not end within {timeout:g} s")
        if code:
            self._fail(f"ended with exit code {code}")

    def release(self) -> None:
        """Let the guard end the program, without waiting for it."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def stop(self) -> None:
        """End the program and everything it started; safe to call again."""
        self.release()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    def _fail(self, what: str) -> NoReturn:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        raise StackError(
            f"{self.name} {what}. The end of its log, {self.log}:\n{said}\n"
            f"Mend what the log names, then start again."
        )


def inherited_environment() -> dict[str, str]:
    """Our environment without the user's own AWS and Prefect, so that a child reaches neither."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PREFECT_"))
    }
