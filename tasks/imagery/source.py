"""Open an image: everything known of it before a pixel is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError

from tasks.errors import ImageChanged, ImageError
from tasks.imagery.best_georeference import georeference_of
from tasks.imagery.bombs import check_raster_size
from tasks.imagery.contents import main_image
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference import Georeference
from tasks.imagery.headers import is_interlaced
from tasks.imagery.metadata import header_tags, source_metadata
from tasks.imagery.nitf_source import NitfSource, nitf_source_of
from tasks.imagery.png import Palette
from tasks.imagery.safety import check_raster, driver_of, gdal_path
from tasks.imagery.stored import Ranges, Stored, stored

_WHOLE_INDEX = 1 << 18  # blocks whose places, 16 bytes each, are fetched when an image is opened


@dataclass(frozen=True, slots=True)
class Image:
    """One version of a raster image, without its pixels.

    Attributes:
        url: As the request names it.
        path: Where GDAL finds its file.
        driver: GDAL's name of its format.
        etag: Version of its content: S3's ETag, or size and time of change of a file.
        stored_bytes: Bytes of its file.
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
        colours: What its bands show, in GDAL's names: red, gray, palette, alpha, undefined, …
        palette: Red, green, blue, alpha (0 to 255) of each pixel value, or None: values are values.
        nitf: What a NITF's header tells, or None for other formats.
        prefix: What GDAL puts before the path to open this image of its file.
    """

    url: str
    path: str
    driver: str
    etag: str
    stored_bytes: int
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
    colours: tuple[str, ...]
    palette: Palette | None
    nitf: NitfSource | None = field(compare=False)
    prefix: str = ""

    @property
    def gdal_name(self) -> str:
        """What GDAL opens: the path of its file, and which image of the file it is."""
        return self.prefix + self.path

    @property
    def name(self) -> str:
        """File name, without folders."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel, all bands, decoded."""
        return self.bands * np.dtype(self.dtype).itemsize

    @property
    def masked(self) -> bool:
        """Whether some of its pixels may hold no data."""
        return bool(self.alpha) or self.has_mask or self.nodata is not None

    @property
    def sequential(self) -> bool:
        """Whether its pixels can only be decoded from the first row on."""
        return self.driver in ("JPEG", "PNG")

    @property
    def in_s3(self) -> bool:
        """Whether it is read from S3, not from a file."""
        return self.path.startswith("/vsis3/")


def open_image(
    url: str,
    *,
    read_role: str | None = None,
    roots: Sequence[Path] = (),
    dem: str | None = None,
) -> Image:
    """Open an image for its metadata.

    Of a file that holds several, the image is the one that is not there for another: no mask,
    smaller version or legend (`tasks.imagery.segments`); where two are left, it is refused.

    Args:
        url: `s3://bucket/key`, or the path of a file below one of `roots`.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        roots: Folders in which local images are allowed.
        dem: Elevation model under the images whose sensor model needs one, or None.

    Raises:
        ImageError: It may not be opened, or cannot be: with the URL, the reason and the remedy.
    """
    path = gdal_path(url, roots)
    found = stored(url, path, read_role)
    driver = driver_of(url, found.head)
    with gdal_environment(read_role, s3=path.startswith("/vsis3/")):
        try:
            read = Ranges(url, path, read_role, found.size)
            prefix = main_image(url, path, driver, read, found.size)
            with rasterio.open(prefix + path, driver=driver) as dataset:
                check_raster(url, dataset)
                whole = driver == "PNG" and is_interlaced(found.head)
                check_raster_size(url, dataset, found.size, whole=whole)
                image = _describe(url, path, dataset, found, georeference_of(dataset, dem))
                return replace(image, prefix=prefix)
        except (RasterioError, ValueError) as error:  # ValueError: of a damaged CRS or text
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
    height, width = image.block_shape
    blocks = -(-image.height // height) * -(-image.width // width)
    # A part of the index that cannot be fetched later costs each of its blocks a time-out.
    with rasterio.Env(GTIFF_USE_DEFER_STRILE_LOADING=blocks > _WHOLE_INDEX):
        opened = rasterio.open(image.gdal_name, driver=image.driver)
    with opened as dataset:
        check_raster(image.url, dataset)
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


def _describe(
    url: str,
    path: str,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    found: Stored,
    georeference: Georeference | None,
) -> Image:
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
        stored_bytes=found.size,
        width=dataset.width,
        height=dataset.height,
        bands=dataset.count,
        dtype=dtype,
        nodata=nodata if by_nodata else None,
        has_mask=MaskFlags.per_dataset in flags or not alike,
        alpha=_alpha(dataset) if MaskFlags.alpha in flags else None,
        block_shape=dataset.block_shapes[0],
        overviews=_overviews(dataset),
        crs=crs.to_wkt() if crs else None,
        georeference=georeference,
        source_metadata=[
            one | {"georeference": georeference.text if georeference else None}
            for one in source_metadata(url, dataset.driver, header_tags(dataset))
        ],
        colours=tuple(interpretation.name for interpretation in dataset.colorinterp),
        palette=_palette(dataset),
        nitf=nitf_source_of(dataset),
    )


def _overviews(dataset: Any) -> tuple[int, ...]:  # noqa: ANN401 - rasterio has no types
    """Reduction factors; an HFA file may keep its own in other files, so it is not asked."""
    return () if dataset.driver == "HFA" else tuple(dataset.overviews(1))


def _palette(dataset: Any) -> Palette | None:  # noqa: ANN401 - rasterio has no types
    """The colour table of a dataset's one band."""
    with suppress(ValueError):  # it has none
        return dict(dataset.colormap(1)) if dataset.count == 1 else None
    return None


def _alpha(dataset: Any) -> int:  # noqa: ANN401 - rasterio has no types
    """The band whose interpretation is alpha, counted from 1."""
    names = [interpretation.name for interpretation in dataset.colorinterp]
    return names.index("alpha") + 1


def _representable(nodata: float | None, dtype: str) -> float | None:
    """A nodata value, or None where pixels of this type can never have it (nor has rasterio)."""
    fraction = nodata is not None and not isnan(nodata) and not float(nodata).is_integer()
    return None if fraction and np.dtype(dtype).kind in "iu" else nodata
