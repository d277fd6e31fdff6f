"""Encoding tiles, compared with rasterio: a file in memory with the defaults of the driver.

Tiles are views into a strip (bands, rows, columns), as the reader gives them, with georeference.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window

from deployments.demo.harbour.scene import generate
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, encoder, open_image
from tasks.imagery.georeference.affine import AffineGeoreference

SIZE = 3072
ROUNDS = 5
TILES = [("uint8", 3), ("uint16", 1), ("uint16", 8)]
NAIVE: dict[tuple[str, str], dict[str, Any]] = {
    ("GTIFF", "NONE"): {"driver": "GTiff"},
    ("GTIFF", "LZW"): {"driver": "GTiff", "compress": "lzw"},
    ("GTIFF", "ZSTD"): {"driver": "GTiff", "compress": "zstd"},
    ("GTIFF", "JPEG"): {"driver": "GTiff", "compress": "jpeg"},
    ("NITF", "NONE"): {"driver": "NITF"},
    ("NITF", "J2K"): {"driver": "NITF", "IC": "C8", "PROFILE": "NPJE_NUMERICALLY_LOSSLESS"},
    ("NITF", "JPEG"): {"driver": "NITF", "IC": "C3"},
    ("PNG", "NONE"): {"driver": "PNG"},
    ("JPEG", "NONE"): {"driver": "JPEG"},
}
FAST = {("GTIFF", "NONE"), ("NITF", "NONE"), ("PNG", "NONE")}  # several times faster than rasterio
GREY_OR_RGB = {("GTIFF", "JPEG"), ("NITF", "JPEG"), ("JPEG", "NONE"), ("PNG", "NONE")}
BYTES_ONLY = {("GTIFF", "JPEG"), ("NITF", "JPEG"), ("JPEG", "NONE")}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("encoding")
    generate(folder / "scene.tif", size=SIZE)
    return open_image(str(folder / "scene.tif"), roots=[folder])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def tiles_of(scene: Image, dtype: str, bands: int, side: int) -> tuple[Image, list[TilePixels]]:
    """The scene with other bands and pixels, and tiles of one of its strips."""
    with rasterio.open(scene.path) as dataset:
        strip = dataset.read(window=Window(0, 0, SIZE, side + 8))
    strip = strip[np.arange(bands) % len(strip)].astype(dtype)
    if dtype == "uint16":  # eleven bits, the lowest of them noise
        strip = strip * 8 + np.random.default_rng(0).integers(0, 8, strip.shape, dtype)
    colours = ("undefined",) * bands
    image = replace(scene, dtype=dtype, bands=bands, alpha=None, nodata=None, colours=colours)
    offsets = range(0, SIZE - side + 1, side)
    windows = [Window(x, 4, side, side) for x in offsets]
    return image, [
        TilePixels(Tile(index, window), strip[:, 4 : 4 + side, x : x + side], None)
        for index, (x, window) in enumerate(zip(offsets, windows, strict=True))
    ]


def naive(scene: Image, options: dict[str, Any], tile: TilePixels) -> bytes:
    bands, height, width = tile.pixels.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": tile.pixels.dtype.name}
    georeference = scene.georeference
    assert isinstance(georeference, AffineGeoreference)
    place: dict[str, Any] = {}
    if options["driver"] == "GTiff":
        place = {
            "crs": georeference.crs,
            "transform": georeference.tile_transform(tile.tile.window),
        }
    if "IC" in options:  # GDAL can compress NITF only when it copies a dataset
        with MemoryFile() as plain, MemoryFile(ext=".ntf") as copy:
            with plain.open(driver="GTiff", **profile) as dataset:
                dataset.write(tile.pixels)
            rasterio.shutil.copy(plain.name, copy.name, **options)
            return bytes(copy.read())
    with MemoryFile() as memory:
        with memory.open(**profile, **place, **options) as dataset:
            dataset.write(tile.pixels)
        return bytes(memory.read())


def milliseconds(encode: Callable[[TilePixels], bytes], tiles: list[TilePixels]) -> float:
    """CPU time of all threads per tile."""
    start = time.process_time()
    for tile in tiles:
        encode(tile)
    return 1000 * (time.process_time() - start) / len(tiles)


def pairs(dtype: str, bands: int) -> list[tuple[str, str]]:
    fitting = [*NAIVE, ("NPY", "NONE")]
    left_out = (BYTES_ONLY if dtype != "uint8" else set()) | (GREY_OR_RGB if bands > 3 else set())
    return [pair for pair in fitting if pair not in left_out]


CASES = [
    (dtype, bands, side, pair)
    for side in (512, 1024)
    for dtype, bands in TILES
    for pair in pairs(dtype, bands)
    if side == 512 or pair != ("NITF", "J2K")  # a second a tile
]


@pytest.mark.parametrize(
    ("dtype", "bands", "side", "pair"),
    CASES,
    ids=[f"{'/'.join(pair)} {bands}x{side} {dtype}" for dtype, bands, side, pair in CASES],
)
def test_encoding(scene: Image, dtype: str, bands: int, side: int, pair: tuple[str, str]) -> None:
    image, tiles = tiles_of(scene, dtype, bands, side)
    tiles = tiles[:2] if pair == ("NITF", "J2K") else tiles
    encode = encoder(image, *pair)
    ways: dict[str, Callable[[TilePixels], bytes]] = {"swath": encode}
    if pair in NAIVE:
        ways["naive"] = lambda tile: naive(scene, NAIVE[pair], tile)
    sizes = {way: len(work(tiles[0])) for way, work in ways.items()}
    times = {way: [0.0] * ROUNDS for way in ways}
    for turn in range(ROUNDS):
        for way, work in ways.items():
            times[way][turn] = milliseconds(work, tiles)
    line: dict[str, object] = {"benchmark": "encoding", "format": "/".join(pair)}
    line |= {"tile": f"{bands} x {side} px {dtype}"}
    for way in ways:
        line[f"cpu_ms_{way}"] = round(median(times[way]), 3)
        line[f"bytes_{way}"] = sizes[way]
    print(json.dumps(line))
    if pair in FAST:
        assert median(times["swath"]) < median(times["naive"])


@pytest.mark.parametrize(
    "pair", [("GTIFF", "NONE"), ("NITF", "NONE"), ("PNG", "NONE"), ("JPEG", "NONE")]
)
def test_threads_encode_at_once(scene: Image, pair: tuple[str, str]) -> None:
    image, tiles = tiles_of(scene, "uint8", 3, 1024)
    encode = encoder(image, *pair)
    encode(tiles[0])
    walls = []
    for threads in (1, 2):
        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            for _ in pool.map(encode, tiles * 20):
                pass
            walls.append(time.perf_counter() - start)
    line = {"benchmark": "encoding in two threads", "format": "/".join(pair)}
    print(json.dumps(line | {"times_as_fast": round(walls[0] / walls[1], 2)}))
