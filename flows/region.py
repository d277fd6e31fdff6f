"""One region: read → infer → store detections."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import closing

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run

from flows.progress import RegionProgress
from tasks import coverage
from tasks.findings import Findings, gather, save
from tasks.inference import Endpoint, open_endpoint
from tasks.inference.batch import infer_task
from tasks.plan import Plan, make_plan
from tasks.request import Request
from tasks.settings import settings
from tasks.tiling import Region


def _name() -> str:
    return Region.model_validate(flow_run.parameters["region"]).name


@flow(name="region", flow_run_name=_name)
def region(
    request: Request, image_url: str, etag: str, region: Region, work_uri: str
) -> dict[str, int]:
    """Find what there is in one region of an image, and keep it for the merge.

    Args:
        request: The message.
        image_url: Which of its images.
        etag: Its version, which all regions must see.
        region: Which tiles of the image's grid.
        work_uri: Folder or s3:// prefix that the image's run merges from.

    Returns:
        Tiles in each state.
    """
    plan = make_plan(request, image_url, etag)
    with closing(open_endpoint(request, plan.image, settings().endpoint_timeout)) as endpoint:
        findings = gather(_findings(plan, region, endpoint))
    save(findings, work_uri, region)
    return coverage.count(findings.ledger)


def _findings(plan: Plan, region: Region, endpoint: Endpoint) -> Iterator[Findings]:
    """What each batch gives, with a few batches in flight and no more read ahead of them."""
    progress = RegionProgress(len(region))
    yield progress.advance(plan.outside(region))
    in_flight: deque[PrefectFuture[Findings]] = deque()
    for batch in plan.batches(region):
        if len(in_flight) == settings().endpoint_concurrency:
            yield progress.advance(in_flight.popleft().result())
        in_flight.append(
            infer_task.submit(
                batch,
                endpoint,
                attempts=settings().tile_attempts,
                roi=plan.roi,
            )
        )
    for future in in_flight:
        yield progress.advance(future.result())
