"""A PostgreSQL server of its own for a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from deployments.local.loopback import HOST, free_port


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty database, as Prefect takes it, while the block lasts.

    The test is skipped where PostgreSQL is not installed.
    """
    folder_of_programs = programs()
    with TemporaryDirectory() as folder:
        as_user: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
            shutil.chown(folder, "postgres")

        def run(program: str, *words: str, user: list[str] = as_user) -> None:
            command = [*user, str(folder_of_programs / program), *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/", timeout=120)

        data, port = f"{folder}/data", free_port()
        new = ["-U", "prefect", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        run("initdb", "-D", data, *new)
        where = f"-p {port} -c listen_addresses={HOST} -c unix_socket_directories= -c fsync=off"
        run("pg_ctl", "-D", data, "-o", where, "-l", f"{folder}/log", "-w", "start")
        try:
            run("createdb", "-h", HOST, "-p", str(port), "-U", "prefect", "prefect", user=[])
            yield f"postgresql+asyncpg://prefect@{HOST}:{port}/prefect"
        finally:
            run("pg_ctl", "-D", data, "-m", "fast", "stop")


def programs() -> Path:
    """The folder of PostgreSQL's programs, which Debian does not have on the path."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
    if found[0] is None:
        pytest.skip("postgresql is not installed")
    return Path(found[0]).parent
