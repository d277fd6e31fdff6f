"""GeoPackage 1.2 with a style for QGIS, which draws the features by it when it opens the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tasks.publish.feature_batches import WriteBatch
from tasks.publish.feature_style import feature_style
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

_LAYERS = {POLYGONS: "features", LINES: "lines", POINTS: "points"}
_ALONE = "features"  # name of the only layer, whatever its geometries
_TYPES = {POLYGONS: "Polygon", LINES: "LineString", POINTS: "Point"}
_MULTI = {"Polygon": 6, "LineString": 5, "Point": 4}  # WKB's number of the multi-part type
_UNDEFINED = -1  # the standard's coordinate reference system of unknown Cartesian coordinates
_NAME = "Swath"  # of the style

_STYLES = pa.schema(
    [
        *((name, pa.string()) for name in ("f_table_catalog", "f_table_schema", "f_table_name")),
        *((name, pa.string()) for name in ("f_geometry_column", "styleName")),
        *((name, pa.string()) for name in ("styleQML", "styleSLD")),
        ("useAsDefault", pa.bool_()),
        *((name, pa.string()) for name in ("description", "owner", "ui")),
        ("update_time", pa.timestamp("ms", tz="UTC")),
    ]
)
"""The table `layer_styles`, as QGIS makes it."""


@contextmanager
def geopackage_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as GeoPackage; the same features give the same bytes.

    The features are in the layer `features`. If some have an area and others are lines or points,
    these are in the layers `lines` and `points`, as QGIS draws one kind of geometry in a layer.
    Without a georeference they are in pixels, in an undefined reference system.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    named = path.with_name(f"{path.name}.gpkg")  # GDAL warns of another ending
    with flat_features(path, results) as features:
        yield features.write
        try:
            with ogr_settings(results):
                _write(named, features, results)
            named.rename(path)
        finally:
            named.unlink(missing_ok=True)


def _write(path: Path, features: FlatFeatures, results: ImageResults) -> None:
    dimensions = [each for each in _LAYERS if each in features.types] or [POLYGONS]
    styles, pixels = [], results.metadata.pixel_metres
    raster = results.origin and results.origin.raster
    output = raster.output if raster else None
    for index, dimension in enumerate(dimensions):
        name = _ALONE if len(dimensions) == 1 else _LAYERS[dimension]
        chosen = (dimension, NOWHERE) if index == 0 else (dimension,)
        batches: Iterable[pa.RecordBatch] = features.batches(*chosen)
        single = _TYPES[dimension]
        types = features.types.get(dimension, set()) - {single}
        if types == {f"Multi{single}"}:
            batches = _multi_part(batches, single)
        own = "Unknown" if "GeometryCollection" in types else f"Multi{single}" if types else single
        options = {
            "driver": "GPKG", "layer": name, "geometry_type": own, "append": index > 0,
            "geometry_name": GEOMETRY, "layer_options": _layer_options(results),
            "dataset_options": {} if index else {"VERSION": "1.2"},
        }  # fmt: skip
        write_layer(path, batches, features.schema, results, options)
        styles.append((name, feature_style(features.classes, dimension, pixels, output)))
    _write_styles(path, styles, results)
    _check(path, [name for name, _ in styles], features.classes.total())


def _layer_options(results: ImageResults) -> dict[str, str]:
    undefined = {} if results.georeference else {"SRID": str(_UNDEFINED)}
    return {"GEOMETRY_NAME": GEOMETRY, "FID": "fid", **undefined}


def _multi_part(batches: Iterable[pa.RecordBatch], single: str) -> Iterator[pa.RecordBatch]:
    """Batches whose single geometries are multi-part ones of one part."""
    header = b"\x01" + _MULTI[single].to_bytes(4, "little") + (1).to_bytes(4, "little")
    for batch in batches:
        at = batch.schema.get_field_index(GEOMETRY)
        wkb = batch.column(at)
        multi = pc.binary_join_element_wise(header, wkb, b"")
        is_single = pc.equal(pc.binary_slice(wkb, 1, 2), bytes([_MULTI[single] - 3]))
        promoted = pc.if_else(is_single, multi, wkb)
        yield batch.set_column(at, batch.schema.field(at), promoted)


def _check(path: Path, layers: list[str], count: int) -> None:
    """Check that nothing is missing: on a full disk GDAL leaves out a spatial index silently.

    Args:
        path: The file.
        layers: Names of its layers.
        count: Number of features of all layers.

    Raises:
        OSError: A feature or a part of a spatial index is missing.
    """
    with closing(sqlite3.connect(path)) as file:
        found = [
            file.execute(
                f"SELECT count(*), count({GEOMETRY}), "  # noqa: S608 - names of ours
                f"(SELECT count(*) FROM rtree_{layer}_{GEOMETRY}_rowid) FROM {layer}"
            ).fetchone()
            for layer in layers
        ]
    if sum(rows for rows, _, _ in found) != count or any(a != b for _, a, b in found):
        raise OSError(f"{path} is incomplete")


def _write_styles(path: Path, styles: list[tuple[str, str]], results: ImageResults) -> None:
    import pyogrio  # noqa: PLC0415 - as in `ogr_layers`

    time = datetime.fromisoformat(results.metadata.provenance.time)
    rows: list[dict[str, Any]] = [
        {
            "f_table_catalog": "", "f_table_schema": "", "f_table_name": name,
            "f_geometry_column": GEOMETRY, "styleName": _NAME, "styleQML": text, "styleSLD": "",
            "useAsDefault": True, "description": "Features by class, opacity by score",
            "owner": "", "ui": None, "update_time": time,
        }
        for name, text in styles
    ]  # fmt: skip
    table = pa.Table.from_pylist(rows, schema=_STYLES)
    pyogrio.write_arrow(
        table, path, layer="layer_styles", driver="GPKG", append=True, layer_options={"FID": "id"}
    )
