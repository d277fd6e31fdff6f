"""Decompression bombs and truncated files are refused; valid files that compress well are not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import Image, UnreadTile, open_image, read_tiles

PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
LZW, DEFLATE = 5, 8  # TIFF's numbers
BIGGEST = 2**31 - 1


def opened(file: Path, body: bytes | bytearray | None = None) -> Image:
    if body is not None:
        file.write_bytes(body)
    return open_image(str(file), roots=[file.parent])


def write(file: Path, side: int, driver: str = "GTiff", **options: Any) -> Path:
    """An image of zeros."""
    shape = {"width": side, "height": side, "count": 1, "dtype": "uint8"}
    options |= {"ICORDS": "N"} if driver == "NITF" else {}
    with rasterio.open(file, "w", driver=driver, **({**shape, **PLACE} | options)) as dataset:
        if not options.get("SPARSE_OK"):
            dataset.write(np.zeros((dataset.count, side, side), np.uint8))
    return file


def tiff(
    tags: Mapping[int, int | list[int]], body: bytes = bytes(16), *, following: int = 0
) -> bytes:
    """A TIFF with one directory; its arrays, then its body, start at byte 400."""
    plain = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 273: 400, 277: 1, 278: 4, 279: 16}
    file, arrays = struct.pack("<2sHI", b"II", 42, 8), b""
    fields = {tag: value for tag, value in {**plain, **tags}.items() if value != -1}
    file += struct.pack("<H", len(fields))
    for tag, value in sorted(fields.items()):
        if isinstance(value, list):
            file += struct.pack("<HHII", tag, 4, len(value), 400 + len(arrays))
            arrays += struct.pack(f"<{len(value)}I", *value)
        else:
            file += struct.pack("<HHII", tag, 4, 1, value)
    return (file + struct.pack("<I", following)).ljust(400, b"\0") + arrays + body


def tiled(side: int, offsets: list[int], sizes: list[int], **tags: int) -> dict[int, Any]:
    """Tags of deflated tiles of this side, as many from left to right as there are offsets."""
    shape = {256: side * len(offsets), 257: side, 322: side, 323: side, 259: DEFLATE}
    return shape | {324: offsets, 325: sizes, 273: -1, 278: -1, 279: -1}


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({256: BIGGEST, 257: BIGGEST, 278: BIGGEST}, "claims .* bytes of pixels in 16 bytes"),
        ({256: 30_000, 257: 30_000, 278: 30_000, 259: LZW}, "claims 900000000 bytes"),
        ({256: 10_000, 257: 10_000, 278: 10_000, 259: DEFLATE}, "claims 100000000 bytes"),
        ({277: 65_535}, "claims"),
        ({256: 0}, "0 × 4 pixels"),
        ({257: 0}, "4 × 0 pixels"),
        ({278: 0}, "damaged"),
        ({273: 10**9}, "cut short: its blocks end at byte 1000000016, the file at 416"),
        ({277: 65_535, 273: 0, 279: 0, 259: DEFLATE}, "65535 bands"),
        ({322: 2**30, 323: 2**30, 324: 0, 325: 0, 273: -1, 278: -1, 279: -1}, "in blocks of"),
        ({322: 0, 323: 16, 324: 0, 325: 0, 273: -1, 278: -1, 279: -1}, "damaged"),
    ],
)
def test_a_tiff_that_claims_what_it_cannot_hold_is_refused(
    tmp_path: Path, tags: dict[int, int | list[int]], reason: str
) -> None:
    assert opened(tmp_path / "a.tif", tiff({})).size == (4, 4)
    with pytest.raises(ImageError, match=reason):
        opened(tmp_path / "a.tif", tiff(tags))


def test_a_block_that_many_tiles_share_counts_once(tmp_path: Path) -> None:
    block = zlib.compress(bytes(256 * 256), 9)
    sharers = 500
    start = 400 + 8 * sharers
    alone = tiled(256, [start] + [0] * (sharers - 1), [len(block)] + [0] * (sharers - 1))
    assert opened(tmp_path / "a.tif", tiff(alone, block)).size == (128_000, 256)
    shared = tiled(256, [start] * sharers, [len(block)] * sharers)
    with pytest.raises(ImageError, match="claims 32768000 bytes"):
        opened(tmp_path / "a.tif", tiff(shared, block))


def test_an_incomplete_block_index_is_refused(tmp_path: Path) -> None:
    file = tiff({257: 4000, 278: 1, 273: [400] * 4000, 279: [4] * 4000}, b"")
    with pytest.raises(ImageError, match=r"index of its blocks is incomplete"):
        opened(tmp_path / "a.tif", file[: 400 + 4 * 4000 + 100])


def test_directories_that_form_a_loop_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="form a loop"):
        opened(tmp_path / "a.tif", tiff({}, following=8))


@pytest.mark.parametrize("kind", [1, 4])
def test_blocks_of_masks_and_overviews_must_fit_in_memory_too(tmp_path: Path, kind: int) -> None:
    side = {256: 40_000, 257: 40_000, 278: 40_000}
    first = tiff({}, following=416)
    second = tiff(side | {254: kind, 258: 1, 259: DEFLATE, 273: 0, 279: 0})  # begins at byte 8
    with pytest.raises(ImageError, match="blocks of 40000 × 40000 pixels, 1525 MiB"):
        opened(tmp_path / "a.tif", first + second[8:])


def test_large_blocks_are_refused_with_the_remedy(tmp_path: Path) -> None:
    block: dict[str, Any] = {"tiled": True, "blockxsize": 20_000, "blockysize": 20_000}
    file = write(tmp_path / "a.tif", 20_000, compress="DEFLATE", SPARSE_OK=True, **block)
    with pytest.raises(ImageError, match=r"blocks of 20000 × 20000 .*381 MiB.*-of COG IN OUT"):
        opened(file)


CODECS = ["NONE", "DEFLATE", "LZW", "ZSTD", "LZMA", "PACKBITS", "JPEG", "WEBP", "LERC"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("tiles", [{"tiled": True, "blockxsize": 512, "blockysize": 512}, {}])
def test_zeros_and_odd_edges_pass_in_every_codec(
    tmp_path: Path, codec: str, tiles: dict[str, Any]
) -> None:
    for bands, interleave in ((1, "pixel"), (3, "pixel"), (3, "band")):
        if codec == "WEBP" and (bands, interleave) != (3, "pixel"):
            continue
        file = tmp_path / f"{bands}{interleave}.tif"
        options: dict[str, Any] = {"compress": codec, "interleave": interleave, **tiles}
        assert opened(write(file, 1111, count=bands, **options)).size == (1111, 1111)


def test_zeros_of_one_bit_pass(tmp_path: Path) -> None:
    for codec in ("CCITTFAX4", "DEFLATE", "NONE"):
        file = write(tmp_path / f"{codec}.tif", 3333, compress=codec, NBITS=1)
        assert opened(file).size == (3333, 3333)
    assert opened(write(tmp_path / "a.png", 3333, "PNG", NBITS=1)).size == (3333, 3333)


def test_a_sparse_file_of_any_size_passes(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "tiled": True,
        "compress": "DEFLATE",
        "SPARSE_OK": True,
        "BIGTIFF": "YES",
    }
    file = write(tmp_path / "a.tif", 100_000, **options)  # 152,881 blocks: only a part is checked
    assert opened(file).size == (100_000, 100_000)


@given(st.binary(max_size=30_000))
def test_the_best_compression_of_deflate_is_never_refused(noise: bytes) -> None:
    packed = len(zlib.compress(noise.ljust(1 << 20, b"\0"), 9))
    assert 1032 * packed >= 1 << 20


def png(width: int, height: int, interlaced: int = 0) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, interlaced)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(bytes(1000)), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts.items())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (png(BIGGEST, BIGGEST), "cannot be read as PNG"),
        (png(0, 5), "cannot be read as PNG"),
        (png(100_000, 100_000), "claims 30000000000 bytes"),
        (png(20_000, 20_000, interlaced=1), "blocks of 20000 × 20000 pixels, 1144 MiB"),
    ],
)
def test_a_png_that_claims_what_it_cannot_hold_is_refused(
    tmp_path: Path, body: bytes, reason: str
) -> None:
    with pytest.raises(ImageError, match=reason):
        opened(tmp_path / "a.png", body)


def test_a_jpeg_that_claims_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    body = bytearray(write(tmp_path / "a.jpg", 64, "JPEG").read_bytes())
    struct.pack_into(">HH", body, body.index(b"\xff\xc0") + 5, 65_500, 65_500)
    with pytest.raises(ImageError, match="claims 4290250000 bytes"):
        opened(tmp_path / "a.jpg", body)


@pytest.mark.parametrize("side", [BIGGEST, 65_000])
def test_a_jpeg_2000_that_claims_what_it_cannot_hold_is_refused(tmp_path: Path, side: int) -> None:
    body = bytearray(write(tmp_path / "a.jp2", 64, "JP2OpenJPEG").read_bytes())
    size = body.index(b"\xff\x51")
    for place in (size + 6, size + 22, body.index(b"ihdr") + 4):
        struct.pack_into(">II", body, place, side, side)
    with pytest.raises(ImageError, match=r"claims|cannot be read"):
        opened(tmp_path / "a.jp2", body)


def test_a_nitf_that_claims_what_it_cannot_hold_is_refused(tmp_path: Path) -> None:
    body = write(tmp_path / "a.ntf", 64, "NITF").read_bytes()
    assert body.count(b"00000064" * 2) == 1  # NROWS, NCOLS
    with pytest.raises(ImageError, match=r"claims|cannot be read"):
        opened(tmp_path / "a.ntf", body.replace(b"00000064" * 2, b"00090000" * 2))


DRIVERS = ["GTiff", "NITF", "PNG", "JPEG", "HFA", "JP2OpenJPEG"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_zeros_pass_in_every_format(tmp_path: Path, driver: str) -> None:
    options = {"COMPRESSED": "YES"} if driver == "HFA" else {}
    file = write(tmp_path / "a", 4000, driver, **options)
    assert opened(file).size == (4000, 4000)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("part", [0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused_or_its_tiles_fail(
    tmp_path: Path, driver: str, part: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0)
    shape = {"width": 700, "height": 500, "count": 3, "dtype": "uint8"}
    file = tmp_path / "a.jp2"
    options = {"ICORDS": "N"} if driver == "NITF" else {}
    with rasterio.open(file, "w", driver=driver, **shape, **PLACE, **options) as dataset:
        dataset.write(np.random.default_rng(0).integers(0, 255, (3, 500, 700), np.uint8))
    body = file.read_bytes()
    if driver in ("PNG", "JPEG"):  # their headers have no length
        image = opened(file, body[: int(len(body) * part)])
        grid = Grid(700, 500, 256, 8)
        (region,) = grid.regions(10**9)
        lost = [one for one in read_tiles(image, grid.tiles(region)) if isinstance(one, UnreadTile)]
        assert lost
        assert all(one.reason for one in lost)
    else:
        with pytest.raises(ImageError, match="cut short"):
            opened(file, body[: int(len(body) * part)])
