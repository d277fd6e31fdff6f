"""The worker on AWS: sees to the work pool and the deployments, then starts flow runs as ECS tasks.

`python -m deployments.aws.worker` is the command of the stack's worker service. Whatever the image
brings is deployed when it starts, so an update of the stack is all that an upgrade takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from deployments.aws.pool import WORK_POOL, job_template
from deployments.local.server_for_command import reachable
from deployments.sensor import start_sensor
from tasks.errors import StackError, SwathError
from tasks.settings import settings

PROJECT = Path(__file__).parents[2]
_PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
_PATIENCE = 600.0  # seconds for a server that is being made, with its database


def wait_for_server(seconds: float = _PATIENCE) -> str:
    """Wait until the Prefect server answers; returns the address of its API.

    Raises:
        StackError: No address is set, or it did not answer in time.
    """
    api_url = os.environ.get("PREFECT_API_URL")
    if not api_url:
        raise StackError("PREFECT_API_URL: it is not set; give the address of a Prefect server.")
    deadline = time.monotonic() + seconds
    while not reachable(api_url):
        if time.monotonic() > deadline:
            raise StackError(
                f"PREFECT_API_URL: {api_url} did not answer in {seconds:g} s; look at the server's "
                "log, and at the way from here to it."
            )
        time.sleep(1)
    return api_url


def create_pool() -> None:
    """Make the work pool as it should be, or bring the one that is there up to date.

    Raises:
        StackError: The settings do not say where the stack is.
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
        except ObjectAlreadyExists:  # its limit and whether it is paused are the operator's
            client.update_work_pool(WORK_POOL, WorkPoolUpdate(base_job_template=template))


def deploy() -> None:
    """Deploy what the project's `prefect.yaml` has for ECS.

    Raises:
        StackError: Prefect refused it.
    """
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [*_PREFECT, "deploy", "--name", "ecs"], cwd=PROJECT, check=False
    )
    if done.returncode:
        raise StackError("prefect deploy failed; what it said stands above.")


def main() -> None:
    """See to the pool and the deployments, then become Prefect's worker."""
    api_url = wait_for_server()
    create_pool()
    deploy()
    start_sensor("sensor/ecs", api_url)  # one that is at work goes on, and this one waits for it
    worker = [*_PREFECT, "worker", "start", "--pool", WORK_POOL, "--type", "ecs"]
    worker.append("--with-healthcheck")  # for the container's probe
    os.execv(sys.executable, worker)  # noqa: S606 - our own interpreter


if __name__ == "__main__":
    try:
        main()
    except SwathError as error:
        sys.exit(f"swath: {error}")
