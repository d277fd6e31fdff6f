"""The worker on Kubernetes: it updates the work pool and the deployments, then runs flows as jobs.

`python -m deployments.kubernetes.worker` is the command of the Deployment `swath-worker`.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

from deployments.kubernetes.pool import KIND, WORK_POOL, job_template
from deployments.pool_worker import become_worker, create_pool, deploy, limit_runs, wait_for_server
from tasks.errors import StackError, SwathError
from tasks.settings import settings

GPU_REGIONS = "region/region-kubernetes-gpu"


def main() -> None:
    """Update the pool and the deployments, start a sensor, then become Prefect's worker.

    Raises:
        StackError: Prefect's worker for Kubernetes is not installed, an image is not set, the
            server does not answer, or refuses the deployments.
    """
    if find_spec("prefect_kubernetes") is None:
        raise StackError(
            "prefect-kubernetes is not installed; install it with: pip install 'swath[kubernetes]'"
        )
    template = job_template(settings())
    api_url = wait_for_server()
    create_pool(WORK_POOL, KIND, "Flow runs as jobs of the cluster.", template)
    deploy("*-kubernetes")
    if gpus := settings().kubernetes_gpus:
        if settings().kubernetes_gpu_image is None:
            raise StackError(
                f"SWATH_KUBERNETES_GPUS: {gpus}, without an image for them; give it in "
                "SWATH_KUBERNETES_GPU_IMAGE."
            )
        deploy("*-kubernetes-gpu")
        limit_runs(GPU_REGIONS, gpus)
    become_worker(WORK_POOL, KIND, "sensor/sensor-kubernetes", api_url)


if __name__ == "__main__":
    try:
        main()
    except SwathError as error:
        sys.exit(f"swath: {error}")
