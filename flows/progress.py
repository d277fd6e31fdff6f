"""Progress artifacts: one on each region's run, and one on the image's run for all regions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.runtime import flow_run

from flows.intervals import Interval
from flows.run_records import (
    children_of,
    client_without_retries,
    log_errors,
    metric_labels,
    read_all,
    read_pages,
    write_labels,
)
from flows.startup import read_startup
from tasks.grid.tiles import Region
from tasks.job.observer import Observer, SilentObserver
from tasks.reporting.rate import TileRate

_logger = logging.getLogger(__name__)

_SHORTEST, _LONGEST = 2.0, 15.0  # seconds between two updates
_SHARE = 0.2  # of the time that a run has taken, which may pass until the next update


@contextmanager
def region_progress(region: Region) -> Iterator[Observer]:
    """While it is open, show on a region's run how many of its tiles are done.

    Args:
        region: The region.

    Yields:
        The observer that counts them. It never waits for Prefect.
    """
    counted = _TileCount()
    with _shown("region-progress", lambda _: _progress(counted.done, len(region))):
        yield counted


@contextmanager
def waiting_shown(text: str) -> Iterator[None]:
    """While it is open, show on the image's run what it waits for.

    Args:
        text: Such as "waits for a place".
    """
    with _shown("progress", lambda _: ArtifactUpdate(data=0.0, description=text)):
        yield


@contextmanager
def image_progress(regions: Sequence[Region], unfinished: Sequence[Region]) -> Iterator[None]:
    """While it is open, show on the image's run the tiles that are done in all its regions.

    The stages of its start are written to its labels too, where `swath status` reads them.

    Args:
        regions: All regions of the image.
        unfinished: Those that no earlier run has completed.
    """
    tiles, image_run = sum(len(region) for region in regions), UUID(flow_run.id)
    before = tiles - sum(len(region) for region in unfinished)
    rate, counts = TileRate(tiles), _RegionCounts(image_run)
    looks, at_work = count(), True

    def progress(client: SyncPrefectClient) -> ArtifactUpdate:
        # not at the first look, at which the first tile is not done yet, nor at the end, when the
        # start is recorded with its last stage
        if next(looks) == 1 and at_work:
            stages = read_startup(client, None).stages
            write_labels(client, image_run, metric_labels(stages))
        done = before + counts.read(client)
        return _progress(done, tiles, rate.text(done))

    with _shown("progress", progress):
        try:
            yield
        finally:
            at_work = False


class _TileCount(SilentObserver):
    """Counts the tiles of a region that are done."""

    def __init__(self) -> None:
        self.done = 0

    def tiles_done(self, region: Region, tiles: int) -> None:  # noqa: ARG002 - there is one
        """Count further tiles."""
        self.done += tiles

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Count tiles that were answered before."""
        self.tiles_done(region, tiles)


@contextmanager
def _shown(key: str, progress: Callable[[SyncPrefectClient], ArtifactUpdate]) -> Iterator[None]:
    """Show a progress on the current run, updated in a thread so that no tile waits for Prefect.

    Args:
        key: Key of the artifact, which is its title.
        progress: Returns the content of the artifact.
    """
    ended = Event()
    show = partial(_show, key, progress, UUID(flow_run.id), ended)
    # the context of this run, so that it uses the same Prefect server
    thread = Thread(target=copy_context().run, args=(show,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show(
    key: str,
    progress: Callable[[SyncPrefectClient], ArtifactUpdate],
    run: UUID,
    ended: Event,
) -> None:
    """Show a progress until `ended` is set, and once after that."""
    artifact: UUID | None = None
    shown, last = None, False
    interval = Interval(_SHORTEST, _LONGEST, _SHARE)
    with log_errors("The progress of this run"), client_without_retries() as client:
        while not last:
            last = ended.wait(0.0 if shown is None else interval.seconds)
            try:
                content = progress(client)
                if content == shown:
                    continue
                artifact = artifact or _find(client, key, run)
                if artifact is None:
                    artifact = _create(client, key, run, content)
                else:
                    client.update_artifact(artifact, content)
                shown = content
            except Exception:  # the next update may succeed
                _logger.debug("The progress of a run is not updated", exc_info=True)
                ended.wait(interval.seconds)


def _progress(done: int, tiles: int, text: str = "") -> ArtifactUpdate:
    """The content of a progress artifact: percent of tiles done, and a text."""
    return ArtifactUpdate(
        data=round(100 * done / tiles, 2), description=text or f"{done} of {tiles} tiles"
    )


def _find(client: SyncPrefectClient, key: str, run: UUID) -> UUID | None:
    """The progress artifact that a flow run has already, of what it did before."""
    found = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            key=ArtifactFilterKey(any_=[key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run])
        ),
        limit=1,
    )
    return found[0].id if found else None


def _create(client: SyncPrefectClient, key: str, run: UUID, progress: ArtifactUpdate) -> UUID:
    """Create a progress artifact on a flow run, under a key that is its title."""
    artifact = ArtifactCreate(
        key=key,
        type="progress",
        data=progress.data,
        description=progress.description,
        flow_run_id=run,
    )
    return client.create_artifact(artifact).id


class _RegionCounts:
    """The tiles that are done in the regions of an image, as the progress of their runs says.

    Args:
        image_run: Id of the image's run.
    """

    def __init__(self, image_run: UUID) -> None:
        self._children = children_of(image_run)
        self._regions: dict[UUID, Region] = {}  # by the id of a run; read once, with its request

    def read(self, client: SyncPrefectClient) -> int:
        """Tiles done in all regions; of a region's attempts, only the best counts."""
        artifacts = read_all(
            partial(
                client.read_artifacts,
                flow_run_filter=self._children,
                artifact_filter=ArtifactFilter(type=ArtifactFilterType(any_=["progress"])),
            )
        )
        tiles = {cast("UUID", artifact.flow_run_id): artifact.data for artifact in artifacts}
        self._read_regions(client, list(tiles.keys() - self._regions.keys()))
        done: dict[int, int] = {}
        for run, percent in tiles.items():
            if (region := self._regions.get(run)) is not None:
                number = round(cast("float", percent) * len(region) / 100)
                done[region.index] = max(number, done.get(region.index, 0))
        return sum(done.values())

    def _read_regions(self, client: SyncPrefectClient, runs: list[UUID]) -> None:
        """Read which regions some runs work."""
        if not runs:
            return
        unknown = FlowRunFilter(id=FlowRunFilterId(any_=runs))
        for run in read_pages(partial(client.read_flow_runs, flow_run_filter=unknown)):
            self._regions[run.id] = Region.model_validate(run.parameters["region"])
