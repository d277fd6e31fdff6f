"""Tiles with chosen bands, scaled and resampled, as a request says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import Image, Resolution, TilePixels, TilePreparation
from tasks.inference.answer.moved import moved
from tasks.inference.description.preprocessing.scaling import NO_SCALING, rescale
from tasks.inference.description.resample import Validity, nearest_pixels, resize
from tasks.inference.description.value_scaling import ValueScaling
from tasks.request import ImageScaling, ScalingType

_T = TypeVar("_T")


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


def _of_band(scaling: ImageScaling, number: int) -> tuple[ValueScaling, tuple[float, float] | None]:
    """The scaling of one of the bands that are sent, and the range of its result."""
    first, second = (each[number % len(each)] for each in scaling.numbers)
    if scaling.type is ScalingType.Z_SCORE:
        return ValueScaling(type="z-score", mean=first, stddev=second), None
    largest = scaling.largest
    end = first + (second - first) / largest
    return ValueScaling(type="min-max", minimum=first, maximum=end), (0, largest)
