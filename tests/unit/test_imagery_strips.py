"""Tiles have exactly the pixels of the file, for all block layouts, grids and gaps."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import ImageChangedError
from tasks.grid.tiles import Grid, Tile
from tasks.imagery import TilePixels, UnreadTile, open_image, read_tiles
from tasks.imagery.reading.buffers import BufferPool
from tests.tiffs import write


def noise(bands: int, height: int, width: int, dtype: str = "uint8") -> NDArray[Any]:
    return np.random.default_rng(3).integers(0, 200, (bands, height, width)).astype(dtype)


def of(pixels: NDArray[Any], window: Window) -> NDArray[Any]:
    rows, columns = window.toslices()
    return pixels[..., rows, columns]


def whole(grid: Grid) -> list[Tile]:
    (region,) = grid.regions(10**9)
    return list(grid.tiles(region))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strips")


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0.001)


LAYOUTS: list[dict[str, Any]] = [
    {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    {"tiled": True, "blockxsize": 32, "blockysize": 128, "interleave": "band"},
    {"blockysize": 7, "compress": "lzw", "interleave": "pixel"},
    {"blockysize": 1500},  # taller than a strip reaches
]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    layout=st.integers(0, len(LAYOUTS) - 1),
    tile_size=st.integers(20, 400),
    part=st.floats(0, 0.7),
    region_size=st.integers(50, 600),
    kept=st.floats(0.05, 1),
    seed=st.integers(0, 1000),
)
def test_every_tile_has_its_own_pixels(
    *,
    folder: Path,
    layout: int,
    tile_size: int,
    part: float,
    region_size: int,
    kept: float,
    seed: int,
) -> None:
    pixels = noise(3, 230, 310)
    pixels[:, 40:170, 100:260] = 255
    file = folder / f"{layout}.tif"
    if not file.exists():
        write(file, pixels, nodata=255, **LAYOUTS[layout])
    image = open_image(str(file), roots=[folder])
    grid = Grid(image.width, image.height, tile_size, int(part * tile_size))
    rng = np.random.default_rng(seed)
    for region in grid.regions(region_size)[:3]:
        tiles = [tile for tile in grid.tiles(region) if rng.uniform() < kept]
        found = list(read_tiles(image, tiles))
        assert [one.tile for one in found] == tiles
        for one in found:
            assert isinstance(one, TilePixels)
            expected = of(pixels, one.tile.window)
            np.testing.assert_array_equal(one.pixels, expected)
            assert one.valid is not None
            np.testing.assert_array_equal(one.valid, (expected != 255).any(axis=0))
            assert one.blank == bool((expected == 255).all())


def test_tiles_outlive_their_strip(folder: Path) -> None:
    pixels = noise(1, 900, 300, "uint16")
    file = write(folder / "held.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    found = list(read_tiles(open_image(str(file), roots=[folder]), whole(Grid(300, 900, 60, 20))))
    for one in found:  # all of them held, so no memory may have been used twice
        assert isinstance(one, TilePixels)
        np.testing.assert_array_equal(one.pixels, of(pixels, one.tile.window))


def test_a_tile_that_was_taken_is_held_no_more(folder: Path) -> None:
    pixels = noise(1, 200, 600)
    file = write(folder / "row.tif", pixels, tiled=True, blockxsize=64, blockysize=64)
    taken: list[weakref.ref[Any]] = []
    with closing(
        read_tiles(open_image(str(file), roots=[folder]), whole(Grid(600, 200, 60, 0)))
    ) as rest:
        for tile in rest:
            assert isinstance(tile, TilePixels)
            taken.append(weakref.ref(tile.pixels))
            assert sum(each() is not None for each in taken) == 1, len(taken)
            del tile
    assert len(taken) == 40


def test_buffers_are_reused_only_when_free() -> None:
    memory = BufferPool()
    first = memory.empty((4, 10), np.uint16)
    first[:] = 7
    view = first[1:2, 3:]
    del first
    second = memory.empty((4, 10), np.uint16)
    second[:] = 9
    assert (view == 7).all()
    assert view.base is not None
    address = view.base.ctypes.data
    del view
    third = memory.empty((2, 5), np.float32)
    assert third.ctypes.data == address


@pytest.mark.parametrize("compress", ["deflate", "jpeg"])
def test_alpha_and_mask(folder: Path, compress: str) -> None:
    pixels = noise(3, 100, 120)
    mask = np.zeros((100, 120), np.uint8)
    mask[:, 70:] = 255
    masked = write(folder / f"mask-{compress}.tif", pixels, mask, compress=compress)
    image = open_image(str(masked), roots=[folder])
    assert image.has_mask
    blank = [one.blank for one in read_tiles(image, whole(Grid(120, 100, 50, 0)))]  # type: ignore[union-attr]
    assert blank == [True, False, False] * 2

    with_alpha = np.concatenate([pixels, mask[None]])
    file = write(folder / "alpha.tif", with_alpha, photometric="RGB", alpha="YES")
    image = open_image(str(file), roots=[folder])
    assert (image.alpha, image.bands) == (4, 4)
    found = list(read_tiles(image, whole(Grid(120, 100, 50, 0))))
    assert [one.blank for one in found] == blank  # type: ignore[union-attr]
    assert found[0].pixels.shape == (4, 50, 50)  # type: ignore[union-attr]


def test_nan_nodata(folder: Path) -> None:
    pixels = np.full((2, 40, 80), np.nan, np.float32)
    pixels[1, 10, 70] = 1
    image = open_image(str(write(folder / "nan.tif", pixels, nodata=np.nan)), roots=[folder])
    blank = [one.blank for one in read_tiles(image, whole(Grid(80, 40, 40, 0)))]  # type: ignore[union-attr]
    assert blank == [True, False]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("strips")]


def test_stopping_early_ends_the_thread(folder: Path) -> None:
    pixels = noise(1, 600, 200)
    file = write(folder / "early.tif", pixels, blockysize=16)
    image = open_image(str(file), roots=[folder])
    tiles = read_tiles(image, whole(Grid(200, 600, 50, 10)))
    next(tiles)
    assert threads()
    tiles.close()
    assert not threads()


def test_an_image_that_was_replaced_is_noticed(folder: Path) -> None:
    file = write(folder / "replaced.tif", noise(1, 100, 100))
    image = open_image(str(file), roots=[folder])
    write(file, noise(1, 120, 100))
    with pytest.raises(ImageChangedError, match=r"replaced\.tif was replaced"):
        list(read_tiles(image, whole(Grid(100, 100, 50, 0))))
    assert not threads()


def test_an_image_replaced_midway_is_noticed(folder: Path) -> None:
    file = write(folder / "midway.tif", noise(1, 400, 100), blockysize=16)
    image = open_image(str(file), roots=[folder])

    def tiles() -> Iterator[Tile]:
        for tile in whole(Grid(100, 400, 50, 0)):
            if tile.window.row_off == 200:
                os.utime(file, ns=(0, 0))
            yield tile

    with pytest.raises(ImageChangedError):
        list(read_tiles(image, tiles()))


@pytest.mark.usefixtures("no_pause")
def test_a_damaged_block_fails_only_its_own_tiles(folder: Path) -> None:
    pixels = noise(1, 256, 256)
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    file = write(folder / "damaged.tif", pixels, **profile)
    with rasterio.open(file) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_2_1", "TIFF", bidx=1))
    with file.open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\x55" * size)
    image = open_image(str(file), roots=[folder])
    found = list(read_tiles(image, whole(Grid(256, 256, 64, 0))))
    assert len(found) == 16
    lost = [one for one in found if isinstance(one, UnreadTile)]
    assert [(one.tile.window.col_off, one.tile.window.row_off) for one in lost] == [(128, 64)]
    assert "IReadBlock" in lost[0].reason or "ZIP" in lost[0].reason
    for one in found:
        if isinstance(one, TilePixels):
            np.testing.assert_array_equal(one.pixels, of(pixels, one.tile.window))


@pytest.mark.usefixtures("no_pause")
def test_a_truncated_jpeg_does_not_decode_to_grey(folder: Path) -> None:
    file = folder / "short.jpg"
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        target = rasterio.open(
            file, "w", driver="JPEG", width=300, height=300, count=3, dtype="uint8"
        )
    with target:
        target.write(noise(3, 300, 300))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    image = open_image(str(file), roots=[folder])
    found = list(read_tiles(image, whole(Grid(300, 300, 100, 0))))
    assert isinstance(found[0], TilePixels)
    assert isinstance(found[-1], UnreadTile)
