"""The picture of a preview: the image's pixels, failed tiles, features or raster, a legend."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import sqrt
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageColor, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion, maximum_filter

from tasks.imagery import Image
from tasks.imagery.display import to_rgb
from tasks.imagery.reading.reduced import read_reduced
from tasks.publish.colours import OVER_IMAGES
from tasks.publish.preview.layer import FeatureLayer, Outline
from tasks.publish.preview.raster_layer import Colour, RasterLayer
from tasks.results.coverage import TileState

Encoding = Literal["PNG", "JPEG"]

CLASS_COLOURS: tuple[Colour, ...] = tuple(map(ImageColor.getrgb, OVER_IMAGES))  # type: ignore[arg-type]
"""Of the classes, the most frequent first."""

_OTHER: Colour = (190, 190, 190)  # all further classes
_FAILED: Colour = (255, 32, 32)
_NODATA: Colour = (64, 64, 64)
_LEGEND: Colour = (24, 24, 24)
_SHADOW: Colour = (0, 0, 0)
_TEXT: Colour = (240, 240, 240)

_LINE = 16  # height of a line of the legend in pixels
_FONT = 12
_PAD = 6
_MIN_WIDTH = 320  # of a picture, so that the legend can be read
_MAX_NAME = 32  # characters
_MAX_CLASSES = 24  # of a raster in the legend
_MIN_HOLE = 5  # pixels of the picture: the least side of a failed tile
_HATCH = 6  # pixels from one line to the next
_MAX_RADIUS = 3  # of a dot in pixels
_DOTS_SHARE = 0.03  # of the picture, which dots larger than a pixel may cover
_MAX_BOLD = 1000  # outlines that are drawn two pixels wide; more are drawn one pixel wide
_JPEG_QUALITIES = (85, 75, 65)


def compose(
    image: Image,
    layer: FeatureLayer | RasterLayer,
    ledger: pa.Table | None,
    read_role: str | None = None,
) -> Picture.Image:
    """Put the layers of a preview together.

    Args:
        image: The image.
        layer: Its features or its raster.
        ledger: Table with `x`, `y`, `width`, `height` and `state` of tiles, or None.
        read_role: IAM role to read the image with, or None.

    Raises:
        ImageError: The image cannot be read, or was replaced.
    """
    size = layer.width, layer.height
    pixels, note = background(image, size, read_role)
    if isinstance(layer, RasterLayer):
        layer.paint_on(pixels)
    failed = None if ledger is None else ledger.filter(pc.equal(ledger["state"], TileState.FAILED))
    if failed:
        _hatch(pixels, _mask(failed, image.size, size))
    picture, entries = _with_features(pixels, layer)
    if failed:
        entries.append((_FAILED, f"{len(failed):,} failed tile{'s' if len(failed) > 1 else ''}"))
    if note:
        entries.append((_NODATA, note))
    return _with_legend(picture, entries)


def _with_features(
    pixels: NDArray[np.uint8], layer: FeatureLayer | RasterLayer
) -> tuple[Picture.Image, list[tuple[Colour, str]]]:
    """A picture with the features of a layer, and the legend of the layer."""
    if isinstance(layer, RasterLayer):
        shown = [(colour, _short(text)) for colour, text in layer.legend[:_MAX_CLASSES]]
        if others := len(layer.legend) - len(shown):
            shown.append((_OTHER, f"{others} more classes"))
        return Picture.fromarray(pixels), shown or [(_OTHER, "no pixel has an answer")]
    colours = _colours(layer)
    _draw_dots(pixels, layer.dots, colours)
    picture = Picture.fromarray(pixels)
    _draw_outlines(picture, layer.outlines(), colours)
    return picture, _legend(layer)


def encode(picture: Picture.Image, encoding: Encoding, max_bytes: int | None = None) -> bytes:
    """Encode a picture; it is made smaller until it has at most `max_bytes`."""
    while True:
        for quality in _JPEG_QUALITIES if encoding == "JPEG" else (None,):
            sink = BytesIO()
            picture.save(sink, encoding, **({"quality": quality} if quality else {}))
            encoded = sink.getvalue()
            if max_bytes is None or len(encoded) <= max_bytes:
                return encoded
        width, height = picture.size
        picture = picture.resize((max(1, width * 4 // 5), max(1, height * 4 // 5)))


def background(
    image: Image, size: tuple[int, int], read_role: str | None
) -> tuple[NDArray[np.uint8], str]:
    """The image's pixels, (height, width, 3), and what the legend has to say of them.

    Args:
        image: The image.
        size: Width and height of the picture.
        read_role: IAM role to read the image with, or None.

    Raises:
        ImageError: The image cannot be read, or was replaced.
    """
    reduced = read_reduced(image, max(size), read_role)
    if reduced is None:
        pixels = np.full((size[1], size[0], 3), _NODATA, np.uint8)
        return pixels, "pixels not shown: the image is large and has no overviews"
    picture = Picture.fromarray(to_rgb(reduced, image.palette, _NODATA))
    enlarged = size[0] >= image.width
    how = Picture.Resampling.NEAREST if enlarged else Picture.Resampling.LANCZOS
    note = "pixels sampled: the image is large and has no overviews" if reduced.sampled else ""
    return np.array(picture.resize(size, how)), note


def _mask(tiles: pa.Table, image_size: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(height, width) of the picture: where tiles are. A tile covers a few pixels at least."""
    scale = np.divide(size, image_size)
    starts = np.stack([tiles["x"].to_numpy(), tiles["y"].to_numpy()], axis=1) * scale
    sides = np.stack([tiles["width"].to_numpy(), tiles["height"].to_numpy()], axis=1) * scale
    first = starts.astype(np.int64)
    last = np.maximum(np.ceil(starts + sides).astype(np.int64), first + _MIN_HOLE)
    last = np.minimum(last, size)
    x0, y0, x1, y1 = first[:, 0], first[:, 1], last[:, 0], last[:, 1]
    # a tile enters at its first row and column, and leaves after its last
    steps = np.zeros((size[1] + 1, size[0] + 1), np.int32)
    for rows, columns, step in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(steps, (rows, columns), step)
    covered: NDArray[np.bool_] = steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0
    return covered


def _hatch(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Hatch and outline the part of a picture where a mask is True."""
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    lines = (x + y) % _HATCH == 0
    edge = ~binary_erosion(mask, np.ones((3, 3), np.bool_))
    pixels[mask & (lines | edge)] = _FAILED


def _ranked(layer: FeatureLayer) -> list[str]:
    """The classes, the most frequent first."""
    return sorted(layer.classes, key=lambda name: (-layer.classes[name], name))


def _colours(layer: FeatureLayer) -> NDArray[np.uint8]:
    """(256, 3) the colour of each class by its number: the most frequent have their own."""
    colours = np.full((256, 3), _OTHER, np.uint8)
    for name, colour in zip(_ranked(layer), CLASS_COLOURS, strict=False):
        colours[layer.number_of(name)] = colour
    return colours


def _draw_dots(
    pixels: NDArray[np.uint8], dots: NDArray[np.uint8], colours: NDArray[np.uint8]
) -> None:
    """Draw dots, with a dark edge if there are so few of them that they can be large."""
    side = sqrt(_DOTS_SHARE * dots.size / max(1, int(np.count_nonzero(dots))))
    radius = min(int(side - 1) // 2, _MAX_RADIUS)
    if radius > 0:
        pixels[maximum_filter(dots, 2 * radius + 3) > 0] = _SHADOW
        dots = maximum_filter(dots, 2 * radius + 1)
    drawn = dots > 0
    pixels[drawn] = colours[dots[drawn]]


def _draw_outlines(
    picture: Picture.Image, outlines: Sequence[Outline], colours: NDArray[np.uint8]
) -> None:
    drawing = ImageDraw.Draw(picture)
    width = 2 if len(outlines) <= _MAX_BOLD else 1
    for outline in outlines:
        colour = _tuple(colours[outline.number])
        for line in outline.lines:
            drawing.line(line.ravel().tolist(), fill=colour, width=width)


def _legend(layer: FeatureLayer) -> list[tuple[Colour, str]]:
    """The colour and the text of each entry of the legend."""
    ranked, own = _ranked(layer), len(CLASS_COLOURS)
    entries = [
        (colour, f"{_short(name)} {layer.classes[name]:,}")
        for name, colour in zip(ranked, CLASS_COLOURS, strict=False)
    ]
    if others := ranked[own:]:
        number = sum(layer.classes[name] for name in others)
        entries.append((_OTHER, f"{len(others)} more classes {number:,}"))
    if not ranked:
        entries.append((_OTHER, "no features"))
    return entries


def _with_legend(picture: Picture.Image, entries: Sequence[tuple[Colour, str]]) -> Picture.Image:
    """A picture with a legend below it."""
    font = ImageFont.load_default(_FONT)
    width = max(picture.width, _MIN_WIDTH)
    places: list[tuple[int, int]] = []
    x = y = 0
    for _, text in entries:
        needed = _LINE + round(font.getlength(text)) + 2 * _PAD
        if x and x + needed > width:
            x, y = 0, y + _LINE
        places.append((x + _PAD, y))
        x += needed
    whole = Picture.new("RGB", (width, picture.height + y + _LINE + 2 * _PAD), _LEGEND)
    whole.paste(picture, ((width - picture.width) // 2, 0))
    drawing = ImageDraw.Draw(whole)
    for (left, line), (colour, text) in zip(places, entries, strict=True):
        top = picture.height + _PAD + line
        drawing.rectangle((left, top + 3, left + 9, top + 12), fill=colour)
        drawing.text((left + _LINE, top + _LINE // 2), text, fill=_TEXT, font=font, anchor="lm")
    return whole


def _short(name: str) -> str:
    """A class name that fits: of a long one the end, which in an IRI says most."""
    return name if len(name) <= _MAX_NAME else "…" + name[1 - _MAX_NAME :]


def _tuple(colour: NDArray[np.uint8]) -> Colour:
    red, green, blue = colour.tolist()
    return red, green, blue
