"""Drops the detections of a tile that lie wholly where the image holds no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.imagery import TilePixels
from tasks.results.detections import boxes


@dataclass(frozen=True, slots=True)
class ValidPixels:
    """Which pixels of a tile hold data, a bit for each.

    Attributes:
        bits: The rows one after the other, as `np.packbits` packs them.
        shape: Rows and columns.
    """

    bits: NDArray[np.uint8]
    shape: tuple[int, int]

    @classmethod
    def of(cls, tile: TilePixels) -> Self | None:
        """Those of a tile; None if all its pixels hold data."""
        valid = tile.valid
        if valid is None or valid.all():
            return None
        return cls(np.packbits(valid), valid.shape)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(rows, columns) True for pixels with data."""
        rows, columns = self.shape
        flat = np.unpackbits(self.bits, count=rows * columns)
        return flat.view(np.bool_).reshape(self.shape)


def drop_without_data(
    found: pa.Table | None, window: Window, valid: ValidPixels | None
) -> tuple[pa.Table | None, int]:
    """The detections of a tile that have at least a part of a pixel with data.

    Args:
        found: Table of `detections.SCHEMA`; None if it would be empty.
        window: The tile's window in the full image.
        valid: The tile's pixels with data; None if all hold some.

    Returns:
        The table without the others, None if it would be empty; and how many were dropped.
    """
    if found is None or valid is None:
        return found, 0
    mask = valid.mask
    corners = boxes(found) - np.tile([window.col_off, window.row_off], 2)
    counts, areas = _count(mask, corners)
    kept = counts > 0
    for row in np.flatnonzero(kept & (counts < areas)).tolist():
        outline = found["geometry"][row].as_py()
        if outline is not None:
            kept[row] = _meets(shapely.from_wkb(outline), mask, window)
    dropped = int(len(kept) - kept.sum())
    if not dropped:
        return found, 0
    return (found.filter(pa.array(kept)) if kept.any() else None), dropped


def _count(
    mask: NDArray[np.bool_], corners: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of pixels with data, and that of all pixels, that each box (n, 4) touches."""
    low, high = _touched(mask, corners)
    sums = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    sums[1:, 1:] = mask.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    (left, top), (right, bottom) = low.T, high.T
    counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return counts, (right - left) * (bottom - top)


def _meets(geometry: Any, mask: NDArray[np.bool_], window: Window) -> bool:  # noqa: ANN401 - shapely
    """Whether a geometry, in pixels of the full image, touches a pixel with data of a tile."""
    outline = shapely.transform(geometry, lambda points: points - [window.col_off, window.row_off])
    (low,), (high,) = _touched(mask, shapely.bounds([outline]))
    part = mask[low[1] : high[1], low[0] : high[0]]
    changes = np.diff(np.pad(part, ((0, 0), (1, 1))).astype(np.int8))
    rows, first = np.nonzero(changes == 1)  # of each run of pixels with data in a row
    after = np.nonzero(changes == -1)[1]
    left, top, right = low[0] + first, low[1] + rows, low[0] + after
    shapely.prepare(outline)
    return bool(shapely.intersects(outline, shapely.box(left, top, right, top + 1)).any())


def _touched(
    mask: NDArray[np.bool_], corners: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first column and row (n, 2) that each box (n, 4) touches, and those after its last."""
    size = np.array(mask.shape[::-1])
    low = np.clip(np.floor(corners[:, :2]).astype(np.int64), 0, size - 1)
    return low, np.clip(np.ceil(corners[:, 2:]).astype(np.int64), low + 1, size)
