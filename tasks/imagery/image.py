"""The image: what is known of it before a pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tasks.imagery.georeference.interface import Georeference
from tasks.imagery.opening.nitf_source import NitfSource

Palette = dict[int, tuple[int, int, int, int]]
"""Red, green, blue, alpha (0 to 255) of each pixel value."""


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
