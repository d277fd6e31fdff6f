"""The file of a raster: a COG that other tools open, with overviews that are what they say."""

from __future__ import annotations

import zlib
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rio_cogeo.cogeo import cog_validate

from tasks.raster import Layer, predictor
from tasks.raster.assembly import cog
from tasks.raster.block_store import Blocks, Place
from tasks.raster.blocks import BLOCK
from tasks.raster.compression import BlockCompressor, compress, decompress
from tasks.raster.levels import level_sizes
from tasks.raster.pyramid import blocks_of, build_overviews, halved
from tasks.raster.row_strips import STRIP_BYTES
from tasks.raster.statistics import Statistics

CLASSES = Layer("raster", ("class",), np.dtype(np.uint8), 255, categorical=True)
MANY = Layer("raster", ("class",), np.dtype(np.uint16), 65_535, categorical=True)
SCORES = Layer("scores", ("a", "b", "c"), np.dtype(np.uint8), 255, scale=1 / 254)
VALUES = Layer("raster", ("height", "error"), np.dtype(np.float32), float("nan"))
LAYERS = [CLASSES, MANY, SCORES, VALUES]


def random_pixels(layer: Layer, width: int, height: int) -> NDArray[Any]:
    random = np.random.default_rng(7)
    shape = len(layer.bands), height, width
    if layer.dtype.kind == "f":
        pixels = random.normal(size=shape).astype(layer.dtype)
    else:
        pixels = random.integers(0, 5, shape).astype(layer.dtype)
    pixels[:, random.random((height, width)) < 0.1] = layer.nodata
    return pixels


def write(folder: Path, layer: Layer, pixels: NDArray[Any]) -> tuple[Path, Statistics]:
    """Put a file together from blocks of pixels."""
    _, height, width = pixels.shape
    blocks = Blocks(width, height)
    writer = blocks.writer(str(folder / "blocks"))
    for row, column in product(range(-(-height // BLOCK)), range(-(-width // BLOCK))):
        part = pixels[:, row * BLOCK :, column * BLOCK :][:, :BLOCK, :BLOCK]
        writer.add(Place(layer.name, 0, row, column), compress(part, layer))
    writer.flush()
    statistics = build_overviews(layer, width, height, blocks_of(layer, blocks), writer)
    writer.flush()
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=len(layer.bands), width=width, height=height,
            dtype=layer.dtype.name, nodata=layer.nodata, tiled=True, blockxsize=BLOCK,
            blockysize=BLOCK, compress="deflate", predictor=predictor(layer), interleave="pixel",
            bigtiff="yes", sparse_ok=True, crs="EPSG:32631",
            transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
        ):  # fmt: skip
            pass
        template = bytes(memory.read())
    path = folder / "raster.tif"
    path.write_bytes(b"".join(cog(template, layer, width, height, blocks)))
    return path, statistics


@pytest.mark.parametrize("layer", LAYERS, ids=["uint8", "uint16", "3 × uint8", "2 × float32"])
@pytest.mark.parametrize("size", [(1, 1), (512, 512), (513, 40), (1700, 1300)])
def test_a_file_is_a_cog_with_the_pixels_that_were_painted(
    tmp_path: Path, layer: Layer, size: tuple[int, int]
) -> None:
    pixels = random_pixels(layer, *size)
    path, _ = write(tmp_path, layer, pixels)
    valid, errors, warnings = cog_validate(path, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), pixels)
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert len(dataset.overviews(1)) == len(level_sizes(*size)) - 1


@pytest.mark.parametrize("layer", LAYERS, ids=["uint8", "uint16", "3 × uint8", "2 × float32"])
def test_overviews_are_made_of_the_level_before(tmp_path: Path, layer: Layer) -> None:
    level = random_pixels(layer, 1700, 1301)
    path, _ = write(tmp_path, layer, level)
    for number in range(2):
        level = halved(level, layer)
        with rasterio.open(path, OVERVIEW_LEVEL=number) as overview:
            np.testing.assert_array_equal(overview.read(), level)


def test_an_overview_of_classes_has_the_most_frequent_one_of_four() -> None:
    for four in product([0, 1, 2, 3, 255], repeat=4):
        counts = Counter(number for number in four if number != 255)
        most = max(counts.values(), default=0)
        expected = min((number for number in counts if counts[number] == most), default=255)
        pixels = np.array(four, np.uint8).reshape(1, 2, 2)
        assert halved(pixels, CLASSES).item() == expected, four


def test_an_overview_of_values_has_the_mean_of_those_with_an_answer() -> None:
    pixels = np.array([[[1, np.nan], [4, np.nan]], [[1, np.nan], [1, np.nan]]], np.float32)
    np.testing.assert_array_equal(halved(pixels, VALUES).ravel(), [2.5, 1])
    nothing = np.full((2, 2, 2), np.nan, np.float32)
    assert np.isnan(halved(nothing, VALUES)).all()


@pytest.mark.parametrize("layer", LAYERS, ids=["uint8", "uint16", "3 × uint8", "2 × float32"])
def test_statistics_are_those_of_the_pixels_with_an_answer(tmp_path: Path, layer: Layer) -> None:
    pixels = random_pixels(layer, 700, 600)
    _, statistics = write(tmp_path, layer, pixels)
    known = np.where(layer.valid(pixels), pixels, np.nan).astype(np.float64)
    assert statistics.count == np.isfinite(known[0]).sum()
    np.testing.assert_array_equal(statistics.low, np.nanmin(known, axis=(1, 2)))
    np.testing.assert_array_equal(statistics.high, np.nanmax(known, axis=(1, 2)))
    np.testing.assert_allclose(statistics.mean, np.nanmean(known, axis=(1, 2)))
    np.testing.assert_allclose(statistics.deviation, np.nanstd(known, axis=(1, 2)))


@pytest.mark.parametrize("layer", LAYERS, ids=["uint8", "uint16", "3 × uint8", "2 × float32"])
@pytest.mark.parametrize("heights", [[1] * 45, [44, 1], [7, 38]])
def test_a_block_has_the_same_bytes_whatever_the_strips(layer: Layer, heights: list[int]) -> None:
    pixels, top = random_pixels(layer, 70, sum(heights)), 0
    compressor = BlockCompressor(layer)
    for height in heights:
        compressor.add(pixels[:, top : top + height])
        top += height
    assert compressor.finish() == compress(pixels, layer)


def test_a_block_of_many_bands_is_read_and_reduced_in_strips() -> None:
    layer = Layer("raster", [f"band {at}" for at in range(20)], np.dtype(np.float32), float("nan"))
    assert BLOCK * BLOCK * layer.pixel_bytes > STRIP_BYTES
    pixels = random_pixels(layer, BLOCK, BLOCK - 1)
    read = decompress(compress(pixels, layer), layer)[:, :-1]
    np.testing.assert_array_equal(read, pixels)
    alone = Layer("raster", ["value"], layer.dtype, layer.nodata)
    expected = np.concatenate([halved(band[np.newaxis], alone) for band in pixels])
    np.testing.assert_array_equal(halved(read, layer), expected)


@pytest.mark.parametrize("layer", LAYERS, ids=["uint8", "uint16", "3 × uint8", "2 × float32"])
def test_bytes_that_are_no_block_are_refused(layer: Layer) -> None:
    body = compress(random_pixels(layer, 70, 40), layer)
    damaged = bytes([*body[:-1], body[-1] ^ 1])
    for broken in (body[:-3], body[: len(body) // 2], b"", damaged, zlib.compress(bytes(5))):
        with pytest.raises(zlib.error):
            decompress(broken, layer)
