"""The artifacts of a finished image's run: a summary, and a table of its regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import pyarrow as pa
from prefect import get_client, get_run_logger
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from flows.run_records import children_of, log_errors, read_all, write_metrics
from flows.startup import TITLES, Startup, medians, startup, startup_of
from tasks.grid.tiles import Region
from tasks.reporting.summary import Summary
from tasks.results import coverage


def report(summary: Summary, regions: Sequence[Region], ledgers: Sequence[pa.Table]) -> None:
    """Create both artifacts on the current run, with start-up times of the run and its regions.

    The results are already published, so an error here is only logged.

    Args:
        summary: The outcome of the image.
        regions: All its regions.
        ledgers: The ledger of each.
    """
    with log_errors("The summary of this run"):
        _report(summary, regions, ledgers)


def _report(summary: Summary, regions: Sequence[Region], ledgers: Sequence[pa.Table]) -> None:
    runs = _region_runs()
    startups = {index: startup_of(run) for index, run in runs.items()}
    own = startup(min(filter(None, map(_first_tile, runs.values())), default=None))
    get_run_logger().info("Start-up: %s", own)
    write_metrics(own.stages)
    create_markdown_artifact(
        f"{summary.markdown()}\n\n{_startup_table(own, list(startups.values()))}",
        description=summary.message,
    )
    create_table_artifact(
        [_row(*region, startups) for region in zip(regions, ledgers, strict=True)],
        description="Regions: tiles by state, detections before the merge, seconds to start",
    )


def _region_runs() -> dict[int, FlowRun]:
    """The completed runs of this image's regions, by the region's index."""
    regions = children_of(UUID(flow_run.id))
    runs: list[FlowRun] = []
    with log_errors("The start of the regions"), get_client(sync_client=True) as client:
        runs = read_all(partial(client.read_flow_runs, flow_run_filter=regions))
    return {
        Region.model_validate(run.parameters["region"]).index: run
        for run in runs
        if run.state is not None and run.state.is_completed()
    }


def _first_tile(run: FlowRun) -> float | None:
    """When the model answered a region's first tile, in seconds since 1970; None if not known."""
    seconds = startup_of(run).first_tile
    if run.start_time is None or seconds is None:
        return None
    return (run.start_time + timedelta(seconds=seconds)).timestamp()


def _startup_table(own: Startup, regions: Sequence[Startup]) -> str:
    """The start-up times of an image's run and of its regions, as Markdown."""
    rows = {"this run": own, f"median of {len(regions)} regions": medians(regions)}
    return "\n".join(
        [
            "## Start-up, in seconds",
            "",
            f"| | {' | '.join(TITLES.values())} |",
            f"| --- |{' ---: |' * len(TITLES)}",
            *(
                f"| {name} | {' | '.join(_stage_columns(each).values())} |"
                for name, each in rows.items()
            ),
        ]
    )


def _row(region: Region, ledger: pa.Table, startups: Mapping[int, Startup]) -> dict[str, str | int]:
    return {
        "region": region.name,
        **coverage.count(ledger),
        "detections": coverage.detections(ledger),
        **_stage_columns(startups.get(region.index, Startup())),
    }


def _stage_columns(own: Startup) -> dict[str, str]:
    """Seconds of each stage of a start-up by title; a dash for a stage that it did not have."""
    stages = own.stages
    return {
        title: f"{stages[name]:.2f}" if name in stages else "–" for name, title in TITLES.items()
    }
