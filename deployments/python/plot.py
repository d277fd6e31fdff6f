"""The plot of a result: the image, its failed tiles, its features or raster, in matplotlib."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from tasks.imagery import Image
from tasks.imagery.display import to_rgb
from tasks.imagery.reading.reduced import read_reduced
from tasks.publish.preview import layer_of_file
from tasks.publish.preview.picture import CLASS_COLOURS

if TYPE_CHECKING:
    from pathlib import Path

    import geopandas
    from matplotlib.axes import Axes

_NODATA = (64, 64, 64)  # red, green, blue of pixels without data
_WIDTH, _LOWEST, _HIGHEST = 8.0, 3.0, 12.0  # inches of new axes
_LEGEND = {"facecolor": "black", "labelcolor": "white"}  # the colours of classes are light


def new_axes(image: Image) -> Axes:
    """Axes of a figure of their own, about as high as the image is."""
    height = min(_HIGHEST, max(_LOWEST, _WIDTH * image.height / image.width))
    axes: Axes = plt.subplots(figsize=(_WIDTH, height), layout="constrained")[1]
    return axes


def plot_image(axes: Axes, image: Image, size: int, read_role: str | None) -> None:
    """Plot an image in its pixels, reduced to about `size` pixels along its longer side.

    Raises:
        ImageError: It cannot be read, or was replaced.
    """
    reduced = read_reduced(image, size, read_role)
    if reduced is not None:
        pixels = to_rgb(reduced, image.palette, _NODATA)
        axes.imshow(pixels, extent=(0, image.width, image.height, 0))
    axes.set(xlim=(0, image.width), ylim=(image.height, 0), aspect="equal")


def plot_failed(axes: Axes, ledger: geopandas.GeoDataFrame) -> None:
    """Hatch the tiles of a ledger that failed."""
    for _, tile in ledger[ledger["state"] == "failed"].iterrows():
        corner = tile["x"], tile["y"]
        axes.add_patch(
            Rectangle(corner, tile["width"], tile["height"], fill=False, hatch="//", ec="red")
        )


def plot_raster(
    axes: Axes, image: Image, path: Path, size: int, *, legend: bool, **style: object
) -> None:
    """Plot a raster over its image, in half of its colours.

    Args:
        axes: Axes in pixels.
        image: The image.
        path: The published raster.
        size: Pixels of the longer side that it is read with.
        legend: Whether to add a legend with the classes and their share, or the values.
        style: Arguments of `imshow`, such as `alpha`.

    Raises:
        PublishError: It cannot be read.
    """
    layer = layer_of_file(path, size)
    shown = np.dstack([layer.pixels, np.where(layer.seen, 255, 0).astype(np.uint8)])
    options: dict[str, Any] = {"alpha": 0.5, **style}
    axes.imshow(shown, extent=(0, image.width, image.height, 0), **options)
    handles = [
        Patch(color="#{:02x}{:02x}{:02x}".format(*colour), label=text)
        for colour, text in layer.legend
    ]
    if legend and handles:
        axes.legend(handles=handles, loc="upper right", **_LEGEND)


def plot_features(
    axes: Axes, features: geopandas.GeoDataFrame, *, legend: bool, **style: object
) -> None:
    """Plot the outlines of features, in a colour for each class, the most frequent first.

    Args:
        axes: Axes in pixels, whose limits are kept.
        features: In pixels, with the column `class`.
        legend: Whether to add a legend with the classes and their number of features.
        style: Arguments of `GeoSeries.plot`.
    """
    axes.autoscale(enable=False)
    numbers = features["class"].value_counts()
    handles = []
    for (name, number), levels in zip(numbers.items(), cycle(CLASS_COLOURS), strict=False):
        colour = "#{:02x}{:02x}{:02x}".format(*levels)
        group = features[features["class"] == name]
        outlines = group.geometry.copy()
        areas = outlines.geom_type.isin(["Polygon", "MultiPolygon"])
        outlines[areas] = outlines[areas].boundary
        outlines.plot(ax=axes, color=colour, aspect=None, **style)
        handles.append(Line2D([], [], color=colour, label=f"{name} {number:,}"))
    if legend and handles:
        axes.legend(handles=handles, loc="upper right", **_LEGEND)
