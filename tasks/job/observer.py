"""The observer of a job: a progress bar, a page, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tasks.grid.tiles import Region
from tasks.planning.plan import Plan


class Observer(Protocol):
    """Is notified of the progress of a job, in the thread that works it, and must return soon."""

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """The image is opened and divided into regions."""

    def region_began(self, region: Region) -> None:
        """The work on a region begins; again for each attempt."""

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Further tiles of a region are in their final state.

        Args:
            region: The region.
            tiles: Number of tiles since the last call.
        """

    def region_ended(self, region: Region, lost: str) -> None:
        """A region has ended.

        Args:
            region: The region.
            lost: Why it stored no results; empty where it did.
        """


class SilentObserver:
    """Ignores everything; a base for observers of some of it."""

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """Ignore it."""

    def region_began(self, region: Region) -> None:
        """Ignore it."""

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Ignore it."""

    def region_ended(self, region: Region, lost: str) -> None:
        """Ignore it."""


SILENT: Observer = SilentObserver()
