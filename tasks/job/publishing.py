"""Publishes the results of an image's run, and leaves alone what an earlier run has published."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.cost.usage import Usage
from tasks.errors import PublishError
from tasks.job.earlier import standing_earlier
from tasks.planning.plan import Plan
from tasks.reporting.status import JobStatus
from tasks.telemetry.catalogue import Operation
from tasks.telemetry.operations import operation
from tasks.telemetry.spans import span

if TYPE_CHECKING:
    from tasks.publish import Published, ReadDetections
    from tasks.raster import Raster

logger = logging.getLogger(__name__)

Publish = Callable[..., "Published"]
"""`tasks.publish.publish_image`, or a step of an orchestrator that calls it."""


def publish_results(
    plan: Plan,
    read_detections: ReadDetections | None,
    ledger: pa.Table,
    publish: Publish | None,
    *,
    status: JobStatus,
    started: datetime,
    raster: Raster | None,
    model_version: str,
    usage: Usage,
) -> Published:
    """Publish the results of an image.

    If every tile failed, an error of the publication is only logged: the reason why the tiles
    failed matters more to users.
    """
    # late, as in `check_plan`
    from tasks.publish import Provenance, Published, publish_image  # noqa: PLC0415

    publish = publish or publish_image
    provenance = Provenance.of(
        plan.request, plan.image, ledger, status, started, prepared=plan.prepared
    )
    try:
        with operation(Operation.DISSEMINATION), span("publish"):
            return publish(
                plan.request,
                plan.image,
                read_detections,
                ledger,
                provenance,
                raster=raster,
                standing=standing_earlier(plan, provenance),
                model_version=model_version,
                usage=usage,
            )
    except PublishError as error:
        if status is not JobStatus.FAILED:
            raise
        logger.warning("%s", error)
        return Published({})
