"""Generation of the harbour: an image on which a detector can run, and its ground truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.features import rasterize
from rasterio.windows import Window
from scipy import ndimage

from deployments.demo.harbour import texture
from deployments.demo.harbour.fleet import populate
from deployments.demo.harbour.layout import GREEN, Harbour, build
from deployments.demo.harbour.paint import Colour, paint
from deployments.demo.harbour.ship import Ship
from deployments.demo.harbour.truth import Truth

CRS = "EPSG:32633"
TRANSFORM = Affine(1, 0, 388_000, 0, -1, 5_034_000)  # 1 m pixels in the northern Adriatic
NODATA = 0
BLOCK = 512  # pixels of the file's blocks
COARSE = 16  # image pixels of a pixel of the smooth fields
STRIP = 128  # rows painted at a time
DEEP, SHALLOW = np.array([[24, 51, 66], [34, 72, 78]], np.float32)[..., None, None]  # water
PARCHED = (22.0, 9.0, 6.0)  # grey levels by which dry country is brighter than green country
RIPPLE, SWELL, PATCHES, GRAIN = 0.075, 0.05, 0.07, 0.07  # deviations, relative to the grey level


@dataclass(frozen=True)
class Textures:
    """The textures of the water and the ground.

    Attributes:
        ripple: Clutter of a few pixels, from `texture.repeated`.
        swell: Long waves from one direction, from `texture.repeated`.
        patches: Wind and slicks, from `texture.stretched`.
        shallow: 1 at the shore to 0 in deep water, from `texture.stretched`.
        fields: Dry and green country, from `texture.stretched`.
    """

    ripple: NDArray[np.float32]
    swell: NDArray[np.float32]
    patches: NDArray[np.float32]
    shallow: NDArray[np.float32]
    fields: NDArray[np.float32]


def generate(
    path: Path,
    *,
    size: int = 8192,
    seed: int = 7,
    progress: Callable[[float], None] | None = None,
) -> Truth:
    """Write a harbour scene as a COG, and its ground truth as `truth.geojson` beside it.

    The image is RGB uint8 with 1 m pixels in UTM; nodata 0 around a tilted footprint, and values of
    1 or more inside. The same size and seed give the same pixels.

    Args:
        path: The GeoTIFF to write.
        size: Pixels of its side; the harbour's layout scales with it, the ships do not.
        seed: Seed of the random generator; other seeds give other harbours.
        progress: Called with the completed share, 0 to 1.

    Returns:
        The outline and class of every ship.
    """
    report = progress or (lambda _: None)
    random = np.random.default_rng(seed)
    harbour = build(random, size)
    ships = populate(harbour, random)
    sea = _sea(random, harbour)
    layers = [layer for ship in ships for layer in ship.layers()]
    palette = list(dict.fromkeys(colour for _, colour in harbour.ground))
    spans = np.array([layer.span for layer in layers]).reshape(-1, 4)
    ground, inside = _ground(harbour, palette)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        interleave="PIXEL",
        width=size,
        height=size,
        count=3,
        dtype="uint8",
        crs=CRS,
        transform=TRANSFORM,
        nodata=NODATA,
        compress="DEFLATE",
        level=1,
        predictor="YES",
        blocksize=BLOCK,
        overview_resampling="AVERAGE",
        num_threads="ALL_CPUS",
    ) as image:
        for top in range(0, size, STRIP):
            rows = slice(top, min(top + STRIP, size))
            canvas = _surface(sea, palette, ground[rows], top)
            near = np.flatnonzero((spans[:, 1] < rows.stop + 1) & (spans[:, 3] > top - 1))
            paint(canvas, top, [layers[index] for index in near])
            pixels = np.clip(canvas + np.float32(0.5), 1, 255).astype(np.uint8) * inside[rows]
            image.write(pixels, window=Window(0, top, size, len(pixels[0])))
            report(0.75 * rows.stop / size)
    truth = _truth(ships)
    truth.save(path.with_name("truth.geojson"))
    report(1.0)
    return truth


def _truth(ships: list[Ship]) -> Truth:
    """The ground truth: what a perfect detector would find."""
    return Truth(
        outlines=tuple(ship.outline for ship in ships),
        classes=tuple(ship.kind.name for ship in ships),
        crs=CRS,
        transform=TRANSFORM,
    )


def _sea(random: np.random.Generator, harbour: Harbour) -> Textures:
    """The textures: ripples of a few pixels, swell from the south-west, slicks, shallows, land."""
    ripple = texture.periodic(
        random, 1024, lambda kx, ky: np.exp(-((kx**2 + ky**2) / 0.16**2)) * 1.0
    )
    swell = texture.periodic(
        random,
        1440,
        lambda kx, ky: np.exp(
            -(((np.hypot(kx, ky) - 0.028) / 0.012) ** 2) - ((np.arctan2(ky, kx) - 0.45) / 0.35) ** 2
        ),
    )
    cells = math.ceil(harbour.size / COARSE)
    patches = texture.periodic(
        random, cells, lambda kx, ky: 1 / (0.6 / cells + np.hypot(kx, 2.2 * ky)) ** 1.7
    )
    land = rasterize(
        [harbour.land], out_shape=(cells, cells), transform=Affine.scale(harbour.size / cells)
    )
    fields = texture.periodic(
        random, cells, lambda kx, ky: 1 / (8 / cells + np.hypot(kx, ky)) ** 1.6
    )
    away = ndimage.distance_transform_edt(land == 0) * COARSE if land.any() else land + 1e9
    shallow = np.exp(-away / (0.02 * harbour.size)).astype(np.float32)
    size = harbour.size
    return Textures(
        texture.repeated(ripple, size),
        texture.repeated(swell, size),
        *(texture.stretched(field, size) for field in (patches, shallow, fields)),
    )


def _ground(harbour: Harbour, palette: list[Colour]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The ground at each pixel, and the mask of pixels with data.

    Returns:
        uint8 (size, size): number of the pixel's colour in the palette, from 1; 0 for water.
        uint8 (size, size): 1 for pixels with data, 0 for nodata.
    """
    shape = (harbour.size, harbour.size)
    number = {colour: index + 1 for index, colour in enumerate(palette)}
    areas = ((area, number[colour]) for area, colour in harbour.ground)
    return rasterize(areas, out_shape=shape, dtype=np.uint8), rasterize(
        [harbour.footprint], out_shape=shape, dtype=np.uint8
    )


def _surface(
    sea: Textures, palette: list[Colour], ground: NDArray[np.uint8], top: int
) -> NDArray[np.float32]:
    """Water and land without ships: (3, rows, size) grey levels of a strip from row `top`."""
    rows = len(ground)
    ripple = texture.strip(sea.ripple, top, rows)
    patches = texture.smooth(sea.patches, top, rows) * np.float32(PATCHES)
    clutter = texture.strip(sea.swell, top, rows)
    clutter *= SWELL
    clutter += patches
    clutter += ripple * np.float32(RIPPLE)
    clutter += 1
    shallow = texture.smooth(sea.shallow, top, rows)
    canvas: NDArray[np.float32] = (SHALLOW - DEEP) * shallow
    canvas += DEEP
    canvas *= clutter
    dry = ground > 0
    if dry.any():
        patches += ripple * np.float32(GRAIN) + 1
        country = ground == palette.index(GREEN) + 1
        parched = np.clip(texture.smooth(sea.fields, top, rows), -1, 1) * country
        for band, plane in enumerate(canvas):
            colours = np.array([0, *(colour[band] for colour in palette)], np.float32)
            land = colours[ground]
            land += parched * np.float32(PARCHED[band])
            land *= patches
            np.copyto(plane, land, where=dry)
    return canvas
