"""The coverage file: the ledger of tiles as GeoParquet, with each tile's footprint on the Earth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.imagery.georeference.transformers import wrap_near
from tasks.publish.features import to_world
from tasks.publish.geometries import Geometries
from tasks.publish.geoparquet_writer import GEOMETRY_FIELDS, geoparquet_writer
from tasks.publish.provenance import Provenance
from tasks.results.coverage import FAILED_CALLS

_ROW_GROUP = 1 << 15  # tiles
_REPEATED = ("state", "reason", f"{FAILED_CALLS}.list.element")
_SEGMENTS = (1, 2, 4, 8, 16)  # that a side of a footprint may be divided into
_TOLERANCE = 0.5  # pixels between a footprint and its tile's edge
_SAMPLE = 1000  # tiles of a batch, from which the number of segments is chosen


def write_coverage(
    path: Path, ledger: pa.Table, georeference: Georeference | None, provenance: Provenance
) -> None:
    """Write a ledger as GeoParquet in bounded memory, one row for each tile, in their order.

    A footprint is the tile's window on the ground, cut at the antimeridian (RFC 7946 §3.1.9). Its
    sides have as many vertices as it takes to follow the window's edges to half a pixel. It is null
    if a corner has no longitude and latitude, and the window in pixels if the image has no
    georeference.

    Args:
        path: File to write; its folder exists.
        ledger: Table of `coverage.MEASURED`, and `coverage.MISSING` if the model answers with
            pixels, with all tiles of the image.
        georeference: The image's georeference, or None.
        provenance: The origin of the file.
    """
    with geoparquet_writer(
        path,
        pa.schema([*ledger.schema, *GEOMETRY_FIELDS]),
        provenance,
        georeferenced=georeference is not None,
        repeated=_REPEATED,
    ) as writer:
        for start in range(0, len(ledger), _ROW_GROUP):
            rows = ledger.slice(start, _ROW_GROUP)
            columns = writer.geometry_columns(_footprints(rows, georeference))
            for field in GEOMETRY_FIELDS:
                rows = rows.append_column(field, columns[field.name])
            writer.write_row_group(rows)


def _footprints(ledger: pa.Table, georeference: Georeference | None) -> Geometries:
    """The windows of tiles in longitude and latitude, or in pixels without a georeference."""
    windows = _windows(ledger)
    segments = 1 if georeference is None else _segments(windows, georeference)
    outlines = Geometries(shapely.polygons(_outlines(windows, segments)))
    return outlines if georeference is None else to_world(outlines, georeference).geometries


def _windows(ledger: pa.Table) -> NDArray[np.float64]:
    """(n, 4): x, y, width and height of the tiles, pixels of the full image."""
    columns = [ledger[name].to_numpy() for name in ("x", "y", "width", "height")]
    return np.stack(columns, axis=1).astype(np.float64)


def _outlines(windows: NDArray[np.float64], segments: int) -> NDArray[np.float64]:
    """(n, 4 · segments + 1, 2): closed rings around windows, each side divided into `segments`."""
    along = np.arange(segments) / segments
    zero, one = np.zeros(segments), np.ones(segments)
    x = np.concatenate([along, one, 1 - along, zero, [0.0]])
    y = np.concatenate([zero, along, one, 1 - along, [0.0]])
    ring = np.stack([x, y], axis=1)
    return windows[:, None, :2] + ring * windows[:, None, 2:]


def _segments(windows: NDArray[np.float64], georeference: Georeference) -> int:
    """The fewest segments per side that keep every footprint within the tolerance.

    A segment is straight in degrees, while the window's edge is straight in pixels. They are
    compared in pixels, at the middle of each segment.
    """
    sample = windows[np.unique(np.linspace(0, len(windows) - 1, _SAMPLE).astype(int))]
    for segments in _SEGMENTS[:-1]:
        rings = _outlines(sample, segments)
        middles = ((rings[:, 1:] + rings[:, :-1]) / 2).reshape(-1, 2)
        vertices = georeference.to_world(rings.reshape(-1, 2)).reshape(rings.shape)
        ends, starts = vertices[:, 1:].reshape(-1, 2), vertices[:, :-1].reshape(-1, 2)
        starts[:, 0] = wrap_near(starts[:, 0], ends[:, 0])
        # Both are converted to the ground and back, which some georeferences do only nearly.
        with np.errstate(invalid="ignore"):  # infinite where the projection is undefined
            drawn = georeference.to_image((ends + starts) / 2)
            true = georeference.to_image(georeference.to_world(middles))
        if not (np.abs(drawn - true) > _TOLERANCE).any():
            return segments
    return _SEGMENTS[-1]
