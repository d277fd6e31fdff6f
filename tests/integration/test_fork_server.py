"""The fork server of flow runs: a forked engine is as one that was started, and ends as one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from prefect import flow, get_client

from deployments.local import fork_client
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from tests.polling import until

FLOWS = """
import json
import os
import sys
from pathlib import Path

import psutil
from prefect import flow
from prefect.settings import get_current_settings

import tasks

@flow
def seen(file):
    process = psutil.Process()
    Path(file).write_text(json.dumps({
        "environment": dict(os.environ),
        "directory": os.getcwd(),
        "path": sys.path[0],
        "name": process.name(),
        "parent": process.ppid(),
        "retries": get_current_settings().flows.default_retries,
        "touched": getattr(tasks, "touched", False),
    }))
    print("says something", flush=True)
    os.environ["LEAKED"] = "1"
    os.chdir("/")
    tasks.touched = True

@flow
def ended(status):
    os._exit(status) if status >= 0 else os.kill(os.getpid(), -status)

@flow
def working(file):
    Path(file).write_text(str(os.getpid()))
    __import__("time").sleep(600)
"""


@dataclass(frozen=True)
class Engines:
    """A fork server, and clients of it.

    Attributes:
        folder: Folder of flows and files.
        path: The server's socket.
        server: The supervised server.
        environment: Its environment.
    """

    folder: Path
    path: Path
    server: Process
    environment: dict[str, str]

    @property
    def process(self) -> psutil.Process:
        """The server's process, below its guard."""
        (process,) = psutil.Process(self.server.pid).children()
        return process

    def start(self, name: str, argument: object, **variables: str) -> subprocess.Popen[str]:
        """Start a client for a new run of one of the flows."""

        @flow(name=name)
        def stands_for(argument: object = None) -> None:
            """Its name is that of the flow in the file."""

        parameters = {"status" if name == "ended" else "file": argument}
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(stands_for, parameters=parameters)
        entrypoint = f"{self.folder / 'flows_of_test.py'}:{name}"
        return self.client(
            PREFECT__FLOW_RUN_ID=str(run.id), PREFECT__FLOW_ENTRYPOINT=entrypoint, **variables
        )

    def client(self, **variables: str) -> subprocess.Popen[str]:
        """Start a client."""
        return subprocess.Popen(
            [sys.executable, "-I", "-S", fork_client.__file__, str(self.path)],
            env=self.environment | variables,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def engines(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    # longer than the path of a socket may be
    folder = tmp_path_factory.mktemp("a-folder-with-a-long-name-" + 80 * "-")
    (folder / "flows_of_test.py").write_text(FLOWS)
    environment = inherited_environment() | {
        "PREFECT_API_URL": prefect_api,
        "PREFECT_HOME": str(folder),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    path = folder / "runs.sock"
    with Processes(lambda *_: None) as processes:
        server = processes.start(
            "the fork server",
            [sys.executable, "-m", "deployments.local.fork_server", str(path)],
            env=environment,
            log=folder / "runs.log",
        )
        server.wait_until(path.exists, timeout=300)
        yield Engines(folder, path, server, environment)


def seen_by(engines: Engines, **variables: str) -> dict[str, object]:
    """What a run saw that had some variables more."""
    file = engines.folder / uuid4().hex
    client = engines.start("seen", str(file), **variables)
    output, _ = client.communicate()
    assert client.returncode == 0, output
    assert "says something" in output
    found: dict[str, object] = json.loads(file.read_text())
    return found


def working(engines: Engines, **variables: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A client whose engine is at work, and that engine."""
    file = engines.folder / uuid4().hex
    client = engines.start("working", str(file), **variables)
    until(lambda: file.exists() and file.read_text())
    return client, psutil.Process(int(file.read_text()))


def test_an_engine_has_what_its_run_has_and_nothing_of_the_run_before(engines: Engines) -> None:
    seen_by(engines)
    found = seen_by(engines)
    environment = found["environment"]
    assert isinstance(environment, dict)
    run = environment.pop("PREFECT__FLOW_RUN_ID")
    assert found["parent"] == engines.process.pid
    assert found["name"] == f"swath-{run[:8]}"
    assert found["directory"] == found["path"] == str(engines.folder)
    assert not found["touched"]
    assert engines.environment.items() <= environment.items()
    assert "LEAKED" not in environment


@pytest.mark.parametrize(
    "variables", [{"OMP_NUM_THREADS": "3"}, {"PREFECT_FLOWS_DEFAULT_RETRIES": "2"}]
)
def test_a_run_with_variables_of_its_own_has_a_new_python(
    engines: Engines, variables: dict[str, str]
) -> None:
    found = seen_by(engines, **variables)
    environment = found["environment"]
    assert isinstance(environment, dict)
    assert variables.items() <= environment.items()
    assert found["retries"] == int(variables.get("PREFECT_FLOWS_DEFAULT_RETRIES", 0))
    assert found["name"] != f"swath-{environment['PREFECT__FLOW_RUN_ID'][:8]}"
    assert found["parent"] == engines.process.pid


def test_without_a_server_the_client_becomes_the_engine(engines: Engines, tmp_path: Path) -> None:
    nowhere = Engines(engines.folder, tmp_path / "runs.sock", engines.server, engines.environment)
    assert seen_by(nowhere)["parent"] == os.getpid()


@pytest.mark.parametrize("status", [0, 3, -signal.SIGKILL, -signal.SIGSEGV])
def test_a_client_ends_as_its_engine_ends(engines: Engines, status: int) -> None:
    client = engines.start("ended", status)
    output, _ = client.communicate()
    assert client.returncode == status, output


def test_a_signal_reaches_the_engine(engines: Engines) -> None:
    client, engine = working(engines)
    client.send_signal(signal.SIGTERM)
    output, _ = client.communicate()
    assert client.returncode == -signal.SIGTERM or "TerminationSignal" in output
    until(lambda: not engine.is_running())


def test_an_engine_is_killed_with_its_client(engines: Engines) -> None:
    client, engine = working(engines)
    client.kill()
    client.communicate()
    until(lambda: not engine.is_running())
    seen_by(engines)


def test_an_engine_and_its_client_may_end_at_once(engines: Engines) -> None:
    client, engine = working(engines)
    with connected(engines):  # the server waits for a request, and sees both ends afterwards
        time.sleep(0.2)
        engine.kill()
        until(lambda: engine.status() == psutil.STATUS_ZOMBIE)
        client.kill()
        client.communicate()
    assert seen_by(engines)["parent"] == engines.process.pid


@contextmanager
def connected(engines: Engines) -> Iterator[socket.socket]:
    """A connection to the server."""
    with socket.socket(socket.AF_UNIX) as connection, contextlib.chdir(engines.folder):
        connection.connect(engines.path.name)
        yield connection


def test_what_is_no_request_is_ignored(engines: Engines) -> None:
    for message in (b"", b"GET / HTTP/1.1\r\n\r\n", fork_client.SIZE.pack(3) + b"no!"):
        with connected(engines) as connection:
            socket.send_fds(connection, [message or b" "], [0, 1, 2])
    seen_by(engines)


def test_a_run_waits_while_the_server_has_no_descriptors_left(engines: Engines) -> None:
    server, log = engines.process, engines.folder / "runs.log"
    limits = server.rlimit(psutil.RLIMIT_NOFILE)
    server.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))
    try:
        client = engines.client(PREFECT__FLOW_RUN_ID="none")
        until(lambda: "No run can be accepted" in log.read_text())
    finally:
        server.rlimit(psutil.RLIMIT_NOFILE, limits)
    assert "Invalid flow run id" in client.communicate()[0]
    assert engines.process == server


def test_a_hundred_runs_leave_the_server_as_it_was(engines: Engines) -> None:
    def run(number: int) -> None:
        """So many at once, whose id is none, so that their engines end at once."""
        for client in [engines.client(PREFECT__FLOW_RUN_ID="none") for _ in range(number)]:
            assert "Invalid flow run id" in client.communicate()[0]
            assert client.returncode == 1

    run(10)
    server = engines.process
    files, memory = server.num_fds(), server.memory_info().rss
    for _ in range(10):
        run(10)
    assert server.num_fds() == files
    assert server.memory_info().rss < memory + 1_000_000
    assert not server.children()


def test_engines_end_with_the_server_which_is_started_again(engines: Engines) -> None:
    client, engine = working(engines)
    cold, new_python = working(engines, OMP_NUM_THREADS="3")
    engines.process.kill()
    for each in (client, cold):
        each.communicate()
        assert each.returncode == -signal.SIGKILL
    until(lambda: not engine.is_running() and not new_python.is_running())
    until(lambda: engines.server.start_again() != "")
    before = engines.path.stat().st_ctime_ns
    assert seen_by(engines)["parent"] == os.getpid()  # while the new one imports
    until(lambda: engines.path.exists() and engines.path.stat().st_ctime_ns != before)
    assert seen_by(engines)["parent"] == engines.process.pid
