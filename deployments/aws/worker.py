"""The worker on AWS: it updates the work pool and the deployments, then runs flows as ECS tasks.

`python -m deployments.aws.worker` is the command of the stack's worker service. The deployments of
its image are applied when it starts, so an upgrade takes only an update of the stack.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from deployments.aws.pool import WORK_POOL, job_template
from deployments.local.prefect_server import PREFECT, reachable
from deployments.saved_filters import save_filters
from deployments.sensor import start_sensor
from tasks.errors import StackError, SwathError
from tasks.settings import settings

PROJECT = Path(__file__).parents[2]
_SERVER_TIMEOUT = 600.0  # seconds; a new server and its database take minutes


def wait_for_server(seconds: float = _SERVER_TIMEOUT) -> str:
    """Wait until the Prefect server answers; return the URL of its API.

    Raises:
        StackError: PREFECT_API_URL is not set, or the server did not answer in time.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    if not api_url:
        raise StackError("PREFECT_API_URL is not set; give the URL of a Prefect server's API.")
    deadline = time.monotonic() + seconds
    while not reachable(api_url):
        if time.monotonic() > deadline:
            raise StackError(
                f"PREFECT_API_URL: {api_url} did not answer in {seconds:g} s; check the server's "
                "log and the network between it and this task."
            )
        time.sleep(1)
    return api_url


def create_pool() -> None:
    """Create the work pool, or update its job template.

    Raises:
        StackError: The settings lack the cluster or the subnets.
    """
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
    from prefect.exceptions import ObjectAlreadyExists

    template = job_template(settings(), with_key="PREFECT_API_KEY" in os.environ)
    text = "Flow runs as ECS tasks of the stack's cluster."
    with get_client(sync_client=True) as client:
        try:
            pool = WorkPoolCreate(
                name=WORK_POOL, type="ecs", description=text, base_job_template=template
            )
            client.create_work_pool(pool)
        except ObjectAlreadyExists:  # its concurrency limit and pause belong to the operator
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))


def deploy() -> None:
    """Deploy the deployments on ECS of the project's `prefect.yaml`.

    Raises:
        StackError: `prefect deploy` failed.
    """
    result = subprocess.run(  # noqa: S603 - our own interpreter
        [*PREFECT, "deploy", "--name", "*-ecs"], cwd=PROJECT, check=False
    )
    if result.returncode:
        raise StackError("prefect deploy failed; see its output above.")


def main() -> None:
    """Update the pool and the deployments, start a sensor, then become Prefect's worker."""
    api_url = wait_for_server()
    create_pool()
    deploy()
    start_sensor("sensor/sensor-ecs", api_url)  # one that is running ends, and this one goes on
    save_filters(api_url)
    worker = [*PREFECT, "worker", "start", "--pool", WORK_POOL, "--type", "ecs"]
    worker.append("--with-healthcheck")  # for the container's health check
    os.execv(sys.executable, worker)  # noqa: S606 - our own interpreter


if __name__ == "__main__":
    try:
        main()
    except SwathError as error:
        sys.exit(f"swath: {error}")
