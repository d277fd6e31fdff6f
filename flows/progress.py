"""Progress while it works: an artifact on each region's run, and one on the image's for all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Event, Thread
from typing import cast
from uuid import UUID

import httpx
from prefect import get_client
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.runtime import flow_run

from flows.run_records import read_all
from tasks.grid.tiles import Region
from tasks.results.stored import TileResults

_EVERY = 1.0  # seconds between updates: the server has better things to do


class RegionProgress:
    """How many tiles of a region are done, shown on its run."""

    def __init__(self, tiles: int) -> None:
        """Show that none of `tiles` is done."""
        self._tiles = tiles
        self._done = 0
        self._shown = time.monotonic()
        self._artifact = cast("UUID", create_progress_artifact(0.0, description=self._text()))

    def advance(self, findings: TileResults) -> TileResults:
        """Count the tiles of a batch, and hand its findings on."""
        self._done += len(findings.ledger)
        if self._done == self._tiles or time.monotonic() - self._shown > _EVERY:
            self._shown = time.monotonic()
            with suppress(httpx.HTTPError):  # progress is worth no region
                update_progress_artifact(
                    self._artifact, 100.0 * self._done / self._tiles, description=self._text()
                )
        return findings

    def _text(self) -> str:
        return f"{self._done} of {self._tiles} tiles"


@contextmanager
def image_progress(regions: Sequence[Region]) -> Iterator[None]:
    """While it is open, the image's run shows the tiles done in all its regions' runs.

    Args:
        regions: What the image is worked in.
    """
    tiles = sum(len(region) for region in regions)
    artifact = cast("UUID", create_progress_artifact(0.0, description=f"0 of {tiles} tiles"))
    image_run, ended = UUID(flow_run.id), Event()
    watch = partial(_watch, image_run, artifact, tiles, ended)
    # in this run's context, so on its server
    watcher = Thread(target=copy_context().run, args=(watch,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(image_run: UUID, artifact: UUID, tiles: int, ended: Event) -> None:
    """Bring the image's artifact up to date until told to end, and once after that."""
    clock, last = _Clock(tiles), False
    with get_client(sync_client=True) as client:
        while not last:
            last = ended.wait(_EVERY)
            try:
                done = _tiles_done(client, image_run)
                client.update_artifact(
                    artifact,
                    ArtifactUpdate(
                        data=100.0 * done / tiles,
                        description=clock.text(done),
                    ),
                )
            except httpx.HTTPError:  # progress is worth no job; the next look may succeed
                continue


def _tiles_done(client: SyncPrefectClient, image_run: UUID) -> int:
    """Tiles done in the runs of an image's regions, the best attempt of each counted."""
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[image_run]))
    runs = read_all(partial(client.read_flow_runs, flow_run_filter=children))
    regions = {run.id: Region.model_validate(run.parameters["region"]) for run in runs}
    shown = read_all(
        partial(
            client.read_artifacts,
            flow_run_filter=children,
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=["progress"])),
        )
    )
    done: dict[int, int] = {}
    for artifact in shown:
        region = regions.get(cast("UUID", artifact.flow_run_id))
        if region is not None:
            tiles = round(cast("float", artifact.data) * len(region) / 100)
            done[region.index] = max(tiles, done.get(region.index, 0))
    return sum(done.values())


class _Clock:
    """The rate of tiles, from when the first were done: before that, runs are only starting."""

    def __init__(self, tiles: int) -> None:
        self._tiles = tiles
        self._first: tuple[float, int] | None = None

    def text(self, done: int) -> str:
        """Tiles done, their rate, and the time left."""
        now = time.monotonic()
        if done and self._first is None:
            self._first = now, done
        since, before = self._first or (now, 0)
        counted = f"{done} of {self._tiles} tiles"
        if done in (before, self._tiles):
            return counted
        rate = (done - before) / (now - since)
        return f"{counted} · {rate:.0f} tiles/s · {(self._tiles - done) / rate:.0f} s left"
