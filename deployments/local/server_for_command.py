"""A Prefect server for one command: one that is up, else one of its own."""

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

_SERVICES = (  # what one run in one process has no use for; what records its run stays on
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
    """A private, empty Prefect server on loopback while the block lasts.

    The block is entered at once, while the server starts: put its `environment` into `os.environ`,
    import what is slow, then call its `wait`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="swath-", ignore_cleanup_errors=True) as folder,
        Processes() as processes,
    ):
        yield start_server(processes, Path(folder), settings=_SETTINGS)


def reachable(api_url: str) -> bool:
    """Whether a Prefect server answers.

    Args:
        api_url: Address of its API, as `PREFECT_API_URL` has it.
    """
    try:
        return httpx.get(f"{api_url.rstrip('/')}/health", timeout=2).is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def find_server() -> str | None:
    """The API address of the Prefect server that the user has up, or None.

    In order: `PREFECT_API_URL`, the active Prefect profile, the running local stack.
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
    """`PREFECT_API_URL` of the active profile, read without the seconds of importing Prefect."""
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    api_url = profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return api_url if isinstance(api_url, str) else None


if __name__ == "__main__":  # `make setup`: the first run finds the database migrated
    with temporary_server() as first:
        first.wait()
