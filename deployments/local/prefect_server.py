"""A Prefect server of our own, on SQLite and loopback.

Prefect itself is not imported: that takes seconds, in which the server is better on its way.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from deployments.local.folders import cache_folder
from deployments.local.loopback import HOST, free_port
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
_SERVE = [sys.executable, "-m", "deployments.local.prefect_program", "--no-prompt"]

_SERVER = {
    # Swath uses no blocks, and their registration takes longer than the rest of the start
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # By the batch, a task run costs the server 10 ms in place of 45 and is seen in seconds
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    # A run that waits for a slot asks again after a second, not after thirty
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    # Slots of an endpoint that a region held are free again also when the server was restarted
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # SQLite has one writer at a time: wait for it rather than fail
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
}

_CLIENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
}


@dataclass(frozen=True)
class PrefectServer:
    """A server under supervision.

    Attributes:
        port: Port on loopback.
        home: Its `PREFECT_HOME`, with the database.
        process: The supervised server.
    """

    port: int
    home: Path
    process: Process

    @property
    def ui_url(self) -> str:
        """Address of the UI."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """Address of the API, as `PREFECT_API_URL` takes it."""
        return f"{self.ui_url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a process a client of this server, whatever the user's profile."""
        return client_environment(self.home, self.port)

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until the server answers; then keep its fresh database for the next one.

        Args:
            timeout: Seconds to wait.

        Raises:
            StackError: It ended, or did not answer in time.
        """
        self.process.wait_until(partial(self.process.answers, self.port, "/api/health"), timeout)
        if not _template().exists():
            _keep(_database(self.home))


def client_environment(home: Path, port: int) -> dict[str, str]:
    """Variables of a client of the server on a port.

    Args:
        home: Folder that takes the place of the user's `~/.prefect`.
        port: The server's port on loopback.
    """
    return _CLIENT | {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
    }


def server_environment(home: Path, port: int) -> dict[str, str]:
    """Variables of a server with its database in `home`.

    Args:
        home: Folder that takes the place of the user's `~/.prefect`.
        port: Its port on loopback.
    """
    return (
        client_environment(home, port)
        | _SERVER
        | {
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{_database(home)}",
            "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        }
    )


def start_server(
    processes: Processes,
    folder: Path,
    *,
    port: int | None = None,
    settings: dict[str, str] | None = None,
) -> PrefectServer:
    """Start an empty server and return at once; `PrefectServer.wait` waits until it answers.

    Args:
        processes: Supervisor to start it under.
        folder: Folder for its log and, in `prefect`, its home, made anew.
        port: Port to prefer over any other.
        settings: Prefect settings over those of every server of ours.
    """
    home = folder.absolute() / "prefect"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if _template().exists():
        shutil.copyfile(_template(), _database(home))
    chosen = free_port(port or 0)
    process = processes.start(
        "the Prefect server",
        [*_SERVE, "server", "start", "--host", HOST, "--port", str(chosen)],
        env=inherited_environment() | server_environment(home, chosen) | (settings or {}),
        log=folder / "logs" / "prefect.log",
        cwd=home,
    )
    return PrefectServer(chosen, home, process)


def _database(home: Path) -> Path:
    return home / "prefect.db"


def _template() -> Path:
    """An empty, migrated database of this version of Prefect: the migrations take seconds."""
    return cache_folder() / f"prefect-{version('prefect')}.db"


def _keep(database: Path) -> None:
    """Make an untouched server's database the template, whole or not at all."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache_folder(), suffix=".part")
    os.close(handle)
    copy = Path(name)
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        copy.replace(_template())
    finally:
        copy.unlink(missing_ok=True)
