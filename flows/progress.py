"""Progress artifacts: one on each region's run, and one on the image's run for all regions."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from threading import Event, Thread
from typing import cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterType,
)
from prefect.runtime import flow_run

from flows.run_records import children_of, client_without_retries, log_errors, read_all
from tasks.grid.tiles import Region
from tasks.job.observer import SilentObserver
from tasks.reporting.rate import TileRate

_logger = logging.getLogger(__name__)

_INTERVAL = 1.0  # seconds between updates, which cost the server time


class RegionProgress(SilentObserver):
    """Shows on a region's run how many of its tiles are done."""

    def __init__(self, region: Region) -> None:
        """Show that no tile is done."""
        self._tiles = len(region)
        self._done = 0
        self._updated = time.monotonic()
        self._artifact: UUID | None = None
        self._update()

    def tiles_done(self, region: Region, tiles: int) -> None:  # noqa: ARG002 - there is one
        """Count tiles that are done."""
        self._done += tiles
        if self._done == self._tiles or time.monotonic() - self._updated > _INTERVAL:
            self._updated = time.monotonic()
            self._update()

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Count tiles that were answered before."""
        self.tiles_done(region, tiles)

    def _update(self) -> None:
        """Create or update the artifact; if Prefect is down, the tiles do not wait for it."""
        with log_errors("The progress of this region"), client_without_retries() as client:
            progress = _progress(self._done, self._tiles, f"{self._done} of {self._tiles} tiles")
            if self._artifact is None:
                self._artifact = _create(client, "region-progress", progress)
            else:
                client.update_artifact(self._artifact, progress)


@contextmanager
def image_progress(regions: Sequence[Region], unfinished: Sequence[Region]) -> Iterator[None]:
    """While it is open, show on the image's run the tiles that are done in all its regions.

    Args:
        regions: All regions of the image.
        unfinished: Those that no earlier run has completed.
    """
    tiles = sum(len(region) for region in regions)
    before = tiles - sum(len(region) for region in unfinished)
    image_run, ended = UUID(flow_run.id), Event()
    watch = partial(_watch, image_run, tiles, before, ended)
    # the context of this run, so that it uses the same Prefect server
    watcher = Thread(target=copy_context().run, args=(watch,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(image_run: UUID, tiles: int, before: int, ended: Event) -> None:
    """Show the image's progress until `ended` is set, and once after that.

    Args:
        image_run: The run of the image.
        tiles: Number of its tiles.
        before: Number of those that were done before this run.
        ended: Set when the regions have ended.
    """
    rate, last = TileRate(tiles), False
    artifact: UUID | None = None
    with log_errors("The progress of this image"), client_without_retries() as client:
        while not last:
            last = ended.wait(_INTERVAL)
            try:
                done = before + _tiles_done(client, image_run)
                progress = _progress(done, tiles, rate.text(done))
                if artifact is None:
                    artifact = _create(client, "progress", progress)
                else:
                    client.update_artifact(artifact, progress)
            except Exception:  # the next update may succeed
                _logger.debug("The progress of an image is not updated", exc_info=True)


def _progress(done: int, tiles: int, text: str) -> ArtifactUpdate:
    """The content of a progress artifact: percent of tiles done, and a text."""
    return ArtifactUpdate(data=round(100 * done / tiles, 2), description=text)


def _create(client: SyncPrefectClient, key: str, progress: ArtifactUpdate) -> UUID:
    """Create a progress artifact on the current flow run, under a key that is its title."""
    artifact = ArtifactCreate(
        key=key,
        type="progress",
        data=progress.data,
        description=progress.description,
        flow_run_id=UUID(flow_run.id),
    )
    return client.create_artifact(artifact).id


def _tiles_done(client: SyncPrefectClient, image_run: UUID) -> int:
    """Tiles done in all regions of an image; of a region's attempts, only the best counts."""
    children = children_of(image_run)
    runs = read_all(partial(client.read_flow_runs, flow_run_filter=children))
    regions = {run.id: Region.model_validate(run.parameters["region"]) for run in runs}
    artifacts = read_all(
        partial(
            client.read_artifacts,
            flow_run_filter=children,
            artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=["progress"])),
        )
    )
    done: dict[int, int] = {}
    for artifact in artifacts:
        region = regions.get(cast("UUID", artifact.flow_run_id))
        if region is not None:
            tiles = round(cast("float", artifact.data) * len(region) / 100)
            done[region.index] = max(tiles, done.get(region.index, 0))
    return sum(done.values())
