"""The raster of an image as it is drawn on its preview."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from tasks.errors import PublishError
from tasks.imagery import gdal_environment
from tasks.publish.colours import RAMP, colours
from tasks.publish.preview.size import scaled
from tasks.raster import Raster

Colour = tuple[int, int, int]

_PERCENTILES = (2, 98)  # of the values: the ends of the ramp
_OPACITY = 0.5


@dataclass(frozen=True)
class RasterLayer:
    """A raster in the pixels of a picture.

    Attributes:
        pixels: uint8 (height, width, 3) the colour of each pixel.
        seen: bool (height, width) whether a pixel has an answer.
        legend: The colour and the text of each entry of the legend.
        classes: The colour of each class that pixels have, by its name.
    """

    pixels: NDArray[np.uint8]
    seen: NDArray[np.bool_]
    legend: tuple[tuple[Colour, str], ...]
    classes: Mapping[str, Colour] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Pixels of the picture in x."""
        return int(self.seen.shape[1])

    @property
    def height(self) -> int:
        """Pixels of the picture in y."""
        return int(self.seen.shape[0])

    def paint_on(self, picture: NDArray[np.uint8]) -> None:
        """Lay the raster over a picture, which shines through."""
        mixed = (1 - _OPACITY) * picture + _OPACITY * self.pixels
        picture[self.seen] = np.rint(mixed[self.seen]).astype(np.uint8)


def layer_of_file(path: Path, size: int) -> RasterLayer:
    """The layer of a published raster.

    Args:
        path: The published file.
        size: Pixels of the picture's longer side.

    Raises:
        PublishError: It cannot be read.
    """
    try:
        with gdal_environment(), rasterio.open(path) as dataset:
            width, height = scaled((dataset.width, dataset.height), size)
            numbers = dataset.read(1, out_shape=(height, width))
            if np.dtype(dataset.dtypes[0]).kind == "f":
                name = dataset.descriptions[0] or "value"
                return _of_values(numbers, dataset.nodata, name, dataset.units[0] or "")
            names = {
                int(key.removeprefix("CLASS_")): name
                for key, name in dataset.tags(1).items()
                if key.startswith("CLASS_")
            }
            return _of_classes(numbers, dataset.nodata, dataset.colormap(1), names)
    except rasterio.RasterioIOError as error:
        raise PublishError(f"{path} cannot be read for the preview ({error}).") from error


def layer_of_raster(raster: Raster, size: int) -> RasterLayer:
    """The layer of a raster that is whole in stored blocks.

    Args:
        raster: The raster.
        size: Pixels of the picture's longer side.

    Raises:
        PublishError: A block cannot be read.
    """
    layer, output = raster.layers[0], raster.output
    width, height = scaled(raster.size, size)
    reduced = raster.reduced(layer, size)[0]
    rows = (np.arange(height) + 0.5) * reduced.shape[0] / height
    columns = (np.arange(width) + 0.5) * reduced.shape[1] / width
    numbers = reduced[rows.astype(int)[:, np.newaxis], columns.astype(int)]
    if output.is_values:
        return _of_values(numbers, layer.nodata, layer.bands[0], layer.unit)
    return _of_classes(numbers, layer.nodata, colours(output), output.class_names)


def _of_classes(
    numbers: NDArray[Any],
    nodata: float,
    table: Mapping[int, tuple[int, ...]],
    names: Mapping[int, str],
) -> RasterLayer:
    seen = numbers != nodata
    pixels = np.zeros((*numbers.shape, 3), np.uint8)
    found, places, counts = np.unique(numbers[seen], return_inverse=True, return_counts=True)
    own = [(*table.get(int(number), (0, 0, 0)),)[:3] for number in found]
    pixels[seen] = np.array(own, np.uint8).reshape(-1, 3)[places]
    legend, classes = [], {}
    for at in np.argsort(-counts, kind="stable"):
        number, (red, green, blue) = int(found[at]), own[at]
        share = 100 * counts[at] / counts.sum()
        name = names.get(number, f"class {number}")
        text = f"{name} {f'{share:.0f}' if share >= 0.5 else '< 1'} %"
        legend.append(((red, green, blue), text))
        classes[name] = red, green, blue
    return RasterLayer(pixels, seen, tuple(legend), classes)


def _of_values(numbers: NDArray[Any], nodata: float | None, name: str, unit: str) -> RasterLayer:
    seen = np.isfinite(numbers)
    if nodata is not None:
        seen &= numbers != nodata
    if not seen.any():
        return RasterLayer(np.zeros((*numbers.shape, 3), np.uint8), seen, ())
    low, high = np.percentile(numbers[seen], _PERCENTILES)
    share = np.clip((np.where(seen, numbers, low) - low) / ((high - low) or 1), 0, 1)
    places = np.linspace(0, 1, len(RAMP))
    bands = [np.interp(share, places, band) for band in zip(*RAMP, strict=True)]
    legend = tuple(
        (RAMP[at], f"{name} {low + places[at] * (high - low):.4g} {unit}".strip())
        for at in (0, len(RAMP) // 2, -1)
    )
    return RasterLayer(np.stack(bands, axis=-1).astype(np.uint8), seen, legend)
