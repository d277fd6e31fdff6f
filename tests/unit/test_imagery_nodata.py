"""Nodata masks are equal to those of GDAL, for every pixel type and nodata value."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling

from tasks.errors import RequestError
from tasks.grid.tiles import Grid
from tasks.imagery import Image, TilePixels, open_image, read_tiles, with_nodata
from tasks.imagery.reading.data_mask import read_data_mask

FLOAT32, FLOAT64 = np.finfo(np.float32), np.finfo(np.float64)
PLACE = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}
quick = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Nodata as the text of GDAL's TIFF tag, and pixels next to it.
TABLE: dict[str, tuple[list[str], list[Any]]] = {
    "uint8": (
        ["255.0", "0.001", "0.999", "254.7", "255.5", "256.0", "-1.00", "1e300"],
        [0, 1, 254, 255],
    ),
    "int8": (["-128.0", "-0.5", "-129.0", "127.9", "128.0"], [-128, -1, 0, 127]),
    "int16": (["-32768", "-32768.5", "-9999.7", "65535"], [-32768, -10000, -9999, -1, 0]),
    "uint16": (["65535", "65535.4", "-1.00", "0.25"], [0, 1, 65535]),
    "int32": (["-2147483648", "2147483648", "1.75"], [-2147483648, 0, 1, 2]),
    "uint32": (["4294967295", "4294967296", "4294967295.5"], [0, 1, 4294967295]),
    "int64": (
        ["9223372036854775807", "-9223372036854775808", "9007199254740993", "-9999"],
        [2**63 - 1, -(2**63), 2**53 + 1, 2**53, -9999, 0],
    ),
    "uint64": (["18446744073709551615", "9007199254740993"], [2**64 - 1, 2**53 + 1, 2**53, 0]),
    "float32": (
        [
            *("-3.40282e+38", "-3.4028234663852886e+38", "3.40282e38", "-1e39", "nan"),
            *("-inf", "0.0000", "-9999.0", "-9999.0001", "0.1000", "1.6e38", "1e-45"),
        ],
        [
            *(FLOAT32.min, FLOAT32.max, -3.40282e38, -3.4e38, -1e37, -1e30, 1e31, 1.6e38, 2e38),
            *(np.nan, np.inf, -np.inf, 0, -0.0, 1e-45, 0.1, 0.100000009, 0.1000001, 0.100001),
            *(-9999, -9999.001, -9999.002, -9999.003, -9999.004, -9999.005, -9999.006),
        ],
    ),
    "float64": (
        [
            *("-3.40282e+38", "-3.4028234663852886e+38", "-1.79769e308", "nan", "-1e309"),
            *("0.0000", "-9999.0", "0.1000"),
        ],
        [
            *(FLOAT64.min, FLOAT64.max, -1.79769e308, -1e300, FLOAT32.min, -3.40282e38, 0, np.nan),
            *(np.inf, -np.inf, -9999, np.nextafter(-9999, 0), -9999.003, -9999.005, 0.1),
            0.1 + 1e-17,
        ],
    ),
    "complex64": (
        ["0.0000", "nan", "-9999.0", "-3.40282e+38"],
        [
            *(0, 5j, 5, complex(np.nan, 1), complex(1, np.nan), -9999 + 3j),
            *(complex(FLOAT32.min, 1), complex(0, FLOAT32.min)),
        ],
    ),
    "complex128": (
        ["0.0000", "nan", "-9999.0"],
        [0, 5j, 5, complex(np.nan, 1), complex(1, np.nan), -9999 + 3j],
    ),
}
CASES = [(dtype, text) for dtype, (texts, _) in TABLE.items() for text in texts]


def write(file: Path, pixels: NDArray[Any], nodata: str | None = None, **options: Any) -> Path:
    """A GeoTIFF of (bands, rows, columns) whose nodata tag holds this text, valid or not."""
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    if nodata is not None:
        options["nodata"] = float(nodata) if nodata in ("nan", "inf", "-inf") else 7
    with rasterio.open(file, "w", driver="GTiff", **shape, **PLACE, **options) as dataset:
        dataset.write(pixels)
    if nodata is not None and options["nodata"] == 7:
        raw = bytearray(file.read_bytes())
        field = raw.index(struct.pack("<HHI", 42113, 2, 2))  # GDAL_NODATA, with "7"
        struct.pack_into("<HHII", raw, field, 42113, 2, len(nodata) + 1, len(raw))
        file.write_bytes(bytes(raw) + nodata.encode() + b"\0")
    return file


def gdal_mask(file: Path) -> NDArray[np.bool_]:
    with rasterio.open(file) as dataset:
        return np.asarray(dataset.dataset_mask() != 0)


def swath_mask(image: Image) -> NDArray[np.bool_]:
    """(rows, columns), True where a tile of the whole image has data."""
    grid = Grid(image.width, image.height, max(image.size), 0)
    (region,) = grid.regions(10**6)
    (tile,) = read_tiles(image, grid.tiles(region))
    assert isinstance(tile, TilePixels)
    everywhere = np.ones((image.height, image.width), np.bool_)
    return everywhere if tile.valid is None else tile.valid.copy()


def opened(file: Path) -> Image:
    return open_image(str(file), roots=[file.parent])


@pytest.mark.parametrize(("dtype", "nodata"), CASES)
def test_declared_nodata_masks_what_it_masks_in_gdal(
    tmp_path: Path, dtype: str, nodata: str
) -> None:
    values = np.array([TABLE[dtype][1]], dtype)
    file = write(tmp_path / "a.tif", values[None], nodata)
    np.testing.assert_array_equal(swath_mask(opened(file)), gdal_mask(file))


def test_a_pixel_has_data_if_one_of_its_bands_has(tmp_path: Path) -> None:
    pixels = np.array([[[-9999, -9999, 1]], [[-9999.003, 2, 3]]], np.float32)
    file = write(tmp_path / "a.tif", pixels, "-9999.0")
    np.testing.assert_array_equal(swath_mask(opened(file)), gdal_mask(file))
    assert gdal_mask(file).tolist() == [[False, True, True]]


def test_shortened_lowest_float32_masks_most_of_an_image(tmp_path: Path) -> None:
    pixels = np.full((1, 40, 50), FLOAT32.min, np.float32)
    pixels[0, :20, :25] = 3.5
    image = opened(write(tmp_path / "a.tif", pixels, "-3.40282e+38"))
    assert swath_mask(image).mean() == 0.25
    image = opened(write(tmp_path / "b.tif", pixels))
    assert swath_mask(with_nodata(image, -3.40282e38)).mean() == 0.25


float32s = st.floats(width=32, allow_nan=True, allow_infinity=True)
steps = st.lists(st.integers(-12, 12), min_size=4, max_size=4)


@quick
@given(nodata=float32s, others=st.lists(float32s, max_size=8), steps=steps)
@example(nodata=float(FLOAT32.min), others=[-1e32, -1e31, -1e30], steps=[0, 1, 2, 3])
@example(nodata=1e-45, others=[0.0, 3e-45], steps=[0, 1, 2, 3])
def test_any_float32_is_compared_as_in_gdal(
    *, tmp_path: Path, nodata: float, others: list[float], steps: list[int]
) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.float32(nodata) * (1 + np.array(steps, np.float32) * FLOAT32.eps)
    text = f"{nodata!r:<8}" if np.isfinite(nodata) else repr(nodata)
    pixels = np.concatenate([near, np.array([nodata, *others], np.float32)])[None, None]
    file = write(tmp_path / "a.tif", pixels.astype(np.float32), text)
    np.testing.assert_array_equal(swath_mask(opened(file)), gdal_mask(file))


@pytest.mark.parametrize(("dtype", "nodata"), CASES)
def test_nodata_of_the_request_masks_as_if_the_file_declared_it(
    tmp_path: Path, dtype: str, nodata: str
) -> None:
    kind = np.dtype(dtype).kind
    integer = kind in "iu" and nodata.lstrip("-").isdecimal()
    value = int(nodata) if integer else float(nodata)
    values = np.array([[TABLE[dtype][1]]], dtype)
    image = opened(write(tmp_path / "plain.tif", values))
    limits: Any = np.iinfo(dtype) if kind in "iu" else np.finfo(dtype)
    inside = not np.isfinite(value) or float(limits.min) <= value <= float(limits.max)
    if not inside or (kind in "iu" and not integer and not value.is_integer()):  # type: ignore[union-attr]
        with pytest.raises(RequestError, match=r"imageNodata: .* is not a value of the"):
            with_nodata(image, value)
        return
    declared = write(tmp_path / "declared.tif", values, nodata)
    np.testing.assert_array_equal(swath_mask(with_nodata(image, value)), gdal_mask(declared))


def test_nodata_per_band_and_in_metadata_is_applied_as_in_gdal(tmp_path: Path) -> None:
    pixels = np.array([[[1, 1, 2, 9, 0]], [[2, 1, 2, 9, 0]]], np.uint8)
    file = write(tmp_path / "metadata.tif", pixels, "1.00")
    with rasterio.open(file, "r+") as dataset:
        dataset.update_tags(NODATA_VALUES="1 2")
    assert gdal_mask(file).tolist() == [[False, True, True, True, True]]
    np.testing.assert_array_equal(swath_mask(opened(file)), gdal_mask(file))
    file = tmp_path / "bands.img"
    shape = {"count": 2, "height": 1, "width": 5, "dtype": "uint8"}
    with rasterio.open(file, "w", driver="HFA", nodata=9, **shape, **PLACE) as dataset:
        dataset.write(pixels)
    np.testing.assert_array_equal(swath_mask(opened(file)), gdal_mask(file))


def test_a_mask_takes_precedence_over_nodata(tmp_path: Path) -> None:
    pixels = np.array([[[0, 1, 2, 0]]], np.uint8)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(write(tmp_path / "a.tif", pixels, "0.00"), "r+") as dataset,
    ):
        dataset.write_mask(np.array([[True, False, True, False]]))
    mask = swath_mask(opened(tmp_path / "a.tif"))
    np.testing.assert_array_equal(mask, gdal_mask(tmp_path / "a.tif"))
    assert mask.tolist() == [[True, False, True, False]]


def test_absent_blocks_and_overviews_are_blank_by_a_shortened_nodata(tmp_path: Path) -> None:
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "sparse_ok": True}
    shape = {"count": 1, "height": 256, "width": 256, "dtype": "float32"}
    file = tmp_path / "a.tif"
    with rasterio.open(
        file, "w", driver="GTiff", nodata=-3.40282e38, **shape, **blocks, **PLACE
    ) as dataset:
        dataset.write(
            np.ones((64, 64), np.float32), 1, window=rasterio.windows.Window(0, 0, 64, 64)
        )
        lowest = np.full((64, 64), FLOAT32.min, np.float32)
        dataset.write(lowest, 1, window=rasterio.windows.Window(128, 128, 64, 64))
    with rasterio.open(file, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    image = opened(file)
    grid = Grid(256, 256, 64, 0)
    (region,) = grid.regions(10**6)
    tiles = list(read_tiles(image, grid.tiles(region)))
    assert [isinstance(tile, TilePixels) and tile.blank for tile in tiles] == [False] + [True] * 15
    data_mask = read_data_mask(image, 64, None)
    assert data_mask is not None
    assert data_mask.blank(rasterio.windows.Window(128, 128, 64, 64))
    assert not data_mask.blank(rasterio.windows.Window(0, 0, 64, 64))
