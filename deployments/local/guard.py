"""The parent of one supervised program: whatever ends us ends the program and all that it started.

Run as `python -I guard.py GRACE PROGRAM [ARGUMENT …]`. Standard input is the lifeline: a pipe whose
other end only the supervisor holds. It closes when the supervisor lets go, and, because the kernel
closes it, also when the supervisor is killed outright. The guard then asks the program to end
(SIGTERM), waits GRACE seconds, and kills what is left. As the "child subreaper" (prctl(2)) it
inherits every orphan of the program, so that a grandchild cannot slip away.

Standard library and psutil only: it must start in an instant.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    """Ask the Linux kernel; elsewhere the lifeline alone has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _end_with_guard() -> None:
    """In the program, before it runs: die with the guard, should something kill that."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _stop_when_released(program: psutil.Process, ended: threading.Event, grace: float) -> None:
    """Wait for the end of the lifeline; then end the program, at the latest after `grace` s."""
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
    """Reap children, adopted ones too, until `pid` has ended; its exit code as a shell has it."""
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap_rest() -> None:
    """Kill and reap until nothing is left, also what was forked meanwhile."""
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill_descendants()
            os.wait()


def main(grace: float, program: list[str]) -> int:
    """Run a program until it ends or the lifeline does; its exit code (128 + signal if killed)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(  # noqa: S603 - a program that the supervisor names
        program,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_guard,  # noqa: PLW1509 - no thread has been started yet
    )
    child.returncode = 0  # reaped below, not by subprocess
    ended = threading.Event()
    lifeline = (psutil.Process(child.pid), ended, grace)  # not reaped yet, so it does exist
    threading.Thread(target=_stop_when_released, args=lifeline, daemon=True).start()
    code = _reap_until(child.pid)
    ended.set()
    _reap_rest()
    return code


if __name__ == "__main__":
    # Past the interpreter's own shutdown, which would wait for the thread that reads the lifeline.
    os._exit(main(float(sys.argv[1]), sys.argv[2:]))
