"""What the worker of a work pool of machines does before it polls: the pool, the deployments."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from deployments.local.prefect_server import PREFECT
from deployments.prefect_access import why_not
from deployments.saved_filters import save_filters
from deployments.sensor import start_sensor
from tasks.errors import StackError

PROJECT = Path(__file__).parents[1]
_SERVER_TIMEOUT = 600.0  # seconds; a new server and its database take minutes
_ANSWER_TIMEOUT = 5.0  # seconds


def wait_for_server(seconds: float = _SERVER_TIMEOUT) -> str:
    """Wait until the Prefect server answers; return the URL of its API.

    Raises:
        StackError: PREFECT_API_URL is not set, or the server did not answer in time.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    if not api_url:
        raise StackError("PREFECT_API_URL is not set; give the URL of a Prefect server's API.")
    deadline = time.monotonic() + seconds
    while reason := why_not(api_url, _ANSWER_TIMEOUT):
        if time.monotonic() > deadline:
            raise StackError(
                f"PREFECT_API_URL: after {seconds:g} s, {api_url} {reason}. Check the server's log "
                "and the network between it and this task."
            )
        time.sleep(1)
    return api_url


def create_pool(name: str, kind: str, description: str, template: dict[str, Any]) -> None:
    """Create a work pool, or update its job template.

    Args:
        name: Name of the pool.
        kind: Prefect's type of the pool.
        description: What it is for, as Prefect's UI shows it.
        template: The base job template.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        try:
            pool = WorkPoolCreate(
                name=name, type=kind, description=description, base_job_template=template
            )
            client.create_work_pool(pool)
        except ObjectAlreadyExists:  # its concurrency limit and pause belong to the operator
            client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


def deploy(*names: str) -> None:
    """Deploy the deployments of the project's `prefect.yaml` with names like the given ones.

    Args:
        names: Names of deployments, in which `*` stands for anything.

    Raises:
        StackError: `prefect deploy` failed.
    """
    result = subprocess.run(  # noqa: S603 - our own interpreter
        [*PREFECT, "deploy", *(f"--name={name}" for name in names)], cwd=PROJECT, check=False
    )
    if result.returncode:
        raise StackError("prefect deploy failed; see its output above.")


def limit_runs(deployment: str, runs: int) -> None:
    """Set how many runs of a deployment may run at a time.

    Args:
        deployment: Its name, `flow/deployment`.
        runs: The limit.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import DeploymentUpdate

    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        client.update_deployment(found.id, DeploymentUpdate(concurrency_limit=runs))


def become_worker(pool: str, kind: str, sensor: str, api_url: str) -> NoReturn:
    """Start a sensor, then become Prefect's worker of a pool.

    Args:
        pool: Name of the pool.
        kind: Prefect's type of the pool.
        sensor: Deployment of the sensor.
        api_url: URL of the server's API.
    """
    start_sensor(sensor, api_url)  # one that is running ends, and this one goes on
    save_filters(api_url)
    arguments: Sequence[str] = [*PREFECT, "worker", "start", "--pool", pool, "--type", kind]
    # the health check is that of the container
    os.execv(sys.executable, [*arguments, "--with-healthcheck"])  # noqa: S606 - our own interpreter
