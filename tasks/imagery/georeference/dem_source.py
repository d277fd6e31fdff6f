"""Where an elevation model is stored, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from tasks.errors import ImageError
from tasks.imagery.environment import gdal_environment


@dataclass(frozen=True)
class DemSource:
    """An elevation model as GDAL opens it.

    Attributes:
        uri: As the operator names it.
        path: A path of GDAL's, or the text of a VRT.
        in_s3: Whether any of it is in S3.
    """

    uri: str
    path: str
    in_s3: bool

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """A handle for one read in any thread, with this process's credentials as they are then.

        Raises:
            ImageError: It, or what is read of it, cannot be read.
        """
        try:
            with (
                gdal_environment(s3=self.in_s3),
                rasterio.Env(GTIFF_REPORT_COMPD_CS=True),  # with the datum of its heights
                rasterio.open(self.path) as dataset,
            ):
                yield dataset
        except RasterioError as error:
            raise ImageError(
                f"SWATH_DEM_URI: {self.uri} cannot be read ({error}): name a GeoTIFF, a VRT of "
                "GeoTIFFs or a folder of GeoTIFF tiles, on disk or in S3."
            ) from error


def source_of(uri: str) -> DemSource:
    """One raster, by its URI.

    Args:
        uri: A path or `s3://bucket/key`.

    Raises:
        ImageError: It is neither, or a VRT that cannot be read.
    """
    if uri.startswith("s3://"):
        return DemSource(uri, uri.replace("s3://", "/vsis3/", 1), in_s3=True)
    if "://" in uri or uri.startswith("/vsi"):
        raise ImageError(f"SWATH_DEM_URI: {uri} is not read: give a path or s3://bucket/key.")
    try:
        in_s3 = uri.lower().endswith(".vrt") and "/vsis3/" in Path(uri).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"SWATH_DEM_URI: {uri} cannot be read ({error}).") from error
    return DemSource(uri, uri, in_s3)
