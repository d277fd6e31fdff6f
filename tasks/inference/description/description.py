"""What a model takes and gives: a tile's pixels to its input, its outputs to boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.imagery import Image, TilePixels
from tasks.inference.description.bands import choose_bands
from tasks.inference.description.placement import Placement, place
from tasks.inference.description.prepared import Prepared
from tasks.inference.description.properties import Properties
from tasks.inference.description.scaling import check_type
from tasks.inference.description.tensor import make_tensor
from tasks.inference.endpoint import Boxes

_MOST_BYTES = 64 << 20  # of a call's tensor


@dataclass(frozen=True)
class Description:
    """What a model takes and gives, usable from several threads at once.

    Attributes:
        uri: Where it was read from.
        properties: What it says.
        bands: Of the image, from 0, that go in, in the order of the tensor; None until an image is
            known, where those of each tile are chosen by position.
        tile_bytes: Of the tensor that is made of a tile of that image; 0 without one.
    """

    uri: str
    properties: Properties
    bands: tuple[int, ...] | None = None
    tile_bytes: int = 0

    @property
    def input_name(self) -> str | None:
        """Name of the input that is made of tiles."""
        return self.properties.input.name

    @property
    def batched(self) -> bool:
        """Whether the input has a batch axis."""
        return "batch" in self.properties.input.input.dim_order

    @property
    def batch(self) -> int | None:
        """Most tiles of a call: the size of the batch axis, 1 without one, None for any."""
        size = self.properties.input.input.size_of("batch") if self.batched else 1
        return None if size == -1 else size

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs that are decoded; none for the model's only one."""
        names = self._output_names().values()
        return tuple(name for name in names if name is not None)

    def for_image(self, image: Image, tile_size: int) -> Description:
        """The description with its bands looked up in an image, whose tiles are known to fit.

        Args:
            image: Whose tiles the model will see.
            tile_size: Pixels of a tile's side, before an edge of the image cuts it.

        Raises:
            RequestError: The image lacks a band, has pixels of another type, or tiles of a size
                that the model does not take.
        """
        bands = choose_bands(self.properties, image.bands, image.colours, image.alpha)
        check_type(self.properties, np.dtype(image.dtype))
        place = self._place(min(tile_size, image.width), min(tile_size, image.height))
        dtype = np.dtype(self.properties.input.input.data_type)
        size = place.canvas[0] * place.canvas[1] * len(bands) * dtype.itemsize
        if size * (self.batch or 1) > _MOST_BYTES:
            raise RequestError(
                f"{self.uri}: mlm:input[0].input.shape: an input of {place.canvas[0]} × "
                f"{place.canvas[1]} pixels, {len(bands)} × {dtype}, {self.batch or 1} at a "
                f"time, takes {size * (self.batch or 1) / 1e6:.0f} MB, more than the "
                f"{_MOST_BYTES / 1e6:.0f} MB that fit in a run's memory; give smaller ones."
            )
        return replace(self, bands=bands, tile_bytes=size)

    def prepare(self, tile: TilePixels) -> Prepared:
        """A tile as the model takes it.

        Raises:
            RequestError: The tile lacks a band, or has a type or size that the model does not take.
        """
        count, height, width = tile.pixels.shape
        check_type(self.properties, tile.pixels.dtype)
        bands = self.bands
        if bands is None:
            bands = choose_bands(self.properties, count, (), None)
        place = self._place(width, height)
        return Prepared(make_tensor(self.properties, tile.pixels, bands, place), place)

    def inputs(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """The tensors of a call, by name of the model's inputs.

        A batch axis of a fixed size is filled up with zeros. One tile alone is not copied.

        Args:
            prepared: 1 to `batch` tiles, of one size.
        """
        first = prepared[0].tensor
        if not self.batched:
            batch = first
        elif len(prepared) == (self.batch or 1) == 1:
            batch = first[np.newaxis]
        else:
            batch = np.zeros((self.batch or len(prepared), *first.shape), first.dtype)
            np.stack([each.tensor for each in prepared], out=batch[: len(prepared)])
        named = {self.properties.input.name: batch}
        if (size_input := self.properties.detector.size_input) is not None:
            named[size_input] = np.tile(
                np.array(prepared[0].placement.canvas, np.int64), (len(batch), 1)
            )
        return named

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], prepared: Sequence[Prepared]
    ) -> list[Boxes]:
        """The boxes in a model's outputs, for each tile of a call.

        Args:
            outputs: By name, batch axis first; what follows the last tile is left out.
            prepared: The tiles, in the order of the batch.

        Returns:
            For each tile its boxes in pixels of the tile, corner-origin, not clipped.

        Raises:
            AnswerError: An output is missing, has another shape than its decoder knows, or scores
                that are no numbers.
        """
        detector, classes = self.properties.detector, self.properties.classes
        tensors = detector.tensors(outputs, self._output_names(), len(prepared))
        found = detector.decode(tensors, classes, prepared[0].placement.canvas)
        return [
            replace(boxes, boxes=tile.to_tile(boxes.boxes))
            for boxes, tile in zip(found, prepared, strict=True)
        ]

    def _output_names(self) -> dict[str, str | None]:
        declared = [output.name for output in self.properties.outputs]
        return self.properties.detector.output_names(declared)

    def _place(self, width: int, height: int) -> Placement:
        given, detector = self.properties.input, self.properties.detector
        size = given.input.size_of("width"), given.input.size_of("height")
        return place(
            (width, height),
            None if -1 in size else size,
            given.resize_type,
            detector.letterbox,
            detector.stride,
        )
