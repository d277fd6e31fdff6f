"""The tiles that no answer covers, as few rectangles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tasks.publish.page.columns import Columns
from tasks.results import coverage
from tasks.results.coverage import TileState

STATES = (TileState.FAILED, TileState.BLANK, TileState.OUTSIDE)
"""The states that a page shows, by their number."""

_MAX_AREAS = 100_000  # failed ones first
_MAX_REASONS = 200  # the most frequent
_OTHER = "one of many other reasons"
_SIDES = ("x", "y", "width", "height")


class TileAreas(NamedTuple):
    """Rectangles of tiles in one state, for one reason.

    Attributes:
        columns: `areas` (n, 4) x, y, width and height in pixels of the full image; `areaStates`
            (n,) index in `STATES`; `areaTiles` (n,) number of tiles; `areaReasons` (n,) index in
            `reasons`.
        reasons: What the ledger says of the tiles.
    """

    columns: Columns
    reasons: list[str]


def tile_areas(ledger: pa.Table) -> TileAreas:
    """Join tiles that follow each other in a row of the grid.

    Args:
        ledger: Table of `coverage.SCHEMA`.
    """
    reasons = [reason for reason, _ in coverage.reasons(ledger) + coverage.blank_reasons(ledger)]
    reasons = ["", *dict.fromkeys(reasons)][: _MAX_REASONS + 1]
    numbers = {reason: number for number, reason in enumerate(reasons)}
    windows = np.stack([ledger[name].to_numpy() for name in _SIDES], axis=1).astype(np.int32)
    order = {state.value: number for number, state in enumerate(STATES)}
    states = np.array([order.get(state, -1) for state in ledger["state"].to_pylist()], np.int8)
    texts = ledger["reason"].to_pylist()
    own = np.array([numbers.get(text, len(reasons)) for text in texts], np.uint16)
    shown = states >= 0
    windows, states, own = windows[shown], states[shown], own[shown]
    tiles = ledger["tile"].to_numpy()[shown]
    keys = np.stack([windows[:, 1], windows[:, 3], states, own], axis=1)
    new = np.ones(len(tiles), np.bool_)
    new[1:] = (np.diff(tiles) != 1) | (np.diff(keys, axis=0) != 0).any(axis=1)
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(tiles))[: len(first)] - 1
    areas = windows[first]
    areas[:, 2] = windows[last, 0] + windows[last, 2] - windows[first, 0]
    kept = np.argsort(states[first], kind="stable")[:_MAX_AREAS]
    columns: Columns = {
        "areas": areas[kept],
        "areaStates": states[first][kept].astype(np.uint8),
        "areaTiles": (last - first + 1)[kept].astype(np.uint32),
        "areaReasons": own[first][kept],
    }
    return TileAreas(columns, [*reasons, _OTHER])
