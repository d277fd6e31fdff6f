"""Opens an image: checks it, and collects its metadata before any pixel is read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from tasks.errors import ImageError
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference import Georeference
from tasks.imagery.image import Image, Palette
from tasks.imagery.nitf_header import nitf_header_of
from tasks.imagery.opening.allowed_inputs import check_raster, driver_of, gdal_path
from tasks.imagery.opening.dataset import require_complete_header
from tasks.imagery.opening.decompression_limits import check_raster_size
from tasks.imagery.opening.georeferencing import georeference_of
from tasks.imagery.opening.header_checks import is_interlaced
from tasks.imagery.opening.main_image import find_main_image
from tasks.imagery.opening.source_metadata import header_tags, source_metadata
from tasks.imagery.opening.stored_file import RangeReader, StoredFile, find_stored_file
from tasks.imagery.opening.tiff import have_masks, read_pages

_S3_ATTEMPTS = 4
_PAUSE = 0.25  # seconds before the second attempt; twice as long before each further one
_UPRIGHT = ("", "0", "1")  # EXIF orientations: unknown, or as stored
_EXACT_INTEGERS = 1 << 53  # below, a float64 holds every integer


def open_image(
    url: str,
    *,
    read_role: str | None = None,
    roots: Sequence[Path] = (),
    dem: str | None = None,
) -> Image:
    """Open an image for its metadata.

    If the file holds several images, the main one is opened
    (`tasks.imagery.opening.main_image`).

    Args:
        url: `s3://bucket/key`, or the path of a file below one of `roots`.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        roots: Folders in which local images are allowed.
        dem: Elevation model (path or S3 URI) for images with a sensor model, or None.

    Raises:
        ImageUnreachableError: The file does not exist, access is denied, or S3 does not answer.
        ImageError: The image is not allowed or cannot be opened; the message has the URL, the
            reason and the remedy.
    """
    path = gdal_path(url, roots)
    attempts = _S3_ATTEMPTS if path.startswith("/vsis3/") else 1
    for attempt in range(attempts):
        try:
            return _open(url, path, read_role, dem)
        except _UnreadableHeaderError as error:
            if attempt == attempts - 1:
                raise ImageError(str(error)) from error
            time.sleep(_PAUSE * 2**attempt)  # a response may have been lost or cut short
    raise AssertionError


class _UnreadableHeaderError(Exception):
    """GDAL cannot read the header: the file is damaged, or was not fetched whole."""


def _open(url: str, path: str, read_role: str | None, dem: str | None) -> Image:
    found = find_stored_file(url, path, read_role)
    driver = driver_of(url, found.head)
    with gdal_environment(read_role, s3=path.startswith("/vsis3/")):
        try:
            read = RangeReader(url, path, read_role, found.size)
            prefix = find_main_image(url, path, driver, read, found.size)
            with (
                require_complete_header(),
                rasterio.open(prefix + path, driver=driver) as dataset,
            ):
                check_raster(url, dataset)
                one_block = driver == "PNG" and is_interlaced(found.head)
                _check_upright(url, dataset)
                check_raster_size(url, dataset, found.size, one_block=one_block)
                image = _describe(url, path, dataset, found, _georeference(url, dataset, dem))
                if driver == "GTiff" and image.has_mask and not have_masks(read_pages(url, read)):
                    image = replace(image, overviews=())
                return replace(image, prefix=prefix)
        except (RasterioError, ValueError) as error:  # ValueError: a damaged CRS or text
            raise _UnreadableHeaderError(
                f"{url} cannot be read as {driver} ({error}): it is damaged or cut short, "
                "or could not be fetched; check that it opens elsewhere, and send it again."
            ) from error


def _describe(
    url: str,
    path: str,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    found: StoredFile,
    georeference: Georeference | None,
) -> Image:
    band_flags = dataset.mask_flag_enums
    nodata = _nodata(dataset)
    crs = dataset.crs or dataset.gcps[1]
    return Image(
        url=url,
        path=path,
        driver=dataset.driver,
        etag=found.etag,
        stored_bytes=found.size,
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dataset.dtypes[0],
        nodata=nodata,
        has_mask=nodata is None and any(MaskFlags.all_valid not in band for band in band_flags),
        alpha=_alpha(dataset) if MaskFlags.alpha in band_flags[0] or nodata is not None else None,
        block_shape=dataset.block_shapes[0],
        overviews=_overviews(dataset),
        crs=crs.to_wkt() if crs else None,
        georeference=georeference,
        source_metadata=[
            one | {"georeference": georeference.text if georeference else None}
            for one in source_metadata(url, dataset.driver, header_tags(dataset))
        ],
        colours=tuple(interpretation.name for interpretation in dataset.colorinterp),
        palette=None if _black(dataset) else _palette(dataset),
        nitf=nitf_header_of(dataset),
        descriptions=tuple(text or "" for text in dataset.descriptions),
        scales=dataset.scales if set(dataset.scales) != {1.0} else (),
        offsets=dataset.offsets if set(dataset.offsets) != {0.0} else (),
        black=_black(dataset),
        unplaced=georeference is None and not crs and not dataset.transform.is_identity,
    )


def _georeference(
    url: str,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    dem: str | None,
) -> Georeference | None:
    try:
        return georeference_of(dataset, dem)
    except ImageError as error:
        raise ImageError(f"{url}: {error}") from error


def _overviews(dataset: Any) -> tuple[int, ...]:  # noqa: ANN401 - rasterio has no types
    """Reduction factors; none for HFA, as an HFA file may keep its overviews in other files."""
    return () if dataset.driver == "HFA" else tuple(dataset.overviews(1))


def _palette(dataset: Any) -> Palette | None:  # noqa: ANN401 - rasterio has no types
    """The colour table of a dataset with one band, or None."""
    with suppress(ValueError):  # no colour table
        return dict(dataset.colormap(1)) if dataset.count == 1 else None
    return None


def _black(dataset: Any) -> int:  # noqa: ANN401 - rasterio has no types
    """The value of black in a dataset whose white is 0; 0 if its black is.

    GDAL has a colour table too for such a dataset. With fewer than 8 bits it is of use, as it makes
    full white of the greatest value.
    """
    dtype, structure = np.dtype(dataset.dtypes[0]), dataset.tags(ns="IMAGE_STRUCTURE")
    narrow = "NBITS" in dataset.tags(1, ns="IMAGE_STRUCTURE")
    if structure.get("MINISWHITE") != "YES" or dtype.kind != "u" or narrow:
        return 0
    return int(np.iinfo(dtype).max)


def _check_upright(url: str, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """Refuse an image that viewers turn: its features would lie elsewhere than they show it.

    Raises:
        ImageError: It has an EXIF orientation other than upright.
    """
    orientation = header_tags(dataset).get("EXIF_Orientation", "1").strip()
    if orientation not in _UPRIGHT:
        raise ImageError(
            f"{url} has the EXIF orientation {orientation}: viewers turn or mirror it, and its "
            "pixels are stored otherwise; store it upright, with magick IN.jpg -auto-orient "
            "OUT.jpg."
        )


def _alpha(dataset: Any) -> int | None:  # noqa: ANN401 - rasterio has no types
    """Number of the alpha band, from 1, or None."""
    names = [interpretation.name for interpretation in dataset.colorinterp]
    return names.index("alpha") + 1 if "alpha" in names and len(names) > 1 else None


def _nodata(dataset: Any) -> float | None:  # noqa: ANN401 - rasterio has no types
    """The nodata value that decides which pixels are valid, converted to the pixel type.

    None if there is no nodata value, or if GDAL's mask must decide: if a mask takes precedence, if
    bands have different values, or if rasterio does not give the exact value.
    """
    nodata = dataset.nodata
    alike = len(set(map(str, dataset.nodatavals))) == 1
    if set(dataset.mask_flag_enums[0]) != {MaskFlags.nodata} or not alike or nodata is None:
        return None
    dtype = np.dtype(dataset.dtypes[0])
    if dtype.kind not in "iu":
        return float(nodata)
    exact = dtype.itemsize < 8 or abs(nodata) < _EXACT_INTEGERS
    return float(int(nodata)) if exact else None  # GDAL cuts off the fraction, as C does
