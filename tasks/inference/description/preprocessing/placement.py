"""The placement of a tile in the model's input: resized, padded, or unchanged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.inference.answer.boxes import clip_boxes
from tasks.inference.description.head import Letterbox


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tile lies in the model's input; sizes are width and height in pixels.

    Attributes:
        tile: Size of the tile.
        content: Size that the tile is resized to.
        canvas: Size of the input, padding included.
        left: Padding to the left of the content.
        top: Padding above the content.
    """

    tile: tuple[int, int]
    content: tuple[int, int]
    canvas: tuple[int, int]
    left: int = 0
    top: int = 0

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input per pixel of the tile, in x and y."""
        return self.content[0] / self.tile[0], self.content[1] / self.tile[1]

    @property
    def padded(self) -> bool:
        """Whether a part of the input is padding."""
        return self.content != self.canvas

    def to_tile(self, boxes: NDArray[np.floating]) -> NDArray[np.float64]:
        """Transform boxes (n, 4), corner-origin, from pixels of the input to pixels of the tile."""
        offset = np.array((self.left, self.top) * 2, np.float64)
        scale = np.array(self.scale * 2, np.float64)
        boxes_in_tile: NDArray[np.float64] = (boxes - offset) / scale
        return boxes_in_tile

    def outlines_to_tile(self, outlines: NDArray[np.object_]) -> NDArray[np.object_]:
        """Transform geometries (n,), corner-origin, from pixels of the input to those of the tile.

        Points are transformed as the corners of boxes are.
        """
        moved: NDArray[np.object_] = shapely.transform(
            outlines, lambda points: self.to_tile(np.tile(points, 2))[:, :2]
        )
        return moved

    def only_in_padding(
        self, boxes: NDArray[np.floating], outlines: NDArray[np.object_] | None = None
    ) -> NDArray[np.bool_]:
        """(n,) True for detections, in pixels of the input, that lie only in its padding.

        A model cannot distinguish padding from pixels, so these are not errors of the model. Those
        that lie outside the whole input, are not ordered or are not finite are errors.

        Args:
            boxes: (n, 4).
            outlines: (n,) polygons within the boxes; None for models without.
        """
        if not self.padded:
            return np.zeros(len(boxes), bool)
        _, in_input = clip_boxes(boxes.astype(np.float64), Window(0, 0, *self.canvas))
        _, in_tile = clip_boxes(self.to_tile(boxes), Window(0, 0, *self.tile))
        if outlines is not None:
            rows = np.flatnonzero(in_input & in_tile)
            right, bottom = self.left + self.content[0], self.top + self.content[1]
            content = shapely.box(self.left, self.top, right, bottom)
            in_tile[rows] = shapely.intersects(outlines[rows], content)
            in_tile[rows] &= ~shapely.touches(outlines[rows], content)
        only_padding: NDArray[np.bool_] = in_input & ~in_tile
        return only_padding


def place_tile(
    tile: tuple[int, int],
    size: tuple[int, int] | None,
    resize_type: str | None,
    letterbox: Letterbox | None,
    stride: int,
) -> Placement:
    """The placement of a tile.

    Args:
        tile: Width and height of the tile in pixels.
        size: Width and height of the model's input in pixels. None if it takes any size: the input
            then has the tile's size, padded to a multiple of `stride`.
        resize_type: MLM's `pad` or `interpolation-…`; None if tiles must have the size of the
            input.
        letterbox: Keep the aspect ratio, with padding to the right and below (`corner`, as YOLOX)
            or on all sides (`centre`, as Ultralytics); None stretches the tile.
        stride: The number of pixels to a multiple of which an input of any size is padded.

    Raises:
        RequestError: The tile has another size than the input, and `resize_type` does not say how
            to resize it.
    """
    if size is None:
        canvas = -(-tile[0] // stride) * stride, -(-tile[1] // stride) * stride
        content = tile
    else:
        canvas = size
        content = _content_size(tile, size, resize_type, letterbox)
    if letterbox == "centre":
        left, top = (canvas[0] - content[0]) // 2, (canvas[1] - content[1]) // 2
        return Placement(tile, content, canvas, left, top)
    return Placement(tile, content, canvas)


def _content_size(
    tile: tuple[int, int],
    size: tuple[int, int],
    resize_type: str | None,
    letterbox: Letterbox | None,
) -> tuple[int, int]:
    if resize_type is not None and resize_type.startswith("interpolation-"):
        if letterbox is None:
            return size
        ratio = min(size[0] / tile[0], size[1] / tile[1])
        return max(1, round(tile[0] * ratio)), max(1, round(tile[1] * ratio))
    fits = tile[0] <= size[0] and tile[1] <= size[1]
    if tile != size and not (fits and resize_type == "pad"):
        smaller_tiles = tile[0] >= size[0] and tile[1] >= size[1]
        remedies = [f"give imageProcessorTileSize {min(size)}"] if smaller_tiles else []
        remedies.append('set resize_type to "interpolation-linear"' + (' or "pad"' if fits else ""))
        raise RequestError(
            f"mlm:input[0].resize_type: is {resize_type or 'null'}, and tiles of {tile[0]} × "
            f"{tile[1]} pixels do not have the size of the model's input, {size[0]} × {size[1]}; "
            f"{' or '.join(remedies)}."
        )
    return tile
