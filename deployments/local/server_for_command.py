"""The Prefect server that a command uses: a running one, or a temporary one."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.processes import Processes
from deployments.local.record import running_stack

_SERVICES = (  # not needed by one run in one process; services that record the run stay on
    "CANCELLATION_CLEANUP",
    "CLEANUP_RECONCILER",
    "FOREMAN",
    "LATE_RUNS",
    "PAUSE_EXPIRATIONS",
    "SCHEDULER",
    "TRIGGERS",
)
_SETTINGS = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _SERVICES} | {
    "PREFECT_SERVER_UI_ENABLED": "false"
}


@contextmanager
def temporary_server() -> Iterator[PrefectServer]:
    """Run an empty Prefect server on loopback while the block lasts.

    The block is entered while the server starts: set its `environment` in `os.environ`, import
    slow modules, then call its `wait`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="swath-", ignore_cleanup_errors=True) as folder,
        Processes() as processes,
    ):
        yield start_server(processes, Path(folder), settings=_SETTINGS)


def reachable(api_url: str) -> bool:
    """Whether a Prefect server answers.

    Args:
        api_url: URL of its API, as in `PREFECT_API_URL`.
    """
    try:
        return httpx.get(f"{api_url.rstrip('/')}/health", timeout=2).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def find_server() -> str | None:
    """The API URL of the user's running Prefect server, or None.

    Checked in order: `PREFECT_API_URL`, the active Prefect profile, the running local stack.
    """
    stack = running_stack()
    for api_url in (
        os.environ.get("PREFECT_API_URL"),
        _profile_api_url(),
        stack.api_url if stack else None,
    ):
        if api_url and reachable(api_url):
            return api_url
    return None


def _profile_api_url() -> str | None:
    """`PREFECT_API_URL` of the active profile; importing Prefect to read it would take seconds."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    api_url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return api_url if isinstance(api_url, str) else None


if (
    __name__ == "__main__"
):  # called by `make setup`, so that the first run finds a migrated database
    with temporary_server() as first:
        first.wait()
