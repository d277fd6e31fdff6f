"""The kept answers of a model that answers with pixels, found by tile."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

from tasks.errors import DamagedStoreError
from tasks.grid.tiles import Tile
from tasks.raster.tile_maps import TileMap, decode_map
from tasks.request.raster_output import RasterOutput
from tasks.results.answer_parts import NOT_A_PART, decode_maps, maps_of
from tasks.storage import conditional, objects

logger = logging.getLogger(__name__)

_Value = TypeVar("_Value")

_PARTS_BYTES, _MAPS_BYTES = 32 << 20, 96 << 20  # that are kept in memory, to be used again


class KeptMaps:
    """Reads the maps of tiles, and keeps those that were read last.

    Attributes:
        parts: The name of the part that has the map of each tile, by the tile's index.
        damaged: Names of parts that were found damaged and are removed, so that their tiles are
            asked for again.
    """

    def __init__(self, folder: str, output: RasterOutput, parts: Mapping[int, str]) -> None:
        """Read nothing yet.

        Args:
            folder: Folder or s3:// prefix of the kept answers to a question.
            output: What the maps hold.
            parts: The name of the part that has the map of each tile, by the tile's index.
        """
        self.parts, self.damaged = parts, set[str]()
        self._folder, self._output = folder, output
        self._bodies: _Recent[dict[int, memoryview]] = _Recent(_PARTS_BYTES)
        self._maps: _Recent[TileMap] = _Recent(_MAPS_BYTES)

    def read(self, tile: Tile) -> TileMap | None:
        """The map of a tile, or None if the model has not answered for it.

        Raises:
            DamagedStoreError: Maps are damaged, of which `damaged` then has all.
            PublishError: The store does not answer.
        """
        part = self.parts.get(tile.index)
        if part is None:
            return None
        if (known := self._maps.get(str(tile.index))) is not None:
            return known
        shape = tile.window.height, tile.window.width
        try:
            pixels = decode_map(bytes(self._bodies_of(part)[tile.index]), self._output, shape)
        except NOT_A_PART as error:
            self._remove_damaged(part)
            raise DamagedStoreError(
                f"Cannot read the maps of {part} in {self._folder}, kept answers: {error}. Send "
                "the request again, or redrive the job: their tiles are asked for again."
            ) from error
        self._maps.add(str(tile.index), pixels, pixels.nbytes)
        return pixels

    def _bodies_of(self, part: str) -> dict[int, memoryview]:
        bodies = self._bodies.get(part)
        if bodies is None:
            found = conditional.read(objects.join(self._folder, maps_of(part)))
            if found is None:
                raise FileNotFoundError("they are gone")
            bodies = decode_maps(found[0])
            self._bodies.add(part, bodies, len(found[0]))
        return bodies

    def _remove_damaged(self, part: str) -> None:
        """Remove a part, and all others whose maps are damaged too."""
        self.damaged.add(part)
        for other in sorted(set(self.parts.values()) - self.damaged):
            try:
                self._bodies_of(other)
            except NOT_A_PART:
                self.damaged.add(other)
        for each in sorted(self.damaged):
            logger.warning("%s in %s is removed, as its maps are not whole", each, self._folder)
            objects.remove_object(objects.join(self._folder, each))
            objects.remove_object(objects.join(self._folder, maps_of(each)))


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
