"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/), a row for each feature or tile.

The metadata of a file has, beside `geo`, its provenance, as `swath`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.image_results import ImageResults
from tasks.publish.provenance import Provenance
from tasks.results.detections import EMBEDDING

ROW_GROUP = 1 << 15  # rows: small enough that a reader of a bbox skips most of a large file
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_CLASS = pa.struct([("iri", pa.string()), ("score", pa.float64())])

GEOMETRY_FIELDS = (
    pa.field("geometry", pa.binary()),  # WKB, longitude and latitude
    pa.field("bbox", pa.struct([(name, pa.float64()) for name in _CORNERS])),
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *GEOMETRY_FIELDS,
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


Columns = Mapping[str, Any]
"""The columns of some rows by name: arrays of Arrow or NumPy, or lists."""


@contextmanager
def geoparquet_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as GeoParquet, readable by bbox: `geopandas.read_parquet(path, bbox=…)`.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    schema, metadata = SCHEMA, results.metadata
    georeferenced = results.georeference is not None
    if metadata.embedding_size is not None:
        vector = pa.list_(pa.float32(), metadata.embedding_size)  # of a fixed size
        schema = SCHEMA.append(pa.field(EMBEDDING, vector, nullable=False))
    with rows_file(path, schema, metadata.provenance, georeferenced=georeferenced) as write_rows:
        yield lambda batch: write_rows(batch.features.geometry, _columns(batch, metadata))


@contextmanager
def rows_file(
    path: Path, schema: pa.Schema, provenance: Provenance, *, georeferenced: bool
) -> Iterator[Callable[[NDArray[np.object_], Columns], None]]:
    """Write rows with a geometry as GeoParquet, in row groups of at least `ROW_GROUP` rows.

    Coordinates are full float64. `bbox` is the plain extent of a geometry's coordinates, which
    readers filter by; across the antimeridian it is −180 to 180, unlike the one in GeoJSON.
    Without a georeference every geometry is null and the coordinate reference system is unknown.

    Args:
        path: File to write; its folder exists.
        schema: Schema of the file, `GEOMETRY_FIELDS` included.
        provenance: The origin of the file.
        georeferenced: Whether the image has a georeference.

    Yields:
        A function that appends rows, given their geometries (longitude, latitude; or None) and
        their other columns. A row group ends with the rows that fill it. The file is complete when
        the context is left.
    """
    types: set[str] = set()
    extents: list[NDArray[np.float64]] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        pending: list[pa.Table] = []

        def write_group() -> None:
            writer.write_table(pa.concat_tables(pending).combine_chunks())
            pending.clear()

        def write(geometry: NDArray[np.object_], columns: Columns) -> None:
            pending.append(pa.table({**columns, **_geometry_columns(geometry)}, schema=schema))
            types.update(_types(geometry))
            extents.append(shapely.total_bounds(geometry))
            if sum(map(len, pending)) >= ROW_GROUP:
                write_group()

        yield write
        if pending:
            write_group()
        geo = _geo(types, extents, georeferenced=georeferenced)
        writer.add_key_value_metadata({"geo": orjson.dumps(geo), "swath": provenance.json_bytes})


def _geometry_columns(geometry: NDArray[np.object_]) -> Columns:
    """The columns of `GEOMETRY_FIELDS`."""
    missing = pa.array(shapely.is_missing(geometry))
    sides = [pa.array(side) for side in shapely.bounds(geometry).T]
    return {
        "geometry": shapely.to_wkb(geometry, byte_order=1),
        "bbox": pa.StructArray.from_arrays(sides, names=_CORNERS, mask=missing),
    }


def _types(geometry: NDArray[np.object_]) -> set[str]:
    """The types of geometries."""
    numbers, first = np.unique(shapely.get_type_id(geometry), return_index=True)
    return {geometry[row].geom_type for row in first[numbers >= 0]}


def _geo(
    types: set[str], extents: Sequence[NDArray[np.float64]], *, georeferenced: bool
) -> dict[str, Any]:
    """The `geo` metadata; its default reference system is longitude, latitude (OGC:CRS84)."""
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted(types),
        "orientation": "counterclockwise",
        "covering": {"bbox": {name: ["bbox", name] for name in _CORNERS}},
    }
    if types:
        west, south, east, north = np.stack(extents, axis=1)
        low, high = np.nanmin([west, south], axis=1), np.nanmax([east, north], axis=1)
        column["bbox"] = [*low.tolist(), *high.tolist()]
    if not georeferenced:
        column["crs"] = None
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _columns(batch: FeatureBatch, metadata: FeatureMetadata) -> Columns:
    """The columns of `SCHEMA` for a batch, without those of `GEOMETRY_FIELDS`."""
    features = batch.features
    table, count = features.table, len(features)
    missing = shapely.is_missing(features.geometry)
    time = datetime.fromisoformat(metadata.provenance.time)
    source_metadata = orjson.dumps(list(metadata.source_metadata)).decode()
    own = {}
    if batch.embeddings is not None:
        numbers = pa.array(batch.embeddings.ravel())
        own[EMBEDDING] = pa.FixedSizeListArray.from_arrays(numbers, batch.embeddings.shape[1])
    return {
        **own,
        "id": batch.ids,
        "score": table["score"],
        "class": table["class_name"],
        "feature_classes": batch.classes,
        "image_x_min": table["x_min"],
        "image_y_min": table["y_min"],
        "image_x_max": table["x_max"],
        "image_y_max": table["y_max"],
        "image_geometry": shapely.to_wkb(features.image_geometry, byte_order=1),
        "center_longitude": pa.array(features.centers[:, 0], mask=missing),
        "center_latitude": pa.array(features.centers[:, 1], mask=missing),
        "job_id": pa.repeat(metadata.provenance.job, count),
        "image_url": pa.repeat(metadata.provenance.image, count),
        "inference_dt": pa.repeat(pa.scalar(time, pa.timestamp("ms", tz="UTC")), count),
        "source_metadata": pa.repeat(source_metadata, count),
        "properties": pa.array(batch.properties, pa.string()),
    }
