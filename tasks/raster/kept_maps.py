"""The kept answers of a model that answers with pixels, found by tile."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from tasks.errors import PublishError
from tasks.grid.tiles import Region, Tile
from tasks.raster.tile_maps import TileMap, decode_map
from tasks.request.raster_output import RasterOutput
from tasks.results import coverage
from tasks.results.answer_parts import NOT_A_PART, decode, decode_maps, maps_of, part_names
from tasks.storage import objects

logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")

_PARTS_BYTES, _MAPS_BYTES = 64 << 20, 192 << 20  # that are kept in memory, to be used again


class KeptMaps:
    """Reads the maps of tiles, and keeps those that were read last."""

    def __init__(self, folder: str, output: RasterOutput, regions: Iterable[Region]) -> None:
        """Find the maps of regions.

        Args:
            folder: Folder or s3:// prefix of the kept answers to a question.
            output: What the maps hold.
            regions: The regions whose tiles may be read.

        Raises:
            PublishError: The store does not answer.
        """
        self._folder, self._output = folder, output
        self._parts: Mapping[int, str] = _parts_by_tile(folder, list(regions))
        self._bodies: _Recent[dict[int, memoryview]] = _Recent(_PARTS_BYTES)
        self._maps: _Recent[TileMap] = _Recent(_MAPS_BYTES)

    def read(self, tile: Tile) -> TileMap | None:
        """The map of a tile, or None if the model has not answered for it.

        Raises:
            PublishError: It cannot be read.
        """
        part = self._parts.get(tile.index)
        if part is None:
            return None
        if (known := self._maps.get(str(tile.index))) is not None:
            return known
        shape = tile.window.height, tile.window.width
        try:
            pixels = decode_map(bytes(self._bodies_of(part)[tile.index]), self._output, shape)
        except NOT_A_PART as error:
            raise PublishError(
                f"Cannot read {part} in {self._folder}, kept answers: {error}. Remove it, and send "
                "the request again."
            ) from error
        self._maps.add(str(tile.index), pixels, pixels.nbytes)
        return pixels

    def _bodies_of(self, part: str) -> dict[int, memoryview]:
        bodies = self._bodies.get(part)
        if bodies is None:
            body = objects.get(objects.join(self._folder, maps_of(part)))
            bodies = decode_maps(body)
            self._bodies.add(part, bodies, len(body))
        return bodies


class _Recent(Generic[_Value]):
    """The values that were used last, up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._values: OrderedDict[str, tuple[_Value, int]] = OrderedDict()

    def get(self, name: str) -> _Value | None:
        if name not in self._values:
            return None
        self._values.move_to_end(name)
        return self._values[name][0]

    def add(self, name: str, value: _Value, size: int) -> None:
        self._values[name] = value, size
        self._bytes += size
        while self._bytes > self._most and len(self._values) > 1:
            self._bytes -= self._values.popitem(last=False)[1][1]


def _parts_by_tile(folder: str, regions: list[Region]) -> dict[int, str]:
    """The part of each tile that was answered with a map: the earliest, as for detections."""
    parts: dict[int, str] = {}
    for name in part_names(folder):
        if not any(name.meets(region) for region in regions):
            continue
        try:
            ledger = decode(objects.get(objects.join(folder, name.text))).ledger
        except NOT_A_PART as error:
            logger.warning("The maps of %s/%s are left out: %r", folder, name.text, error)
            continue
        for tile in coverage.inferred_tiles(ledger):
            parts.setdefault(tile, name.text)
    return parts
