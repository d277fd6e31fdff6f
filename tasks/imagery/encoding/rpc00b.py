"""Writes rational polynomial coefficients as NITF's record RPC00B (STDI-0002, Volume 1, App. E)."""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import NDArray
from rasterio.rpc import RPC


def rpc00b(rpcs: RPC) -> str:
    """The 1041 characters of the record.

    Its offsets and scales have few digits (integer lines, four decimals of latitude), so they are
    rounded, and the polynomials are transformed to the rounded values. The accuracy is then limited
    only by the seven digits of a coefficient.

    Args:
        rpcs: As GDAL gives them, with line and sample 0 at the centre of the first pixel.
    """
    fit = _fitted(rpcs)
    coefficients = (
        *(fit.line_num_coeff, fit.line_den_coeff),
        *(fit.samp_num_coeff, fit.samp_den_coeff),
    )
    return (
        f"1{_error(fit.err_bias)}{_error(fit.err_rand)}"
        f"{fit.line_off:06d}{fit.samp_off:05d}"
        f"{fit.lat_off:+08.4f}{fit.long_off:+09.4f}{fit.height_off:+05d}"
        f"{fit.line_scale:06d}{fit.samp_scale:05d}"
        f"{fit.lat_scale:+08.4f}{fit.long_scale:+09.4f}{fit.height_scale:+05d}"
    ) + "".join(_coefficient(number) for one in coefficients for number in one)


def _fitted(rpcs: RPC) -> RPC:
    """The same mapping, with offsets and scales that the record can store."""
    fit = copy(rpcs)
    fit.line_off, fit.line_scale = _integer(rpcs.line_off, 0, 999_999), _integer(rpcs.line_scale)
    fit.samp_off, fit.samp_scale = _integer(rpcs.samp_off, 0, 99_999), _integer(rpcs.samp_scale)
    fit.height_off = _integer(rpcs.height_off, -9999, 9999)
    fit.height_scale = _integer(rpcs.height_scale, 1, 9999)
    for name in ("lat_off", "long_off"):
        setattr(fit, name, round(getattr(rpcs, name), 4))
    for name in ("lat_scale", "long_scale"):
        setattr(fit, name, max(round(getattr(rpcs, name), 4), 1e-4))

    ground = np.random.default_rng(0).uniform(-1, 1, (3, 60))  # more points than terms
    off, scale = _normalised(rpcs)
    fit_off, fit_scale = _normalised(fit)
    # A cubic polynomial stays cubic when its variables are shifted and scaled.
    values = _terms((fit_off + ground * fit_scale - off) / scale)
    rewritten = np.linalg.lstsq(_terms(ground), values, rcond=None)[0]
    for axis in ("line", "samp"):
        numerator, denominator = (
            rewritten @ np.asarray(getattr(rpcs, f"{axis}_{part}_coeff"), float)
            for part in ("num", "den")
        )
        shift = getattr(rpcs, f"{axis}_off") - getattr(fit, f"{axis}_off")
        numerator = numerator * getattr(rpcs, f"{axis}_scale") + denominator * shift
        numerator /= getattr(fit, f"{axis}_scale")
        setattr(fit, f"{axis}_num_coeff", (numerator / denominator[0]).tolist())
        setattr(fit, f"{axis}_den_coeff", (denominator / denominator[0]).tolist())
    return fit


def _normalised(rpcs: RPC) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Offsets and scales (3, 1) of longitude, latitude and height."""
    off = [[rpcs.long_off], [rpcs.lat_off], [rpcs.height_off]]
    scale = [[rpcs.long_scale], [rpcs.lat_scale], [rpcs.height_scale]]
    return np.array(off, float), np.array(scale, float)


def _terms(ground: NDArray[np.float64]) -> NDArray[np.float64]:
    """The twenty terms (n, 20), in RPC00B's order, of normalised ground coordinates.

    Args:
        ground: (3, n) longitude, latitude, height, normalised to about -1 to 1.
    """
    ell, p, h = ground
    return np.stack(
        [
            *(np.ones_like(ell), ell, p, h, ell * p, ell * h, p * h, ell**2, p**2, h**2),
            *(p * ell * h, ell**3, ell * p**2, ell * h**2, ell**2 * p, p**3, p * h**2),
            *(ell**2 * h, p**2 * h, h**3),
        ],
        axis=1,
    )


def _integer(number: float, low: int = 1, high: int = 99_999) -> int:
    """The integer nearest to a number within the range of a field."""
    return min(max(round(number), low), high)


def _error(metres: float | None) -> str:
    """An error in metres; 0 if it is unknown, as the record has no other value for that."""
    known = metres is not None and 0 <= metres < 9999
    return f"{metres if known else 0:07.2f}"


def _coefficient(number: float) -> str:
    """A coefficient as ±d.ddddddE±d; 0 if it is below that format's range."""
    mantissa, _, power = f"{number:+.6E}".partition("E")
    if not power or int(power) < -9:
        return "+0.000000E+0"
    return f"{mantissa}E{int(power):+d}"
