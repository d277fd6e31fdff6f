"""A supervised Prefect server, on SQLite and loopback.

Prefect itself is not imported here: that takes seconds, which would delay the server's start.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

from deployments.local.folders import cache_folder
from deployments.local.loopback import HOST, free_port
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.prefect_access import PASSWORD
from tasks.errors import StackError
from tasks.settings import settings
from tasks.storage.temporary import temporary_folder

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
_PREFECT_SERVER = [sys.executable, "-m", "deployments.local.prefect_program", "--no-prompt"]
_SERVER_PASSWORD = "PREFECT_SERVER_API_AUTH_STRING"  # noqa: S105 - the name of the setting
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_DRIVERS = ("postgresql+asyncpg://", "sqlite+aiosqlite://")

SERVER_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # With batches, a task run takes 10 ms of the server's CPU, not 45, and is visible seconds later
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    # A run that waits for a slot of a concurrency limit tries again after 1 s, not 30
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    # In files, leases of slots survive a restart of the server, and so still expire
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
        "prefect.server.concurrency.lease_storage.filesystem"
    ),
    # Services that look for what Swath has seldom or never look seldom: deployments with a new
    # schedule, late runs, paused ones, workers that no longer poll, automations that wait for time
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
    "PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "30",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_LOOP_SECONDS": "60",
    "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT30S",
    # Events take most of the database: ten rows each, and an idle sensor has 20,000 of them a day
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P1D",
    # Runs that ended longer ago than that are deleted, with their logs and artifacts. Longer than a
    # queue keeps a message (14 days): until then, one that is delivered again finds its runs
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "P30D",
}
"""Settings of every Prefect server for Swath: also on AWS, in containers, in docs/prefect.md."""

_LOCAL_SETTINGS = {
    # Registering the types of blocks takes longer than the rest of the start
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    # SQLite has one writer at a time: wait for its lock instead of failing
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
}

CLIENT_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    # Log records of the plain functions in `tasks` go to the log of the run that calls them
    "PREFECT_LOGGING_EXTRA_LOGGERS": "tasks",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
}


@dataclass(frozen=True)
class PrefectServer:
    """A supervised Prefect server.

    Attributes:
        port: Port on loopback.
        home: Its `PREFECT_HOME`, with the database.
        process: The supervised server.
        empty: Whether its database was new when it was started.
        elsewhere: Whether its database is one that the environment names.
        password: What it asks of its clients; empty if it serves everyone who reaches its port.
    """

    port: int
    home: Path
    process: Process
    empty: bool = False
    elsewhere: bool = False
    password: str = field(default="", repr=False)

    @property
    def ui_url(self) -> str:
        """URL of the UI."""
        return f"http://{HOST}:{self.port}"

    @property
    def api_url(self) -> str:
        """URL of the API, as in `PREFECT_API_URL`."""
        return f"{self.ui_url}/api"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that make a process a client of this server, whatever the user's profile is."""
        return client_environment(self.home, self.port) | self.access

    @property
    def access(self) -> dict[str, str]:
        """The variables among them by which the server knows a client."""
        return {PASSWORD: self.password} if self.password else {}

    def wait(self, timeout: float = 120.0) -> None:
        """Wait until the server answers, then cache its database for other servers if it is new.

        Args:
            timeout: Seconds to wait.

        Raises:
            StackError: It ended, or did not answer in time.
        """
        try:
            answers = partial(self.process.answers, self.port, "/api/health")
            self.process.wait_until(answers, timeout)
        except StackError as error:
            if not self.elsewhere:
                raise
            raise StackError(
                f"{error}\nIts database is the one that {_DATABASE} names: it has to exist, to be "
                "empty or Prefect's, and to be reached from here."
            ) from error
        if self.empty and not _cached_database().exists():
            _cache_database(_database(self.home))


def own_database() -> dict[str, str]:
    """The setting of a database that this process's environment names for a server, if it does.

    Raises:
        StackError: It is none that Prefect knows.
    """
    url = os.environ.get(_DATABASE, "")
    if url and not url.startswith(_DRIVERS):
        driver = url.split("://")[0] if "://" in url else ""  # the rest may have a password
        raise StackError(
            f"{_DATABASE}: {driver!r} is no driver that Prefect knows; give "
            f"{_DRIVERS[0]}USER:PASSWORD@HOST/NAME."
        )
    return {_DATABASE: url} if url else {}


def client_environment(home: Path, port: int) -> dict[str, str]:
    """Variables of a client of the server on a port.

    Args:
        home: Folder used in place of the user's `~/.prefect`.
        port: The server's port on loopback.
    """
    return CLIENT_SETTINGS | {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": f"http://{HOST}:{port}/api",
        # This server has none of the tokens that each new client would ask for before it writes
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "false",
    }


def server_environment(home: Path, port: int) -> dict[str, str]:
    """Variables of a server with its database in `home`.

    Args:
        home: Folder used in place of the user's `~/.prefect`.
        port: The server's port on loopback.
    """
    return (
        client_environment(home, port)
        | SERVER_SETTINGS
        | _LOCAL_SETTINGS
        | {
            _DATABASE: f"sqlite+aiosqlite:///{_database(home)}",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": f"P{settings().keep_runs}D",
            "PREFECT_UI_API_URL": f"http://{HOST}:{port}/api",
        }
    )


def start_server(
    processes: Processes,
    folder: Path,
    *,
    port: int | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> PrefectServer:
    """Start a server without waiting; `PrefectServer.wait` waits until it answers.

    With PREFECT_SERVER_API_AUTH_STRING in this process's environment, it asks for that password.

    Args:
        processes: The supervisor of the process.
        folder: Folder for the log and for the home, `prefect`. A database in it is kept, and
            migrated if an older version of Prefect wrote it.
        port: Port to listen on; None for any.
        variables: Further settings of Prefect, in place of those of Swath; such as `own_database`.

    Raises:
        StackError: The password has a character that Prefect does not compare.
    """
    home = folder.absolute() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    empty = _DATABASE not in variables and not _database(home).exists()
    if empty and _cached_database().exists():
        shutil.copyfile(_cached_database(), _database(home))
    free = port or free_port()
    password = os.environ.get(_SERVER_PASSWORD, "")
    if not password.isascii():  # Prefect would answer every call with status 500
        raise StackError(f"{_SERVER_PASSWORD}: Prefect compares ASCII only; choose another one.")
    process = processes.start(
        "the Prefect server",
        [*_PREFECT_SERVER, "server", "start", "--host", HOST, "--port", str(free)],
        env=inherited_environment()
        | server_environment(home, free)
        | ({_SERVER_PASSWORD: password} if password else {})
        | dict(variables),
        log=folder / "logs" / "prefect.log",
        cwd=home,
    )
    return PrefectServer(free, home, process, empty, _DATABASE in variables, password)


@contextmanager
def temporary_server() -> Iterator[PrefectServer]:
    """Run an empty Prefect server on loopback while the block lasts; `wait` until it answers."""
    with temporary_folder() as folder, Processes() as processes:
        yield start_server(processes, folder)


def _database(home: Path) -> Path:
    return home / "prefect.db"


def _cached_database() -> Path:
    """The cached empty database of this version of Prefect: migrating a new one takes seconds."""
    return cache_folder() / f"prefect-{version('prefect')}.db"


def _cache_database(database: Path) -> None:
    """Copy the database of an unused server into the cache, atomically."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=cache_folder(), suffix=".part")
    os.close(handle)
    copy = Path(name)
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
        copy.replace(_cached_database())
    finally:
        copy.unlink(missing_ok=True)


if __name__ == "__main__":  # called by `make setup`: later servers copy the migrated database
    with temporary_server() as first:
        first.wait()
