"""Images in S3: the bytes that are fetched, and the messages when that fails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tasks.aws import clients
from tasks.errors import ImageChangedError, ImageError
from tasks.grid.tiles import Grid, Tile
from tasks.imagery import TilePixels, UnreadTile, check_no_mask_file, open_image, read_tiles
from tests.range_server import RangeServer

KEY = "/bucket/folder/a b+c.tif"


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, np.ndarray]:
    file = tmp_path_factory.mktemp("s3") / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (3, 2100, 2100), dtype=np.uint8)
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    shape = {"width": 2100, "height": 2100, "count": 3, "dtype": "uint8"}
    with rasterio.open(
        file,
        "w",
        driver="COG",
        blocksize=256,
        overviews="NONE",
        interleave="PIXEL",
        **shape,
        **place,
    ) as dataset:
        dataset.write(pixels)
    return file.read_bytes(), pixels


def whole(grid: Grid) -> list[Tile]:
    (region,) = grid.regions(10**9)
    return list(grid.tiles(region))


URL = "s3://bucket/folder/a b+c.tif"


def test_a_mask_in_an_object_beside_the_image_is_refused(
    s3: RangeServer, cog: tuple[bytes, np.ndarray]
) -> None:
    s3.objects[KEY] = cog[0]
    image = open_image(URL)
    check_no_mask_file(image, None)
    s3.objects[f"{KEY}.msk"] = b"any"
    with pytest.raises(ImageError, match="has its mask in a file beside it"):
        check_no_mask_file(image, None)


def test_every_byte_is_fetched_about_once(s3: RangeServer, cog: tuple[bytes, np.ndarray]) -> None:
    s3.objects[KEY], pixels = cog
    image = open_image(URL)
    assert (image.size, image.etag, image.in_s3) == ((2100, 2100), "v1", True)
    s3.ranges.clear()
    for one in read_tiles(image, whole(Grid(2100, 2100, 512, 50))):
        assert isinstance(one, TilePixels)
        rows, columns = one.tile.window.toslices()
        np.testing.assert_array_equal(one.pixels, pixels[:, rows, columns])
    assert s3.fetched < 1.02 * len(s3.objects[KEY])


def test_two_jobs_of_one_process_see_their_own_version(
    s3: RangeServer, cog: tuple[bytes, np.ndarray]
) -> None:
    s3.objects[KEY], _ = cog
    image = open_image(URL)
    s3.etag = '"v2"'
    with pytest.raises(ImageChangedError, match=r"version v1, now v2"):
        list(read_tiles(image, whole(Grid(2100, 2100, 512, 50))))


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (403, "AccessDenied", "grant s3:GetObject"),
        (404, "NoSuchBucket", "check the URL"),
        (403, "InvalidObjectState", "restore it"),
        (400, "ExpiredToken", "renew"),
        (400, "Odd", r"refused to read it \(Odd\)"),
    ],
)
def test_errors_name_the_remedy(s3: RangeServer, status: int, code: str, remedy: str) -> None:
    s3.refusals[KEY] = status, code
    with pytest.raises(ImageError, match=remedy) as refusal:
        open_image(URL)
    assert URL in str(refusal.value)
    assert "SECRET" not in str(refusal.value)


def test_absent_and_empty_objects_and_other_formats(s3: RangeServer) -> None:
    with pytest.raises(ImageError, match="no such object"):
        open_image(URL)
    s3.objects[KEY] = b""
    with pytest.raises(ImageError, match="empty"):
        open_image(URL)
    s3.objects[KEY] = b"hello"
    with pytest.raises(ImageError, match="not an image"):
        open_image(URL)


def test_blocks_that_cannot_be_fetched_fail_their_tiles(
    s3: RangeServer, cog: tuple[bytes, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0.001)
    s3.objects[KEY], _ = cog
    image = open_image(URL)
    half = len(s3.objects[KEY]) // 2
    s3.fault = lambda _, last: 400 if last >= half else None
    grid = Grid(2100, 2100, 1024, 50)
    found = list(read_tiles(image, whole(grid)))
    assert len(found) == len(grid)
    assert isinstance(found[0], TilePixels)
    lost = [one for one in found if isinstance(one, UnreadTile)]
    assert lost
    assert lost[-1].tile == found[-1].tile
    assert lost[0].reason


def test_an_endpoint_without_a_server(
    monkeypatch: pytest.MonkeyPatch, s3: RangeServer, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    clients.renew_credentials()
    with pytest.raises(ImageError, match="cannot be reached as configured"):
        open_image(URL)
