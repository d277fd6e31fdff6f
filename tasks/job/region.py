"""The work on a region: what is answered already → ask for the rest → settle → store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from tasks.cost.meter import Meter
from tasks.cost.store import store_usage
from tasks.grid.tiles import Region
from tasks.inference.call_metrics import count_tiles
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.inference.model_version import least_score
from tasks.job.allocator import limit_arenas, return_freed
from tasks.job.asking import Answers, Asking, ask
from tasks.job.kept import Kept
from tasks.job.measures import dimensions
from tasks.merge import passes_filter, settle
from tasks.planning.plan import Plan
from tasks.planning.throughput import RegionTiming
from tasks.results import coverage
from tasks.results.answers import kept_answers
from tasks.results.coverage import TileState
from tasks.results.stored import StoredRegion
from tasks.results.tile_results import TileResults, gather, without_detections
from tasks.telemetry.catalogue import MODEL_GIVEN_UP, Operation
from tasks.telemetry.operations import operation
from tasks.telemetry.source import SOURCE
from tasks.telemetry.spans import span


@dataclass(frozen=True)
class RegionOutcome:
    """The outcome of a region whose results are stored.

    Attributes:
        tiles: Number of tiles in each state.
        reasons: Reasons why tiles failed with the number of tiles, most frequent first.
        timing: Its timing, for planning later images of the same model.
        stop_reason: Why no further tile need be asked for: the endpoint was given up, or the limit
            of the job is reached; else empty.
        limit_reached: Whether it is the latter.
        first_answer: When the model first answered, in seconds since 1970; None if it never did.
        capacity: What was learned about the endpoint, for later regions; None if too few calls
            were answered, or if the model is in this process.
    """

    tiles: dict[str, int]
    reasons: list[tuple[str, int]]
    timing: RegionTiming
    stop_reason: str
    limit_reached: bool
    first_answer: float | None
    capacity: CapacityEstimate | None


def work_region(
    plan: Plan, region: Region, kept: Kept, asking: Asking | None = None, *, why_not: str = ""
) -> RegionOutcome:
    """Detect the objects of one region and store them for the merge.

    Tiles that were answered before, in whichever attempt or run, are not asked for again.

    Args:
        plan: The plan of the image.
        region: The region.
        kept: Where its answers are kept, and what it comes to.
        asking: How the model is asked; None to ask it nothing.
        why_not: In that case, why tiles fail that were never asked for.

    Raises:
        ImageChangedError: The image was replaced meanwhile.
        SwathError: The image cannot be read, the endpoint not opened, or the results not stored.
    """
    limit_arenas()
    meter = asking.meter if asking else Meter()
    try:
        if asking is None:
            return _worked(plan, region, kept, None, why_not)
        about = span("region", tiles=len(region), model=plan.model_name)
        with operation(Operation.REGION, **dimensions(plan)), about:
            return _worked(plan, region, kept, asking, why_not)
    finally:
        store_usage(kept.used, plan.request.job_id, meter.take())


def _worked(
    plan: Plan, region: Region, kept: Kept, asking: Asking | None, why_not: str
) -> RegionOutcome:
    store = kept.regions(plan.request)
    stored, answers = store.latest([region]).get(region.index), Answers()
    if stored is None or not stored.complete:
        results, answers = _results(plan, region, kept, asking, why_not)
        number = 1 if stored is None else stored.number + 1
        return_freed()
        stored = _settle_and_store(plan, region, results, kept, number)
        return_freed()
    if answers.stop_reason and not answers.limit_reached:
        SOURCE.add(MODEL_GIVEN_UP, ModelName=plan.model_name)
    ledger = store.ledger(stored)
    pixels = plan.grid.tile_width * plan.grid.tile_height
    inferred = coverage.count(answers.results.ledger)[TileState.INFERRED]
    return RegionOutcome(
        stored.tiles,
        coverage.reasons(ledger),
        RegionTiming(inferred, pixels, answers.seconds),
        answers.stop_reason,
        answers.limit_reached,
        answers.first_answer,
        answers.capacity,
    )


def _results(
    plan: Plan, region: Region, kept: Kept, asking: Asking | None, why_not: str
) -> tuple[TileResults, Answers]:
    """The results of all tiles of a region, and those of them that were asked for now."""
    inside, outside = plan.split_by_roi(region)
    maps = plan.request.raster_output is not None
    known = kept_answers(kept.answers, region, inside, least_score(plan.request), maps=maps)
    parts = [without_detections(outside, TileState.OUTSIDE), known.answered]
    if asking is None:
        parts.append(TileResults(known.answered.detections.slice(0, 0), known.failed))
    there = {index for part in parts for index in part.ledger["tile"].to_pylist()}
    missing = [tile for tile in inside if tile.index not in there]
    answers = Answers()
    if asking is None:
        parts.append(without_detections(missing, TileState.FAILED, why_not))
        count_tiles(plan.model_name, [TileState.FAILED] * len(missing))
    else:
        count_tiles(plan.model_name, [TileState.OUTSIDE] * len(outside))
        if outside:
            asking.observer.tiles_done(region, len(outside))
        if len(known.answered.ledger):
            asking.observer.tiles_kept(region, len(known.answered.ledger))
        if missing:
            answers = ask(plan, region, missing, kept.answers, asking)
        parts.append(answers.results)
    return gather(parts), answers


def _settle_and_store(
    plan: Plan, region: Region, results: TileResults, kept: Kept, number: int
) -> StoredRegion:
    """Decide what no other region can affect, and store it with what has to wait."""
    algorithm, interior = plan.request.algorithm, plan.grid.interior(region)
    dropped = pa.array(~passes_filter(results.detections, algorithm))
    tiles = results.detections["tile"].filter(dropped).to_numpy()
    ledger = coverage.with_filtered(results.ledger, tiles)
    inferred = coverage.inferred(ledger, plan.grid)
    settled = settle(results.detections, algorithm, plan.grid, inferred, interior)
    decided = map(plan.clip_to_roi, settled.batches())
    paint = None
    if plan.request.raster_output is not None:
        # late: most models answer with features
        from tasks.job.raster import paint_region  # noqa: PLC0415

        paint = partial(paint_region, plan, region, kept, coverage.inferred_tiles(ledger))
    store = kept.regions(plan.request)
    return store.save(region, number, decided, settled.deferred, ledger, paint=paint)
