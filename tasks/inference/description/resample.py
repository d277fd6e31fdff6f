"""Resizes a band as OpenCV does: pixel areas aligned, edges replicated, no antialiasing.

Where pixels hold no data, their edge is replicated too: a pixel with data never takes a share of
the fill value, which along a collar would make steps, and with cubic kernels bright seams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_CHUNK = 24_000  # values resized at a time, so that temporaries stay in the CPU cache


@dataclass(frozen=True, slots=True)
class _Taps:
    """The filter taps of each pixel of a resized line.

    Attributes:
        sources: (taps, pixels), indices of pixels of the source line.
        weights: (taps, pixels); the weights of a pixel add up to 1.
    """

    sources: NDArray[np.intp]
    weights: NDArray[np.float32]


def resize(
    band: NDArray[Any],
    size: tuple[int, int],
    method: str,
    box: tuple[float, float, float, float] | None = None,
) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Resize a band, a few rows at a time.

    Args:
        band: (rows, columns) of any real dtype.
        size: Width and height of the result.
        method: The last part of MLM's `interpolation-…`: nearest, linear, cubic, area or lanczos4.
        box: Left, top, width and height of the part of the band that is resized, in pixels and
            parts of them; None for all of it.

    Yields:
        A slice of the result's rows, and their values (rows, columns) in floating point.
    """
    columns, rows = _both_taps(method, band, size, box)
    height = max(1, _CHUNK // max(size[0], band.shape[1]))
    for first in range(0, size[1], height):
        part = slice(first, min(first + height, size[1]))
        tall = _Taps(rows.sources[:, part], rows.weights[:, part, np.newaxis])
        yield part, _blend(_blend(band, tall, axis=0), columns, axis=1)


@dataclass(frozen=True, slots=True)
class Validity:
    """Which pixels of a tile hold data, to resize its bands.

    Attributes:
        mask: (rows, columns) True for pixels with data; at least one is.
        nearest: (2, rows, columns), row and column of the nearest pixel with data.
    """

    mask: NDArray[np.bool_]
    nearest: NDArray[np.int32]

    @classmethod
    def of(cls, mask: NDArray[np.bool_]) -> Self:
        """That of a mask."""
        # late: SciPy takes long to load, and most images need none of it
        from scipy.ndimage import distance_transform_edt  # noqa: PLC0415

        nearest = distance_transform_edt(~mask, return_distances=False, return_indices=True)
        return cls(mask, nearest)

    def resize(
        self,
        band: NDArray[Any],
        size: tuple[int, int],
        method: str,
        box: tuple[float, float, float, float] | None = None,
    ) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Resize a band, as `resize` does, from its pixels with data alone.

        A pixel of the result holds data if the nearest pixel of the band does. All others have that
        pixel's own value.

        Args:
            band: (rows, columns) of any real dtype; pixels without data hold the fill value.
            size: Width and height of the result.
            method: As of `resize`.
            box: As of `resize`.
        """
        nearest = nearest_pixels(band, size, box)
        for part, values in resize(band[*self.nearest], size, method, box):
            own = nearest[0][part], nearest[1]
            yield part, np.where(self.mask[own], values, band[own])


def nearest_pixels(
    band: NDArray[Any],
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The row (rows, 1) and the column (1, columns) of a band nearest to each pixel of a result.

    Args:
        band: (rows, columns).
        size: Width and height of the result.
        box: As of `resize`.
    """
    columns, rows = _both_taps("nearest", band, size, box)
    return _only(rows)[:, np.newaxis], _only(columns)[np.newaxis]


def _both_taps(
    method: str,
    band: NDArray[Any],
    size: tuple[int, int],
    box: tuple[float, float, float, float] | None,
) -> tuple[_Taps, _Taps]:
    """The taps along a row and along a column."""
    height, width = band.shape
    left, top, wide, high = box or (0, 0, width, height)
    return (
        _taps(method, width, size[0], float(left), float(wide)),
        _taps(method, height, size[1], float(top), float(high)),
    )


def _only(taps: _Taps) -> NDArray[np.intp]:
    """(pixels,) the one pixel of the source that each pixel is taken from."""
    only: NDArray[np.intp] = np.take_along_axis(
        taps.sources, taps.weights.argmax(axis=0)[np.newaxis], 0
    )[0]
    return only


def _blend(values: NDArray[Any], taps: _Taps, axis: int) -> NDArray[Any]:
    total: NDArray[Any] = np.take(values, taps.sources[0], axis) * taps.weights[0]
    for sources, weights in zip(taps.sources[1:], taps.weights[1:], strict=True):
        total += np.take(values, sources, axis) * weights
    return total


@lru_cache(32)
def _taps(method: str, source: int, target: int, start: float, extent: float) -> _Taps:
    """The taps of `target` pixels that take up `extent` pixels of a line of `source`."""
    if method == "area" and target < extent:
        edges = start + np.arange(target + 1) * (extent / target)
        sources = edges[:-1].astype(int) + np.arange(int(np.ceil(extent / target)) + 1)[:, None]
        weights = np.minimum(edges[1:], sources + 1) - np.maximum(edges[:-1], sources)
        weights = np.clip(weights, 0, None)
    else:  # OpenCV enlarges linearly for "area"
        radius, kernel = _KERNELS.get(method, _KERNELS["linear"])
        centres = start + (np.arange(target) + 0.5) * (extent / target) - 0.5
        sources = np.floor(centres).astype(int) + np.arange(1 - radius, 1 + radius)[:, None]
        weights = kernel(centres - sources)
    weights = np.where(np.isclose(weights, 0), 0.0, weights)
    weights /= weights.sum(axis=0)
    return _Taps(np.clip(sources, 0, source - 1), weights.astype(np.float32))


def _nearest(distance: Floats) -> Floats:
    return ((distance >= -0.5) & (distance < 0.5)).astype(float)


def _linear(distance: Floats) -> Floats:
    weights: Floats = np.clip(1 - np.abs(distance), 0, None)
    return weights


def _cubic(distance: Floats) -> Floats:
    """Cubic convolution (Keys, 1981) with a = −0.75, as OpenCV."""
    a, x = -0.75, np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    weights: Floats = np.where(x <= 1, near, np.where(x < 2, far, 0.0))
    return weights


def _lanczos4(distance: Floats) -> Floats:
    weights: Floats = np.sinc(distance) * np.sinc(distance / 4) * (np.abs(distance) < 4)
    return weights


_KERNELS: dict[str, tuple[int, Callable[[Floats], Floats]]] = {
    "nearest": (1, _nearest),
    "linear": (1, _linear),
    "cubic": (2, _cubic),
    "lanczos4": (4, _lanczos4),
}
"""Radius in source pixels, and the weight of a pixel by the distance from its centre."""
