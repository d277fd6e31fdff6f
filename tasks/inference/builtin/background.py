"""The background that a bright target is compared with: mean and deviation around every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELL = 32  # pixels of a cell's side for order statistics
REACH = 2  # cells to every side among which the darkest is believed
CENSOR = 3.5  # standard deviations beyond which a pixel is no background
BLOCK = 8  # pixels of the blocks that the ring is made of
GUARD = 24  # pixels of the guard window's side
RING = 72  # pixels of the background window's side
ENOUGH = 0.02  # of the window's pixels that must be background, to trust its moments
COAST = 1.25  # times the cell's own deviation: a ring over a coast is no measure of the sea
FLOOR = 0.02  # of the mean, below which no deviation is believed: quantised or synthetic pixels

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """What surrounds each pixel (or, on the way to it, each cell).

    Attributes:
        mean: (height, width), in the pixels' unit.
        deviation: (height, width), standard deviation in the same unit, over 0.
    """

    mean: Plane
    deviation: Plane


def background(intensity: Plane, valid: NDArray[np.bool_]) -> Background:
    """Mean and deviation of the background in a ring around each pixel, targets censored.

    They are the same for the pixels of a block of `BLOCK` × `BLOCK`.

    Args:
        intensity: (height, width) float32; its values where not valid do not matter.
        valid: (height, width), False at nodata; True somewhere.
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
    """A plane with each of its values over `times` × `times` pixels."""
    return plane.repeat(times, axis=0).repeat(times, axis=1)


def _ring(plane: NDArray[Any]) -> Plane:
    """Sums over the background window less its guard window, around every block."""
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
    """A first background, of each cell, from its darker quarter: up to 3/4 may be targets.

    For Gaussian clutter of deviation s, the quantiles 5 % and 25 % lie 0.970 s apart, the latter
    0.674 s below the mean. Each cell takes the darkest level among itself and its neighbours: at a
    coast, the sea's.

    Args:
        padded: Pixels of whole cells; infinite where there are no data.
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
    empty = ~np.isfinite(chosen)  # nodata alone, where nothing will be compared
    return np.where(empty, 0, chosen), np.take_along_axis(deviations, first, -1)[..., 0]


def _floored(deviation: Plane, mean: Plane) -> Plane:
    """Deviations that flat pixels cannot bring to 0."""
    smallest = np.finfo(np.float32).tiny
    floored: Plane = np.maximum(deviation, np.maximum(FLOOR * np.abs(mean), smallest))
    return floored
