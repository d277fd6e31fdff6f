"""Layers of vector files that GDAL writes, by pyogrio."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from tasks.publish.image_results import ImageResults

_WORLD = "EPSG:4326"
_RTREE_BYTES = 100 << 20  # of memory that GDAL may take for the spatial index of a GeoPackage


@contextmanager
def ogr_settings(results: ImageResults) -> Iterator[None]:
    """GDAL with bounded memory, and the time of the run in place of the present one.

    Args:
        results: The results that a file is written of.

    Raises:
        OSError: In the block, GDAL cannot write, or what it wrote to SQLite cannot be read.
    """
    # late: a job whose outputs name no such format does not need it
    import pyogrio  # noqa: PLC0415
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError  # noqa: PLC0415

    time = datetime.fromisoformat(results.metadata.provenance.time)
    options: dict[str, Any] = {
        "OGR_CURRENT_DATE": f"{time:%Y-%m-%dT%H:%M:%S}.000Z",
        "OGR_GPKG_MAX_RAM_USAGE_RTREE": str(_RTREE_BYTES),
        "OGR_SQLITE_SYNCHRONOUS": "OFF",  # the file is temporary until it is published
    }
    before = {name: pyogrio.get_gdal_config_option(name) for name in options}
    pyogrio.set_gdal_config_options(options)
    try:
        yield
    except (DataLayerError, DataSourceError, FeatureError, sqlite3.Error) as error:
        raise OSError(str(error)) from error
    finally:
        pyogrio.set_gdal_config_options(before)


def write_layer(
    path: Path,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    results: ImageResults,
    options: Mapping[str, Any],
) -> None:
    """Write rows with a geometry as a layer, within `ogr_settings`.

    Args:
        path: File with the ending of its format.
        batches: Rows; a few are in memory at a time.
        schema: Their columns, of which `geometry` is WKB.
        results: The results that the rows are of. Without a georeference the layer has no
            coordinate reference system.
        options: Of `pyogrio.write_arrow`: driver, layer, geometry type, and options of the driver.
    """
    import pyogrio  # noqa: PLC0415

    failed: list[BaseException] = []

    def rows() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:  # which GDAL would turn into a text
            failed.append(error)
            raise

    crs = None if results.georeference is None else _WORLD
    reader = pa.RecordBatchReader.from_batches(schema, rows())
    metadata = {"swath": results.metadata.provenance.json_bytes.decode()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        try:
            pyogrio.write_arrow(reader, path, crs=crs, layer_metadata=metadata, **options)
        except Exception:
            if failed:
                raise failed[0] from None
            raise
