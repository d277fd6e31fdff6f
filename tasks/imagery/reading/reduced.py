"""Reads a whole image reduced to a few pixels, at a cost that does not grow with the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.errors import ImageError
from tasks.imagery.environment import MEBIBYTE, gdal_environment
from tasks.imagery.image import Image
from tasks.imagery.opening.allowed_inputs import check_raster
from tasks.imagery.opening.dataset import check_unchanged
from tasks.imagery.reading.validity import valid_pixels

_MAX_BYTES = 256 * MEBIBYTE  # of decoded blocks
_MAX_SEQUENTIAL_BYTES = 1024 * MEBIBYTE  # of a JPEG or PNG, whose every overview decodes all of it
_MAX_SAMPLES = 400  # blocks: over the network each is a request
_COLOURS = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class ReducedPixels:
    """A whole image in few pixels.

    Attributes:
        pixels: (bands, rows, columns) in the pixel type of the image: red, green and blue, or one
            band.
        valid: bool (rows, columns), False for pixels without data.
        sampled: Whether each pixel is that of a block which stands for its neighbours too.
    """

    pixels: NDArray[Any]
    valid: NDArray[np.bool_]
    sampled: bool = False


def read_reduced(
    image: Image,
    size: int,
    read_role: str | None = None,
    *,
    bands: Sequence[int] | None = None,
    samples: int = 1,
) -> ReducedPixels | None:
    """Read an image reduced to about `size` pixels, from its smallest sufficient overview.

    If that overview, or an image without overviews, has more than 256 MiB of pixels, only a sample
    of its blocks is read, evenly spread, and each is reduced to a few pixels.

    Args:
        image: The image.
        size: Pixels of its longer side that are wanted. The result has up to twice as many, and
            fewer if the image itself is smaller or its blocks are sampled.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        bands: Numbers of the bands to read, from 1; None for those to display.
        samples: Pixels along the side of each block of a sample. One is the average of the block,
            several are single pixels of it.

    Returns:
        The pixels; None if the file is so large, and so stored, that no part of it can be decoded
        within the limit.

    Raises:
        ImageError: The image cannot be read.
        ImageChangedError: It was replaced since it was opened.
    """
    wanted = max(image.size) / size
    fitting = {factor: level for level, factor in enumerate(image.overviews) if factor <= wanted}
    options = {"OVERVIEW_LEVEL": fitting[max(fitting)]} if fitting else {}
    with gdal_environment(read_role, s3=image.in_s3):
        check_unchanged(image, read_role)
        try:
            with rasterio.open(image.gdal_name, driver=image.driver, **options) as dataset:
                check_raster(image.url, dataset)
                return _read(image, dataset, size, bands or _bands(image, dataset), samples)
        except RasterioError as error:
            raise ImageError(f"{image.url} cannot be read ({error}).") from error


def _read(
    image: Image,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    size: int,
    bands: Sequence[int],
    samples: int,
) -> ReducedPixels | None:
    """Read a dataset whole if it is small enough, otherwise a sample of its blocks."""
    if image.sequential and image.width * image.height * image.pixel_bytes > _MAX_SEQUENTIAL_BYTES:
        return None
    block_height, block_width = dataset.block_shapes[0]
    block_bytes = block_height * block_width * image.pixel_bytes
    blocks = ceil(dataset.height / block_height) * ceil(dataset.width / block_width)
    if image.sequential or blocks * block_bytes <= _MAX_BYTES:
        step = max(1, max(dataset.shape) // size)
        shape = ceil(dataset.height / step), ceil(dataset.width / step)
        window = Window(0, 0, dataset.width, dataset.height)
        return _read_window(image, dataset, bands, window, shape, resampling=Resampling.nearest)
    if block_bytes > _MAX_BYTES:
        return None
    single = image.palette or samples > 1
    resampling = Resampling.nearest if single else Resampling.average
    most = min(_MAX_SAMPLES, _MAX_BYTES // block_bytes)
    rows, columns = _samples(dataset, size, most, samples)
    parts = [
        [
            _read_window(
                image,
                dataset,
                bands,
                Window(column.offset, row.offset, column.length, row.length),
                (row.pixels, column.pixels),
                resampling=resampling,
            )
            for column in columns
        ]
        for row in rows
    ]
    return ReducedPixels(
        np.block([[part.pixels for part in row] for row in parts]),
        np.block([[part.valid for part in row] for row in parts]),
        sampled=True,
    )


class _Sample(NamedTuple):
    """A block along one axis: offset and length in the dataset, and the pixels to make of it."""

    offset: int
    length: int
    pixels: int


def _samples(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    size: int,
    most: int,
    samples: int,
) -> tuple[list[_Sample], list[_Sample]]:
    """Rows and columns of blocks, about equally far apart, that are at most `most` blocks."""
    scale = size / max(dataset.shape)
    distance = 1.0  # pixels of the dataset
    while True:
        rows, columns = (
            list(_along(length, block, distance, scale, samples))
            for length, block in zip(dataset.shape, dataset.block_shapes[0], strict=True)
        )
        if len(rows) * len(columns) <= most:
            return rows, columns
        distance *= 1.1


def _along(
    length: int, block: int, distance: float, scale: float, samples: int
) -> Iterator[_Sample]:
    """Blocks along an axis, at least `distance` pixels apart."""
    blocks = ceil(length / block)
    count = ceil(blocks / max(1, distance // block))
    for number in range(count):
        offset = int((number + 0.5) * blocks / count) * block
        extent = min(block, length - offset)
        # a block that stands for its neighbours too would show their parts of the image wrongly
        few = max(1, round(extent * scale)) if count == blocks else min(samples, extent)
        yield _Sample(offset, extent, few)


def _read_window(
    image: Image,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    bands: Sequence[int],
    window: Window,
    shape: tuple[int, int],
    *,
    resampling: Resampling,
) -> ReducedPixels:
    """Read a window of some bands, reduced to a shape (rows, columns)."""
    alpha = [image.alpha] if image.alpha else []
    pixels = dataset.read([*bands, *alpha], window=window, out_shape=shape, resampling=resampling)
    read = replace(image, alpha=len(bands) + 1 if alpha else None)
    valid = np.broadcast_to(valid_pixels(read, dataset, pixels, window), shape)
    if image.black and 1 in bands:
        pixels[bands.index(1)] = image.black - pixels[bands.index(1)]
    return ReducedPixels(pixels[: len(bands)], valid)


def _bands(image: Image, dataset: Any) -> list[int]:  # noqa: ANN401 - rasterio has no types
    """The numbers, from 1, of red, green and blue, or of the one band to show in grey.

    Bands are found by their colour interpretation, then by their descriptions. Without either, the
    first three count as red, green and blue.
    """
    described = [str(text).lower() for text in dataset.descriptions]
    for names in (list(image.colours), described):
        if all(colour in names for colour in _COLOURS):
            return [names.index(colour) + 1 for colour in _COLOURS]
    others = [band for band in range(1, image.bands + 1) if band != image.alpha]
    return others[:3] if len(others) >= len(_COLOURS) else others[:1]
