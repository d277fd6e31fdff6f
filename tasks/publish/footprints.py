"""The ledger of an image with the footprint of each tile on the Earth, as GeoParquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.publish.antimeridian import unwrap
from tasks.publish.features import place
from tasks.publish.geoparquet import PLACE, ROW_GROUP, Columns, rows_file
from tasks.results.coverage import MEASURED

SCHEMA = pa.schema([*MEASURED, *PLACE])

_PIECES = (1, 2, 4, 8, 16)  # that a side of a footprint may be drawn in
_NEAR = 0.5  # pixels that a footprint may be off its tile's edge
_SAMPLE = 1000  # tiles of a batch that tell how the image bends there


def write_coverage(path: Path, ledger: pa.Table, georeference: Georeference | None) -> None:
    """Write a ledger as GeoParquet in bounded memory, one row a tile.

    A footprint is the tile's window on the ground, cut at the antimeridian as RFC 7946 asks; its
    sides bend where the image's do, to half a pixel. It is null where the image has no
    georeference, or a corner no place.

    Args:
        path: File to write; its folder exists.
        ledger: Of `coverage.MEASURED`, the whole image's.
        georeference: Of the image, or None.
    """
    with rows_file(path, SCHEMA, georeferenced=georeference is not None) as write_rows:
        for geometry, columns in _batches(ledger, georeference):
            write_rows(geometry, columns)


def _batches(
    ledger: pa.Table, georeference: Georeference | None
) -> Iterator[tuple[NDArray[np.object_], Columns]]:
    for start in range(0, len(ledger), ROW_GROUP):
        lines = ledger.slice(start, ROW_GROUP)
        windows = _windows(lines)
        pieces = 1 if georeference is None else _pieces(windows, georeference)
        outlines: NDArray[np.object_] = shapely.polygons(_outlines(windows, pieces))
        geometry, _, _ = place(outlines, georeference)
        yield geometry, dict(zip(lines.column_names, lines.columns, strict=True))


def _windows(ledger: pa.Table) -> NDArray[np.float64]:
    """(n, 4): x, y, width and height of the tiles, pixels of the full image."""
    columns = [ledger[name].to_numpy() for name in ("x", "y", "width", "height")]
    return np.stack(columns, axis=1).astype(np.float64)


def _outlines(windows: NDArray[np.float64], pieces: int) -> NDArray[np.float64]:
    """(n, 4 · pieces + 1, 2): the rings around windows, each side in as many pieces."""
    along = np.arange(pieces) / pieces
    there, zero, one = along, np.zeros(pieces), np.ones(pieces)
    x = np.concatenate([there, one, 1 - there, zero, [0.0]])
    y = np.concatenate([zero, there, one, 1 - there, [0.0]])
    ring = np.stack([x, y], axis=1)
    return windows[:, None, :2] + ring * windows[:, None, 2:]


def _pieces(windows: NDArray[np.float64], georeference: Georeference) -> int:
    """In how few pieces to draw a side, by how far from the image's edge the pieces' middles lie.

    Pieces are straight in degrees; the image's edges are straight in pixels.
    """
    some = windows[np.unique(np.linspace(0, len(windows) - 1, _SAMPLE).astype(int))]
    for pieces in _PIECES[:-1]:
        rings = _outlines(some, pieces)
        middles = ((rings[:, 1:] + rings[:, :-1]) / 2).reshape(-1, 2)
        ends = georeference.to_world(rings.reshape(-1, 2)).reshape(rings.shape)
        one, other = ends[:, 1:].reshape(-1, 2), ends[:, :-1].reshape(-1, 2)
        other[:, 0] = unwrap(other[:, 0], one[:, 0])
        # both by way of the ground: not every georeference comes back to the pixel it left
        with np.errstate(invalid="ignore"):  # infinite where the projection has no answer
            drawn = georeference.to_image((one + other) / 2)
            true = georeference.to_image(georeference.to_world(middles))
        if not (np.abs(drawn - true) > _NEAR).any():
            return pieces
    return _PIECES[-1]
