"""Asks the model for tiles of a region: read → send in batches → keep what it answers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Protocol

from tasks.cost.meter import Meter
from tasks.errors import ImageUnreachableError
from tasks.grid.tiles import Region, Tile
from tasks.imagery import ReadTile, UnreadTile
from tasks.inference.batch import Batch, batch_size, growing, infer
from tasks.inference.call_metrics import count_tiles
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.inference.model_version import least_score
from tasks.job.observer import SILENT, Observer
from tasks.job.shared_client import SharedClient
from tasks.planning.plan import Plan
from tasks.results.answer_keeper import AnswerKeeper
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome, TileResults, gather
from tasks.settings import settings
from tasks.telemetry.spans import Span, begin_span


class BatchEnd(Protocol):
    """The end of a batch of tiles, such as a `concurrent.futures.Future`."""

    def done(self) -> bool:
        """Whether `result` returns at once."""

    def result(self) -> int:
        """Wait until all its tiles are done; their number."""


Submit = Callable[[Batch], BatchEnd]
"""Starts to wait for the tiles of a batch, while they are still being read."""

_HEAD_START = 10.0  # seconds before the last tile of a region is read that the next one may begin

_MOST_HELD = 32 << 20
"""Bytes of detections that a region may have while the next one is read.

Settling takes some times as much; a region that has more is stored before the next one begins.
"""


@dataclass(frozen=True)
class Asking:
    """How the model is asked for the tiles of a region.

    Attributes:
        observer: Is called when tiles are done.
        shared: The client of the endpoint; None for one of this region alone.
        open_client: Makes that one, which counts with a meter, and is closed after the last answer.
        submit: Runs a batch; None for a thread of this process.
        next_may_begin: Is called, once or more often, when another region may begin in this
            process: shortly before the last tile is read, unless this region has many detections
            or the endpoint does not answer.
        own_meter: Counts what is used, if there is no shared client.
    """

    observer: Observer = SILENT
    shared: SharedClient | None = None
    open_client: Callable[[Meter], SharedClient] = lambda meter: SharedClient(meter=meter)
    submit: Submit | None = None
    next_may_begin: Callable[[], None] = lambda: None
    own_meter: Meter = field(default_factory=Meter)

    @property
    def meter(self) -> Meter:
        """Counts what is used: that of the client."""
        return self.shared.meter if self.shared else self.own_meter


@dataclass(frozen=True)
class Answers:
    """What came of asking the model for tiles.

    Attributes:
        results: The results of all of them; tiles that were not sent have failed.
        seconds: How long it took.
        stop_reason: Why tiles were not sent: the endpoint was given up, or the limit of the job is
            reached; else empty.
        limit_reached: Whether it is the latter.
        first_answer: When the model first answered, in seconds since 1970; None if it never did.
        capacity: What was learned about the endpoint; None if too few calls were answered, or if
            the model is in this process.
    """

    results: TileResults = field(default_factory=lambda: gather([]))
    seconds: float = 0.0
    stop_reason: str = ""
    limit_reached: bool = False
    first_answer: float | None = None
    capacity: CapacityEstimate | None = None


def ask(plan: Plan, region: Region, tiles: Sequence[Tile], answers: str, asking: Asking) -> Answers:
    """Ask the model for tiles of a region, and keep what it answers.

    Args:
        plan: The plan of the image.
        region: The region.
        tiles: Some of its tiles, in the order of the grid.
        answers: Folder or s3:// prefix of the answers that are kept.
        asking: How the model is asked.

    Raises:
        ImageChangedError: The image was replaced meanwhile.
        ImageUnreachableError: Tiles could not be fetched. The others were asked for, so that
            another attempt asks for these alone.
        SwathError: The endpoint cannot be opened, or the answers not be stored.
    """
    unreachable: list[str] = []
    with ExitStack() as own:
        thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        # after an error, a batch ends only when its calls in flight do
        own.callback(thread.shutdown, wait=False)
        shared = asking.shared or own.enter_context(closing(asking.open_client(asking.own_meter)))
        keeper = own.enter_context(
            AnswerKeeper(answers, region, least_score(plan.request), asking.meter.stored)
        )
        client = shared.for_region(plan, region, keeper.add)
        own.callback(client.cancel)
        turn = own.enter_context(ExitStack())
        turn.enter_context(shared.reading)
        began = time.monotonic()
        submit = asking.submit or (lambda batch: thread.submit(infer, batch))

        def let_next_begin() -> None:
            if client.answered and keeper.bytes <= _MOST_HELD:
                asking.next_may_begin()

        def end_batch() -> None:
            batch_end, batch_span = batches.popleft()
            done = batch_end.result()
            batch_span.set_attribute("swath.tiles", done)
            batch_span.end()
            asking.observer.tiles_done(region, done)

        sizes = _batch_sizes(asking, len(tiles), client.tiles_per_call)
        batches: deque[tuple[BatchEnd, Span]] = deque()
        sent = 0
        with closing(plan.read(tiles, asking.meter.read)) as read:
            pixels = keeper.before_asking(_noting_unreachable(read, unreachable))
            while sent < len(tiles) and not client.stop_reason:
                batch = Batch()
                with closing(batch):  # if this run is cancelled, nothing may wait for more tiles
                    batches.append(
                        (submit(batch), begin_span("batch", first_tile=tiles[sent].index))
                    )
                    sent += batch.fill(islice(pixels, next(sizes)), client)
                while batches and batches[0][0].done():
                    end_batch()
                if (time.monotonic() - began) * (len(tiles) - sent) < _HEAD_START * sent:
                    let_next_begin()
        turn.close()
        let_next_begin()
        while batches:
            end_batch()
            let_next_begin()
        if not_sent := tiles[sent:]:
            keeper.add(_failed(not_sent, client.stop_reason))
            count_tiles(plan.model_name, [TileState.FAILED] * len(not_sent))
            asking.observer.tiles_done(region, len(not_sent))
        seconds = time.monotonic() - began
        capacity = client.limiter.estimate
    if unreachable and not client.stop_reason:
        raise ImageUnreachableError(
            f"{len(unreachable)} of {len(tiles)} tiles could not be fetched: {unreachable[-1]}",
            partly=len(unreachable) < len(tiles),
        )
    return Answers(
        keeper.results(),
        seconds,
        client.stop_reason,
        bool(client.limit_reached),
        client.first_answer,
        capacity,
    )


def _batch_sizes(asking: Asking, tiles: int, tiles_per_call: int) -> Iterator[int]:
    """The sizes of a region's batches.

    In a thread, small ones cost nothing, and the observer is notified more often.
    """
    if asking.submit is None:
        return repeat(batch_size(tiles, 1, tiles_per_call))
    return growing(batch_size(tiles, settings().batch_size, tiles_per_call))


def _noting_unreachable(tiles: Iterable[ReadTile], reasons: list[str]) -> Iterator[ReadTile]:
    """The tiles; the reasons why some could not be fetched are added to a list."""
    for tile in tiles:
        if isinstance(tile, UnreadTile) and tile.unreachable:
            reasons.append(tile.reason)
        yield tile


def _failed(tiles: Sequence[Tile], reason: str) -> list[Outcome]:
    return [Outcome(TileRecord(tile, TileState.FAILED, reason)) for tile in tiles]
