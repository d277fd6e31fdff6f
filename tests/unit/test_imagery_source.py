"""What opening an image tells, and what is refused before GDAL sees it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.imagery import open_image

PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}


def write(file: Path, dtype: str = "uint8", count: int = 1, **profile: Any) -> Path:
    shape = {"width": 90, "height": 70, "count": count, "dtype": dtype}
    with rasterio.open(file, "w", **({"driver": "GTiff"} | shape | PLACE | profile)) as dataset:
        dataset.write(np.ones((count, 70, 90), dtype))
    return file


def test_what_a_geotiff_tells(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a b.tif", "int16", 2, nodata=-5, tiled=True, blockxsize=32, blockysize=16
    )
    with rasterio.open(file, "r+") as dataset:
        dataset.build_overviews([2, 4])
        dataset.update_tags(TIFFTAG_DOCUMENTNAME="scene 7", TIFFTAG_DATETIME="2024:05:06 07:08:09")
    image = open_image(str(file), roots=[tmp_path])
    assert image.name == "a b.tif"
    assert image.size == (90, 70)
    assert (image.bands, image.dtype, image.nodata) == (2, "int16", -5)
    assert (image.has_mask, image.alpha) == (False, None)
    assert image.block_shape == (16, 32)
    assert image.overviews == (2, 4)
    assert image.nbytes == 90 * 70 * 2 * 2
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
        }
    ]


@pytest.mark.parametrize(
    ("time", "expected"),
    [("19961217102630", "1996-12-17T10:26:30Z"), ("--------------", None)],
)
def test_what_a_nitf_tells(tmp_path: Path, time: str, expected: str | None) -> None:
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


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.tif",
        "/vsicurl/https://example.com/a.tif",
        "/vsis3/bucket/key",
        "file:///etc/passwd",
        "s3://bucket",
        "s3://BUCKET/../key",
        "NITF_IM:0:/etc/passwd",
        "",
        "a\0b",
        "../../etc/passwd",
    ],
)
def test_no_other_place_is_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(ImageError, match=r"s3://|SWATH_LOCAL_ROOTS|not a file"):
        open_image(url, roots=[tmp_path])


def test_only_roots_are_open(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    file = write(outside / "a.tif")
    (inside / "link.tif").symlink_to(file)
    for url in (str(file), str(inside / "link.tif"), str(inside / ".." / "out" / "a.tif")):
        with pytest.raises(ImageError, match="SWATH_LOCAL_ROOTS"):
            open_image(url, roots=[inside])
        with pytest.raises(ImageError, match="there are none"):
            open_image(url)
        assert open_image(url, roots=[inside, outside])
    with pytest.raises(ImageError, match="is not a file"):
        open_image(str(inside), roots=[inside])


def test_a_virtual_raster_is_refused(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret.tif")
    file = tmp_path / "a.tif"
    file.write_text(
        f"<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand band='1' dataType='Byte'>"
        f"<SimpleSource><SourceFilename>{secret}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(ImageError, match="not an image that Swath reads"):
        open_image(str(file), roots=[tmp_path])


def test_sidecars_are_not_followed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif")
    (tmp_path / "a.tif.aux.xml").write_text(
        "<PAMDataset><GeoTransform>9,9,0,9,0,-9</GeoTransform>"
        "<Metadata><MDI key='TIFFTAG_DOCUMENTNAME'>lie</MDI></Metadata></PAMDataset>"
    )
    image = open_image(str(file), roots=[tmp_path])
    assert image.source_metadata[0]["sourceId"] is None


@pytest.mark.parametrize("body", [b"", b"\0" * 100, b"II*\0", b"\x89PNG\r\n\x1a\n", b"NITF02.10"])
def test_what_is_no_image_is_refused(tmp_path: Path, body: bytes) -> None:
    file = tmp_path / "a.tif"
    file.write_bytes(body)
    with pytest.raises(ImageError, match=r"a\.tif.*(empty|not an image|cannot be read)"):
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
