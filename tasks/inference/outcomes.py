"""The outcomes of tiles that the model did not answer: blank or failed."""

from __future__ import annotations

from tasks.errors import SwathError
from tasks.grid.tiles import Tile
from tasks.inference.retry import RetryState
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome

_LONGEST_REASON = 500  # characters of the text of an unexpected error


def blank(tile: Tile, rule: str) -> Outcome:
    """A tile without data.

    Args:
        tile: The tile.
        rule: What decided that, as `Image.no_data`.
    """
    return Outcome(TileRecord(tile, TileState.BLANK, rule))


def failed(tile: Tile, reason: str, state: RetryState | None = None) -> Outcome:
    """A tile that failed.

    Args:
        tile: The tile.
        reason: Why.
        state: Its calls; None if there were none.
    """
    calls, failures = (state.calls, tuple(state.failures)) if state else (0, ())
    return Outcome(
        TileRecord(tile, TileState.FAILED, reason, attempts=calls, failed_calls=failures)
    )


def text_of(error: Exception) -> str:
    """An error as the reason of a failed tile: an unexpected one with its type, cut short."""
    return str(error) if isinstance(error, SwathError) else f"{error!r:.{_LONGEST_REASON}}"
