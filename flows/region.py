"""One region: read → infer → settle what it can → store detections."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import asdict
from itertools import islice
from typing import cast

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.futures import PrefectConcurrentFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

import flows.secret_blocks  # noqa: F401 - so that requests may name Secret blocks
from flows.progress import RegionProgress
from flows.run_records import write_metrics
from flows.slots import endpoint_slots
from flows.startup import startup
from tasks.errors import ImageChangedError, SwathError
from tasks.grid.tiles import Region
from tasks.inference import open_with_retries
from tasks.inference.batch import Batch, batch_size, max_calls
from tasks.inference.client import InferenceClient
from tasks.inference.limiter import Limiter
from tasks.merge import settle
from tasks.planning.plan import Plan, make_plan
from tasks.planning.throughput import RegionTiming
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.stored import TileResults, gather, save, without_detections
from tasks.settings import settings
from tasks.steps import infer_step

GIVEN_UP = "Endpoint down"
"""Name of the state of a region's run that ended in order, but whose endpoint did not answer."""

REPLACED = "Image replaced"
"""Name of the state of a region's run that found another version of the image."""


def _name() -> str:
    return Region.model_validate(flow_run.parameters["region"]).name


@flow(name="region", flow_run_name=_name)
def region(
    request: Request, image_url: str, etag: str, region: Region, work_uri: str
) -> State[dict[str, int]]:
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
    try:
        return _work(make_plan(request, image_url, etag), region, work_uri)
    except ImageChangedError as error:
        return Failed(name=REPLACED, message=str(error), data=error)
    except SwathError as error:  # told in its own words
        return Failed(message=str(error), data=error)


def _work(plan: Plan, region: Region, work_uri: str) -> State[dict[str, int]]:
    request = plan.request
    with closing(_calls(plan, region)) as calls, _slots(request, calls):
        began = time.monotonic()
        findings = gather(_findings(plan, region, calls))
        seconds = time.monotonic() - began
    counts = coverage.count(findings.ledger)
    _leave_figures(plan, counts[TileState.INFERRED], seconds, calls.first_answer)
    looked = coverage.inferred(findings.ledger, plan.grid)
    interior = plan.grid.interior(region)
    settled = settle(findings.detections, request.algorithm, plan.grid, looked, interior)
    decided = map(plan.clip_to_roi, settled.batches())
    save(decided, settled.deferred, findings.ledger, work_uri, region)
    if calls.stop_reason:
        return Completed(name=GIVEN_UP, message=calls.stop_reason, data=counts)
    return Completed(data=counts)


def _calls(plan: Plan, region: Region) -> InferenceClient:
    endpoint = open_with_retries(plan.request, plan.image)
    return InferenceClient(
        endpoint,
        Limiter(0),
        tiles=len(region),
        max_calls=max_calls(plan.tile_bytes * endpoint.tiles_per_call),
        attempts=settings().tile_attempts,
        retry_seconds=settings().endpoint_patience,
    )


def _leave_figures(plan: Plan, tiles: int, seconds: float, first_tile: float | None) -> None:
    """Say how this run started, and leave that and what it took for others to read."""
    start = startup(first_tile)
    get_run_logger().info("Start-up: %s", start)
    work = RegionTiming(tiles, plan.grid.tile_width * plan.grid.tile_height, seconds)
    write_metrics(start.stages | asdict(work))


def _slots(request: Request, calls: InferenceClient) -> AbstractContextManager[None]:
    unknown = settings().endpoint_concurrency
    return endpoint_slots(request, calls.endpoint, calls.limiter, unknown=unknown)


def _findings(plan: Plan, region: Region, calls: InferenceClient) -> Iterator[TileResults]:
    """What each batch gives; the calls of one go on while the next is read."""
    progress = RegionProgress(len(region))
    yield progress.advance(plan.outside(region))
    wanted = plan.tiles_in_roi(region)
    size = batch_size(len(wanted), settings().batch_size, calls.tiles_per_call)
    open_batches: deque[PrefectConcurrentFuture[TileResults]] = deque()
    asked = 0
    with closing(plan.read(wanted)) as tiles:
        while asked < len(wanted) and not calls.stop_reason:
            batch = Batch()
            with closing(batch):  # a cancelled run's tasks must not wait for more of it
                future = infer_step.submit(batch)
                open_batches.append(cast("PrefectConcurrentFuture[TileResults]", future))
                asked += batch.fill(islice(tiles, size), calls)
            while open_batches and open_batches[0].wrapped_future.done():
                yield progress.advance(open_batches.popleft().result())
    for future in open_batches:
        yield progress.advance(future.result())
    unasked = wanted[asked:]
    yield progress.advance(without_detections(unasked, TileState.FAILED, calls.stop_reason))
