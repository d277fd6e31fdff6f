"""FlatGeobuf, for web maps and programs that read a part of a large file over the network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.publish.feature_batches import WriteBatch
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

MOST_INDEXED = 1_000_000
"""Features up to which a file has a spatial index: GDAL takes 160 bytes of memory for each."""


@contextmanager
def flatgeobuf_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as FlatGeobuf; the same features give the same bytes.

    Up to `MOST_INDEXED` features they are sorted along a Hilbert curve and have a spatial index, by
    which readers of a bounding box skip the others. Beyond, and if one is not geolocated, they
    are in the order of tiles, without an index.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    named = path.with_name(f"{path.name}.fgb")  # GDAL makes a folder for another ending
    with flat_features(path, results) as features:
        yield features.write
        count = features.classes.total()
        indexed = count <= MOST_INDEXED and NOWHERE not in features.types
        options = {
            "driver": "FlatGeobuf", "layer": "features", "geometry_type": _type(features),
            "geometry_name": GEOMETRY,
            "layer_options": {
                "SPATIAL_INDEX": "YES" if indexed else "NO", "TEMPORARY_DIR": str(path.parent)
            },
        }  # fmt: skip
        batches = features.batches(POLYGONS, LINES, POINTS, NOWHERE)
        try:
            with ogr_settings(results):
                write_layer(named, batches, features.schema, results, options)
                _check(named, count)
            named.rename(path)
        finally:
            named.unlink(missing_ok=True)


def _check(path: Path, count: int) -> None:
    """Check that the last of a number of features is there: a full disk may cost the end silently.

    Raises:
        OSError: It is not.
    """
    import pyogrio  # noqa: PLC0415 - as in `ogr_layers`

    try:
        if count:
            pyogrio.raw.read(path, columns=[], skip_features=count - 1, max_features=1)
    except ValueError as error:
        raise OSError(f"{path} is incomplete: {error}") from error


def _type(features: FlatFeatures) -> str:
    """The type of all geometries, or Unknown: then each has its own; Polygon if there are none.

    QGIS opens a layer of type Unknown without features as a table, without a place on the map.
    """
    types = set().union(*features.types.values()) or {"Polygon"}
    return types.pop() if len(types) == 1 else "Unknown"
