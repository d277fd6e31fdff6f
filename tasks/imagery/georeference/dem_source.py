"""Opens an elevation model from disk or S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from tasks.errors import ImageError
from tasks.imagery.environment import gdal_environment, gdal_options


@dataclass(frozen=True)
class DemSource:
    """An elevation model as GDAL opens it.

    Attributes:
        uri: Its URI, as in SWATH_DEM_URI.
        path: Path with which GDAL opens it, or the XML of a VRT.
        in_s3: Whether any part of it is in S3.
    """

    uri: str
    path: str
    in_s3: bool

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Open the model for one read, in any thread, with the process's current credentials.

        Raises:
            ImageError: The model cannot be opened or read.
        """
        try:
            with (
                gdal_environment(s3=self.in_s3),
                gdal_options(GTIFF_REPORT_COMPD_CS=True),  # includes the vertical datum
                rasterio.open(self.path) as dataset,
            ):
                yield dataset
        except RasterioError as error:
            raise ImageError(
                f"SWATH_DEM_URI: {self.uri} cannot be read ({error}): give a GeoTIFF, a VRT of "
                "GeoTIFFs or a folder of GeoTIFF tiles, on disk or in S3."
            ) from error


def source_of(uri: str) -> DemSource:
    """The source of a single raster.

    Args:
        uri: A path or `s3://bucket/key`.

    Raises:
        ImageError: The URI has another form, or names a VRT that cannot be read.
    """
    if uri.startswith("s3://"):
        return DemSource(uri, uri.replace("s3://", "/vsis3/", 1), in_s3=True)
    if "://" in uri or uri.startswith("/vsi"):
        raise ImageError(f"SWATH_DEM_URI: {uri} is not supported: give a path or s3://bucket/key.")
    try:
        in_s3 = uri.lower().endswith(".vrt") and "/vsis3/" in Path(uri).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"SWATH_DEM_URI: {uri} cannot be read ({error}).") from error
    return DemSource(uri, uri, in_s3)
