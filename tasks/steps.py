"""The Prefect tasks that an image's and a region's run show: plan, infer, merge, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.imagery import Image
from tasks.inference.batch import infer
from tasks.merge import merge
from tasks.planning.plan import check_plan
from tasks.request import Request

plan_step = task(name="plan", cache_policy=NO_CACHE)(check_plan)
infer_step = task(name="infer", task_run_name="batch", cache_policy=NO_CACHE)(infer)
merge_step = task(name="merge", cache_policy=NO_CACHE)(merge)


@task(name="publish", cache_policy=NO_CACHE)
def publish_step(
    request: Request,
    image: Image,
    bands: Callable[[], Iterable[pa.Table]] | None,
    ledger: pa.Table,
    inferred: datetime,
) -> dict[str, str]:
    """Publish what an image gave: see `tasks.publish.publish_image`."""
    # late: a region's run publishes nothing, and need not wait until that is loaded
    from tasks.publish import publish_image  # noqa: PLC0415

    return publish_image(request, image, bands, ledger, inferred)
