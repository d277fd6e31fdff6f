"""The mean and deviation of the background of every pixel, for detecting bright targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELL = 32  # side in pixels of a cell for order statistics
REACH = 2  # a cell takes the level of the darkest cell up to this many cells away
CENSOR = 3.5  # a pixel this many standard deviations above the mean is not background
BLOCK = 8  # side in pixels of the blocks that make up the ring
GUARD = 24  # side in pixels of the guard window
RING = 72  # side in pixels of the background window
ENOUGH = 0.02  # fraction of the window that must be background for its moments to be used
COAST = 1.25  # maximum ratio of the ring's deviation to the cell's, as a coast may cross the ring
FLOOR = 0.02  # minimum deviation as a fraction of the mean, for quantised or synthetic pixels

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """The background of each pixel, or of each cell in intermediate results.

    Attributes:
        mean: (height, width), in the unit of the pixels.
        deviation: (height, width), standard deviation in the same unit, above 0.
    """

    mean: Plane
    deviation: Plane


def background(intensity: Plane, valid: NDArray[np.bool_]) -> Background:
    """Mean and deviation of the background in a ring around each pixel, targets excluded.

    Both are constant within a block of `BLOCK` × `BLOCK` pixels.

    Args:
        intensity: (height, width) float32; values that are not valid are ignored.
        valid: (height, width), False at nodata; at least one pixel is True.
    """
    height, width = intensity.shape
    padding = ((0, -height % CELL), (0, -width % CELL))
    rough = _from_cells(np.pad(np.where(valid, intensity, np.inf), padding, constant_values=np.inf))
    residual = np.pad(intensity, padding) - _enlarged(rough.mean, CELL)
    clear = np.pad(valid, padding) & (residual < _enlarged(CENSOR * rough.deviation, CELL))
    residual *= clear
    rough = Background(
        *(_enlarged(plane, CELL // BLOCK) for plane in (rough.mean, rough.deviation))
    )
    count = _ring(clear)
    safe = np.maximum(count, ENOUGH * RING**2)
    shift = _ring(residual) / safe
    spread = np.sqrt(np.maximum(_ring(residual * residual) / safe - shift * shift, 0))
    spread = np.minimum(spread, COAST * rough.deviation)
    trusted = count >= ENOUGH * RING**2
    mean = np.where(trusted, rough.mean + shift, rough.mean)
    deviation = _floored(np.where(trusted, spread, rough.deviation), mean)
    mean, deviation = (_enlarged(plane, BLOCK)[:height, :width] for plane in (mean, deviation))
    return Background(mean, deviation)


def _enlarged(plane: Plane, times: int) -> Plane:
    """A plane with each value repeated over `times` × `times` pixels."""
    return plane.repeat(times, axis=0).repeat(times, axis=1)


def _ring(plane: NDArray[Any]) -> Plane:
    """Sums over the background window minus the guard window, around every block."""
    height, width = plane.shape
    lines = np.add.reduceat(plane, np.arange(0, width, BLOCK), axis=1, dtype=np.float32)
    blocks = np.add.reduceat(lines, np.arange(0, height, BLOCK), axis=0)
    outer, guard = (
        ndimage.uniform_filter(blocks, side // BLOCK, mode="constant") * (side // BLOCK) ** 2
        for side in (RING, GUARD)
    )
    ring: Plane = outer - guard
    return ring


def _from_cells(padded: Plane) -> Background:
    """A first estimate per cell, from its darkest quarter: up to 3/4 of the cell may be targets.

    For Gaussian clutter of deviation s, the quantiles 5 % and 25 % lie 0.970 s apart, the latter
    0.674 s below the mean. Each cell takes the darkest level among itself and its neighbours: at a
    coast, the level of the sea.

    Args:
        padded: (rows, columns) of whole cells; infinite where there is no data.
    """
    rows, columns = padded.shape[0] // CELL, padded.shape[1] // CELL
    cells = padded.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows, columns, -1)
    ordered = np.sort(cells, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)
    dark, level = (
        np.take_along_axis(ordered, (count * share).astype(np.intp)[..., None], -1)[..., 0]
        for share in (0.05, 0.25)
    )
    deviation: Plane = np.subtract(level, dark, out=np.zeros_like(level), where=count > 0)
    level, deviation = _darkest(level, deviation / np.float32(0.970))
    mean: Plane = level + np.float32(0.674) * deviation
    return Background(mean, _floored(deviation, mean))


def _darkest(level: Plane, deviation: Plane) -> tuple[Plane, Plane]:
    """Level and deviation of the darkest among each cell and its neighbours within `REACH`."""
    windows, side = np.lib.stride_tricks.sliding_window_view, 2 * REACH + 1
    levels = windows(np.pad(level, REACH, constant_values=np.inf), (side, side))
    deviations = windows(np.pad(deviation, REACH), (side, side))
    levels, deviations = (plane.reshape(*level.shape, -1) for plane in (levels, deviations))
    first = np.argmin(levels, axis=-1)[..., None]
    chosen = np.take_along_axis(levels, first, -1)[..., 0]
    empty = ~np.isfinite(chosen)  # only nodata, where nothing is compared
    return np.where(empty, 0, chosen), np.take_along_axis(deviations, first, -1)[..., 0]


def _floored(deviation: Plane, mean: Plane) -> Plane:
    """The deviations, raised to a lower limit so that constant pixels do not give 0."""
    smallest = np.finfo(np.float32).tiny
    floored: Plane = np.maximum(deviation, np.maximum(FLOOR * np.abs(mean), smallest))
    return floored
