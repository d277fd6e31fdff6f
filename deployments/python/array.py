"""Pixels in memory, written to a file that Swath can read fast: `swath.run` takes arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 512  # pixels: several blocks per tile, so that little is read for its neighbours
_FEW = 4  # an image has that many bands more often than that many columns
_DTYPES = {
    *("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"),
    *("float32", "float64", "complex64", "complex128"),
}


def write_array(
    path: Path,
    array: object,
    *,
    transform: object = None,
    crs: object = None,
    nodata: float | None = None,
) -> None:
    """Write an array as an uncompressed GeoTIFF.

    Args:
        path: The file.
        array: (bands, height, width) or (height, width): of NumPy, or what NumPy makes an array of.
            Of a masked array, the masked pixels become nodata.
        transform: `affine.Affine` from pixels to coordinates in `crs`, corner-origin, as rasterio
            has it; None for an image without a georeference.
        crs: Coordinate reference system: an EPSG code, WKT, or an object of rasterio or pyproj.
        nodata: Value of pixels without data.

    Raises:
        ImageError: The array has another shape or type, or the place is given by half.
    """
    import rasterio

    from tasks.imagery import gdal_environment

    pixels = _pixels(array, nodata)
    place = _place(transform, crs)
    bands, height, width = pixels.shape
    try:
        with (
            gdal_environment(s3=False),
            rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=bands,
                height=height,
                width=width,
                dtype=pixels.dtype.name,
                nodata=nodata,
                photometric="RGB" if bands == 3 else "MINISBLACK",
                interleave="band",
                bigtiff="IF_SAFER",
                tiled=True,
                blockxsize=_BLOCK,
                blockysize=_BLOCK,
                **place,
            ) as dataset,
        ):
            dataset.write(pixels)
    except (rasterio.errors.RasterioError, ValueError, OSError) as error:
        raise ImageError(f"The array cannot be written to a temporary file ({error}).") from error


def _pixels(array: object, nodata: float | None) -> NDArray[Any]:
    """(bands, height, width) in native byte order."""
    import numpy as np

    if isinstance(array, np.ma.MaskedArray):
        if nodata is None:
            raise ImageError(
                "image: the array is masked; give the value of its masked pixels as nodata, one "
                "that no other pixel has."
            )
        if array.dtype.kind in "iu" and nodata not in range(
            np.iinfo(array.dtype).min, np.iinfo(array.dtype).max + 1
        ):
            raise ImageError(
                f"nodata: {nodata} is not a value of a masked array of type {array.dtype}; give "
                "one that it may have, and that no other pixel has."
            )
        array = array.filled(nodata)
    pixels = np.asarray(array)
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    shape = pixels.shape
    if pixels.ndim != 3 or 0 in shape:
        raise ImageError(
            f"image: an array of shape {shape} is not (bands, height, width) or (height, width)."
        )
    if shape[2] <= _FEW < min(shape[:2]):
        raise ImageError(
            f"image: an array of shape {shape} seems to be (height, width, bands), and would be "
            f"an image of {shape[0]} bands; give array.transpose(2, 0, 1)."
        )
    if pixels.dtype.name not in _DTYPES:
        other = "uint8" if pixels.dtype.kind == "b" else "float32"
        raise ImageError(
            f"image: an array of type {pixels.dtype} cannot be read; convert it, for example with "
            f"array.astype({other!r})."
        )
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _place(transform: object, crs: object) -> dict[str, Any]:
    """The arguments of rasterio for the place of an image; none if it has none."""
    from affine import Affine
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if transform is None and crs is None:
        return {}
    if transform is None or crs is None:
        given, other = ("crs", "transform") if transform is None else ("transform", "crs")
        raise ImageError(f"{given}: it needs {other} too; give both, or none for pixels alone.")
    if not isinstance(transform, Affine):
        raise ImageError(
            f"transform: {transform!r} is not an affine.Affine; give dataset.transform of "
            "rasterio, or Affine.from_gdal(*values)."
        )
    try:
        return {"transform": transform, "crs": CRS.from_user_input(crs)}
    except CRSError as error:
        raise ImageError(
            f"crs: {crs!r} is not a coordinate reference system ({error}); give for example "
            "'EPSG:32631'."
        ) from error
