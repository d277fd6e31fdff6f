"""No process that a supervisor started outlives it, however and whenever it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psutil
import pytest

from deployments.local.loopback import free_port
from deployments.local.processes import Processes
from tasks.errors import StackError

# Ignores SIGINT, SIGTERM and SIGHUP, with a child like itself and an orphan in its own session.
STUBBORN = """
import os, signal, subprocess, sys, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
token, generation = sys.argv[1], int(sys.argv[2])
if generation:
    again = [sys.executable, "-I", "-c", sys.argv[3], token, "0", ""]
    subprocess.Popen(again)
    if os.fork() == 0:
        os.setsid()
        os.execv(sys.executable, again)
    print("ready", flush=True)
time.sleep(120)
"""
WAITS_FOR_THE_OTHER = """
import pathlib, signal, sys, time

def end(*_):
    print("told", flush=True)
    while "told" not in pathlib.Path(sys.argv[1]).read_text():
        time.sleep(0.05)
    print("ended", flush=True)
    raise SystemExit

signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(600)
"""
SUPERVISOR = """
import os, sys
from pathlib import Path
from deployments.local.loopback import free_port
from deployments.local.processes import Processes
token, folder, stubborn = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
argv = [sys.executable, "-I", "-c", stubborn, token, "1", stubborn]
print("starting", flush=True)
with Processes() as processes:
    for name in ("one", "two"):
        log = folder / name
        child = processes.start(name, argv, env=os.environ, log=log, grace=0.3)
        child.wait_until(lambda: "ready" in log.read_text(), 120)
    print("up", flush=True)
    processes.watch()
"""


def family(token: str) -> list[psutil.Process]:
    """Every process that carries the token in its command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        alive = process.info["status"] != psutil.STATUS_ZOMBIE
        if alive and token in (process.info["cmdline"] or ()):
            found.append(process)
    return found


def await_no_process(token: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while left := family(token):
        if time.monotonic() > deadline:
            for process in left:
                process.kill()
            raise AssertionError(f"left behind: {left}")
        time.sleep(0.05)


def supervise(token: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, token, str(folder), STUBBORN],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def await_line(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"the supervisor ended before it said {line!r}")


@pytest.fixture
def token() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL], ids=lambda n: n.name
)
def test_a_signal_leaves_no_process(number: signal.Signals, token: str, tmp_path: Path) -> None:
    with supervise(token, tmp_path) as supervisor:
        await_line(supervisor, "up")
        # the supervisor, and twice a guard, a program, its child and its orphan
        assert len(family(token)) == 9
        supervisor.send_signal(number)
        await_no_process(token)
        assert supervisor.wait(60) != 0


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=lambda n: n.name)
def test_a_signal_during_the_start_leaves_no_process(
    number: signal.Signals, delay: float, token: str, tmp_path: Path
) -> None:
    with supervise(token, tmp_path) as supervisor:
        await_line(supervisor, "starting")
        time.sleep(delay)
        supervisor.send_signal(number)
        await_no_process(token)


@pytest.mark.parametrize("between", [0.0, 0.05, 0.2])
def test_a_second_interrupt_leaves_no_process(between: float, token: str, tmp_path: Path) -> None:
    with supervise(token, tmp_path) as supervisor:
        await_line(supervisor, "up")
        supervisor.send_signal(signal.SIGINT)
        time.sleep(between)
        supervisor.send_signal(signal.SIGINT)
        await_no_process(token)


def test_programs_are_stopped_together(tmp_path: Path) -> None:
    """The one is told to end while the other, which was told, has not ended yet."""
    logs = [tmp_path / "one", tmp_path / "two"]
    with Processes() as processes:
        for log, other in (logs, logs[::-1]):
            argv = [sys.executable, "-I", "-c", WAITS_FOR_THE_OTHER, str(other)]
            child = processes.start(log.name, argv, env=os.environ, log=log, grace=120)
            child.wait_until(lambda log=log: "ready" in log.read_text(), 120)  # type: ignore[misc]
    assert [log.read_text() for log in logs] == ["ready\ntold\nended\n"] * 2


def test_an_interrupt_in_the_terminal_reaches_only_the_supervisor(
    token: str, tmp_path: Path
) -> None:
    argv = [sys.executable, "-I", "-c", "import time; time.sleep(60)", token]
    with Processes() as processes:
        processes.start("the server", argv, env=os.environ, log=tmp_path / "log")
        while len(children := family(token)) < 2:
            processes.watch(0)
        assert os.getsid(0) not in {os.getsid(child.pid) for child in children}


def test_a_program_that_ends_early_is_reported_with_its_last_output(tmp_path: Path) -> None:
    log = tmp_path / "log"
    argv = [sys.executable, "-I", "-c", "print('no such port'); raise SystemExit(7)"]
    with Processes() as processes:
        child = processes.start("the server", argv, env=os.environ, log=log)
        with pytest.raises(StackError) as caught:
            child.wait_until(lambda: False, timeout=120)
    for part in ("the server", "exit code 7", "no such port", str(log)):
        assert part in str(caught.value)


def test_a_program_that_is_not_ready_in_time_is_reported_and_stopped(
    token: str, tmp_path: Path
) -> None:
    argv = [sys.executable, "-I", "-c", "import time; time.sleep(60)", token]
    with Processes() as processes:
        child = processes.start("the server", argv, env=os.environ, log=tmp_path / "log")
        with pytest.raises(StackError, match=r"the server was not ready within 0\.3 s"):
            child.wait_until(lambda: False, timeout=0.3)
    assert not family(token)


def test_a_program_that_has_ended_does_not_count_as_ready(tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-c", "raise SystemExit(1)"]
    with Processes() as processes:
        child = processes.start("the server", argv, env=os.environ, log=tmp_path / "log")
        psutil.Process(child.pid).wait(60)
        with pytest.raises(StackError, match="exit code"):
            child.wait_until(lambda: True, timeout=1)


def test_watch_notices_a_program_that_is_killed(token: str, tmp_path: Path) -> None:
    argv = [sys.executable, "-I", "-c", "import time; time.sleep(60)", token]
    with Processes() as processes:
        guard = processes.start("the worker", argv, env=os.environ, log=tmp_path / "log").pid
        while not (programs := [p for p in family(token) if p.pid != guard]):
            processes.watch(0)
        programs[0].kill()
        with pytest.raises(StackError, match="the worker ended with exit code 137"):
            processes.watch(60)


def test_run_returns_when_the_program_is_done(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Processes() as processes:
        argv = [sys.executable, "-I", "-c", "print('done')"]
        processes.run("a step", argv, env=os.environ, log=log)
        processes.watch(0)  # its end is no surprise
        with pytest.raises(StackError, match="a step ended with exit code 3"):
            processes.run(
                "a step",
                [sys.executable, "-I", "-c", "raise SystemExit(3)"],
                env=os.environ,
                log=log,
            )
        argv = [sys.executable, "-I", "-c", "import time; time.sleep(60)"]
        with pytest.raises(StackError, match="a step did not end within"):
            processes.run("a step", argv, env=os.environ, log=log, timeout=0.3)


def test_signal_handlers_of_the_process_are_restored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Processes():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


LISTENER = """
import http.server, sys
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Ok).serve_forever()
"""


def test_the_answer_of_another_program_on_the_port_does_not_count(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-I", "-c", LISTENER, str(port)]
    slow = [sys.executable, "-I", "-c", f"import time; time.sleep(2)\n{LISTENER}", str(port)]
    with Processes() as processes:
        first = processes.start("the first", argv, env=os.environ, log=tmp_path / "first")
        first.wait_until(lambda: first.answers(port, "/"), timeout=120)
        second = processes.start("the second", slow, env=os.environ, log=tmp_path / "second")
        with pytest.raises(StackError, match=r"(?s)the second ended .*Address already in use"):
            second.wait_until(lambda: second.answers(port, "/"), timeout=120)


def test_no_outgoing_connection_takes_a_port_that_was_chosen() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if first < 32_000:
        pytest.skip("this machine gives outgoing connections other ports than Linux does")
    assert max(free_port() for _ in range(20)) < first


def test_a_port_is_given_to_one_process() -> None:
    port = free_port()
    ask = f"from deployments.local.loopback import free_port; print(free_port({port}))"
    other = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    assert int(other.stdout) != port
    assert free_port(port) == port  # nothing listens there yet, and it is ours
