"""The service `setup` of `compose.yaml`: what the other services find when they start.

It creates what does not exist yet, the queues, the topic and the buckets, the work pool and the
deployments, and starts a sensor. It may be run again at any time.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

from deployments.local.pool import WORK_POOL
from deployments.local.prefect_server import PREFECT
from deployments.local.resources import create_resources
from deployments.pool_worker import wait_for_server
from deployments.saved_filters import save_filters
from deployments.sensor import start_sensor
from tasks.errors import StackError, SwathError

PROJECT = Path(__file__).parents[2]


def _prefect(*arguments: str) -> None:
    """Run a command of Prefect in the project's folder.

    Raises:
        StackError: It failed.
    """
    result = subprocess.run([*PREFECT, *arguments], cwd=PROJECT, check=False)  # noqa: S603
    if result.returncode:
        raise StackError(f"prefect {' '.join(arguments)} failed; see its output above.")


def main() -> None:
    """Create the resources and the deployments, and start a sensor."""
    from tasks.aws.clients import client

    create_resources(lambda service: nullcontext(client(service)))
    api_url = wait_for_server()
    # overwritten, so that it may exist; its concurrency limit is kept
    _prefect("work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
    _prefect("deploy", "--name", "*-local")
    start_sensor("sensor/sensor-local", api_url)  # one that is running ends, and this one goes on
    save_filters(api_url)


if __name__ == "__main__":
    try:
        main()
    except SwathError as error:
        sys.exit(f"swath: {error}")
