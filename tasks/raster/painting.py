"""Paints a part of a raster from the maps of the tiles that overlap it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window, intersect

from tasks.grid.tiles import Grid, Tile
from tasks.raster.tile_maps import ONE, TileMap, band_count
from tasks.raster.weights import distances, smooth_weights
from tasks.request.raster_output import Blend, RasterOutput


@dataclass(frozen=True)
class Painted:
    """A part of a raster.

    Attributes:
        bands: (bands, height, width) probabilities 0 to 1 or values as float64, or numbers of
            classes.
        seen: (height, width) whether any tile answered for a pixel; the bands of the others are 0.
    """

    bands: NDArray[np.float64]
    seen: NDArray[np.bool_]


def paint(
    window: Window, maps: Iterable[tuple[Tile, TileMap]], grid: Grid, output: RasterOutput
) -> Painted:
    """Blend the maps of tiles in a window of the image.

    The result depends on the tiles alone, to the last bit, not on who answered first.

    Args:
        window: The part to paint.
        maps: Tiles that were answered, in the order of the grid, among them all that overlap it.
        grid: The tiles of the image.
        output: What the maps hold, and how they are blended.
    """
    shares = [
        _Share.of(window, tile, pixels) for tile, pixels in maps if intersect(window, tile.window)
    ]
    shape = band_count(output), window.height, window.width
    match output.blending:
        case Blend.SMOOTH:
            return _smooth(shares, shape, grid, output)
        case Blend.CLIP:
            return _nearest(shares, shape, output)
        case Blend.MAX:
            return _highest(shares, shape, output)
        case Blend.VOTE:
            return _vote(shares, shape, output)


@dataclass(frozen=True)
class _Share:
    """The share of one tile in a window.

    Attributes:
        tile: The tile.
        pixels: Its map, cut to the window.
        rows: Rows of the window that it covers.
        columns: Columns of the window that it covers.
        top: First of its own rows that lies in the window.
        left: First of its own columns that lies in the window.
    """

    tile: Tile
    pixels: TileMap
    rows: slice
    columns: slice
    top: int
    left: int

    @classmethod
    def of(cls, window: Window, tile: Tile, pixels: TileMap) -> _Share:
        x, y = tile.window.col_off - window.col_off, tile.window.row_off - window.row_off
        top, left = max(0, -y), max(0, -x)
        bottom = min(tile.window.height, window.height - y)
        right = min(tile.window.width, window.width - x)
        rows, columns = slice(y + top, y + bottom), slice(x + left, x + right)
        return cls(tile, pixels[:, top:bottom, left:right], rows, columns, top, left)

    @property
    def where(self) -> tuple[slice, slice]:
        return self.rows, self.columns

    def along(
        self, by_row: NDArray[np.float64], by_column: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What holds for its rows (h, 1) and columns (1, w), of those for the whole tile."""
        height, width = self.pixels.shape[1:]
        rows = by_row[self.top : self.top + height, np.newaxis]
        return rows, by_column[np.newaxis, self.left : self.left + width]

    @property
    def answered(self) -> NDArray[np.bool_] | None:
        """(h, w) the pixels with an answer; None if all have one."""
        if self.pixels.dtype.kind != "f":
            return None
        missing = np.asarray(np.isnan(self.pixels).any(axis=0))
        return ~missing if missing.any() else None


def _smooth(
    shares: list[_Share], shape: tuple[int, int, int], grid: Grid, output: RasterOutput
) -> Painted:
    sums, total = np.zeros(shape), np.zeros(shape[1:])
    for share in shares:
        area = share.tile.window
        across = smooth_weights(
            area.width, first=area.col_off == 0, last=area.col_off + area.width == grid.width
        )
        down = smooth_weights(
            area.height, first=area.row_off == 0, last=area.row_off + area.height == grid.height
        )
        rows, columns = share.along(down, across)
        weights = rows * columns
        pixels = share.pixels
        if (answered := share.answered) is not None:
            weights, pixels = weights * answered, np.where(answered, pixels, 0)
        total[share.where] += weights
        for band, values in zip(sums, pixels, strict=True):
            band[share.where] += weights * values
    seen = total > 0
    total[~seen] = 1.0
    sums /= total * ONE if output.has_probabilities else total
    return Painted(sums, seen)


def _nearest(shares: list[_Share], shape: tuple[int, int, int], output: RasterOutput) -> Painted:
    """Of each pixel, the answer of the tile whose centre is nearest."""
    bands, nearest = np.zeros(shape), np.full(shape[1:], np.inf)
    for share in shares:
        away = _distance(share)
        closer = away < nearest[share.where]
        if (answered := share.answered) is not None:
            closer &= answered
        nearest[share.where][closer] = away[closer]
        for band, values in zip(bands, share.pixels, strict=True):
            band[share.where][closer] = values[closer]
    if output.has_probabilities:
        bands /= ONE
    return Painted(bands, np.isfinite(nearest))


def _distance(share: _Share) -> NDArray[np.float64]:
    """(h, w) distance from the tile's centre, the sum of those along both axes."""
    area = share.tile.window
    rows, columns = share.along(distances(area.height), distances(area.width))
    return rows + columns


def _highest(shares: list[_Share], shape: tuple[int, int, int], output: RasterOutput) -> Painted:
    bands, seen = np.full(shape, -np.inf), np.zeros(shape[1:], bool)
    for share in shares:
        answered = share.answered
        if answered is None:
            seen[share.where] = True
        else:
            seen[share.where] |= answered
        for band, values in zip(bands, share.pixels, strict=True):
            known = values if answered is None else np.where(answered, values, -np.inf)
            np.maximum(band[share.where], known, out=band[share.where])
    bands[:, ~seen] = 0.0
    if output.has_probabilities:
        bands /= ONE
    return Painted(bands, seen)


def _vote(shares: list[_Share], shape: tuple[int, int, int], output: RasterOutput) -> Painted:
    """Of each pixel, the most frequent number; of several, that of the nearest tile among them."""
    nearest = _nearest(shares, shape, output)
    if len(shares) < 3:  # two votes are equal, or one each
        return nearest
    voters: dict[int, list[int]] = defaultdict(list)
    for at, share in enumerate(shares):
        for number in np.unique(share.pixels):
            voters[int(number)].append(at)
    chosen, most = np.zeros(shape[1:]), np.zeros(shape[1:], np.int32)
    least, first = np.full(shape[1:], np.inf), np.zeros(shape[1:], np.int32)
    for number, places in voters.items():  # one at a time, so that memory is that of a few bands
        votes, closest, away = (
            np.zeros_like(most),
            np.zeros_like(first),
            np.full_like(least, np.inf),
        )
        for at in places:
            where, given = shares[at].where, shares[at].pixels[0] == number
            votes[where] += given
            distance = _distance(shares[at])
            closer = given & (distance < away[where])
            away[where][closer] = distance[closer]
            closest[where][closer] = at
        nearer = (away < least) | ((away == least) & (closest < first))
        wins = (votes > most) | ((votes == most) & (votes > 0) & nearer)
        chosen[wins], most[wins] = number, votes[wins]
        least[wins], first[wins] = away[wins], closest[wins]
    return Painted(chosen[np.newaxis], nearest.seen)
