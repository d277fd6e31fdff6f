"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/), one row a feature."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from tasks.publish.features import Features
from tasks.publish.provenance import Provenance

_ROW_GROUP = 1 << 15  # rows: small enough that a reader of a bbox skips most of a large file
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_CLASS = pa.struct([("iri", pa.string()), ("score", pa.float64())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("geometry", pa.binary()),  # WKB, longitude and latitude
        pa.field("bbox", pa.struct([(name, pa.float64()) for name in _CORNERS])),
        pa.field("score", pa.float64(), nullable=False),  # of the best class
        pa.field("class", pa.string(), nullable=False),  # the best class
        pa.field("feature_classes", pa.list_(_CLASS), nullable=False),
        pa.field("image_x_min", pa.float64(), nullable=False),  # pixels of the full image
        pa.field("image_y_min", pa.float64(), nullable=False),
        pa.field("image_x_max", pa.float64(), nullable=False),
        pa.field("image_y_max", pa.float64(), nullable=False),
        pa.field("image_geometry", pa.binary(), nullable=False),  # WKB, pixels of the full image
        pa.field("center_longitude", pa.float64()),
        pa.field("center_latitude", pa.float64()),
        pa.field("job_id", pa.string(), nullable=False),
        pa.field("image_url", pa.string(), nullable=False),
        pa.field("inference_dt", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("source_metadata", pa.string(), nullable=False),  # JSON list
        pa.field("properties", pa.string(), nullable=False),  # JSON object: model's and request's
    ]
)


def write_geoparquet(path: Path, features: Features, provenance: Provenance) -> None:
    """Write features as GeoParquet, readable by bbox: `geopandas.read_parquet(path, bbox=…)`.

    Coordinates are full float64. `bbox` is the plain extent of a geometry's coordinates, which is
    what readers filter by; over the antimeridian it is −180 to 180, unlike the one in GeoJSON.
    Without a georeference every geometry is null, and the coordinate reference system unknown.

    Args:
        path: File to write; its folder exists.
        features: Detections and their places.
        provenance: Where they come from.
    """
    bounds = shapely.bounds(features.geometry)
    geo = orjson.dumps(_geo(features, bounds))
    schema = SCHEMA.with_metadata({"geo": geo})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in features.batches(_ROW_GROUP):
            writer.write_table(_rows(batch, provenance).cast(schema))


def _geo(features: Features, bounds: NDArray[np.float64]) -> dict[str, Any]:
    """The `geo` metadata; longitude and latitude (OGC:CRS84) is its default reference system."""
    located = features.geometry[~shapely.is_missing(features.geometry)]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({geometry.geom_type for geometry in located}),
        "orientation": "counterclockwise",
        "covering": {"bbox": {name: ["bbox", name] for name in _CORNERS}},
    }
    if len(located):
        low, high = np.nanmin(bounds[:, :2], axis=0), np.nanmax(bounds[:, 2:], axis=0)
        column["bbox"] = [*low.tolist(), *high.tolist()]
    if not features.georeferenced:
        column["crs"] = None
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _rows(batch: Features, provenance: Provenance) -> pa.Table:
    """A batch of features in the columns of `SCHEMA`."""
    table, count = batch.table, len(batch)
    missing = shapely.is_missing(batch.geometry)
    bounds = [pa.array(side) for side in shapely.bounds(batch.geometry).T]
    described = list(provenance.describe(table))
    time = datetime.fromisoformat(provenance.inference_time)
    metadata = orjson.dumps(list(provenance.source_metadata)).decode()
    columns = {
        "id": provenance.identify(table),
        "geometry": shapely.to_wkb(batch.geometry, byte_order=1),
        "bbox": pa.StructArray.from_arrays(bounds, names=_CORNERS, mask=pa.array(missing)),
        "score": table["score"],
        "class": table["class_name"],
        "feature_classes": pa.array([classes for classes, _ in described], pa.list_(_CLASS)),
        "image_x_min": table["x_min"],
        "image_y_min": table["y_min"],
        "image_x_max": table["x_max"],
        "image_y_max": table["y_max"],
        "image_geometry": shapely.to_wkb(batch.image_geometry, byte_order=1),
        "center_longitude": pa.array(batch.centers[:, 0], mask=missing),
        "center_latitude": pa.array(batch.centers[:, 1], mask=missing),
        "job_id": pa.repeat(provenance.job_id, count),
        "image_url": pa.repeat(provenance.image_url, count),
        "inference_dt": pa.repeat(pa.scalar(time, pa.timestamp("ms", tz="UTC")), count),
        "source_metadata": pa.repeat(metadata, count),
        "properties": [orjson.dumps(others).decode() for _, others in described],
    }
    return pa.table(columns, schema=SCHEMA)
