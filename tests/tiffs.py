"""Writes arrays as GeoTIFF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from numpy.typing import NDArray

PLACE = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}


def write(file: Path, pixels: NDArray[Any], mask: Any = None, **options: Any) -> Path:
    """Write an array with a georeference.

    Args:
        file: The file.
        pixels: (bands, rows, columns).
        mask: (rows, columns) false or 0 for pixels without data, stored as a mask in the file.
        options: Of the GeoTIFF.
    """
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(file, "w", driver="GTiff", **shape, **PLACE, **options) as dataset,
    ):
        dataset.write(pixels)
        if mask is not None:
            dataset.write_mask(mask)
    return file
