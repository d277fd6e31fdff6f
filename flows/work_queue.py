"""The work queue of a deployment: Prefect gives its runs to workers in order, up to its limit."""

from __future__ import annotations

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.responses import DeploymentResponse

_SHARED = "default"  # work queue of all deployments that name none


def limit_work_queue(client: SyncPrefectClient, deployment: DeploymentResponse) -> None:
    """Set the limit of a deployment's work queue to the deployment's.

    A worker is given no more runs than its queue's limit allows, those that were submitted first.
    Without a limit, it is given all that wait, every two seconds, and the server postpones each
    because of the deployment's limit: so their order is lost, and thousands of images in one
    request would keep server and worker busy with that. A work queue that other deployments may use
    too is left as it is.
    """
    name, pool = deployment.work_queue_name, deployment.work_pool_name
    if name is None or pool is None or name == _SHARED:
        return
    limit = deployment.global_concurrency_limit
    slots = limit.limit if limit is not None and limit.active else None
    queue = client.read_work_queue_by_name(name, pool)
    if queue.concurrency_limit != slots:
        client.update_work_queue(queue.id, concurrency_limit=slots)
