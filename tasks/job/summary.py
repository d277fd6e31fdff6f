"""The summary of an image: what its plan says, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.cost.usage import Usage
from tasks.planning.image_warnings import image_warnings
from tasks.planning.plan import Plan
from tasks.reporting.failures import FailedOutput
from tasks.reporting.raster_summary import RasterSummary
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary, summarise

if TYPE_CHECKING:
    from tasks.publish import Published


def summarise_image(
    plan: Plan,
    ledger: pa.Table,
    status: JobStatus,
    features: int,
    published: Published,
    *,
    raster: RasterSummary | None = None,
    usage: Usage | None = None,
) -> Summary:
    """Summarise an image.

    Args:
        plan: The plan of the image.
        ledger: Its ledger, of `coverage.MEASURED`.
        status: SUCCESS, PARTIAL or FAILED.
        features: Number of published features.
        published: What was published.
        raster: The raster, if the model answers with pixels.
        usage: What was used; None if an earlier run has published it.
    """
    return summarise(
        ledger,
        job_id=plan.request.job_id,
        image=plan.image.url,
        status=status,
        features=features,
        classes=published.classes,
        outputs=published.uris,
        repaired=published.repaired,
        usage=usage,
        model=plan.request.image_processor.names,
        georeference=plan.image.georeference,
        failed_outputs=[
            FailedOutput(index=each.output, reason=each.reason, format=each.format)
            for each in published.failed
        ],
        raster=raster,
        views=plan.views,
        prepared=plan.prepared_text,
        no_data=plan.image.no_data,
        warnings=image_warnings(plan),
    )
