"""The work on an image: plan → regions → merge → publish → summary."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import pyarrow as pa

from tasks.errors import ImageChangedError, PublishError, RequestError, SwathError
from tasks.grid.tiles import Grid, Region
from tasks.imagery import Image
from tasks.inference import OpenEndpoint, open_with_retries
from tasks.job.observer import SILENT, Observer, OneCallAtATime
from tasks.job.region import RegionOutcome, work_region
from tasks.job.shared_client import SharedClient
from tasks.job.turns import MAX_AT_A_TIME, work_in_turn
from tasks.merge import merge as merge_detections
from tasks.planning.plan import Plan, divide_into_regions, make_plan
from tasks.planning.throughput import Throughput
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary, status_of, summarise
from tasks.request import Algorithm, EndpointType, Request
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.stored import StoredResults, load_ledger, without_detections
from tasks.settings import settings
from tasks.storage import objects

if TYPE_CHECKING:
    from tasks.publish import Published, ReadDetections
    from tasks.publish.preview import FeatureLayer

logger = logging.getLogger(__name__)

Merge = Callable[[pa.Table, Algorithm, Grid, pa.Table], pa.Table]
"""`tasks.merge.merge`, or a step of an orchestrator that calls it."""

Publish = Callable[[Request, Image, "ReadDetections | None", pa.Table, datetime], "Published"]
"""`tasks.publish.publish_image`, or a step of an orchestrator that calls it."""


@dataclass(frozen=True)
class FinishedImage:
    """An image whose results are published.

    Attributes:
        summary: The outcome.
        ledgers: The ledger of each region, `coverage.SCHEMA`.
        layer: The features for a preview, if `publish` collected them.
    """

    summary: Summary
    ledgers: Sequence[pa.Table]
    layer: FeatureLayer | None = None


def work_image(
    request: Request,
    image_url: str,
    observer: Observer = SILENT,
    *,
    region_rows: int | None = None,
    open_endpoint: OpenEndpoint = open_with_retries,
) -> Summary:
    """Detect the objects of an image and publish them, in this process alone.

    Args:
        request: The message.
        image_url: One of its images.
        observer: Is notified of the progress.
        region_rows: Approximate height of a region in pixels; None for the operator's setting, or
            else for regions of some minutes each.
        open_endpoint: Opens the endpoint.

    Returns:
        The outcome, also if its status is FAILED.

    Raises:
        SwathError: The request cannot be processed, or the results cannot be published.
    """
    started = datetime.now(UTC)
    plan = check_plan(request, image_url, open_endpoint)
    regions = divide_into_regions(plan, region_rows, Throughput)
    observer.planned(plan, regions)
    with work_folder(objects.join(settings().work_uri, uuid4().hex)) as uri:
        lost = _work_regions(plan, regions, uri, observer, open_endpoint)
        return finish_image(plan, regions, lost, uri, started).summary


def check_plan(
    request: Request, image_url: str, open_endpoint: OpenEndpoint = open_with_retries
) -> Plan:
    """Plan an image, and check its outputs and endpoint before any tile costs money.

    The request in the plan names one variant of the endpoint and a tile size, so that all regions
    use one model and one grid.

    Raises:
        ImageError: The image cannot be read, or not safely.
        EndpointError: The endpoint does not give the information that the plan needs.
        RequestError: The request does not fit the image, or there is no such model, tile encoding
            or output.
    """
    # late: these imports are slow, and a region's run does not need them
    from tasks.inference.tile_size import resolve_tile_size  # noqa: PLC0415
    from tasks.publish import check_outputs  # noqa: PLC0415

    if image_url not in request.image_urls:
        raise RequestError(f"image_url: {image_url} is none of the request's imageUrls; name one.")
    if request.image_processor.type is EndpointType.SM_ENDPOINT:
        from tasks.inference.sagemaker import resolve_variant  # noqa: PLC0415 - likewise

        request = resolve_variant(request, image_url)
    plan = make_plan(resolve_tile_size(request), image_url)
    check_outputs(request.outputs, settings().local_roots)
    open_endpoint(plan.request, plan.image).close()
    return plan


@contextmanager
def work_folder(uri: str) -> Iterator[str]:
    """A folder or s3:// prefix for the results of regions, removed when the context is left.

    If it cannot be removed, a warning is logged; the results of the image are not affected.
    """
    try:
        yield uri
    finally:
        try:
            objects.remove(uri)
        except PublishError as error:
            logger.warning("%s", error)


def finish_image(
    plan: Plan,
    regions: Sequence[Region],
    lost: Mapping[int, str],
    work_uri: str,
    started: datetime,
    *,
    began: datetime | None = None,
    merge: Merge = merge_detections,
    publish: Publish | None = None,
) -> FinishedImage:
    """Prove coverage, merge the deferred detections, publish, and summarise an image.

    Args:
        plan: The plan of the image.
        regions: All its regions.
        lost: Index of each region that stored no results, with the reason.
        work_uri: Where the other regions stored theirs.
        started: When the job was to begin; published as the inference time of all features.
        began: When it did begin, for the summary's duration; None if that was when it was to.
        merge: Merges the deferred detections.
        publish: Publishes the results; None for `tasks.publish.publish_image`.

    Raises:
        PublishError: The results cannot be published.
    """
    ledgers = [_region_ledger(plan, region, lost.get(region.index), work_uri) for region in regions]
    ledger = coverage.measure(coverage.concatenate(ledgers), plan.cells)
    coverage.check_complete(ledger, plan.cells)
    all_rejected = coverage.rejected(ledger) > 0 and coverage.detections(ledger) == 0
    status = status_of(coverage.count(ledger), all_rejected=all_rejected)
    stored = [region for region in regions if region.index not in lost]
    results = StoredResults(work_uri, stored, plan.grid)
    deferred, decided = results.deferred()
    merged = plan.clip_to_roi(merge(deferred, plan.request.algorithm, plan.grid, ledger))
    failed = status is JobStatus.FAILED
    read_detections = None if failed else partial(results.all_detections, merged)
    published = _publish(plan, read_detections, ledger, started, publish)
    summary = summarise(
        ledger,
        job_id=plan.request.job_id,
        image=plan.image.url,
        status=status,
        features=decided + len(merged),
        classes=published.classes,
        outputs=published.uris,
        repaired=published.repaired,
        seconds=(datetime.now(UTC) - (began or started)).total_seconds(),
        georeference=plan.image.georeference,
    )
    return FinishedImage(summary, ledgers, published.layer)


def _region_ledger(plan: Plan, region: Region, lost: str | None, work_uri: str) -> pa.Table:
    """The ledger of a region; if it was lost, its tiles in the region of interest are FAILED."""
    if lost is None:
        return load_ledger(work_uri, region)
    inside, outside = plan.split_by_roi(region)
    failed = without_detections(inside, TileState.FAILED, lost)
    return coverage.concatenate(
        [without_detections(outside, TileState.OUTSIDE).ledger, failed.ledger]
    )


def _publish(
    plan: Plan,
    read_detections: ReadDetections | None,
    ledger: pa.Table,
    started: datetime,
    publish: Publish | None,
) -> Published:
    """Publish the results of an image.

    If every tile failed, an error of the publication is only logged: the reason why the tiles
    failed matters more to users.
    """
    from tasks.publish import Published, publish_image  # noqa: PLC0415 - late, as in `check_plan`

    publish = publish or publish_image
    try:
        return publish(plan.request, plan.image, read_detections, ledger, started)
    except PublishError as error:
        if read_detections is not None:
            raise
        logger.warning("%s", error)
        return Published({})


def _work_regions(
    plan: Plan,
    regions: Sequence[Region],
    work_uri: str,
    observer: Observer,
    open_endpoint: OpenEndpoint,
) -> dict[int, str]:
    """Work the regions in turn; returns the index of each lost one, with the reason."""
    with (
        ThreadPoolExecutor(MAX_AT_A_TIME, thread_name_prefix="regions") as threads,
        closing(SharedClient(open_endpoint=open_endpoint)) as shared,
    ):
        observer = OneCallAtATime(observer)
        work = partial(work_region, plan, work_uri=work_uri, observer=observer, shared=shared)
        attempts = _Attempts(work, observer)
        work_in_turn(regions, attempts.attempt, threads)
    return attempts.lost


class _Attempts:
    """The attempts at the regions of an image.

    After the endpoint was given up or the image was replaced, no further region begins.

    Attributes:
        lost: Index of each region that stored no results, with the reason.
    """

    def __init__(self, work: Callable[..., RegionOutcome], observer: Observer) -> None:
        self.lost: dict[int, str] = {}
        self._work, self._observer = work, observer
        self._stop = ""
        self._attempts: Counter[int] = Counter()

    def attempt(self, region: Region, next_may_begin: Callable[[], None]) -> bool:
        """Work a region once; returns whether it must be tried again."""
        if self._stop:
            self.lost[region.index] = self._stop
            return False
        self._attempts[region.index] += 1
        self._observer.region_began(region)
        reason = ""
        try:
            self._stop = (
                self._work(region=region, next_may_begin=next_may_begin).endpoint_down or self._stop
            )
        except ImageChangedError as error:
            reason = self._stop = str(error)
        except SwathError as error:
            reason = str(error)
            if self._attempts[region.index] < settings().region_attempts and not self._stop:
                logger.warning("%s is tried again: %s", region.name, error)
                return True
        if reason:
            self.lost[region.index] = reason
        self._observer.region_ended(region, reason)
        return False
