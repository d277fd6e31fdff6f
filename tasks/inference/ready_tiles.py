"""Makes tiles ready to be sent, or finds that they need not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.grid.tiles import Tile
from tasks.imagery import AbsentTile, ReadTile, TilePreparation, UnreadTile
from tasks.inference.answer.validity import ValidPixels
from tasks.inference.endpoint import Endpoint
from tasks.inference.outcomes import blank, failed, text_of
from tasks.results.tile_results import Outcome


@dataclass(frozen=True, slots=True)
class ReadyTile:
    """A tile, and the value that `Endpoint.prepare` returned for it.

    Attributes:
        tile: The tile.
        prepared: The value.
        valid: Which of its pixels hold data; None if all do.
    """

    tile: Tile
    prepared: Any
    valid: ValidPixels | None


def make_ready(
    tile: ReadTile, endpoint: Endpoint, preparation: TilePreparation | None
) -> ReadyTile | Outcome:
    """The value to send for a tile; or its outcome, if nothing has to be sent.

    Args:
        tile: The tile as it was read.
        endpoint: To which it is sent.
        preparation: Changes it before; None to leave it as read.
    """
    if isinstance(tile, UnreadTile):
        return failed(tile.tile, tile.reason)
    if isinstance(tile, AbsentTile):
        return blank(tile.tile, "no block is stored")
    if tile.blank:
        return blank(tile.tile, (preparation and preparation.source.no_data) or "")
    try:
        sent = preparation(tile) if preparation else tile
        if sent.blank:
            return blank(tile.tile, "NaN")
        return ReadyTile(tile.tile, endpoint.prepare(sent), ValidPixels.of(sent))
    except Exception as error:
        return failed(tile.tile, text_of(error))
