"""Every pair of format and compression either keeps every pixel, or is refused."""

from __future__ import annotations

import io
import warnings
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
from tasks.imagery import Image, TilePixels, check_encodable, encoder, media_type, open_image
from tasks.imagery.georeference import AffineGeoreference
from tasks.tiling import Tile

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
    )
    return replace(plain, **changes)


def noise(bands: int, height: int, width: int, dtype: str, seed: int = 0) -> NDArray[Any]:
    """Pixels over the whole range of a type, as a view that is not contiguous."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    shape = (bands, height + 3, width + 5)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        pixels = rng.integers(limits.min, limits.max, shape, dtype=kind, endpoint=True)
    else:
        pixels = (rng.normal(0, 1e4, shape) + 1j * rng.normal(0, 1, shape)).astype(
            kind if kind.kind == "c" else np.complex128
        )
        pixels = pixels if kind.kind == "c" else pixels.real.astype(kind)
    return pixels[:, 3:, 5:]


def tile(pixels: NDArray[Any], x: int = 1000, y: int = 2000) -> TilePixels:
    window = Window(x, y, pixels.shape[2], pixels.shape[1])
    return TilePixels(Tile(7, window), pixels, None)


def decoded(data: bytes, tile_format: str) -> NDArray[Any]:
    if tile_format == "NPY":
        return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(data) as memory, memory.open() as dataset:
            return np.asarray(dataset.read())


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("tile_format", FORMATS)
@settings(deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    bands=st.sampled_from([1, 2, 3, 4, 5, 8]),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_pixels_are_kept_or_the_pair_is_refused(
    *,
    tile_format: str,
    compression: str,
    dtype: str,
    bands: int,
    width: int,
    height: int,
    seed: int,
) -> None:
    source = image(bands, dtype)
    try:
        encode = encoder(source, tile_format, compression)
    except RequestError:
        return
    pixels = noise(bands, height, width, dtype, seed)
    back = decoded(encode(tile(pixels)), tile_format)
    assert back.shape == pixels.shape
    if "JPEG" in (tile_format, compression):
        assert back.dtype == np.uint8
    else:
        assert back.dtype == pixels.dtype
        np.testing.assert_array_equal(back, pixels)


@pytest.mark.parametrize("compression", ["NONE", "LZW", "ZSTD"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gtiff_holds_every_type(dtype: str, compression: str) -> None:
    pixels = noise(3, 31, 47, dtype)
    data = encoder(image(3, dtype), "GTIFF", compression)(tile(pixels))
    np.testing.assert_array_equal(decoded(data, "GTIFF"), pixels)


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
def test_a_harmful_pair_is_refused_by_name(
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
@pytest.mark.parametrize(
    "transform",
    [Affine(0.5, 0, 500000, 0, -0.5, 4000000), Affine(0.4, 0.3, 500000, 0.3, -0.4, 4000000)],
    ids=["north-up", "rotated"],
)
def test_gtiff_tiles_know_their_place(compression: str, transform: Affine) -> None:
    crs = rasterio.crs.CRS.from_epsg(32618)
    georeference = AffineGeoreference(transform, crs.to_wkt(), (4096, 4096))
    source = image(3, "uint8", georeference=georeference, nodata=7.0)
    encode = encoder(source, "GTIFF", compression)
    for x, y in [(0, 0), (1000, 2000), (17, 3)]:
        data = encode(tile(noise(3, 40, 50, "uint8"), x, y))
        expected = [
            transform.a * x + transform.b * y + transform.c,
            transform.d * x + transform.e * y + transform.f,
        ]
        with MemoryFile(data) as memory, memory.open() as dataset:
            assert dataset.crs == crs
            assert dataset.nodata == 7
            assert [dataset.transform.c, dataset.transform.f] == pytest.approx(expected)
            assert dataset.transform.a == pytest.approx(transform.a)
            assert dataset.transform.b == pytest.approx(transform.b)


@pytest.mark.parametrize("compression", ["NONE", "J2K"])
def test_nitf_tiles_know_their_corners(compression: str) -> None:
    crs = rasterio.crs.CRS.from_epsg(32733).to_wkt()
    transform = Affine(10, 0, 500000, 0, -10, 6200000)
    georeference = AffineGeoreference(transform, crs, (4096, 4096))
    source = image(1, "uint16", georeference=georeference)
    pixels = noise(1, 64, 64, "uint16")
    encode = encoder(source, "NITF", compression)
    for x, y in [(0, 0), (1000, 2000)]:
        data = encode(tile(pixels, x, y))
        np.testing.assert_array_equal(decoded(data, "NITF"), pixels)
        with MemoryFile(data) as memory, memory.open() as dataset:
            corners = dataset.tags()["NITF_IGEOLO"]
        longitude, latitude = georeference.to_world(np.array([[x + 0.5, y + 0.5]]))[0]
        degrees = int(corners[:2]) + int(corners[2:4]) / 60 + int(corners[4:6]) / 3600
        assert corners[6] == "S"
        assert -degrees == pytest.approx(latitude, abs=1 / 3600)
        degrees = int(corners[7:10]) + int(corners[10:12]) / 60 + int(corners[12:14]) / 3600
        assert corners[14] == "E"
        assert degrees == pytest.approx(longitude, abs=1 / 3600)


def test_a_fourth_band_is_not_taken_for_alpha() -> None:
    data = encoder(image(4, "uint8"), "GTIFF", "NONE")(tile(noise(4, 20, 20, "uint8")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with MemoryFile(data) as memory, memory.open() as dataset:
            assert dataset.colorinterp[3].name != "alpha"


def test_tiles_of_several_shapes_share_an_encoder() -> None:
    for tile_format in ("GTIFF", "NITF"):
        encode = encoder(image(2, "int16"), tile_format, "NONE")
        for side in (16, 33, 16):
            pixels = noise(2, side, side + 1, "int16", side)
            np.testing.assert_array_equal(decoded(encode(tile(pixels)), tile_format), pixels)


def test_huge_nitf_tile_is_right_too() -> None:
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
