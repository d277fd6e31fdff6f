"""The progress of a job on a terminal, or as a few lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from tasks.job.observer import SilentObserver
from tasks.reporting.rate import TileRate

if TYPE_CHECKING:
    from tasks.grid.tiles import Region
    from tasks.planning.plan import Plan

_LINE_INTERVAL = 10.0  # seconds between two lines, where there is no terminal


class ProgressBar(SilentObserver):
    """Shows the tiles that are done, their rate and the time left, while the context lasts.

    A terminal shows a bar. Other outputs get the plan, and a line every ten seconds.

    Args:
        console: Where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._rate = TileRate(0)
        self._done: dict[int, int] = {}  # tiles by region, of its latest attempt
        self._kept = 0
        self._printed = 0.0

    def __enter__(self) -> Self:
        """Show that the image is being opened."""
        if self._console.is_terminal:
            self._task = self._bar.add_task("Opening the image …", total=None, rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar from the terminal, and say how many tiles were not asked for."""
        if self._task is not None:
            self._bar.stop()
        if self._kept:
            self._console.print(
                f"{self._kept:,} tile{'' if self._kept == 1 else 's'} answered before "
                "(--fresh asks for all of them)",
                soft_wrap=True,
            )

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:
        """Show the plan, and how many tiles there are."""
        tiles = sum(len(region) for region in regions)
        self._rate = TileRate(tiles)
        self._printed = time.monotonic()
        self._console.print(plan.text(len(regions)), soft_wrap=True)
        if self._task is not None:
            self._bar.update(self._task, description="Tiles", total=tiles, rate=self._rate.text(0))

    def region_began(self, region: Region) -> None:
        """Count a region's tiles from zero: an earlier attempt may have failed."""
        self._done[region.index] = 0

    def tiles_done(self, region: Region, tiles: int) -> None:
        """Count further tiles."""
        self._done[region.index] = self._done.get(region.index, 0) + tiles
        self._show()

    def tiles_kept(self, region: Region, tiles: int) -> None:
        """Count tiles that were answered before."""
        self._kept += tiles
        self.tiles_done(region, tiles)

    def region_ended(self, region: Region, lost: str) -> None:  # noqa: ARG002 - lost tiles are done
        """Count all tiles of a region."""
        self._done[region.index] = len(region)
        self._show()

    def _show(self) -> None:
        done = sum(self._done.values())
        text = self._rate.text(done)
        if self._task is not None:
            self._bar.update(self._task, completed=done, rate=text)
        elif time.monotonic() >= self._printed + _LINE_INTERVAL:
            self._printed = time.monotonic()
            self._console.print(text, soft_wrap=True)
