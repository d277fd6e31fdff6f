"""The background that a bright target is compared with: mean and deviation around every pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

CELL = 32  # pixels of a cell's side for order statistics
REACH = 2  # cells to every side among which the darkest is believed
CENSOR = 3.5  # standard deviations beyond which a pixel is no background
GUARD = 25  # pixels of the guard window's side
RING = 65  # pixels of the background window's side
ENOUGH = 0.02  # of the window's pixels that must be background, to trust its moments
COAST = 1.25  # times the cell's own deviation: a ring over a coast is no measure of the sea
FLOOR = 0.02  # of the mean, below which no deviation is believed: quantised or synthetic pixels

Plane = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Background:
    """What surrounds each pixel.

    Attributes:
        mean: (height, width), in the pixels' unit.
        deviation: (height, width), standard deviation in the same unit, over 0.
    """

    mean: Plane
    deviation: Plane


def background(intensity: Plane, valid: NDArray[np.bool_]) -> Background:
    """Mean and deviation of the background in a ring around each pixel, targets censored.

    Args:
        intensity: (height, width) float32; its values where not valid do not matter.
        valid: (height, width), False at nodata; True somewhere.
    """
    rough = _from_cells(intensity, valid)
    residual = np.where(valid, intensity - rough.mean, 0)
    clear = valid & (residual < CENSOR * rough.deviation)
    residual *= clear
    count = _ring(clear.astype(np.float32))
    safe = np.maximum(count, ENOUGH * RING**2)
    shift = _ring(residual) / safe
    spread = np.sqrt(np.maximum(_ring(residual * residual) / safe - shift * shift, 0))
    trusted = count >= ENOUGH * RING**2
    mean = np.where(trusted, rough.mean + shift, rough.mean)
    spread = np.minimum(spread, COAST * rough.deviation)
    deviation = np.where(trusted, spread, rough.deviation)
    return Background(mean, _floored(deviation, mean))


def _ring(plane: Plane) -> Plane:
    """Sums over the background window less its guard window, around every pixel."""
    outer, guard = (
        ndimage.uniform_filter(plane, side, mode="constant") * np.float32(side**2)
        for side in (RING, GUARD)
    )
    ring: Plane = outer - guard
    return ring


def _from_cells(intensity: Plane, valid: NDArray[np.bool_]) -> Background:
    """A first background from the darker quarter of each cell, so that up to 3/4 may be targets.

    For Gaussian clutter of deviation s, the quantiles 5 % and 25 % lie 0.970 s apart, the latter
    0.674 s below the mean. Each cell takes the darkest level among itself and its neighbours: at a
    coast, the sea's.
    """
    height, width = intensity.shape
    rows, columns = -(-height // CELL), -(-width // CELL)
    padded = np.full((rows * CELL, columns * CELL), np.inf, dtype=np.float32)
    padded[:height, :width] = np.where(valid, intensity, np.inf)
    cells = padded.reshape(rows, CELL, columns, CELL).swapaxes(1, 2).reshape(rows, columns, -1)
    ordered = np.sort(cells, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)
    dark, level = (
        np.take_along_axis(ordered, (count * share).astype(np.intp)[..., None], -1)[..., 0]
        for share in (0.05, 0.25)
    )
    deviation = np.subtract(level, dark, out=np.zeros_like(level), where=count > 0) / 0.970
    level, deviation = _darkest(level, deviation)
    mean = level + 0.674 * deviation
    deviation = _floored(deviation, mean)
    mean, deviation = (
        plane.repeat(CELL, 0).repeat(CELL, 1)[:height, :width] for plane in (mean, deviation)
    )
    return Background(mean, deviation)


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
