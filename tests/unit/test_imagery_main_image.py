"""The main image of a file that holds several."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.shutil import copy
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import Image, TilePixels, open_image, read_tiles

PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
Page = dict[int, int]
"""Tag of TIFF 6.0 → number; the pixels of page n are all n, counted from 1."""


def tiff(*pages: Page) -> bytes:
    """A TIFF of uncompressed pages, by default 8 × 8 of one byte."""
    body = b""
    directories = []
    for number, page in enumerate(pages, 1):
        tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 277: 1} | page
        pixels = bytes([number % 256]) * (tags[256] * tags[257] * tags[277])
        tags |= {273: 8 + len(body), 278: tags[257], 279: len(pixels)}
        body += pixels
        directories.append(tags)
    start = 8 + len(body)
    file = struct.pack("<2sHI", b"II", 42, start) + body
    for tags in directories:
        start += 2 + 12 * len(tags) + 4
        following = start if tags is not directories[-1] else 0
        file += struct.pack("<H", len(tags))
        file += b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
        file += struct.pack("<I", following)
    return file


def opened(file: Path, body: bytes | None = None) -> Image:
    if body is not None:
        file.write_bytes(body)
    return open_image(str(file), roots=[file.parent])


def values(image: Image) -> set[int]:
    """The values of its pixels."""
    grid = Grid(image.width, image.height, 64, 8)
    (region,) = grid.regions(10**9)
    found: set[int] = set()
    for one in read_tiles(image, grid.tiles(region)):
        assert isinstance(one, TilePixels), one
        found |= set(np.unique(one.pixels).tolist())
    return found


REDUCED, MASK = {254: 1}, {254: 4}


@pytest.mark.parametrize(
    ("pages", "main"),
    [
        ([{}], 1),
        ([{}, {254: 1, 256: 4, 257: 4}], 1),  # an overview, as it says
        ([{}, {255: 2, 256: 4, 257: 4}], 1),  # as TIFF 5 says it
        ([{256: 9}, {256: 4, 257: 4}], 1),  # an overview that does not say so: rounded down
        ([{256: 4, 257: 4, **REDUCED}, {}], 2),  # a thumbnail first
        ([{256: 2, 257: 2}, {}, {256: 4, 257: 4}], 2),
    ],
)
def test_the_main_image_of_a_tiff_is_its_full_resolution_page(
    tmp_path: Path, pages: list[Page], main: int
) -> None:
    image = opened(tmp_path / "a.tif", tiff(*pages))
    assert image.size == (pages[main - 1].get(256, 8), 8)
    assert values(image) == {main}


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([{}, {}], r"holds 2 images.*GTIFF_DIR:1 \(8 × 8, 1 × uint8\); GTIFF_DIR:2 .*-of COG"),
        ([{}, {256: 5}], "holds 2 images"),
        ([{}, {256: 4, 257: 4, 277: 3}], "holds 2 images"),  # other bands: no overview
        ([{256: 4, 257: 4}, {}, {256: 30}], "holds 2 images"),
        ([REDUCED, REDUCED], "no main image.*version at reduced resolution"),
        ([{256: 4, 257: 4, **REDUCED}, {}, MASK], "on page 2, and a mask"),
        ([{}] * 600, "more than 512 pages"),
    ],
)
def test_a_tiff_without_a_single_main_image_is_refused(
    tmp_path: Path, pages: list[Page], reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        opened(tmp_path / "a.tif", tiff(*pages))


def test_masks_and_overviews_of_gdal_are_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    shape = {"width": 200, "height": 130, "count": 3, "dtype": "uint8", "tiled": True}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(
            file, "w", driver="GTiff", blockxsize=64, blockysize=64, **shape, **PLACE
        ) as dataset:
            dataset.write(np.ones((3, 130, 200), np.uint8))
            dataset.write_mask(np.eye(130, 200, dtype=bool))
        with rasterio.open(file, "r+") as dataset:
            dataset.build_overviews([2, 4])
    image = opened(file)
    assert (image.prefix, image.has_mask, image.overviews) == ("", True, (2, 4))


def nitf(folder: Path, *segments: tuple[int, int, dict[str, str]]) -> Path:
    """A NITF with image segments of these widths, heights and header fields."""
    file = folder / "a.ntf"
    for number, (width, height, fields) in enumerate(segments):
        source = folder / f"{number}.tif"
        shape = {"width": width, "height": height, "count": 1, "dtype": "uint8"}
        with rasterio.open(source, "w", driver="GTiff", **shape, **PLACE) as dataset:
            dataset.write(np.full((1, height, width), number + 1, np.uint8))
        more: dict[str, Any] = {"APPEND_SUBDATASET": "YES"} if number else {"NUMI": len(segments)}
        copy(source, file, driver="NITF", strict=False, **fields, **more)
    return file


@pytest.mark.parametrize(
    ("segments", "main"),
    [
        ([(64, 64, {})], 1),
        ([(64, 64, {}), (30, 20, {"ICAT": "LEG"})], 1),
        ([(90, 90, {"ICAT": "LEG"}), (64, 64, {"ICAT": "VIS"})], 2),
        ([(64, 64, {}), (64, 64, {"ICAT": "CLOUD"})], 1),
        ([(16, 16, {"IMAG": "/4  "}), (64, 64, {"IMAG": "1.0 "})], 2),
        ([(16, 16, {}), (64, 64, {})], 2),
        ([(16, 16, {"IMAG": "/8  "})], 1),
    ],
)
def test_the_main_image_of_a_nitf_is_its_only_full_segment(
    tmp_path: Path, segments: list[tuple[int, int, dict[str, str]]], main: int
) -> None:
    image = opened(nitf(tmp_path, *segments))
    assert image.size == segments[main - 1][:2]
    assert values(image) == {main}


def test_a_nitf_of_two_images_is_refused_with_the_list(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"holds 2 images.*NITF_IM:0 \(64 × 64.*NITF_IM:1 \(50"):
        opened(nitf(tmp_path, (64, 64, {}), (50, 64, {})))


def test_a_sicd_in_several_segments_is_refused(tmp_path: Path) -> None:
    second = {"IDLVL": "2", "IALVL": "1"}
    file = nitf(tmp_path, (64, 64, {"IDLVL": "1"}), (64, 20, second))
    at_the_corner, below = b"0020010000000000", b"0020010006400000"  # with ILOC
    assert file.read_bytes().count(at_the_corner) == 1
    with pytest.raises(ImageError, match=r"one image of 84 rows, split into 2 segments"):
        opened(file, file.read_bytes().replace(at_the_corner, below))


def test_a_jpeg_2000_of_two_codestreams_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jp2"
    shape = {"width": 64, "height": 64, "count": 1, "dtype": "uint8"}
    with rasterio.open(file, "w", driver="JP2OpenJPEG", **shape, **PLACE) as dataset:
        dataset.write(np.ones((1, 64, 64), np.uint8))
    body = file.read_bytes()
    codestream = body[body.index(b"jp2c") - 4 :]
    assert values(opened(file)) == {1}
    with pytest.raises(ImageError, match="holds 2 images"):
        opened(file, body + codestream)
    with pytest.raises(ImageError, match="none of its boxes is a codestream"):
        opened(file, body[: -len(codestream)])
