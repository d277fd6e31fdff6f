"""The metadata of an image, known before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tasks.imagery.georeference import Georeference
from tasks.imagery.nitf_header import NitfHeader

Palette = dict[int, tuple[int, int, int, int]]
"""Colour table: red, green, blue, alpha (0 to 255) for each pixel value."""


@dataclass(frozen=True, slots=True)
class Image:
    """One version of a raster image, without its pixels.

    Attributes:
        url: URL of the image, from the request.
        path: Path with which GDAL opens its file.
        driver: GDAL driver of its format.
        etag: Version of its content: S3's ETag; of a local file its size and modification time.
        stored_bytes: Size of its file in bytes.
        width: Pixels in x.
        height: Pixels in y.
        bands: Number of bands, alpha included.
        dtype: Pixel type, as numpy names it.
        nodata: Value of pixels without data; None if there is no such value, or if validity does
            not depend on it alone (`has_mask`).
        has_mask: Whether GDAL's mask decides which pixels are valid (from a mask, an alpha band or
            a nodata value per band), not `nodata`.
        alpha: Number of the alpha band, from 1, or None.
        block_shape: Rows and columns of the blocks in which it is stored.
        overviews: Reduction factors of its overviews.
        crs: CRS of its geotransform or GCPs as WKT, or None.
        georeference: Mapping between its pixels and the world, or None.
        source_metadata: `sourceMetadata` of its features.
        colours: Colour interpretation of its bands, as GDAL names it: red, gray, palette, alpha, …
        palette: Colour table, or None.
        nitf: Header of a NITF, or None for other formats.
        prefix: Prefix with which GDAL opens this image of its file, or "".
        descriptions: Description of each band, as GDAL reads it: blue, nir, …; empty for none.
        overview: Position, from 0, of the overview of its file that is read in its place, or None.
        scales: Scale of each band's values to what they measure; empty if all are 1.
        offsets: Offset of each band's scaled values; empty if all are 0.
        black: Value of black if 0 is white, as in TIFF's MINISWHITE; 0 if 0 is black.
        unplaced: Whether it has a geotransform that places it nowhere, for want of a CRS.
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
    nitf: NitfHeader | None = field(compare=False)
    prefix: str = ""
    descriptions: tuple[str, ...] = ()
    overview: int | None = None
    scales: tuple[float, ...] = ()
    offsets: tuple[float, ...] = ()
    black: int = 0
    unplaced: bool = False

    @property
    def gdal_name(self) -> str:
        """The name with which GDAL opens this image of its file."""
        return self.prefix + self.path

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def band_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of its bands: colour interpretations; descriptions, or else those."""
        described = self.descriptions or ("",) * self.bands
        names = (text or colour for text, colour in zip(described, self.colours, strict=True))
        return self.colours, tuple(names)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a decoded pixel, all bands together."""
        return self.bands * np.dtype(self.dtype).itemsize

    @property
    def masked(self) -> bool:
        """Whether some of its pixels may be without data."""
        by_value = bool(self.alpha) or self.nodata is not None or bool(self.transparent)
        return by_value or self.has_mask

    @property
    def transparent(self) -> list[int]:
        """The values that its colour table shows as fully transparent."""
        table = self.palette or {}
        return [value for value, (*_, alpha) in table.items() if not alpha]

    @property
    def no_data(self) -> str | None:
        """What decides which of its pixels hold no data, for users; None if nothing does."""
        if self.nodata is not None:
            return f"nodata {self.nodata:.15g}"
        if self.alpha:
            return f"alpha: band {self.alpha}"
        if self.has_mask:
            return "mask"
        return "transparent colours" if self.transparent else None

    @property
    def sequential(self) -> bool:
        """Whether its pixels can only be decoded from the first row onwards."""
        return self.driver in ("JPEG", "PNG")

    @property
    def in_s3(self) -> bool:
        """Whether it is read from S3, not from a local file."""
        return self.path.startswith("/vsis3/")
