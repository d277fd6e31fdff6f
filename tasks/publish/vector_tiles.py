"""PMTiles of vector tiles, which a web map reads from S3 without a server."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing, contextmanager
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.flat_features import (
    GEOMETRY,
    LINES,
    NOWHERE,
    POINTS,
    POLYGONS,
    FlatFeatures,
    flat_features,
)
from tasks.publish.image_results import ImageResults
from tasks.publish.ogr_layers import ogr_settings, write_layer
from tasks.publish.tile_density import NORTH, FeaturePlaces

_COLUMNS = ("id", "class", "score", GEOMETRY)
_LAYER = "features"
_EQUATOR = 40_075_016.7  # metres: the width of the one tile at zoom 0
_UNITS = 4096  # of a tile's side
_SMALLEST = 4  # units: what is smaller is a point, as GDAL would leave it out
_DEFAULT_ZOOM, _MOST_ZOOM = 14, 20
_MOST_BYTES = 500_000  # of a tile: GDAL writes larger ones with coarser coordinates
_SCALE = 10_000_000  # of the header's degrees
_MOST_MEMORY = 1 << 27  # bytes that GDAL may keep of a zoom's features in memory, not in a file
_TILES_OF_A_POINT = 1.04  # along an axis: a tile reaches a fiftieth over each of its sides
_PART_BYTES = 256  # of a feature in a tile, beside its geometry


@contextmanager
def pmtiles_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as vector tiles of the zooms from 0 to that of the image's pixels.

    At the last zoom all features are there; a lower one has those with the highest scores. A
    feature that is too small for a zoom is a point there. What is beyond 85° of latitude, or not
    geolocated, is on no Web Mercator map and left out.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of. Without a georeference there are no tiles.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    last = _last_zoom(results)
    places = FeaturePlaces(last)
    with flat_features(path, results) as features:

        def write(batch: FeatureBatch) -> None:
            features.write(batch)
            places.add(batch.features, batch.features.table["score"].to_numpy())

        yield write
        with ogr_settings(results):
            _write(path, features, places, last, results)


def _last_zoom(results: ImageResults) -> int:
    """The lowest zoom at which a unit of a tile is no larger than a pixel of the image."""
    pixel = results.metadata.pixel_metres
    if pixel is None:
        return _DEFAULT_ZOOM
    return min(max(ceil(log2(_EQUATOR / _UNITS / pixel)), 0), _MOST_ZOOM)


def _write(
    path: Path, features: FlatFeatures, places: FeaturePlaces, last: int, results: ImageResults
) -> None:
    # late: as pyogrio in `ogr_layers`
    from pmtiles.writer import Writer  # noqa: PLC0415

    zooms = places.first_zooms()
    provenance = results.metadata.provenance
    fields = {"id": "String", "class": "String", "score": "Number"}
    metadata = {
        "name": provenance.image,
        "vector_layers": [{"id": _LAYER, "fields": fields, "minzoom": 0, "maxzoom": last}],
        "swath": orjson.loads(provenance.json_bytes),
    }
    with path.open("wb") as file:
        writer = Writer(file)
        if (zooms <= last).any():
            in_memory = True  # what a zoom takes, higher ones take too
            for zoom in range(last + 1):
                in_memory = in_memory and _fits(_shown(features, zooms, zoom), zoom)
                rows = _shown(features, zooms, zoom)
                tiles = _tiles(path, rows, features.schema, zoom, results, in_memory=in_memory)
                for tile, content in tiles:
                    writer.write_tile(tile, content)
        else:  # an archive has at least one tile
            writer.write_tile(0, gzip.compress(b"", mtime=0))
        writer.finalize(_header(places, last), metadata)


def _header(places: FeaturePlaces, last: int) -> dict[str, Any]:
    from pmtiles.tile import Compression, TileType  # noqa: PLC0415

    west, south, east, north = places.extent
    corners = {
        "min": (west, south), "max": (east, north),
        "center": ((west + east) / 2, (south + north) / 2),
    }  # fmt: skip
    degrees = {
        f"{name}_{axis}_e7": round(value * _SCALE)
        for name, corner in corners.items()
        for axis, value in zip(("lon", "lat"), corner, strict=True)
    }
    zoom = max(0, min(last, int(log2(360 / max(east - west, north - south, 1e-9)))))
    kinds = {"tile_type": TileType.MVT, "tile_compression": Compression.GZIP}
    return {**kinds, **degrees, "center_zoom": zoom}


def _shown(features: FlatFeatures, zooms: NDArray[np.uint8], zoom: int) -> Iterator[pa.RecordBatch]:
    """The features that are shown at a zoom, points in place of those that are too small."""
    smallest = 360 / 2**zoom / _UNITS * _SMALLEST  # degrees
    start = 0
    for batch in features.batches(POLYGONS, LINES, POINTS, NOWHERE):
        stop = start + len(batch)
        rows = batch.filter(pa.array(zooms[start:stop] <= zoom)).select(_COLUMNS)
        start = stop
        if len(rows):
            geometry = shapely.from_wkb(rows[GEOMETRY].to_numpy(zero_copy_only=False))
            bounds = shapely.bounds(geometry)
            small = (bounds[:, 2:] - bounds[:, :2]).max(axis=1) < smallest
            geometry[small] = shapely.centroid(geometry[small])
            at = rows.schema.get_field_index(GEOMETRY)
            wkb = pa.array(shapely.to_wkb(geometry, byte_order=1), pa.binary())
            yield rows.set_column(at, rows.schema.field(at), wkb)


def _fits(rows: Iterator[pa.RecordBatch], zoom: int) -> bool:
    """Whether the features of a zoom, each in the tiles of its extent, take little memory."""
    total, tile = 0.0, 360 / 2**zoom  # degrees
    for batch in rows:
        bounds = shapely.bounds(shapely.from_wkb(batch[GEOMETRY].to_numpy(zero_copy_only=False)))
        width, height = (bounds[:, 2:] - bounds[:, :2]).T
        height = height / np.cos(np.radians(np.abs(bounds[:, [1, 3]]).max(axis=1).clip(0, NORTH)))
        parts = (width / tile + _TILES_OF_A_POINT) * (height / tile + _TILES_OF_A_POINT)
        total += batch[GEOMETRY].nbytes + _PART_BYTES * parts.sum()
        if total > _MOST_MEMORY:
            return False
    return True


def _tiles(
    path: Path,
    rows: Iterator[pa.RecordBatch],
    schema: pa.Schema,
    zoom: int,
    results: ImageResults,
    *,
    in_memory: bool,
) -> Iterator[tuple[int, bytes]]:
    """The identifier and the bytes of each tile of a zoom, in the order of an archive."""
    import sqlite3  # noqa: PLC0415

    from pmtiles.tile import zxy_to_tileid  # noqa: PLC0415

    database = path.with_name(f"{path.name}.mbtiles")
    options: dict[str, Any] = {
        "driver": "MVT", "layer": _LAYER, "geometry_name": GEOMETRY, "geometry_type": "Unknown",
        "dataset_options": {
            "FORMAT": "MBTILES", "MINZOOM": str(zoom), "MAXZOOM": str(zoom), "NAME": _LAYER,
            "EXTENT": str(_UNITS), "MAX_SIZE": str(_MOST_BYTES),
        },
    }  # fmt: skip
    if in_memory:  # which takes GDAL two thirds of the time
        options["dataset_options"]["TEMPORARY_DB"] = ":memory:"
    own = pa.schema([schema.field(name) for name in _COLUMNS])
    try:
        write_layer(database, rows, own, results, options)
        with closing(sqlite3.connect(database)) as connection:
            places = connection.execute("SELECT tile_column, tile_row FROM tiles").fetchall()
            order = sorted(
                (zxy_to_tileid(zoom, column, 2**zoom - 1 - row), column, row)
                for column, row in places
            )
            # with the zoom, which all have, as the index of the tiles begins with it
            wanted = (
                "SELECT tile_data FROM tiles "
                "WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
            )
            for tile, column, row in order:
                yield tile, connection.execute(wanted, (zoom, column, row)).fetchone()[0]
    finally:
        database.unlink(missing_ok=True)
