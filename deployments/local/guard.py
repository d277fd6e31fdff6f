"""The parent process of one supervised program, which ends when the supervisor does.

Run as `python -I guard.py GRACE PROGRAM [ARGUMENT …]`. Standard input is a pipe whose other end is
held only by the supervisor: it closes when the supervisor closes it or is killed. The guard then
sends SIGTERM to the program, waits GRACE seconds, and kills its remaining descendants. It is a
child subreaper (prctl(2)): orphaned descendants become its children, so that it can kill them too.

It imports only the standard library and psutil, to start quickly.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int | bytes) -> None:
    """Call prctl on Linux; other systems rely on the pipe alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """In a process that was just forked: have it killed if its parent is killed.

    Args:
        parent: Process id of the parent, which may have been killed already.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def name_process(name: str) -> None:
    """Name this process for `ps` and `top`.

    Args:
        name: Its name, of which the first 15 characters count.
    """
    _prctl(_PR_SET_NAME, name.encode())


def _stop_when_pipe_closes(program: psutil.Process, ended: threading.Event, grace: float) -> None:
    """Wait until the pipe closes, then end the program, at the latest after `grace` seconds."""
    while os.read(0, 1):
        pass
    with contextlib.suppress(psutil.NoSuchProcess):
        program.terminate()
    if not ended.wait(grace):
        _kill_descendants()


def _kill_descendants() -> None:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _reap_until(pid: int) -> int:
    """Reap children, adopted ones too, until `pid` has ended; return its exit code as shells do."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap_rest() -> None:
    """Kill and reap descendants until none is left; they may fork meanwhile."""
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill_descendants()
            os.wait()


def main(grace: float, program: list[str]) -> int:
    """Run a program until it ends or the pipe closes; return its exit code as shells do."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(  # noqa: S603 - a program of the supervisor
        program,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # no thread is running yet
        preexec_fn=functools.partial(die_with_parent, os.getpid()),  # noqa: PLW1509
    )
    child.returncode = 0  # reaped below, not by subprocess
    ended = threading.Event()
    arguments = (psutil.Process(child.pid), ended, grace)  # not reaped yet, so the pid is valid
    threading.Thread(target=_stop_when_pipe_closes, args=arguments, daemon=True).start()
    code = _reap_until(child.pid)
    ended.set()
    _reap_rest()
    return code


if __name__ == "__main__":
    # Without the interpreter's shutdown, which would wait for the thread that reads the pipe
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
