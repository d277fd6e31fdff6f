"""The metadata of an opened image, and the files that are refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.shutil import copy
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.imagery import open_image

PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}


def write(file: Path, dtype: str = "uint8", count: int = 1, **profile: Any) -> Path:
    shape = {"width": 90, "height": 70, "count": count, "dtype": dtype}
    with rasterio.open(file, "w", **({"driver": "GTiff"} | shape | PLACE | profile)) as dataset:
        dataset.write(np.ones((count, 70, 90), dtype))
    return file


def test_metadata_of_a_geotiff(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a b.tif", "int16", 2, nodata=-5, tiled=True, blockxsize=32, blockysize=16
    )
    with rasterio.open(file, "r+") as dataset:
        dataset.build_overviews([2, 4])
        dataset.update_tags(TIFFTAG_DOCUMENTNAME="scene 7", TIFFTAG_DATETIME="2024:05:06 07:08:09")
    image = open_image(str(file), roots=[tmp_path])
    assert image.url == str(file)
    assert image.size == (90, 70)
    assert (image.bands, image.dtype, image.nodata) == (2, "int16", -5)
    assert (image.has_mask, image.alpha) == (False, None)
    assert image.block_shape == (16, 32)
    assert image.overviews == (2, 4)
    assert image.pixel_bytes == 2 * 2
    assert image.driver == "GTiff"
    assert image.crs
    assert image.georeference
    assert image.source_metadata == [
        {
            "location": str(file),
            "format": "GTIFF",
            "category": None,
            "sourceId": "scene 7",
            "sourceDT": "2024-05-06T07:08:09Z",
            "georeference": "affine in EPSG:32618",
        }
    ]


@pytest.mark.parametrize(
    ("time", "expected"),
    [("19961217102630", "1996-12-17T10:26:30Z"), ("--------------", None)],
)
def test_metadata_of_a_nitf(tmp_path: Path, time: str, expected: str | None) -> None:
    file = tmp_path / "a.ntf"
    header = {"FTITLE": "Airfield", "ICAT": "VIS", "IDATIM": time}
    with pytest.warns(NotGeoreferencedWarning):
        target = rasterio.open(
            file, "w", driver="NITF", width=9, height=9, count=1, dtype="uint8", **header
        )
    with target:
        target.write(np.ones((1, 9, 9), np.uint8))
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert source == {
        "location": str(file),
        "format": "NITF",
        "category": "VIS",
        "sourceId": "Airfield",
        "sourceDT": expected,
        "georeference": None,
    }


@pytest.mark.parametrize("driver", ["GTiff", "NITF", "PNG", "JPEG", "HFA", "JP2OpenJPEG"])
def test_every_allowed_format_opens(tmp_path: Path, driver: str) -> None:
    file = tmp_path / "image"
    options: dict[str, Any] = {"ICORDS": "N"} if driver == "NITF" else {}
    write(file, driver=driver, **options)
    for sidecar in set(tmp_path.iterdir()) - {file}:
        sidecar.unlink()
    image = open_image(str(file), roots=[tmp_path])
    assert (image.driver, image.size) == (driver, (90, 70))


def test_a_changed_file_has_another_etag(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif")
    first = open_image(str(file), roots=[tmp_path])
    assert open_image(str(file), roots=[tmp_path]) == first
    file.write_bytes(file.read_bytes() + b"\0")
    assert open_image(str(file), roots=[tmp_path]).etag != first.etag


@pytest.mark.parametrize("body", [b"", b"\0" * 100, b"II*\0", b"\x89PNG\r\n\x1a\n", b"NITF02.10"])
def test_a_file_that_is_not_an_image_is_refused(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(body)
    with pytest.raises(
        ImageError, match=r"a\.tif.*(empty|not an image|cannot be read|cut short|damaged)"
    ):
        open_image(str(file), roots=[tmp_path])


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", count=3, interleave="band")
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(ImageError, match=r"(cut short|cannot be read)"):
        open_image(str(file), roots=[tmp_path])


def test_an_index_beyond_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(struct.pack("<2sHI", b"II", 42, 10**6))
    with pytest.raises(ImageError, match="damaged or cut short"):
        open_image(str(file), roots=[tmp_path])


def test_complex_integers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    with rasterio.open(
        file, "w", driver="GTiff", width=9, height=9, count=1, dtype="complex_int16", **PLACE
    ):
        pass
    with pytest.raises(ImageError, match="complex_int16"):
        open_image(str(file), roots=[tmp_path])


def test_metadata_of_a_nitf_2_0(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.ntf", driver="NITF", ICORDS="N", FHDR="NITF02.00", IDATIM="16151629ZDEC02"
    )
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert (source["format"], source["sourceDT"]) == ("NITF", "2002-12-16T15:16:29Z")


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG", "HFA"])
def test_metadata_of_a_nitf_converted_to_another_format(tmp_path: Path, driver: str) -> None:
    plain, file = write(tmp_path / "plain.tif"), tmp_path / "a.jp2"
    with rasterio.open(plain, "r+") as dataset:
        dataset.update_tags(
            NITF_ICAT="MS", NITF_FTITLE="scene 7", NITF_IDATIM="20240506070809", TIFFTAG_DATETIME=""
        )
    options = {"WRITE_METADATA": "YES"} if driver == "JP2OpenJPEG" else {}
    copy(plain, file, driver=driver, **options)
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert (source["category"], source["sourceId"], source["sourceDT"]) == (
        "MS",
        "scene 7",
        "2024-05-06T07:08:09Z",
    )


def test_the_time_of_collection_takes_precedence(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif")
    with rasterio.open(file, "r+") as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2024:05:06 07:08:09")
        dataset.update_tags(ns="IMAGERY", ACQUISITIONDATETIME="2013-04-27 00:34:00")
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert source["sourceDT"] == "2013-04-27T00:34:00Z"


@pytest.mark.parametrize(
    ("zone", "expected"),
    [(b"", "2024-05-06T07:08:09Z"), (b"+02:00", "2024-05-06T05:08:09Z")],
)
def test_metadata_from_the_exif_of_a_jpeg(tmp_path: Path, zone: bytes, expected: str) -> None:
    texts = {0x010E: b"Airfield\0", 0x9003: b"2024:05:06 07:08:09\0"}
    texts |= {0x9011: zone + b"\0"} if zone else {}
    file = write(tmp_path / "a.jpg", driver="JPEG", crs=None, transform=Affine(2, 0, 0, 0, 2, 0))
    directory = b"II*\0\x08\0\0\0" + struct.pack("<H", len(texts))
    end, body = len(directory) + 12 * len(texts) + 4, b""
    for tag, text in texts.items():
        directory += struct.pack("<HHII", tag, 2, len(text), end + len(body))
        body += text
    exif = b"Exif\0\0" + directory + bytes(4) + body
    plain = file.read_bytes()
    file.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert (source["format"], source["sourceId"], source["sourceDT"]) == (
        "JPEG",
        "Airfield",
        expected,
    )


def test_metadata_of_a_png(tmp_path: Path) -> None:
    file = write(tmp_path / "a.png", driver="PNG", crs=None, transform=Affine(2, 0, 0, 0, 2, 0))
    chunks = b""
    for text in (b"Title\0Airfield", b"Creation Time\0Mon, 06 May 2024 09:08:09 +0200"):
        crc = zlib.crc32(b"tEXt" + text)
        chunks += struct.pack(">I", len(text)) + b"tEXt" + text + struct.pack(">I", crc)
    plain = file.read_bytes()
    file.write_bytes(plain[:33] + chunks + plain[33:])
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert (source["sourceId"], source["sourceDT"]) == ("Airfield", "2024-05-06T07:08:09Z")


def test_a_long_title_is_truncated(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif")
    with rasterio.open(file, "r+") as dataset:
        dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION="x" * 100_000)
    (source,) = open_image(str(file), roots=[tmp_path]).source_metadata
    assert source["sourceId"] == "x" * 1024


def test_a_projection_that_cannot_be_parsed_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.img", driver="HFA")
    named, unnamed = b"*oEprj_Size,pixelSize", b"*oEprj_Hize,pixelSize"
    assert file.read_bytes().count(named) == 1
    file.write_bytes(file.read_bytes().replace(named, unnamed))
    with pytest.raises(ImageError, match=r"cannot be read as HFA .*WKT"):
        open_image(str(file), roots=[tmp_path])
