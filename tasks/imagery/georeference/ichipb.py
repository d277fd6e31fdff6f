"""Where a chip lies in the full image it was cut from: NITF's ICHIPB (STDI-0002, Volume 1, App. B).

Support data such as RPC00B stay those of the full image; ICHIPB leads there from a chip's pixels.
Its coordinates are ours: corner-origin, the centre of the first pixel is 0.5, 0.5.
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
_TURNED = 0.01  # pixels; the record holds thousandths
_GRID = slice(16, 16 + 16 * 12)  # OP_ROW_11 to FI_COL_22, 12 bytes each


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """A chip, by the grid of its corner pixels' centres.

    Attributes:
        scale: SCALE_FACTOR (full-image pixels a pixel) and ANAMRPH_CORR, as the record has them.
        corners: (4, 2) x, y in the chip: first and last column of its first row, then of its last.
        full_corners: (4, 2) x, y of the same places in the full image.
        full_size: Width and height of the full image in pixels.
    """

    scale: str
    corners: Points
    full_corners: Points
    full_size: tuple[int, int]

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Self:
        """An image of a width and height that is no chip of another."""
        corners = _corners(*size)
        return cls("0001.0000000", corners, corners, size)

    @classmethod
    def parse(cls, record: str) -> Self | None:
        """The chip of an ICHIPB record, or None where it says nothing (XFRM_FLAG) or is broken."""
        text = record[_GRID]
        try:
            if len(record) != _LENGTH or int(record[:2]) != 0:
                return None
            numbers = [float(text[at : at + 12]) for at in range(0, len(text), 12)]
            grid = np.array(numbers).reshape(2, 4, 2)[..., ::-1]  # rows stand before columns
            full_size = int(record[216:]), int(record[208:216])
        except ValueError:
            return None
        rectangle = (grid[0, 3] > grid[0, 0]).all()  # else there is nothing to measure by
        known = rectangle and np.isfinite(grid).all()
        return cls(record[2:14], grid[0], grid[1], full_size) if known else None

    def window(self, window: Window) -> Chip:
        """The chip that a window of this one is."""
        corners = _corners(window.width, window.height)
        there = corners + np.array([window.col_off, window.row_off], float)
        return Chip(self.scale, corners, self.to_full(there), self.full_size)

    def to_full(self, points: Points) -> Points:
        """Pixels (n, 2) of the full image for pixels of the chip: bilinear between the corners."""
        u, v = ((points - self.corners[0]) / (self.corners[3] - self.corners[0])).T
        weights = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], axis=1)
        return weights @ self.full_corners

    def rpcs(self, rpcs: RPC) -> RPC | None:
        """The full image's RPC for the pixels of the chip, or None where the chip is turned."""
        (left, top), (right, _), _, (_, bottom) = self.full_corners.tolist()
        straight = [[left, top], [right, top], [left, bottom], [right, bottom]]
        scale = (self.full_corners[3] - self.full_corners[0]) / (self.corners[3] - self.corners[0])
        if scale.min() <= 0 or np.abs(self.full_corners - straight).max() > _TURNED:
            return None
        origin = self.full_corners[0] - self.corners[0] * scale
        return moved(rpcs, *origin.tolist(), *scale.tolist())

    def record(self) -> str:
        """The 224 characters of its ICHIPB record."""
        grid = np.stack([self.corners, self.full_corners])[..., ::-1].ravel()
        width, height = self.full_size
        places = "".join(f"{place:012.3f}" for place in grid.tolist())
        return f"00{self.scale}00{places}{height:08d}{width:08d}"


def moved(rpcs: RPC, x: float, y: float, x_scale: float = 1, y_scale: float = 1) -> RPC:
    """RPC for pixels whose origin lies at pixel x, y, and that are larger by the scales."""
    # RPC count from the centre of the first pixel, x and y from its corner.
    there = copy(rpcs)
    there.samp_off = (rpcs.samp_off + 0.5 - x) / x_scale - 0.5
    there.line_off = (rpcs.line_off + 0.5 - y) / y_scale - 0.5
    there.samp_scale = rpcs.samp_scale / x_scale
    there.line_scale = rpcs.line_scale / y_scale
    return there


def _corners(width: int, height: int) -> Points:
    """Centres of an image's corner pixels (4, 2): first and last column, row by row.

    Across a single row or column they are its edges: two places that agree would tell nothing.
    """
    left, right = (0.5, width - 0.5) if width > 1 else (0.0, 1.0)
    top, bottom = (0.5, height - 0.5) if height > 1 else (0.0, 1.0)
    return np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
