"""The log lines of failed calls: which tile was sent, and what came back."""

from __future__ import annotations

import logging
from collections import Counter

from tasks.errors import SwathError
from tasks.grid.tiles import Tile

logger = logging.getLogger(__name__)

_MOST_LINES = 5  # for each kind of failure in a region; the ledger has all of them


class FailedCallLog:
    """Logs the first failed calls of each kind in a region, as a model may fail often."""

    def __init__(self) -> None:
        self._lines: Counter[type[SwathError]] = Counter()

    def add(self, tile: Tile, error: SwathError) -> None:
        """Log a failed call, unless many of its kind were logged.

        Args:
            tile: The tile that was sent, or the first of those.
            error: What came back, or why nothing did.
        """
        kind = type(error)
        self._lines[kind] += 1
        if self._lines[kind] > _MOST_LINES:
            return
        window = tile.window
        logger.info(
            "A call for tile %d (%d × %d px at %d, %d) failed: %s: %s",
            *(tile.index, window.width, window.height, window.col_off, window.row_off),
            *(kind.__name__, error),
        )
        if self._lines[kind] == _MOST_LINES:
            logger.info("Further calls that fail so, %s, are in the ledger alone", kind.__name__)
