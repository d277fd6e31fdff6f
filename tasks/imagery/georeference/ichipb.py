"""The position of a chip in its full image: NITF's ICHIPB (STDI-0002, Volume 1, App. B).

Support data such as RPC00B describe the full image; ICHIPB converts pixels of a chip to pixels of
the full image.
Coordinates have their origin at the corner of the first pixel, whose centre is 0.5, 0.5.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Self

import numpy as np
from rasterio.rpc import RPC
from rasterio.windows import Window

from tasks.imagery.georeference.transformers import Points

_LENGTH = 224
_MAX_ROTATION = 0.01  # pixels; the record has a resolution of 0.001
_GRID = slice(16, 16 + 16 * 12)  # OP_ROW_11 to FI_COL_22, 12 bytes each


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """A chip, defined by the centres of its corner pixels.

    Attributes:
        scale: SCALE_FACTOR (full-image pixels per pixel) and ANAMRPH_CORR, as in the record.
        corners: (4, 2) x, y in the chip: first and last column of its first row, then of its last.
        full_corners: (4, 2) x, y of the same points in the full image.
        full_size: Width and height of the full image in pixels.
    """

    scale: str
    corners: Points
    full_corners: Points
    full_size: tuple[int, int]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Self:
        """A full image of a width and height, as a chip of itself."""
        corners = _corners(*size)
        return cls("0001.0000000", corners, corners, size)

    @classmethod
    def parse(cls, record: str) -> Self | None:
        """The chip of an ICHIPB record; None if it is invalid or holds no values (XFRM_FLAG)."""
        text = record[_GRID]
        try:
            if len(record) != _LENGTH or int(record[:2]) != 0:
                return None
            numbers = [float(text[at : at + 12]) for at in range(0, len(text), 12)]
            grid = np.array(numbers).reshape(2, 4, 2)[..., ::-1]  # rows come before columns
            full_size = int(record[216:]), int(record[208:216])
        except ValueError:
            return None
        rectangle = (grid[0, 3] > grid[0, 0]).all()  # otherwise the scale is undefined
        known = rectangle and np.isfinite(grid).all()
        return cls(record[2:14], grid[0], grid[1], full_size) if known else None

    def window(self, window: Window) -> Chip:
        """The chip for a window of this chip, as a part of the same full image."""
        corners = _corners(window.width, window.height)
        there = corners + np.array([window.col_off, window.row_off], float)
        return Chip(self.scale, corners, self.to_full(there), self.full_size)

    def to_full(self, points: Points) -> Points:
        """Convert pixels (n, 2) of the chip to pixels of the full image, bilinearly."""
        u, v = ((points - self.corners[0]) / (self.corners[3] - self.corners[0])).T
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], axis=1)
        return weights @ self.full_corners

    def rpcs(self, rpcs: RPC) -> RPC | None:
        """Adapt the full image's RPC to the pixels of the chip; None if the chip is rotated."""
        (left, top), (right, _), _, (_, bottom) = self.full_corners.tolist()
        unrotated = [[left, top], [right, top], [left, bottom], [right, bottom]]
        scale = (self.full_corners[3] - self.full_corners[0]) / (self.corners[3] - self.corners[0])
        if scale.min() <= 0 or np.abs(self.full_corners - unrotated).max() > _MAX_ROTATION:
            return None
        origin = self.full_corners[0] - self.corners[0] * scale
        return shifted_rpcs(rpcs, *origin.tolist(), *scale.tolist())

    def record(self) -> str:
        """The 224 characters of its ICHIPB record."""
        grid = np.stack([self.corners, self.full_corners])[..., ::-1].ravel()
        width, height = self.full_size
        numbers = "".join(f"{number:012.3f}" for number in grid.tolist())
        return f"00{self.scale}00{numbers}{height:08d}{width:08d}"


def shifted_rpcs(rpcs: RPC, x: float, y: float, x_scale: float = 1, y_scale: float = 1) -> RPC:
    """RPC for other pixels of the same image.

    Args:
        rpcs: RPC for the image's own pixels.
        x: Pixel of the image, corner-origin, at which the other pixels have their origin.
        y: The same in y.
        x_scale: Pixels of the image per other pixel in x.
        y_scale: The same in y.
    """
    # RPC have their origin at the centre of the first pixel, x and y at its corner.
    shifted = copy(rpcs)
    shifted.samp_off = (rpcs.samp_off + 0.5 - x) / x_scale - 0.5
    shifted.line_off = (rpcs.line_off + 0.5 - y) / y_scale - 0.5
    shifted.samp_scale = rpcs.samp_scale / x_scale
    shifted.line_scale = rpcs.line_scale / y_scale
    return shifted


def _corners(width: int, height: int) -> Points:
    """Centres of an image's corner pixels (4, 2): first and last column, row by row.

    For a single row or column the edges are used, as two equal points would not define a scale.
    """
    left, right = (0.5, width - 0.5) if width > 1 else (0.0, 1.0)
    top, bottom = (0.5, height - 0.5) if height > 1 else (0.0, 1.0)
    return np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
