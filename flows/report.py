"""The artifacts of a finished image's run: a summary with a picture, and a table of its regions."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import pyarrow as pa
from prefect import get_run_logger
from prefect.client.schemas.actions import ArtifactCreate
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.run_records import (
    children_of,
    client_for_records,
    log_errors,
    read_all,
    write_metrics,
)
from flows.startup import medians, record_start, startup, startup_of
from tasks.grid.tiles import Region
from tasks.job.image import FinishedImage
from tasks.planning.plan import Plan
from tasks.reporting.page import summary_page
from tasks.reporting.region_table import RegionRow, region_table
from tasks.results import coverage
from tasks.results.shares import percent

EARLIER = "earlier run"
"""State in the table of a region that an earlier run of the image, or of its job, completed."""

PICTURE_SIZE = 640
"""Pixels of the longer side of the picture in the summary: the width of Prefect's page."""

# Prefect keeps an artifact in a row of its database, and sends it with every list that shows it
_PICTURE_BYTES = 100_000


def report(
    plan: Plan, regions: Sequence[Region], unfinished: Sequence[Region], finished: FinishedImage
) -> None:
    """Create both artifacts on the current run, with start-up times of the run and its regions.

    The results are already published, so an error here is only logged. The keys are the same for
    all runs: a run shows its own artifacts, and the page of artifacts does not grow with the jobs.

    Args:
        plan: The plan of the image.
        regions: All its regions.
        unfinished: Those that no earlier run had completed.
        finished: Its published results.
    """
    runs: dict[int, FlowRun] = {}
    with log_errors("The start of the regions"):
        runs = _region_runs()
    with log_errors("The summary of this run"):
        _create_summary(plan, finished, [run for run in runs.values() if _completed(run)])
    with log_errors("The table of regions"):
        _create_region_table(regions, unfinished, finished.ledgers, runs)


def _create_summary(plan: Plan, finished: FinishedImage, runs: Sequence[FlowRun]) -> None:
    own = startup(min(filter(None, map(_first_tile, runs)), default=None))
    get_run_logger().info("Start-up: %s", own)
    write_metrics(own.stages)
    record_start("image", own)
    picture = None
    with log_errors("The picture of this run"):
        picture = _picture(plan, finished)
    text = str(own)
    if len(runs) > 1:
        text += f"; median of {len(runs)} regions: {medians(list(map(startup_of, runs)))}"
    summary = finished.summary
    _create(
        "summary",
        summary_page(summary, picture, text),
        f"{summary.status}: {summary.found}, {percent(summary.covered)} of the area covered",
    )


def _create_region_table(
    regions: Sequence[Region],
    unfinished: Sequence[Region],
    ledgers: Sequence[pa.Table],
    runs: Mapping[int, FlowRun],
) -> None:
    rows = [
        _row(region, ledger, runs.get(region.index), earlier=region not in unfinished)
        for region, ledger in zip(regions, ledgers, strict=True)
    ]
    _create("regions", region_table(rows), f"Regions of the image: {len(rows)}")


def _create(key: str, page: str, description: str) -> None:
    """Create a Markdown artifact; a Prefect that does not answer cannot hold the finished image."""
    artifact = ArtifactCreate(
        key=key,
        type="markdown",
        data=page,
        description=description,
        flow_run_id=UUID(flow_run.id),
    )
    with client_for_records() as client:
        client.create_artifact(artifact)


def _picture(plan: Plan, finished: FinishedImage) -> str | None:
    """The picture of the image with its results, as a data URL; None if nothing was published."""
    # late: nothing before needs these imports
    from tasks.publish.preview import draw  # noqa: PLC0415

    if finished.layer is None:
        return None
    encoded = draw(
        plan.image,
        finished.layer,
        coverage.concatenate(finished.ledgers),
        encoding="JPEG",
        max_bytes=_PICTURE_BYTES,
        read_role=plan.request.image_read_role,
    )
    return f"data:image/jpeg;base64,{b64encode(encoded).decode()}"


def _region_runs() -> dict[int, FlowRun]:
    """The run of each of this image's regions by the region's index; of several, the last."""
    regions = children_of(UUID(flow_run.id))
    with client_for_records() as client:
        runs = read_all(partial(client.read_flow_runs, flow_run_filter=regions))
    runs.sort(key=lambda run: (_completed(run), run.start_time is not None, run.start_time))
    return {Region.model_validate(run.parameters["region"]).index: run for run in runs}


def _completed(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_completed()


def _first_tile(run: FlowRun) -> float | None:
    """When the model answered a region's first tile, in seconds since 1970; None if not known."""
    seconds = startup_of(run).first_tile
    if run.start_time is None or seconds is None:
        return None
    return (run.start_time + timedelta(seconds=seconds)).timestamp()


def _row(region: Region, ledger: pa.Table, run: FlowRun | None, *, earlier: bool) -> RegionRow:
    state = None if run is None else run.state_name
    return RegionRow(
        region=region,
        tiles=coverage.count(ledger),
        detections=coverage.detections(ledger),
        # from both pages of an artifact, whatever the address and the prefix of the UI
        url=None if run is None else f"../../runs/flow-run/{run.id}",
        state=EARLIER if run is None and earlier else state,
        seconds=None if run is None else run.total_run_time.total_seconds(),
    )
