"""Converts a tile's pixels to a model's inputs, and the model's outputs to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels
from tasks.inference.description.preprocessing.bands import bands_in_order, choose_bands
from tasks.inference.description.preprocessing.output_pixels import in_tile
from tasks.inference.description.preprocessing.placement import Placement, place_tile
from tasks.inference.description.preprocessing.scaling import check_pixel_type
from tasks.inference.description.preprocessing.tensor import PreparedTile, make_tensor
from tasks.inference.description.properties import Properties
from tasks.inference.description.raster_head import RasterHead
from tasks.inference.description.tile_head import TileHead
from tasks.inference.endpoint import Boxes, Pixels, Vector
from tasks.results.oriented_boxes import corners_of, measure

_MAX_CALL_BYTES = 64 << 20  # of a call's input tensor


@dataclass(frozen=True)
class Description:
    """The inputs and outputs of a model. Several threads may use it at once.

    Attributes:
        uri: URI of its JSON file.
        properties: The content of that file.
        bands: Indices of the image's bands to use, from 0, in the order of the tensor's channels;
            None before `for_image`, when the bands of each tile are chosen by position.
        tile_bytes: Bytes of the input tensor of one tile of the image; 0 before `for_image`.
    """

    uri: str
    properties: Properties
    bands: tuple[int, ...] | None = None
    tile_bytes: int = 0

    @property
    def version(self) -> str:
        """A digest of its content."""
        # what it says of whole tiles counts only where it says something
        excluded = {"tile"} if self.properties.tile is None else None
        content = self.properties.model_dump_json(exclude=excluded)
        return sha256(content.encode()).hexdigest()[:16]

    @property
    def batched(self) -> bool:
        """Whether the input has a batch dimension."""
        return "batch" in self.properties.input.input.dim_order

    @property
    def batch(self) -> int | None:
        """Size of the batch dimension, 1 if the input has none; None for any size."""
        size = self.properties.input.input.size_of("batch") if self.batched else 1
        return None if size == -1 else size

    @property
    def tile_size(self) -> int | None:
        """Side in pixels of the largest tile that is not resized; None for an input of any size."""
        size = self.properties.input.image_size
        return None if size is None else min(size)

    @property
    def full_tiles(self) -> bool:
        """Whether tiles are filled up to the size of the input, as pixels are asked for.

        The alternatives, resizing them or a margin of one value, are for the description to name.
        """
        model_input = self.properties.input
        fixed = model_input.image_size is not None and model_input.resize_type is None
        return fixed and self.properties.raster is not None

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs to decode; empty for a model whose only output needs no name."""
        names = self._output_names().values()
        return tuple(name for name in names if name is not None)

    def for_image(self, image: Image, tile_size: int, *, chosen: bool = False) -> Description:
        """The description with its bands chosen among those of an image.

        Args:
            image: The image whose tiles the model will be given.
            tile_size: Side of a tile in pixels; tiles of a smaller image have the image's size.
            chosen: Whether the image has just the bands of the model, as the request names them.

        Raises:
            RequestError: The image lacks a band or has another pixel type, its tiles have a size
                that the model does not take, or a call's tensor would be too large.
        """
        bands = (
            bands_in_order(self.properties, image.bands)
            if chosen
            else choose_bands(self.properties, image.bands, image.band_names, image.alpha)
        )
        check_pixel_type(self.properties, np.dtype(image.dtype))
        width, height = self._place(*self._tile_shape(image, tile_size)).canvas
        dtype = np.dtype(self.properties.input.input.data_type)
        size = width * height * len(bands) * dtype.itemsize
        if size * (self.batch or 1) > _MAX_CALL_BYTES:
            raise RequestError(
                f"{self.uri}: mlm:input[0].input.shape: an input of {width} × {height} pixels, "
                f"{len(bands)} bands of {dtype}, {self.batch or 1} at a time, takes "
                f"{size * (self.batch or 1) / 1e6:.0f} MB of memory, more than the "
                f"{_MAX_CALL_BYTES / 1e6:.0f} MB allowed; give a smaller shape."
            )
        return replace(self, bands=bands, tile_bytes=size)

    def prepare(self, tile: TilePixels) -> PreparedTile:
        """The model's input for a tile.

        Raises:
            RequestError: The tile lacks a band, or has a type or size that the model does not take.
        """
        count, height, width = tile.pixels.shape
        check_pixel_type(self.properties, tile.pixels.dtype)
        bands = self.bands
        if bands is None:
            bands = choose_bands(self.properties, count, [], None)
        placement = self._place(width, height)
        tensor = make_tensor(self.properties, tile.pixels, bands, placement, tile.valid)
        return PreparedTile(tensor, placement)

    def prepare_blank(self, image: Image, tile_size: int) -> PreparedTile:
        """A tile of zeros, prepared as the image's tiles will be, for a first call of the model."""
        width, height = self._tile_shape(image, tile_size)
        pixels = np.zeros((image.bands, height, width), image.dtype)
        return self.prepare(TilePixels(Tile(0, Window(0, 0, width, height)), pixels, None))

    def inputs(self, prepared: Sequence[PreparedTile]) -> dict[str, NDArray[Any]]:
        """The tensors of a call, by name of the model's inputs.

        A batch dimension of a fixed size is filled up with zeros. A single tile is not copied.

        Args:
            prepared: 1 to `batch` tiles, all of the same size.

        Returns:
            The input for the tiles, in the model's dtype and order of dimensions; and, if the model
            has a size input, int64 (batch, 2) with the width and height of the first input.
        """
        first = prepared[0].tensor
        if not self.batched:
            batch = first
        elif len(prepared) == (self.batch or 1) == 1:
            batch = first[np.newaxis]
        else:
            batch = np.zeros((self.batch or len(prepared), *first.shape), first.dtype)
            np.stack([each.tensor for each in prepared], out=batch[: len(prepared)])
        tensors = {self.properties.input.name: batch}
        if (size_input := self.properties.head.size_input) is not None:
            size = np.array(prepared[0].placement.canvas, np.int64)
            tensors[size_input] = np.tile(size, (len(batch), 1))
        return tensors

    def map_bytes(self, prepared: PreparedTile) -> int:
        """Bytes of the model's answer for a tile, at most; 0 for a model that finds objects."""
        head, (width, height) = self.properties.raster, prepared.placement.canvas
        if head is None:
            return 0
        return head.band_count(len(self.properties.classes)) * width * height * head.item_bytes

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], prepared: Sequence[PreparedTile]
    ) -> list[Boxes] | list[Pixels] | list[Vector]:
        """The boxes, the pixels or the vectors in a model's outputs, for each tile of a call.

        Args:
            outputs: Tensors by name, with the batch dimension first; rows after the last tile are
                ignored.
            prepared: The tiles, in the order of the batch.

        Returns:
            The boxes of each tile in pixels of the tile, corner-origin. They are not clipped to the
            tile. Boxes that lie only in the padding around the tile are left out. Or the bands of
            each tile, in its size; or its numbers, of a model that answers about whole tiles.

        Raises:
            AnswerError: An output is missing, has another shape than its decoder expects, or has
                scores that are NaN.
        """
        properties = self.properties
        if properties.raster is not None:
            return self._decode_pixels(properties.raster, outputs, prepared)
        if properties.tile is not None:
            return self._decode_vectors(properties.tile, outputs, len(prepared))
        assert properties.detector is not None
        tensors = properties.detector.tensors(outputs, self._output_names(), len(prepared))
        canvas = prepared[0].placement.canvas
        found = properties.detector.decode(tensors, properties.classes, canvas)
        answers = [
            _boxes_of_tile(boxes, tile.placement)
            for boxes, tile in zip(found, prepared, strict=True)
        ]
        return list(map(_measured, answers)) if properties.detector.oriented else answers

    def _decode_pixels(
        self,
        head: RasterHead,
        outputs: Mapping[str, NDArray[Any]],
        prepared: Sequence[PreparedTile],
    ) -> list[Pixels]:
        tiles, (name,) = len(prepared), self._output_names().values()
        rows = (self.batch or tiles) if self.batched else None
        bands = head.decode(outputs, name, len(self.properties.classes), tiles, rows)
        return [
            Pixels(in_tile(each, tile.placement, head.resampling))
            for each, tile in zip(bands, prepared, strict=True)
        ]

    def _decode_vectors(
        self, head: TileHead, outputs: Mapping[str, NDArray[Any]], tiles: int
    ) -> list[Vector]:
        (name,) = self._output_names().values()
        rows = head.decode(outputs, name, len(self.properties.classes), tiles)
        return [Vector(row) for row in rows]

    def _output_names(self) -> dict[str, str | None]:
        return self.properties.head.output_names(self.properties.output_names)

    def _place(self, width: int, height: int) -> Placement:
        model_input, head = self.properties.input, self.properties.head
        return place_tile(
            (width, height),
            model_input.image_size,
            model_input.resize_type,
            head.letterbox,
            head.stride,
        )

    def _tile_shape(self, image: Image, tile_size: int) -> tuple[int, int]:
        """Width and height of all tiles of an image, in pixels."""
        if self.full_tiles:
            return tile_size, tile_size
        return min(tile_size, image.width), min(tile_size, image.height)


def _boxes_of_tile(found: Boxes, placement: Placement) -> Boxes:
    """Convert detections from pixels of the input to those of the tile; drop those in padding."""
    outlines = found.outlines
    kept = ~placement.only_in_padding(found.boxes, outlines)
    if outlines is not None:
        outlines = placement.outlines_to_tile(outlines[kept])
    return Boxes(
        placement.to_tile(found.boxes[kept]),
        found.scores[kept],
        found.classes[kept],
        found.names,
        outlines,
        {name: column[kept] for name, column in found.properties.items()},
    )


def _measured(answer: Boxes) -> Boxes:
    """Oriented boxes with their angle and sides in pixels of the tile."""
    assert answer.outlines is not None
    return replace(answer, properties=measure(corners_of(answer.outlines)))
