"""Where a tile lies in a model's input: scaled, padded, or as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tasks.errors import RequestError

Letterbox = Literal["corner", "centre"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a tile lies in a model's input; all in pixels, width before height.

    Attributes:
        tile: Size of the tile.
        content: Size that the tile is resized to.
        canvas: Size of the input.
        left: Padding before the content, in x.
        top: The same in y.
    """

    tile: tuple[int, int]
    content: tuple[int, int]
    canvas: tuple[int, int]
    left: int = 0
    top: int = 0

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the input that a pixel of the tile takes, in x and y."""
        return self.content[0] / self.tile[0], self.content[1] / self.tile[1]

    @property
    def padded(self) -> bool:
        """Whether the tile leaves a part of the input empty."""
        return self.content != self.canvas


def place(
    tile: tuple[int, int],
    size: tuple[int, int] | None,
    resize_type: str | None,
    letterbox: Letterbox | None,
    stride: int,
) -> Placement:
    """The placement of a tile.

    Args:
        tile: Width and height.
        size: Width and height of the model's input; None where it takes any, which is then the
            tile's, padded to whole strides.
        resize_type: MLM's: `pad`, `interpolation-…`, or None where tiles have to fit.
        letterbox: Keep the ratio of width to height, with padding after the content (`corner`, as
            YOLOX) or around it (`centre`, as Ultralytics); None stretches.
        stride: Pixels that a dynamic input is a multiple of.

    Raises:
        RequestError: The tile does not fit, and is not to be resized.
    """
    if size is None:
        canvas = -(-tile[0] // stride) * stride, -(-tile[1] // stride) * stride
        content = tile
    else:
        canvas = size
        content = _content(tile, size, resize_type, letterbox)
    if letterbox == "centre":
        left, top = (canvas[0] - content[0]) // 2, (canvas[1] - content[1]) // 2
        return Placement(tile, content, canvas, left, top)
    return Placement(tile, content, canvas)


def _content(
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
        remedies = f"give imageProcessorTileSize {min(size)}" if tile > size else ""
        resize = '"interpolation-linear"' + (' or "pad"' if fits else "")
        raise RequestError(
            f"mlm:input[0].resize_type: {resize_type} leaves tiles of {tile[0]} × {tile[1]} pixels "
            f"unlike the model's input of {size[0]} × {size[1]}; "
            + " or ".join(filter(None, [remedies, f"set resize_type to {resize}"]))
            + "."
        )
    return tile
