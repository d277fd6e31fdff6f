"""GeoParquet 1.1 (https://geoparquet.org/releases/v1.1.0/): files with a geometry in each row.

The metadata of a file has, beside `geo`, its provenance, as `swath`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.publish.geometries import Geometries
from tasks.publish.geometry_wkb import wkb
from tasks.publish.provenance import Provenance

_CORNERS = ("xmin", "ymin", "xmax", "ymax")

GEOMETRY_FIELDS = (
    pa.field("geometry", pa.binary()),  # WKB
    pa.field("bbox", pa.struct([(name, pa.float64()) for name in _CORNERS])),
)

_PIXEL = {"type": "LinearUnit", "name": "pixel", "conversion_factor": 1}
_PIXELS = {
    "$schema": "https://proj.org/schemas/v0.7/projjson.schema.json",
    "type": "EngineeringCRS",
    "name": "Pixels of the image",
    "datum": {"type": "EngineeringDatum", "name": "Upper left corner of the image"},
    "coordinate_system": {
        "subtype": "Cartesian",
        "axis": [
            {"name": "Column", "abbreviation": "x", "direction": "columnPositive", "unit": _PIXEL},
            {"name": "Row", "abbreviation": "y", "direction": "rowPositive", "unit": _PIXEL},
        ],
    },
}
"""The reference system of images without a georeference: DuckDB 1.5.0 refuses a null one."""

Columns = Mapping[str, Any]
"""The columns of some rows by name: arrays of Arrow or NumPy, or lists."""


class GeoParquetWriter:
    """Writes row groups, and notes what the metadata says of all geometries."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        """Write with `writer`."""
        self._writer = writer
        self._types: set[str] = set()
        self._extents: list[NDArray[np.float64]] = []

    def geometry_columns(self, geometries: Geometries) -> Columns:
        """The columns of `GEOMETRY_FIELDS` for geometries of the file.

        `bbox` is the plain extent of a geometry's coordinates, which readers filter by; across the
        antimeridian it is −180 to 180, unlike the one in GeoJSON.
        """
        self._types |= geometries.types
        low, high = np.split(geometries.bounds, 2, axis=1)
        extents = np.fmin.reduce(low, initial=np.nan), np.fmax.reduce(high, initial=np.nan)
        self._extents.append(np.concatenate(extents))
        sides = [pa.array(side) for side in geometries.bounds.T]
        missing = pa.array(geometries.missing)
        return {
            "geometry": wkb(geometries),
            "bbox": pa.StructArray.from_arrays(sides, names=_CORNERS, mask=missing),
        }

    def write_row_group(self, rows: pa.Table) -> None:
        """Append rows of the file's schema."""
        self._writer.write_table(rows.combine_chunks(), row_group_size=len(rows))

    def geo(self, *, georeferenced: bool) -> dict[str, Any]:
        """The `geo` metadata; its default reference system is longitude, latitude (OGC:CRS84)."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": sorted(self._types),
            "orientation": "counterclockwise",
            "covering": {"bbox": {name: ["bbox", name] for name in _CORNERS}},
        }
        if self._types:
            west, south, east, north = np.stack(self._extents, axis=1)
            low, high = np.nanmin([west, south], axis=1), np.nanmax([east, north], axis=1)
            column["bbox"] = [*low.tolist(), *high.tolist()]
        if not georeferenced:
            column["crs"] = _PIXELS
        return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


@contextmanager
def geoparquet_writer(
    path: Path,
    schema: pa.Schema,
    provenance: Provenance,
    *,
    georeferenced: bool,
    repeated: Sequence[str],
) -> Iterator[GeoParquetWriter]:
    """Write a file of GeoParquet, readable by bbox: `geopandas.read_parquet(path, bbox=…)`.

    Coordinates are full float64.

    Args:
        path: File to write; its folder exists.
        schema: Schema of the file, `GEOMETRY_FIELDS` included.
        provenance: The origin of the file.
        georeferenced: Whether geometries are in longitude and latitude; else they are in pixels.
        repeated: Columns with few values, each of which a row group stores once.

    Yields:
        The writer. The file is complete when the context is left without an error.
    """
    # The extents of row groups are in the statistics of these columns. Those of the others would be
    # half of the footer, which a reader reads before any row.
    sides = [f"bbox.{name}" for name in _CORNERS]
    with pq.ParquetWriter(
        path, schema, compression="zstd", use_dictionary=[*repeated], write_statistics=sides
    ) as writer:
        geoparquet = GeoParquetWriter(writer)
        yield geoparquet
        geo = orjson.dumps(geoparquet.geo(georeferenced=georeferenced))
        writer.add_key_value_metadata({"geo": geo, "swath": provenance.json_bytes})
