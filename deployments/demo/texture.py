"""Textures of a scene: random, yet the same at a pixel whichever strip it is computed in."""

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
        random: Source of its phases.
        period: Pixels after which it repeats, both ways.
        amplitude: Spectrum: amplitude at wavenumbers kx, ky in cycles per pixel.

    Returns:
        (period, period).
    """
    ky = np.fft.fftfreq(period).astype(np.float32)[:, None]
    kx = np.fft.rfftfreq(period).astype(np.float32)[None]
    spectrum = np.fft.rfft2(random.standard_normal((period, period)))
    shaped = spectrum * amplitude(kx, ky)
    shaped[0, 0] = 0
    field = np.fft.irfft2(shaped, s=(period, period))
    unit: Plane = (field / field.std()).astype(np.float32)
    return unit


def strip(texture: Plane, top: int, rows: int, columns: int) -> Plane:
    """The part of a periodic texture that covers rows `top` to `top + rows` of the image."""
    period = len(texture)
    lines = texture[np.arange(top, top + rows) % period]
    repeated: Plane = np.tile(lines, (1, -(-columns // period)))[:, :columns]
    return repeated


def smooth(field: Plane, top: int, rows: int, size: int) -> Plane:
    """A coarse square field, interpolated to rows `top` to `top + rows` of an image.

    Args:
        field: (m, m) values at cell centres that span the image.
        top: First row of the strip.
        rows: Rows of the strip.
        size: Pixels of the image's side.

    Returns:
        (rows, size).
    """
    last = len(field) - 1
    places = np.clip((np.arange(size, dtype=np.float32) + 0.5) * len(field) / size - 0.5, 0, last)
    low = np.minimum(places.astype(np.intp), last - 1)
    share = (places - low).astype(np.float32)
    y, v = low[top : top + rows], share[top : top + rows, None]
    lines = field[y] + (field[y + 1] - field[y]) * v
    left = lines[:, low]
    interpolated: Plane = left + (lines[:, low + 1] - left) * share
    return interpolated
