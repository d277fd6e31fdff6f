"""The work on a region: read → infer → settle what it can → store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import pyarrow as pa

from tasks.grid.tiles import Region
from tasks.inference.batch import Batch, batch_size, infer
from tasks.inference.client import InferenceClient
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.job.observer import SILENT, Observer
from tasks.job.shared_client import SharedClient
from tasks.merge import passes_filter, settle
from tasks.planning.plan import Plan
from tasks.planning.throughput import RegionTiming
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.stored import TileResults, gather, save, without_detections
from tasks.settings import settings


class BatchResult(Protocol):
    """The future results of a batch of tiles, such as a `concurrent.futures.Future`."""

    def done(self) -> bool:
        """Whether `result` returns at once."""

    def result(self) -> TileResults:
        """Wait for the results."""


Submit = Callable[[Batch], BatchResult]
"""Starts to collect the results of a batch, while its tiles are still being read."""

_HEAD_START = 10.0  # seconds before the last tile of a region is read that the next one may begin

_MOST_HELD = 32 << 20
"""Bytes of detections that a region may hold while the next one is read.

Settling takes some times as much; a region that holds more is stored before the next one begins.
"""


@dataclass(frozen=True)
class RegionOutcome:
    """The outcome of a region whose results are stored.

    Attributes:
        tiles: Number of tiles in each state.
        endpoint_down: Why the endpoint was given up; empty if it was not.
        timing: Its timing, for planning later images of the same model.
        reasons: Reasons why tiles failed with the number of tiles, most frequent first.
        first_answer: When the model first answered, in seconds since 1970; None if it never did.
        capacity: What was learned about the endpoint, for later regions; None if too few calls
            were answered, or if the model is in this process.
    """

    tiles: dict[str, int]
    endpoint_down: str
    timing: RegionTiming
    reasons: list[tuple[str, int]]
    first_answer: float | None
    capacity: CapacityEstimate | None


def work_region(
    plan: Plan,
    region: Region,
    work_uri: str,
    observer: Observer = SILENT,
    *,
    shared: SharedClient | None = None,
    open_client: Callable[[], SharedClient] = SharedClient,
    submit: Submit | None = None,
    next_may_begin: Callable[[], None] = lambda: None,
) -> RegionOutcome:
    """Detect the objects of one region and store them for the merge.

    Args:
        plan: The plan of the image.
        region: The region.
        work_uri: Folder or s3:// prefix where the region stores its results.
        observer: Is called when tiles are done.
        shared: The client of the endpoint; None for one of this region alone.
        open_client: Makes that one, which is closed after the last answer.
        submit: Runs a batch; None for a thread of this process.
        next_may_begin: Is called, once or more often, when another region may begin in this
            process: shortly before the last tile is read, unless this region holds many detections
            or the endpoint does not answer.

    Raises:
        ImageChangedError: The image was replaced meanwhile.
        SwathError: The image cannot be read, the endpoint not opened, or the results not stored.
    """
    with ExitStack() as own:
        thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        # after an error, a batch ends only when its calls in flight do
        own.callback(thread.shutdown, wait=False)
        shared = shared or own.enter_context(closing(open_client()))
        client = shared.for_region(plan, region)
        own.callback(client.cancel)
        turn = own.enter_context(ExitStack())
        turn.enter_context(shared.reading)
        began = time.monotonic()
        # in a thread, small batches cost nothing, and the observer is notified more often
        least = settings().batch_size if submit else 1
        infer_batch = submit or (lambda batch: thread.submit(infer, batch))
        results = gather(
            _infer_tiles(
                plan,
                region,
                client,
                infer_batch,
                observer,
                least=least,
                next_may_begin=next_may_begin,
                was_read=turn.close,
            )
        )
        seconds = time.monotonic() - began
        capacity = client.limiter.estimate
    _settle_and_store(plan, region, results, work_uri)
    tiles = coverage.count(results.ledger)
    pixels = plan.grid.tile_width * plan.grid.tile_height
    timing = RegionTiming(tiles[TileState.INFERRED], pixels, seconds)
    reasons = coverage.reasons(results.ledger)
    return RegionOutcome(tiles, client.stop_reason, timing, reasons, client.first_answer, capacity)


def _infer_tiles(
    plan: Plan,
    region: Region,
    client: InferenceClient,
    submit: Submit,
    observer: Observer,
    *,
    least: int,
    next_may_begin: Callable[[], None],
    was_read: Callable[[], None],
) -> Iterator[TileResults]:
    """The results of each batch; while its calls are in flight, the next one is read.

    A batch has at least `least` tiles. `was_read` is called after the last tile was read, and
    `next_may_begin` shortly before that.
    """
    held, began = 0, time.monotonic()

    def done(results: TileResults) -> TileResults:
        nonlocal held
        held += results.detections.nbytes
        if len(results.ledger):
            observer.tiles_done(region, len(results.ledger))
        return results

    def let_next_begin() -> None:
        if client.answered and held <= _MOST_HELD:
            next_may_begin()

    inside, outside = plan.split_by_roi(region)
    yield done(without_detections(outside, TileState.OUTSIDE))
    size = batch_size(len(inside), least, client.tiles_per_call)
    open_batches: deque[BatchResult] = deque()
    sent = 0
    with closing(plan.read(inside)) as tiles:
        while sent < len(inside) and not client.stop_reason:
            batch = Batch()
            with closing(batch):  # if this run is cancelled, nothing may wait for more tiles
                open_batches.append(submit(batch))
                sent += batch.fill(islice(tiles, size), client)
            while open_batches and open_batches[0].done():
                yield done(open_batches.popleft().result())
            if (time.monotonic() - began) * (len(inside) - sent) < _HEAD_START * sent:
                let_next_begin()
    was_read()
    let_next_begin()
    while open_batches:
        yield done(open_batches.popleft().result())
        let_next_begin()
    yield done(without_detections(inside[sent:], TileState.FAILED, client.stop_reason))


def _settle_and_store(plan: Plan, region: Region, results: TileResults, work_uri: str) -> None:
    """Decide the detections that no other region can affect; store them and the deferred ones."""
    algorithm, interior = plan.request.algorithm, plan.grid.interior(region)
    dropped = pa.array(~passes_filter(results.detections, algorithm))
    tiles = results.detections["tile"].filter(dropped).to_numpy()
    ledger = coverage.with_filtered(results.ledger, tiles)
    inferred = coverage.inferred(ledger, plan.grid)
    settled = settle(results.detections, algorithm, plan.grid, inferred, interior)
    decided = map(plan.clip_to_roi, settled.batches())
    save(decided, settled.deferred, ledger, work_uri, region)
