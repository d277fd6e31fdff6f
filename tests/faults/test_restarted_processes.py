"""Child processes that end are started again, and their lock lasts as long as they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psutil
import pytest

from deployments.local.process import Process
from deployments.local.processes import Processes
from deployments.local.record import stack_lock
from tasks.errors import StackError
from tests.polling import until

READY = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
LOCKED = """
import os, sys
from pathlib import Path
from deployments.local.processes import Processes
from deployments.local.record import stack_lock
with stack_lock() as lock, Processes(lock=lock) as processes:
    log = Path(sys.argv[2])
    argv = [sys.executable, "-c", sys.argv[3], sys.argv[1]]
    child = processes.start("it", argv, env=os.environ, log=log, grace=3.0)
    child.wait_until(lambda: "ready" in log.read_text(), 120)
    print("up", flush=True)
    processes.watch()
"""


def test_a_process_that_was_killed_is_started_again(tmp_path: Path) -> None:
    ends: list[tuple[Process, str]] = []
    log = tmp_path / "it.log"
    with Processes(lambda process, end: ends.append((process, end))) as processes:
        argv = [sys.executable, "-c", READY]
        child = processes.start("it", argv, env=os.environ, log=log)
        until(lambda: log.read_text() == "ready\n")
        processes.watch(0)
        assert not ends
        psutil.Process(child.pid).children()[0].kill()

        def ended() -> bool:
            processes.watch(0)
            return bool(ends)

        until(ended)
        assert ends == [(child, "ended with exit code 137")]
        until(lambda: log.read_text() == "ready\nready\n")


def test_a_process_that_ends_at_once_again_and_again_is_an_error_with_its_log(
    tmp_path: Path,
) -> None:
    ends: list[str] = []
    argv = [sys.executable, "-c", "print('no disk'); raise SystemExit(7)"]
    with Processes(lambda _, end: ends.append(end)) as processes:
        processes.start("it", argv, env=os.environ, log=tmp_path / "it.log")
        with pytest.raises(StackError, match=r"(?s)5 times in a row.*no disk"):
            processes.watch()
    assert ends == ["ended with exit code 7"] * 4


def test_a_stack_waits_for_the_processes_of_one_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_STATE_DIR", str(tmp_path / "state"))
    token = uuid.uuid4().hex
    command = [sys.executable, "-c", LOCKED, token, str(tmp_path / "it.log"), STUBBORN]

    def left() -> list[psutil.Process]:
        every = psutil.process_iter(["cmdline"])  # a zombie has no command line
        return [each for each in every if token in (each.info["cmdline"] or ())]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "up\n"
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait()
        assert left()
        with stack_lock():
            assert not left()
