"""What a tile holds when a model gets it: its bands, and how their values are scaled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, Resolution, TilePixels, TilePreparation
from tasks.inference.answer.moved import moved
from tasks.inference.description.preprocessing.scaling import NO_SCALING, rescale
from tasks.inference.description.resample import Validity, nearest_pixels, resize
from tasks.inference.description.value_scaling import ValueScaling
from tasks.request import ImageScaling, Request, ScalingType

_T = TypeVar("_T")

_LARGEST = {"uint8": 255.0, "float32": 1.0}  # what the maximum of a linear scaling becomes


@dataclass(frozen=True)
class BandPreparation(TilePreparation):
    """Also chooses bands, after pixels without data hold the fill value, and scales their values.

    Attributes:
        bands: Numbers of the bands, from 1, in the order of the model.
        scaling: How values are scaled, with all its numbers; None for not at all.
        resolution: The pixels in which tiles are sent; None for those of the image.
    """

    bands: tuple[int, ...] = ()
    scaling: ImageScaling | None = None
    resolution: Resolution | None = None

    @cached_property
    def image(self) -> Image:
        """The image that the prepared tiles are of."""
        image = TilePreparation(self.source, self.fill).image
        chosen = [band - 1 for band in self.bands]
        nodata = None if self.scaling else image.nodata
        if self.resolution is not None:
            sent = self.resolution.sent
            image = replace(
                image,
                width=sent.width,
                height=sent.height,
                georeference=sent.georeference,
                nitf=sent.nitf,
            )
        header = image.nitf
        if header is not None:  # its record of bands is of those that are stored
            kept = tuple(one for one in header.records if not one[0].startswith("BANDS"))
            header = replace(header, records=kept)
        return replace(
            image,
            bands=len(chosen),
            dtype=str(self.scaling.dtype) if self.scaling else image.dtype,
            nodata=nodata,
            has_mask=nodata is None and image.masked,
            alpha=None,
            colours=tuple(image.colours[band] for band in chosen),
            descriptions=_of_bands(image.descriptions, chosen),
            scales=_of_bands(image.scales, chosen) if self.scaling is None else (),
            offsets=_of_bands(image.offsets, chosen) if self.scaling is None else (),
            nitf=header,
        )

    def __call__(self, tile: TilePixels) -> TilePixels:
        """A tile with these bands, resampled and scaled."""
        filled = super().__call__(tile)
        stored, valid = filled.pixels, filled.valid
        if self.resolution is not None:
            return self._resampled(filled.tile, stored, valid, self.resolution)
        pixels = np.empty((len(self.bands), *stored.shape[1:]), self.image.dtype)
        for number, band in enumerate(self.bands):
            rescale(stored[band - 1], *self._of_band(number), pixels[number])
        return TilePixels(filled.tile, pixels, valid)

    def sent(self, tile: Tile) -> Tile:
        """The tile in whose pixels the answer for a tile is."""
        if self.resolution is None:
            return tile
        return Tile(tile.index, Window(0, 0, *self.resolution.size))

    def in_image(self, found: pa.Table | None, tile: Tile) -> pa.Table | None:
        """Detections in pixels of a tile that was sent, in pixels of the image."""
        if self.resolution is None:
            return super().in_image(found, tile)
        return moved(found, tile.window, self.resolution.factors)

    def _resampled(
        self,
        tile: Tile,
        stored: NDArray[Any],
        valid: NDArray[np.bool_] | None,
        resolution: Resolution,
    ) -> TilePixels:
        """A tile as it is sent, from the pixels that were read for it.

        Pixels are averaged where they become larger, and interpolated linearly where they become
        smaller; those without data take no part in it.
        """
        box, size = resolution.box(tile.window), resolution.size
        resizing = resize if valid is None else Validity.of(valid).resize
        pixels = np.empty((len(self.bands), size[1], size[0]), self.image.dtype)
        for number, band in enumerate(self.bands):
            scaling, limits = self._of_band(number)
            for rows, values in resizing(stored[band - 1], size, "area", box):
                rescale(values, scaling, limits, pixels[number, rows])
        mask = None if valid is None else valid[nearest_pixels(valid, size, box)]
        return TilePixels(resolution.sent_tile(tile), pixels, mask)

    def _of_band(self, number: int) -> tuple[ValueScaling, tuple[float, float] | None]:
        """The scaling of one of the bands that are sent, and the range of its result."""
        return (NO_SCALING, None) if self.scaling is None else _of_band(self.scaling, number)


def _of_bands(values: tuple[_T, ...], chosen: Sequence[int]) -> tuple[_T, ...]:
    """The values of chosen bands, by index from 0; none if there are none for any band."""
    return tuple(values[band] for band in chosen) if values else ()


def preparation_of(
    request: Request, image: Image, resolution: Resolution | None = None
) -> TilePreparation:
    """How the tiles of an image are prepared for the model, whatever its endpoint.

    Args:
        request: The message, with the numbers of its scaling.
        image: One of its images.
        resolution: The pixels in which tiles are sent; None for those of the image.

    Raises:
        RequestError: The image lacks a band, or its pixels cannot be scaled so or hold the fill.
    """
    scaling, fill = request.image_scaling, request.image_fill or 0
    _check_fill(fill, image)
    if not request.image_bands and scaling is None and resolution is None:
        return TilePreparation(image, fill)
    bands = band_numbers(request, TilePreparation(image, fill).image)
    if scaling is not None:
        _check_scalable(scaling, image, len(bands))
    return BandPreparation(image, fill, bands, scaling, resolution)


def prepared_as(request: Request, preparation: TilePreparation) -> dict[str, Any] | None:
    """What a request says of the content of tiles, with all numbers; None if it says nothing."""
    fill: dict[str, Any] = {"fill": preparation.fill}
    if request.image_resolution is not None:
        fill = {"resolution": request.image_resolution} | fill
    if not isinstance(preparation, BandPreparation):
        return None if request.image_fill is None and len(fill) == 1 else fill
    scaling = preparation.scaling
    numbers = scaling and scaling.content
    return {"bands": list(preparation.bands), "scaling": numbers} | fill


def prepared_text(request: Request, preparation: TilePreparation) -> str:
    """The same in words; empty if the request says nothing."""
    fill = f"pixels without data hold {preparation.fill:g}"
    if not isinstance(preparation, BandPreparation):
        return "" if request.image_fill is None else fill
    names = TilePreparation(preparation.source).image.band_names[1]
    bands = [
        str(band) if names[band - 1] == "undefined" else f"{band} ({names[band - 1]})"
        for band in preparation.bands
    ]
    parts = [] if preparation.resolution is None else [preparation.resolution.text]
    parts.append(f"band{'' if len(bands) == 1 else 's'} {', '.join(bands)}")
    if preparation.scaling is not None:
        parts.append(_scaling_text(preparation.scaling))
    return "; ".join([*parts, fill])


def band_numbers(request: Request, image: Image) -> tuple[int, ...]:
    """The numbers, from 1, of the bands that a request asks for: all but alpha unless it names any.

    Raises:
        RequestError: The image lacks one; the message has those that there are.
    """
    if not request.image_bands:
        every = range(1, image.bands + 1)
        return tuple(band for band in every if band != image.alpha or image.bands == 1)
    return tuple(_number(band, image) for band in request.image_bands)


def _number(band: int | str, image: Image) -> int:
    if isinstance(band, int):
        if band > image.bands:
            raise RequestError(
                f"imageBands: names band {band}, and {image.url} has {_count(image.bands)}; give "
                "numbers of its bands."
            )
        return band
    for kind in image.band_names:
        names = [name.lower() for name in kind]
        if band.lower() in names:
            return names.index(band.lower()) + 1
    there = ", ".join(image.band_names[1])
    raise RequestError(
        f"imageBands: {image.url} has no band {band!r} (it has {there}); give the number, from 1 "
        f"to {image.bands}."
    )


def _check_fill(fill: float, image: Image) -> None:
    dtype = np.dtype(image.dtype)
    if dtype.kind not in "iu":
        return
    limits = np.iinfo(dtype)
    if not (float(fill).is_integer() and limits.min <= fill <= limits.max):
        raise RequestError(
            f"imageFill: {fill:g} is not a value of the {dtype} pixels of {image.url}: give one "
            f"from {limits.min} to {limits.max}, or leave it out."
        )


def _check_scalable(scaling: ImageScaling, image: Image, bands: int) -> None:
    if image.palette:
        raise RequestError(
            f"imageScaling: the pixels of {image.url} are numbers of colours in a table, which "
            "cannot be scaled; leave it out, or expand them: gdal_translate -expand rgb."
        )
    if np.dtype(image.dtype).kind == "c":
        raise RequestError(
            f"imageScaling: the pixels of {image.url} are complex ({image.dtype}), and only real "
            "ones are scaled; leave it out."
        )
    given = len(scaling.numbers[0])
    if given not in (1, bands):
        raise RequestError(
            f"imageScaling: has numbers for {_count(given)}, and {_count(bands)} are sent; give "
            "one number for all, or one for each."
        )


def _of_band(scaling: ImageScaling, number: int) -> tuple[ValueScaling, tuple[float, float] | None]:
    """The scaling of one of the bands that are sent, and the range of its result."""
    first, second = (each[number % len(each)] for each in scaling.numbers)
    if scaling.type is ScalingType.Z_SCORE:
        return ValueScaling(type="z-score", mean=first, stddev=second), None
    largest = _LARGEST[scaling.dtype.name]
    end = first + (second - first) / largest
    return ValueScaling(type="min-max", minimum=first, maximum=end), (0, largest)


def _scaling_text(scaling: ImageScaling) -> str:
    first, second = scaling.numbers
    if scaling.type is ScalingType.Z_SCORE:
        pairs = [f"{a:g} ± {b:g}" for a, b in zip(first, second, strict=True)]
        return f"z-scores of {', '.join(pairs)}, as float32"
    pairs = [f"{a:g} to {b:g}" for a, b in zip(first, second, strict=True)]
    where = ""
    if scaling.type is ScalingType.PERCENTILE:
        where = f" (percentiles {scaling.lower:g} and {scaling.upper:g} of the image)"
    largest = _LARGEST[scaling.dtype.name]
    return f"{', '.join(pairs)}{where} scaled to 0 to {largest:g}, as {scaling.dtype}"


def _count(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"
