"""Every combination of format and compression keeps every pixel or is refused."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, check_encodable, encoder, media_type, open_image

FORMATS = ["GTIFF", "NITF", "PNG", "JPEG", "NPY"]
COMPRESSIONS = ["NONE", "LZW", "ZSTD", "JPEG", "J2K"]
DTYPES = [
    "int8",
    "uint8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


def image(bands: int, dtype: str, **changes: Any) -> Image:
    plain = Image(
        url="s3://bucket/a.tif",
        path="/vsis3/bucket/a.tif",
        driver="GTiff",
        etag="1",
        stored_bytes=1,
        width=4096,
        height=4096,
        bands=bands,
        dtype=dtype,
        nodata=None,
        has_mask=False,
        alpha=None,
        block_shape=(512, 512),
        overviews=(),
        crs=None,
        georeference=None,
        source_metadata=[],
        colours=("gray", *["undefined"] * (bands - 1)),
        palette=None,
        nitf=None,
    )
    return replace(plain, **changes)


def noise(bands: int, height: int, width: int, dtype: str, seed: int = 0) -> NDArray[Any]:
    """Random bit patterns of a pixel type, NaN payloads included, as a non-contiguous view."""
    kind = np.dtype(dtype)
    shape = (bands, height + 3, width + 5)
    count = int(np.prod(shape)) * kind.itemsize
    bits = np.random.default_rng(seed).integers(0, 256, count, np.uint8)
    return bits.view(kind).reshape(shape)[:, 3:, 5:]


def assert_same_bits(one: NDArray[Any], two: NDArray[Any]) -> None:
    assert one.dtype == two.dtype
    assert one.shape == two.shape
    assert one.tobytes() == two.tobytes()


def tile(pixels: NDArray[Any], x: int = 1000, y: int = 2000) -> TilePixels:
    window = Window(x, y, pixels.shape[2], pixels.shape[1])
    return TilePixels(Tile(7, window), pixels, None)


def decoded(data: bytes, tile_format: str) -> NDArray[Any]:
    if tile_format == "NPY":
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    with opened(data) as dataset:
        return np.asarray(dataset.read())


@contextmanager
def opened(data: bytes) -> Iterator[Any]:
    """An encoded tile as GDAL reads it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(data) as memory, memory.open() as dataset:
            yield dataset


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("tile_format", FORMATS)
@settings(deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    bands=st.integers(1, 9),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.integers(0, 9),
    binary=st.booleans(),
)
def test_pixels_are_kept_or_the_combination_is_refused(
    *,
    tile_format: str,
    compression: str,
    dtype: str,
    bands: int,
    width: int,
    height: int,
    seed: int,
    binary: bool,
) -> None:
    source = image(bands, dtype)
    try:
        encode = encoder(source, tile_format, compression)
    except RequestError:
        return
    pixels = noise(bands, height, width, dtype, seed)
    if binary:
        pixels = (pixels.real > 0).astype(dtype)  # a mask of zeros and ones
    back = decoded(encode(tile(pixels)), tile_format)
    if "JPEG" in (tile_format, compression):
        assert back.dtype == np.uint8
        assert back.shape == pixels.shape
    else:
        assert_same_bits(back, pixels)


@pytest.mark.parametrize("compression", ["NONE", "LZW", "ZSTD"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gtiff_holds_every_type(dtype: str, compression: str) -> None:
    pixels = noise(3, 31, 47, dtype)
    data = encoder(image(3, dtype), "GTIFF", compression)(tile(pixels))
    assert_same_bits(decoded(data, "GTIFF"), pixels)


@pytest.mark.parametrize(
    ("dtype", "bands", "tile_format", "compression", "word"),
    [
        ("uint16", 3, "JPEG", "NONE", "uint16"),
        ("uint16", 3, "GTIFF", "JPEG", "uint16"),
        ("uint16", 1, "NITF", "JPEG", "uint16"),
        ("uint8", 4, "JPEG", "NONE", "4 bands"),
        ("float32", 1, "PNG", "NONE", "float32"),
        ("uint8", 5, "PNG", "NONE", "5 bands"),
        ("float32", 1, "NITF", "J2K", "float32"),
        ("uint8", 3, "PNG", "LZW", "imageProcessorTileCompression LZW"),
        ("uint8", 3, "BMP", "NONE", "imageProcessorTileFormat BMP"),
    ],
)
def test_a_lossy_combination_is_refused_by_name(
    dtype: str, bands: int, tile_format: str, compression: str, word: str
) -> None:
    with pytest.raises(RequestError, match=word):
        check_encodable(image(bands, dtype), tile_format, compression)


@pytest.mark.parametrize(
    ("tile_format", "compression"),
    [("JPEG", "NONE"), ("GTIFF", "JPEG"), ("NITF", "JPEG")],
)
@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_is_close(tile_format: str, compression: str, bands: int) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    pixels = np.stack([smooth + 20 * band for band in range(bands)]).astype(np.uint8)
    data = encoder(image(bands, "uint8"), tile_format, compression)(tile(pixels))
    difference = decoded(data, tile_format).astype(int) - pixels
    assert np.abs(difference).mean() < 3


@pytest.mark.parametrize("compression", ["NONE", "LZW"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    "colours",
    [
        ("gray",),
        ("gray", "alpha"),
        ("gray", "undefined"),
        ("red", "green", "blue"),
        ("gray", "undefined", "undefined"),
        ("red", "green", "blue", "alpha"),
        ("red", "green", "blue", "undefined"),
        ("blue", "green", "red", "undefined"),
        ("gray", "undefined", "undefined", "undefined", "alpha"),
    ],
)
def test_gtiff_bands_keep_their_colour_interpretation(
    colours: tuple[str, ...], dtype: str, compression: str
) -> None:
    bands = len(colours)
    encode = encoder(image(bands, dtype, colours=colours), "GTIFF", compression)
    with opened(encode(tile(noise(bands, 20, 20, dtype)))) as dataset:
        assert tuple(colour.name for colour in dataset.colorinterp) == colours


@pytest.mark.parametrize("compression", ["NONE", "ZSTD"])
@pytest.mark.parametrize(("dtype", "nodata"), [("uint8", 7.0), ("float32", float("nan"))])
def test_gtiff_tiles_declare_nodata(dtype: str, nodata: float, compression: str) -> None:
    encode = encoder(image(1, dtype, nodata=nodata), "GTIFF", compression)
    with opened(encode(tile(noise(1, 20, 20, dtype)))) as dataset:
        assert dataset.nodata == pytest.approx(nodata, nan_ok=True)


PALETTE = {value: (value, 255 - value, value * 7 % 256, 255) for value in range(256)}


def test_a_paletted_file_is_opened_with_its_colours(tmp_path: Path) -> None:
    profile = {"width": 9, "height": 9, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    file = tmp_path / "classes.tif"
    with rasterio.open(
        file, "w", driver="GTiff", transform=Affine(1, 0, 0, 0, -1, 9), **profile
    ) as sink:
        sink.write_colormap(1, PALETTE)
        sink.write(np.arange(81, dtype=np.uint8).reshape(1, 9, 9))
    source = open_image(str(file), roots=[tmp_path])
    assert source.palette == PALETTE
    assert source.colours == ("palette",)


@pytest.mark.parametrize("compression", ["NONE", "LZW", "JPEG"])
def test_gtiff_tiles_have_the_names_scales_and_offsets_of_the_bands(compression: str) -> None:
    told = {"descriptions": ("red", "", "nir"), "scales": (0.5, 1, 2), "offsets": (0, -3, 0.25)}
    encode = encoder(image(3, "uint8", **told), "GTIFF", compression)
    pixels = noise(3, 20, 31, "uint8")
    with opened(encode(tile(pixels))) as dataset:
        assert dataset.descriptions == ("red", None, "nir")
        assert (dataset.scales, dataset.offsets) == (told["scales"], told["offsets"])
        assert compression == "JPEG" or (dataset.read() == pixels).all()


def test_tiles_of_several_shapes_share_an_encoder() -> None:
    for tile_format in ("GTIFF", "NITF"):
        encode = encoder(image(2, "int16"), tile_format, "NONE")
        for side in (16, 33, 16):
            pixels = noise(2, side, side + 1, "int16", side)
            assert_same_bits(decoded(encode(tile(pixels)), tile_format), pixels)


@pytest.mark.parametrize("tile_format", ["GTIFF", "NITF", "PNG", "NPY"])
def test_a_blank_tile_may_be_encoded_first(tile_format: str) -> None:
    encode = encoder(image(2, "uint16", nodata=0.0), tile_format, "NONE")
    for pixels in (np.zeros((2, 40, 50), np.uint16), noise(2, 40, 50, "uint16")):
        assert_same_bits(decoded(encode(tile(pixels)), tile_format), pixels)


@pytest.mark.parametrize("tile_format", FORMATS)
def test_threads_share_an_encoder(tile_format: str) -> None:
    source = image(3, "uint8")
    tiles = [tile(noise(3, 60 + n % 3, 70, "uint8", n), x=10 * n) for n in range(24)]
    alone = [encoder(source, tile_format, "NONE")(one) for one in tiles]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(encoder(source, tile_format, "NONE"), tiles))
    assert [decoded(one, tile_format).tobytes() for one in together] == [
        decoded(one, tile_format).tobytes() for one in alone
    ]


def test_a_nitf_tile_that_gdal_splits_into_blocks_is_right() -> None:
    pixels = np.arange(9000, dtype=np.uint16).reshape(1, 1, 9000)  # beyond NITF's 8192 a block
    data = encoder(image(1, "uint16"), "NITF", "NONE")(tile(pixels))
    np.testing.assert_array_equal(decoded(data, "NITF"), pixels)


@pytest.mark.parametrize("tile_format", FORMATS)
def test_each_format_has_a_media_type(tile_format: str) -> None:
    kind, _, name = media_type(tile_format).partition("/")
    assert kind in ("image", "application")
    assert name


def test_an_encoded_tile_opens_as_an_image(tmp_path: Path) -> None:
    for tile_format in ("GTIFF", "NITF", "PNG", "JPEG"):
        file = tmp_path / tile_format
        file.write_bytes(
            encoder(image(3, "uint8"), tile_format, "NONE")(tile(noise(3, 9, 9, "uint8")))
        )
        opened = open_image(str(file), roots=[tmp_path])
        assert (opened.bands, opened.size, opened.dtype) == (3, (9, 9), "uint8")
