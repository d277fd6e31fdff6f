"""The rate at which tiles are done, as text for users."""

from __future__ import annotations

import re
import time


class TileRate:
    """The rate of tiles, counted from the first that were done: before them, runs are starting.

    Args:
        tiles: Number of tiles in all.
    """

    def __init__(self, tiles: int) -> None:
        self._tiles = tiles
        self._first: tuple[float, int] | None = None

    def text(self, done: int) -> str:
        """Tiles done, tiles per second, and the time left.

        Args:
            done: Number of tiles that are done.
        """
        now = time.monotonic()
        if done and self._first is None:
            self._first = now, done
        since, before = self._first or (now, 0)
        counted = f"{done} of {self._tiles} tiles"
        if done in (before, self._tiles) or now <= since:
            return counted
        rate = (done - before) / (now - since)
        return (
            f"{counted} · {_number(rate)} tiles/s · {_duration((self._tiles - done) / rate)} left"
        )


def parse_tiles(text: str) -> tuple[int, int] | None:
    """Tiles done and tiles in all, from a text of `TileRate`; None if there are none in it."""
    found = re.match(r"(\d+) of (\d+) tiles", text)
    return (int(found[1]), int(found[2])) if found else None


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
