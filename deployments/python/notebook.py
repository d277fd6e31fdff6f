"""The progress of a job in a notebook."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from deployments.run.progress import ProgressBar
from tasks.reporting.rate import TileRate

if TYPE_CHECKING:
    from tasks.grid.tiles import Region
    from tasks.planning.plan import Plan

_INTERVAL = 0.1  # seconds between two updates: each is a message to the browser


class NotebookBar(ProgressBar):
    """Shows a bar below the cell, which stays there with the last number of tiles."""

    _output: Any = None
    _tiles = 0

    def __enter__(self) -> Self:
        """Reserve the output."""
        from IPython.display import display

        content = self._html("Opening the image …")
        self._output = display(content, display_id=True)  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show the last number of tiles, whatever was left out before."""
        self._update()

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:  # noqa: ARG002 - no text
        """Show how many tiles there are."""
        self._tiles = sum(len(region) for region in regions)
        self._rate = TileRate(self._tiles)
        self._update()

    def _show(self) -> None:
        if time.monotonic() >= self._printed + _INTERVAL:
            self._printed = time.monotonic()
            self._update()

    def _update(self) -> None:
        done = sum(self._done.values())
        bar = f'<progress value="{done}" max="{max(1, self._tiles)}"></progress>'
        self._output.update(self._html(f"{bar} {self._rate.text(done)}"))

    def _html(self, content: str) -> Any:  # noqa: ANN401 - IPython has no types
        from IPython.display import HTML

        return HTML(content)  # type: ignore[no-untyped-call]
