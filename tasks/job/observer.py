"""The observer of a job: for example a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from tasks.grid.tiles import Region
from tasks.planning.plan import Plan


class Observer(Protocol):
    """Is notified of the progress of a job, one call at a time, in any of the job's threads.

    Its methods must be quick. The next region may begin before the last one has ended.
    """

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """The image was opened and divided into regions."""

    def region_began(self, region: Region) -> None:
        """An attempt at a region begins."""

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Further tiles of a region have reached their final state.

        Args:
            region: The region.
            tiles: Number of tiles since the last call.
        """

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Tiles of a region are not asked for, as their answers are kept from an earlier attempt.

        Args:
            region: The region.
            tiles: Number of these tiles.
        """

    def region_ended(self, region: Region, lost: str) -> None:
        """A region has ended.

        Args:
            region: The region.
            lost: Why it stored no results; empty if it stored them.
        """


class SilentObserver:
    """Ignores every call; a base class for observers that implement only some methods."""

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """Ignore it."""

    def region_began(self, region: Region) -> None:
        """Ignore it."""

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Ignore it."""

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Ignore it."""

    def region_ended(self, region: Region, lost: str) -> None:
        """Ignore it."""


SILENT: Observer = SilentObserver()


class OneCallAtATime:
    """Passes on the calls of several threads, so that an observer needs no lock of its own."""

    def __init__(self, observer: Observer) -> None:
        self._observer, self._lock = observer, Lock()

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.planned(plan, regions)

    def region_began(self, region: Region) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.region_began(region)

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.tiles_done(region, tiles)

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.tiles_kept(region, tiles)

    def region_ended(self, region: Region, lost: str) -> None:
        """Pass it on."""
        with self._lock:
            self._observer.region_ended(region, lost)
