"""Random textures of a scene; a pixel's value does not depend on the strip it is computed in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]


def periodic(
    random: np.random.Generator,
    period: int,
    amplitude: Callable[[Plane, Plane], NDArray[np.floating]],
) -> Plane:
    """A Gaussian random field of mean 0 and deviation 1 that repeats seamlessly.

    Args:
        random: Random generator of its phases.
        period: Pixels after which it repeats, in both directions.
        amplitude: The spectrum: amplitude at wavenumbers kx, ky in cycles per pixel.

    Returns:
        float32 (period, period).
    """
    ky = np.fft.fftfreq(period).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(period).astype(np.float32)[None]
    spectrum = np.fft.rfft2(random.standard_normal((period, period)))
    shaped = spectrum * amplitude(kx, ky)
    shaped[0, 0] = 0
    field = np.fft.irfft2(shaped, s=(period, period))
    unit: Plane = (field / field.std()).astype(np.float32)
    return unit


def repeated(texture: Plane, size: int) -> Plane:
    """A periodic texture over the width of an image: (period, size)."""
    wide: Plane = np.tile(texture, (1, -(-size // len(texture))))[:, :size]
    return np.ascontiguousarray(wide)


def stretched(field: Plane, size: int) -> Plane:
    """A coarse square field (m, m) that spans an image, interpolated in x alone: (m, size)."""
    low, share = _between(np.arange(size), len(field), size)
    wide: Plane = field[:, low] + (field[:, low + 1] - field[:, low]) * share
    return wide


def strip(wide: Plane, top: int, rows: int) -> Plane:
    """Rows `top` to `top + rows` of a `repeated` texture, (rows, size)."""
    return wide[np.arange(top, top + rows) % len(wide)]


def smooth(wide: Plane, top: int, rows: int) -> Plane:
    """Rows `top` to `top + rows` of a `stretched` field, interpolated in y, (rows, size)."""
    low, share = _between(np.arange(top, top + rows), *wide.shape)
    lines = wide[low + 1]
    lines -= wide[low]
    lines *= share[:, None]
    lines += wide[low]
    return lines


def _between(pixels: NDArray[np.intp], cells: int, size: int) -> tuple[NDArray[np.intp], Plane]:
    """Of each pixel: index of the cell before it, and its distance to that cell, 0 to 1."""
    positions = np.clip((pixels + 0.5) * cells / size - 0.5, 0, cells - 1)
    low = np.minimum(positions.astype(np.intp), cells - 2)
    return low, (positions - low).astype(np.float32)
