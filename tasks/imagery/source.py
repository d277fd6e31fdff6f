"""Open an image: everything known of it before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from tasks.errors import ImageChanged, ImageError
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference import Georeference, georeference_of
from tasks.imagery.metadata import source_metadata
from tasks.imagery.safety import check_raster, driver_of, gdal_path
from tasks.imagery.stored import Stored, stored


@dataclass(frozen=True, slots=True)
class Image:
    """One version of a raster image, without its pixels.

    Attributes:
        url: As the request names it.
        path: What GDAL opens.
        driver: GDAL's name of its format.
        etag: Version of its content: S3's ETag, or size and time of change of a file.
        width: Pixels in x.
        height: Pixels in y.
        bands: Bands, alpha included.
        dtype: numpy's name of the pixel type.
        nodata: Value of pixels that hold no data, where the type can hold it, else None.
        has_mask: Validity comes from a mask or alpha band (or differs by band), not from `nodata`.
        alpha: The alpha band, counted from 1, or None.
        block_shape: Rows and columns of the blocks it is stored in.
        overviews: Reduction factors of its overviews.
        crs: CRS of its geotransform or GCPs as WKT, or None.
        georeference: Where its pixels lie, or None.
        source_metadata: `sourceMetadata` of its features.
    """

    url: str
    path: str
    driver: str
    etag: str
    width: int
    height: int
    bands: int
    dtype: str
    nodata: float | None
    has_mask: bool
    alpha: int | None
    block_shape: tuple[int, int]
    overviews: tuple[int, ...]
    crs: str | None
    georeference: Georeference | None = field(compare=False)
    source_metadata: list[dict[str, str | None]]

    @property
    def name(self) -> str:
        """File name, without folders."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels, decoded."""
        return self.width * self.height * self.bands * np.dtype(self.dtype).itemsize

    @property
    def in_s3(self) -> bool:
        """Whether it is read from S3, not from a file."""
        return self.path.startswith("/vsis3/")


def open_image(url: str, *, read_role: str | None = None, roots: Sequence[Path] = ()) -> Image:
    """Open an image for its metadata.

    A file of several images (multi-page TIFF, multi-segment NITF) stands for the first.

    Args:
        url: `s3://bucket/key`, or the path of a file below one of `roots`.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        roots: Folders in which local images are allowed.

    Raises:
        ImageError: It may not be opened, or cannot be: with the URL, the reason and the remedy.
    """
    path = gdal_path(url, roots)
    found = stored(url, path, read_role)
    driver = driver_of(url, found.head)
    with gdal_environment(read_role, s3=path.startswith("/vsis3/")):
        try:
            with rasterio.open(path, driver=driver) as dataset:
                check_raster(url, dataset, found.size)
                return _describe(url, path, dataset, found)
        except RasterioError as error:
            raise ImageError(
                f"{url} cannot be read as {driver} ({error}): it is damaged or cut short; "
                "check that it opens elsewhere, and upload it again."
            ) from error


@contextmanager
def dataset_of(image: Image, read_role: str | None) -> Iterator[Any]:
    """A handle of an image for one thread; enter `gdal_environment` first.

    Raises:
        ImageChanged: The image is no longer the version that was opened.
    """
    check_unchanged(image, read_role)
    with rasterio.open(image.path, driver=image.driver) as dataset:
        yield dataset


def check_unchanged(image: Image, read_role: str | None) -> None:
    """Make sure that an image is still the version that was opened.

    Raises:
        ImageChanged: It is not.
    """
    now = stored(image.url, image.path, read_role).etag
    if now != image.etag:
        raise ImageChanged(
            f"{image.url} was replaced while it was read (version {image.etag}, now {now}): "
            "send the request again."
        )


def _describe(url: str, path: str, dataset: Any, found: Stored) -> Image:  # noqa: ANN401 - no types
    flags = set(dataset.mask_flag_enums[0])
    dtype = dataset.dtypes[0]
    nodata = _representable(dataset.nodata, dtype)
    alike = len(set(map(str, dataset.nodatavals))) == 1
    by_nodata = MaskFlags.nodata in flags and alike
    crs = dataset.crs or dataset.gcps[1]
    return Image(
        url=url,
        path=path,
        driver=dataset.driver,
        etag=found.etag,
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dtype,
        nodata=nodata if by_nodata else None,
        has_mask=MaskFlags.per_dataset in flags or not alike,
        alpha=_alpha(dataset) if MaskFlags.alpha in flags else None,
        block_shape=dataset.block_shapes[0],
        overviews=tuple(dataset.overviews(1)),
        crs=crs.to_wkt() if crs else None,
        georeference=georeference_of(dataset),
        source_metadata=source_metadata(url, dataset.driver, dataset.tags()),
    )


def _alpha(dataset: Any) -> int:  # noqa: ANN401 - rasterio has no types
    """The band whose interpretation is alpha, counted from 1."""
    names = [interpretation.name for interpretation in dataset.colorinterp]
    return names.index("alpha") + 1


def _representable(nodata: float | None, dtype: str) -> float | None:
    """A nodata value, or None where pixels of this type can never have it (nor has rasterio)."""
    fraction = nodata is not None and not isnan(nodata) and not float(nodata).is_integer()
    return None if fraction and np.dtype(dtype).kind in "iu" else nodata
