"""The Prefect tasks in the runs of images and regions: plan, infer, merge, publish.

Each calls one plain function; no other module of `tasks` imports Prefect. Each is given a
run name, as Prefect appends a hash to those that it makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture

from tasks.cost.usage import Usage
from tasks.imagery import Image
from tasks.inference.batch import Batch, infer
from tasks.job.image import check_plan
from tasks.merge import merge
from tasks.request import Request

if TYPE_CHECKING:
    from tasks.publish import Provenance, Published, ReadDetections
    from tasks.publish.publication import Standing
    from tasks.raster import Raster

plan_step = task(name="plan", task_run_name="plan", cache_policy=NO_CACHE)(check_plan)
infer_step = task(name="infer", task_run_name="batch", cache_policy=NO_CACHE)(infer)
merge_step = task(name="merge", task_run_name="merge", cache_policy=NO_CACHE)(merge)


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE)
def publish_step(
    request: Request,
    image: Image,
    read_detections: ReadDetections | None,
    ledger: pa.Table,
    provenance: Provenance,
    *,
    raster: Raster | None = None,
    standing: Standing | None = None,
    model_version: str = "",
    usage: Usage | None = None,
    preview_size: int | None = None,
) -> Published:
    """Publish the results of an image, as `tasks.publish.publish_image`."""
    # late: this import is slow, and a region's run does not need it
    from tasks.publish import publish_image  # noqa: PLC0415

    return publish_image(
        request,
        image,
        read_detections,
        ledger,
        provenance,
        raster=raster,
        standing=standing,
        model_version=model_version,
        usage=usage,
        preview_size=preview_size,
    )


@dataclass(frozen=True)
class InferRun:
    """A task run of `infer_step`."""

    future: PrefectConcurrentFuture[int]

    def done(self) -> bool:
        """Whether `result` returns at once."""
        return self.future.wrapped_future.done()

    def result(self) -> int:
        """Wait for the batch; the number of its tiles."""
        return self.future.result()


def submit_batch(batch: Batch) -> InferRun:
    """Start a task run that waits for the answers to a batch."""
    return InferRun(cast("PrefectConcurrentFuture[int]", infer_step.submit(batch)))
