"""The worker on AWS: it updates the work pool and the deployments, then runs flows as ECS tasks.

`python -m deployments.aws.worker` is the command of the stack's worker service. The deployments of
its image are applied when it starts, so an upgrade takes only an update of the stack.
"""

from __future__ import annotations

import os
import sys

from deployments.aws.pool import WORK_POOL, job_template
from deployments.pool_worker import become_worker, create_pool, deploy, limit_runs, wait_for_server
from deployments.prefect_access import PASSWORD
from tasks.errors import SwathError
from tasks.settings import settings

GPU_REGIONS = "region/region-ecs-gpu"
_KIND = "ecs"


def main() -> None:
    """Update the pool and the deployments, start a sensor, then become Prefect's worker."""
    api_url = wait_for_server()
    template = job_template(
        settings(), with_key="PREFECT_API_KEY" in os.environ, with_password=PASSWORD in os.environ
    )
    create_pool(WORK_POOL, _KIND, "Flow runs as ECS tasks of the stack's cluster.", template)
    deploy("*-ecs")
    if gpus := settings().ecs_gpu_instances:
        deploy("*-ecs-gpu")
        limit_runs(GPU_REGIONS, gpus)
    become_worker(WORK_POOL, _KIND, "sensor/sensor-ecs", api_url)


if __name__ == "__main__":
    try:
        main()
    except SwathError as error:
        sys.exit(f"swath: {error}")
