"""A tile is blank if and only if it has no valid pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.features import rasterize

from tasks.errors import RequestError
from tasks.grid.tiles import Grid, Tile
from tasks.imagery import AbsentTile, Image, TilePixels, open_image, read_tiles, with_nodata
from tasks.imagery.reading.data_mask import read_data_mask

WIDTH, HEIGHT = 330, 270
KINDS = ["nodata", "mask", "alpha", "nan", "sparse", "undeclared"]

PLACE = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}

blob = st.tuples(st.integers(0, WIDTH), st.integers(0, HEIGHT), st.floats(0.3, 90))
blobs = st.lists(blob, max_size=4)


def valid_of(shapes: list[tuple[int, int, float]]) -> NDArray[np.bool_]:
    """(rows, columns), True inside any of some discs, the smallest of which are single pixels."""
    discs = [shapely.Point(x, y).buffer(radius) for x, y, radius in shapes]
    if not discs:
        return np.zeros((HEIGHT, WIDTH), np.bool_)
    return np.asarray(rasterize(discs, (HEIGHT, WIDTH), all_touched=True) == 1)


def write(file: Path, valid: NDArray[np.bool_], kind: str, block: int, **options: Any) -> None:
    """Write an image of noise that has data where `valid`, declared in the way `kind`."""
    pixels = np.random.default_rng(1).integers(1, 255, (3, *valid.shape)).astype(np.uint8)
    pixels[:, ~valid] = 0
    profile: dict[str, Any] = {"dtype": "uint8", "sparse_ok": kind == "sparse", **options}
    if kind == "nodata":
        profile["nodata"] = 0
    if kind == "nan":
        pixels = np.where(valid, pixels, np.nan).astype(np.float32)
        profile |= {"dtype": "float32", "nodata": np.nan}
    if kind == "alpha":
        pixels = np.concatenate([pixels, 255 * valid[None].astype(np.uint8)])
        profile |= {"photometric": "rgb", "alpha": "yes"}
    height, width = valid.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            file,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=len(pixels),
            tiled=True,
            blockxsize=block,
            blockysize=block,
            compress="deflate",
            **PLACE,
            **profile,
        ) as dataset,
    ):
        dataset.write(pixels)
        if kind == "mask":
            dataset.write_mask(valid)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shapes=blobs,
    kind=st.sampled_from(KINDS),
    block=st.sampled_from([16, 64]),
    tile_size=st.integers(20, 120),
    part=st.floats(0, 0.7),
)
def test_a_tile_is_blank_if_and_only_if_it_has_no_valid_pixel(
    *,
    tmp_path: Path,
    shapes: list[tuple[int, int, float]],
    kind: str,
    block: int,
    tile_size: int,
    part: float,
) -> None:
    valid = valid_of(shapes)
    write(tmp_path / "a.tif", valid, kind, block)
    image = open_image(str(tmp_path / "a.tif"), roots=[tmp_path])
    if kind in ("sparse", "undeclared"):  # the file does not declare nodata, the request does
        image = with_nodata(image, 0)
    grid = Grid(WIDTH, HEIGHT, tile_size, int(part * tile_size))
    (region,) = grid.regions(10**6)
    for found in read_tiles(image, grid.tiles(region)):
        rows, columns = found.tile.window.toslices()
        truth = valid[rows, columns]
        if isinstance(found, AbsentTile):
            assert not truth.any()
        else:
            assert isinstance(found, TilePixels)
            assert found.blank == (not truth.any())
            assert found.valid is not None
            np.testing.assert_array_equal(found.valid, truth)


def tiles_of(image: Image, size: int) -> list[Any]:
    grid = Grid(image.width, image.height, size, 0)
    (region,) = grid.regions(10**6)
    return list(read_tiles(image, grid.tiles(region)))


def test_tiles_of_absent_blocks_are_not_read(tmp_path: Path) -> None:
    valid = np.zeros((HEIGHT, WIDTH), np.bool_)
    valid[:64, :64] = True
    write(tmp_path / "a.tif", valid, "sparse", 64)
    found = tiles_of(open_image(str(tmp_path / "a.tif"), roots=[tmp_path]), 64)
    for one in found:
        stored = one.tile.window.col_off < 64 and one.tile.window.row_off < 64
        assert isinstance(one, TilePixels if stored else AbsentTile)


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_a_block_with_one_stored_band_is_read(tmp_path: Path, interleave: str) -> None:
    shape = {"width": 64, "height": 64, "count": 3, "dtype": "uint8", "interleave": interleave}
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", **shape, **blocks, **PLACE
    ) as dataset:
        dataset.write(np.full((64, 64), 7, np.uint8), 3)
    (found,) = tiles_of(open_image(str(tmp_path / "a.tif"), roots=[tmp_path]), 64)
    assert isinstance(found, TilePixels)
    assert found.pixels[:, 0, 0].tolist() == [0, 0, 7]


def test_black_is_data_unless_the_request_says_otherwise(tmp_path: Path) -> None:
    valid = valid_of([(40, 40, 30.0)])
    write(tmp_path / "a.tif", valid, "undeclared", 64)
    image = open_image(str(tmp_path / "a.tif"), roots=[tmp_path])
    assert not any(tile.blank for tile in tiles_of(image, 64))
    assert any(tile.blank for tile in tiles_of(with_nodata(image, 0), 64))


@pytest.mark.parametrize("value", [-1, 256, 0.5])
def test_a_value_that_no_pixel_can_have_is_refused(tmp_path: Path, value: float) -> None:
    write(tmp_path / "a.tif", valid_of([]), "nodata", 64)
    image = open_image(str(tmp_path / "a.tif"), roots=[tmp_path])
    with pytest.raises(RequestError, match=r"imageNodata: .* from 0 to 255"):
        with_nodata(image, value)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shapes=blobs, kind=st.sampled_from(["nodata", "mask", "alpha"]))
def test_an_averaged_overview_shows_every_valid_pixel(
    *, tmp_path: Path, shapes: list[tuple[int, int, float]], kind: str
) -> None:
    valid = valid_of(shapes)
    write(tmp_path / "a.tif", valid, kind, 64)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(tmp_path / "a.tif", "r+") as dataset,
    ):
        dataset.build_overviews([2, 4, 8], Resampling.average)
    image = open_image(str(tmp_path / "a.tif"), roots=[tmp_path])
    overview = read_data_mask(image, 64, None)
    assert overview is not None
    for row in range(0, HEIGHT - 64, 23):
        for column in range(0, WIDTH - 64, 23):
            window = Tile(0, rasterio.windows.Window(column, row, 64, 64)).window
            rows, columns = window.toslices()
            assert not (overview.blank(window) and valid[rows, columns].any())


def test_no_data_mask_without_overviews_or_if_all_pixels_are_valid(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", valid_of([]), "nodata", 64)
    write(tmp_path / "b.tif", valid_of([]), "undeclared", 64)
    for name in ("a.tif", "b.tif"):
        assert read_data_mask(open_image(str(tmp_path / name), roots=[tmp_path]), 64, None) is None
