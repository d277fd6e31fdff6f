"""The work on an image: plan → regions → merge → publish → summary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from tasks.cost.meter import Meter, take_cpu
from tasks.cost.store import forget_usage, stored_usage
from tasks.errors import RequestError, SwathError
from tasks.grid.tiles import Grid, Region
from tasks.inference import OpenEndpoint, open_with_retries
from tasks.job.allocator import limit_arenas
from tasks.job.damage import despite_damage
from tasks.job.division import lasting_division
from tasks.job.kept import Kept, kept_of
from tasks.job.limits import check_limits
from tasks.job.measures import backlog, failure_counted, measured_image, record_image
from tasks.job.observer import SILENT, Observer
from tasks.job.publishing import Publish, publish_results
from tasks.job.raster import polygon_table, raster_of, summarised, with_missing_pixels
from tasks.job.region import work_region
from tasks.job.regions import work_regions
from tasks.job.summary import summarise_image
from tasks.merge import merge as merge_detections
from tasks.planning.plan import Plan, make_plan
from tasks.planning.throughput import Throughput
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary, status_of
from tasks.request import Algorithm, EndpointType, Request
from tasks.request.allowed_roles import check_roles
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.coverage_proof import check_complete, measure
from tasks.results.stored import StoredResults
from tasks.results.tile_results import without_detections
from tasks.settings import settings
from tasks.storage.turn import own_turn
from tasks.telemetry.catalogue import Operation
from tasks.telemetry.operations import operation
from tasks.telemetry.spans import span

if TYPE_CHECKING:
    from tasks.publish import ReadDetections
    from tasks.publish.preview import FeatureLayer, RasterLayer

logger = logging.getLogger(__name__)

_GONE = "what its region had come to is gone from the store of answers, and its answer too"
_NOT_ASKED = (
    "only kept answers were to be used, and its own is not kept: `swath redrive` asks again"
)

Merge = Callable[[pa.Table, Algorithm, Grid, pa.Table], pa.Table]
"""`tasks.merge.merge`, or a step of an orchestrator that calls it."""


@dataclass(frozen=True)
class FinishedImage:
    """An image whose results are published.

    Attributes:
        summary: The outcome.
        ledgers: The ledger of each region, `coverage.SCHEMA`.
        layer: The features or the raster for a preview, if `publish` was asked for one.
    """

    summary: Summary
    ledgers: Sequence[pa.Table]
    layer: FeatureLayer | RasterLayer | None = None


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
        SwathError: The request cannot be processed, or the results cannot be published to any
            output.
    """
    limit_arenas()
    with measured_image(request, image_url) as ended:
        started = datetime.now(UTC)
        take_cpu()  # what the process did before is not the image's
        plan = check_plan(request, image_url, open_endpoint)
        kept = kept_of(plan)
        with (
            failure_counted(plan),
            own_turn(kept.folder, f"asks the same model for {image_url}"),
        ):
            regions = lasting_division(plan, kept, region_rows, Throughput)
            check_limits(plan, regions, kept)
            observer.planned(plan, regions)

            def work(waiting: Sequence[Region]) -> Summary:
                with backlog(plan, waiting) as done:
                    lost = work_regions(plan, waiting, kept, observer, open_endpoint, done=done)
                return finish_image(plan, regions, lost, kept, started).summary

            return ended(
                despite_damage(
                    partial(work, regions), lambda: work(kept.unfinished(plan.request, regions))
                )
            )


@span("plan")
def check_plan(
    request: Request,
    image_url: str,
    open_endpoint: OpenEndpoint = open_with_retries,
    *,
    ask: bool = True,
) -> Plan:
    """Plan an image, and check its outputs and endpoint before any tile costs money.

    The request in the plan names one variant of the endpoint and a tile size, so that all regions
    use one model and one grid.

    Args:
        request: The message.
        image_url: One of its images.
        open_endpoint: Opens the endpoint.
        ask: Whether the model will be asked; if not, its endpoint is not checked.

    Raises:
        ImageError: The image cannot be read, or not safely.
        EndpointError: The endpoint does not give the information that the plan needs.
        RequestError: The request does not fit the image, or there is no such model, tile encoding
            or output.
    """
    with failure_counted(request):
        return _checked_plan(request, image_url, open_endpoint, ask=ask)


def _checked_plan(
    request: Request, image_url: str, open_endpoint: OpenEndpoint, *, ask: bool
) -> Plan:
    # late: these imports are slow, and a region's run does not need them
    from tasks.inference.model_defaults import resolve  # noqa: PLC0415
    from tasks.publish import check_images_stay, check_outputs  # noqa: PLC0415

    if image_url not in request.image_urls:
        raise RequestError(f"image_url: {image_url} is none of the request's imageUrls; name one.")
    check_roles(request)
    if ask and request.image_processor.type is EndpointType.SM_ENDPOINT:
        from tasks.inference.sagemaker import resolve_variant  # noqa: PLC0415 - likewise

        request = resolve_variant(request, image_url)
    request = resolve(request)
    plan = make_plan(request, image_url)
    check_outputs(
        request.outputs,
        settings().local_roots,
        request.raster_output,
        georeferenced=plan.preparation.image.georeference is not None,
    )
    check_images_stay(request, image_url, settings().local_roots)
    if ask:
        open_endpoint(plan.request, plan.preparation.image).close()
    return plan


def not_asked(regions: Sequence[Region]) -> dict[int, str]:
    """The regions as lost ones, for `finish_image`, of a job that asks the model for nothing."""
    return dict.fromkeys((region.index for region in regions), _NOT_ASKED)


def finish_image(
    plan: Plan,
    regions: Sequence[Region],
    lost: Mapping[int, str],
    kept: Kept,
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
        lost: Index of each region that did not come to its end, with the reason. It comes to what
            is kept of it.
        kept: Where answers are kept, and what the regions came to.
        started: When the job was to begin; published as the inference time of all features.
        began: When it did begin, for the summary's duration; None if that was when it was to.
        merge: Merges the deferred detections.
        publish: Publishes the results; None for `tasks.publish.publish_image`.

    Raises:
        DamagedStoreError: What is kept is damaged, and removed: another try does without it.
        PublishError: The results cannot be published to any output.
    """
    store = kept.regions(plan.request)
    stored = store.latest(regions)
    lost = {region.index: _GONE for region in regions if region.index not in stored} | {**lost}
    for region in regions:
        if region.index in lost:
            _settle_lost(plan, region, kept, lost[region.index])
    if lost:
        stored = store.latest(regions)
    meter, begun = Meter(), began or started
    usages = stored_usage(kept.used, plan.request.job_id)
    ledgers = [
        store.ledger(stored[region.index])
        if region.index in stored
        else _all_failed(plan, region, lost[region.index])
        for region in regions
    ]
    ledger = measure(coverage.concatenate(ledgers), plan.cells)
    check_complete(ledger, plan.cells)
    ledger = with_missing_pixels(plan, ledger)
    all_rejected = coverage.rejected(ledger) > 0 and coverage.detections(ledger) == 0
    status = status_of(coverage.count(ledger), all_rejected=all_rejected)
    there = [region for region in regions if region.index in stored]
    results = StoredResults(store, there, stored, plan.grid)
    with operation(Operation.AGGREGATION):
        deferred = results.deferred()
    with operation(Operation.SELECTION), span("merge"):
        merged = merge(deferred, plan.request.algorithm, plan.grid, ledger)
    merged = plan.clip_to_roi(merged)
    failed = status is JobStatus.FAILED
    features = results.decided + len(merged)
    read_detections: ReadDetections | None = partial(results.all_detections, merged)
    with nullcontext() if failed else raster_of(plan, stored, kept) as raster:
        if raster is not None:
            polygons = polygon_table(plan, raster)
            features = 0 if polygons is None else len(polygons)
            read_detections = None if polygons is None else partial(iter, [polygons])
        in_pixels = summarised(plan, raster, ledger)
        used = sum(usages.values(), meter.take().in_seconds(_since(begun)))
        published = publish_results(
            plan,
            None if failed else read_detections,
            ledger,
            publish,
            status=status,
            started=started,
            raster=raster,
            model_version=kept.model_version,
            usage=used,
        )
    if published.failed and status is JobStatus.SUCCESS:
        status = JobStatus.PARTIAL
    forget_usage(usages)
    meter.stored(published.stored_bytes)
    used = (used + meter.take()).in_seconds(_since(begun))
    summary = summarise_image(
        plan, ledger, status, features, published, raster=in_pixels, usage=used
    )
    record_image(plan, summary)
    return FinishedImage(summary, ledgers, published.layer)


def _since(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()


def _settle_lost(plan: Plan, region: Region, kept: Kept, reason: str) -> None:
    """Store what is kept of a lost region, if the store answers."""
    work = partial(work_region, plan, region, kept, why_not=reason)
    try:
        despite_damage(work, work)
    except SwathError as error:
        logger.warning("%s is lost with what was answered: %s", region.name, error)


def _all_failed(plan: Plan, region: Region, reason: str) -> pa.Table:
    """The ledger of a region of which nothing is known: its tiles inside the ROI are FAILED."""
    inside, outside = plan.split_by_roi(region)
    failed = without_detections(inside, TileState.FAILED, reason)
    return coverage.concatenate(
        [without_detections(outside, TileState.OUTSIDE).ledger, failed.ledger]
    )
