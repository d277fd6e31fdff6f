"""One supervised child process, which ends when this process does."""

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
_POLL_INTERVAL = 0.05  # seconds
_LOG_LINES = 15
_SHORT_LIFE = 10.0  # seconds; a program that ended sooner after its start may never get further
_MOST_SHORT_LIVES = 5  # in a row, after which a program is not started again


class Process:
    """A program under a guard (see `guard.py`), which ends it when this process ends.

    Attributes:
        name: Name of the program in messages.
        log: File with its output.
        pid: Process id of the guard, the parent of the program.
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
        lock: int | None = None,
    ) -> None:
        """Start the program without waiting.

        Args:
            name: Name of the program in messages.
            argv: Program and arguments.
            env: The complete environment.
            log: File for the output, replaced if it exists.
            cwd: Working directory; None for the current one.
            grace: Seconds from SIGTERM to SIGKILL.
            lock: Descriptor of a locked file, which the guard keeps open: the lock lasts until the
                program and its descendants have ended, whatever happens to this process.
        """
        self.name, self.log = name, log
        self._argv, self._env, self._cwd = argv, dict(env), cwd
        self._grace, self._lock = grace, lock
        self._short_lives = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        self._start()

    def _start(self) -> None:
        with self.log.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - guard.py of this package
                [sys.executable, "-I", str(_GUARD), str(self._grace), *self._argv],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd=self._cwd,
                start_new_session=True,  # only this process may get the terminal's Ctrl-C
                pass_fds=() if self._lock is None else (self._lock,),
            )
        self.pid = self._guard.pid
        self._started = time.monotonic()

    def check(self) -> None:
        """Raise StackError if the program has ended."""
        code = self._guard.poll()
        if code is not None:
            self._fail(f"ended with exit code {code}")

    def start_again(self) -> str:
        """Start the program again if it has ended; its output is appended to the log.

        Returns:
            How it ended; empty if it runs.

        Raises:
            StackError: It ended soon after its start, several times in a row.
        """
        code = self._guard.poll()
        if code is None:
            return ""
        end = f"ended with exit code {code}"
        short = time.monotonic() - self._started < _SHORT_LIFE
        self._short_lives = self._short_lives + 1 if short else 0
        if self._short_lives == _MOST_SHORT_LIVES:
            self._fail(f"{end}, {_MOST_SHORT_LIVES} times in a row soon after it was started")
        self.release()
        self._start()
        return end

    def wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until the program is ready.

        Args:
            ready: Returns whether the program is ready.
            timeout: Seconds to wait.

        Raises:
            StackError: It ended, or was not ready in time.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                self._fail(f"was not ready within {timeout:g} s")
            time.sleep(_POLL_INTERVAL)
        self.check()

    def answers(self, port: int, path: str) -> bool:
        """Whether this program, and no other, answers GET with 200.

        Args:
            port: Port on loopback.
            path: Path of the request.
        """
        return self._listens(port) and answers(port, path)

    def _listens(self, port: int) -> bool:
        with suppress(psutil.Error):  # a process may end meanwhile
            return any(
                each.status == psutil.CONN_LISTEN and each.laddr.port == port
                for process in psutil.Process(self.pid).children(recursive=True)
                for each in process.net_connections("tcp")
            )
        return False

    def finish(self, timeout: float) -> None:
        """Wait until the program has ended without an error.

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
        """Have the guard end the program, without waiting."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def stop(self) -> None:
        """End the program and its descendants; may be called again."""
        self.release()
        try:
            self._guard.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()

    def _fail(self, problem: str) -> NoReturn:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        excerpt = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        raise StackError(
            f"{self.name} {problem}. The end of its log, {self.log}:\n{excerpt}\n"
            f"Correct what the log says, then start again."
        )


def inherited_environment() -> dict[str, str]:
    """This process's environment without AWS_… and PREFECT_…, so that a child uses neither."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "PREFECT_"))
    }
