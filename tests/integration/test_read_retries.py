"""Reading from S3 goes on after errors that pass, and ends within a bound after those that stay."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tasks.errors import ImageChangedError, ImageError, ImageUnreachableError
from tasks.grid.tiles import Grid, Tile
from tasks.imagery import TilePixels, UnreadTile, environment, open_image, read_tiles
from tasks.imagery.image import Image
from tasks.settings import settings
from tests.range_server import Fault, RangeServer

KEY, URL = "/bucket/a.tif", "s3://bucket/a.tif"
SIZE = 1100
GRID = Grid(SIZE, SIZE, 200, 20)
VERSION = (0, 63)
"""The bytes that are asked for to compare the version."""

PASSING: list[Fault] = [403, 404, 429, 500, 503, "reset", "short"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, NDArray[np.uint8]]:
    """A TIFF and its pixels, none of which is blank."""
    file = tmp_path_factory.mktemp("retries") / "a.tif"
    pixels = np.random.default_rng(0).integers(1, 255, (1, SIZE, SIZE), dtype=np.uint8)
    profile = {"width": SIZE, "height": SIZE, "count": 1, "dtype": "uint8", "compress": "deflate"}
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            file, "w", driver="GTiff", tiled=True, blockxsize=64, blockysize=64, **profile
        ) as dataset,
    ):
        dataset.write(pixels)
    return file.read_bytes(), pixels


@pytest.fixture
def image(
    s3: RangeServer, stored: tuple[bytes, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> Image:
    """The image, opened from a server without a fault."""
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0.001)
    monkeypatch.setattr("tasks.imagery.opening.open_image._PAUSE", 0.001)
    monkeypatch.setitem(environment._OPTIONS, "GDAL_HTTP_RETRY_DELAY", 0.01)
    be_patient(monkeypatch, 60)
    s3.objects[KEY], _ = stored
    return open_image(URL)


def be_patient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("SWATH_READ_PATIENCE", str(seconds))
    settings.cache_clear()


def tiles() -> Iterator[Tile]:
    (region,) = GRID.regions(10**9)
    return GRID.tiles(region)


def lost(image: Image, pixels: NDArray[np.uint8]) -> list[UnreadTile]:
    """The tiles that could not be read; all others have their own pixels."""
    unread = []
    for one in read_tiles(image, tiles()):
        if isinstance(one, UnreadTile):
            unread.append(one)
        else:
            assert isinstance(one, TilePixels)
            rows, columns = one.tile.window.toslices()
            np.testing.assert_array_equal(one.pixels, pixels[:, rows, columns])
    return unread


@pytest.mark.parametrize("fault", PASSING)
def test_a_check_of_the_version_that_fails_once_costs_no_tile(
    s3: RangeServer, image: Image, stored: tuple[bytes, NDArray[np.uint8]], fault: Fault
) -> None:
    checks = count()
    s3.fault = lambda *asked: fault if asked == VERSION and next(checks) == 3 else None
    assert lost(image, stored[1]) == []
    assert next(checks) > 4


@pytest.mark.parametrize("fault", PASSING)
def test_an_image_is_opened_after_errors_that_pass(
    s3: RangeServer, image: Image, fault: Fault
) -> None:
    asked = count()
    s3.fault = lambda *_: fault if next(asked) < 2 else None
    assert open_image(URL) == image


def test_no_tile_is_lost_while_s3_throttles_every_request_for_a_while(
    s3: RangeServer, image: Image, stored: tuple[bytes, NDArray[np.uint8]]
) -> None:
    asked = count()
    s3.fault = lambda *_: 503 if 5 < next(asked) < 12 else None
    assert lost(image, stored[1]) == []
    assert next(asked) > 12


@pytest.mark.parametrize("fault", [503, "reset", "short"])
def test_no_tile_is_lost_while_every_third_request_fails(
    s3: RangeServer, image: Image, stored: tuple[bytes, NDArray[np.uint8]], fault: Fault
) -> None:
    chance = random.Random(7)
    s3.fault = lambda *_: fault if chance.random() < 1 / 3 else None
    assert lost(image, stored[1]) == []


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        ((404, "NoSuchBucket"), "no such bucket"),
        ((404, "NoSuchKey"), "no such object"),
        ((403, "AccessDenied"), "access denied"),
        ((503, "SlowDown"), "SlowDown"),
    ],
)
def test_an_image_that_stays_away_ends_the_region_and_every_tile_says_why(
    s3: RangeServer,
    image: Image,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[int, str],
    why: str,
) -> None:
    be_patient(monkeypatch, 1)
    s3.refusals[KEY] = refusal
    found = list(read_tiles(image, tiles()))
    assert [one.tile for one in found] == list(tiles())
    for one in found:
        assert isinstance(one, UnreadTile)
        assert one.unreachable
        assert URL in one.reason
        assert why in one.reason
    with pytest.raises(ImageUnreachableError, match=why):
        open_image(URL)


def test_bytes_that_never_arrive_are_told_from_damaged_ones(
    s3: RangeServer,
    image: Image,
    stored: tuple[bytes, NDArray[np.uint8]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    middle = len(s3.objects[KEY]) // 2
    damaged = bytearray(s3.objects[KEY])
    damaged[middle : middle + 4000] = b"\x55" * 4000
    s3.objects[KEY] = bytes(damaged)
    unread = lost(image, stored[1])
    assert 0 < len(unread) < len(GRID) / 2
    assert not any(one.unreachable for one in unread)

    s3.objects[KEY], _ = stored
    be_patient(monkeypatch, 0.3)
    s3.fault = lambda first, last: 500 if first <= middle <= last else None
    unread = lost(image, stored[1])
    assert 0 < len(unread) < len(GRID) / 2
    assert all(one.unreachable for one in unread)


def test_an_object_replaced_while_s3_does_not_answer_is_noticed(
    s3: RangeServer, image: Image
) -> None:
    asked = count()

    def fault(*_: int) -> Fault | None:
        now = next(asked)
        if now == 6:
            s3.etag = '"v2"'
        return 503 if 6 < now < 12 else None

    s3.fault = fault
    with pytest.raises(ImageChangedError, match="version v1, now v2"):
        list(read_tiles(image, tiles()))


def test_who_needs_no_more_tiles_does_not_wait_for_s3(
    s3: RangeServer, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch, 3600)
    reading = read_tiles(image, tiles())
    next(reading)
    s3.refusals[KEY] = 503, "SlowDown"
    reading.close()


def test_a_truncated_object_is_refused_or_fails_its_tiles(
    s3: RangeServer, image: Image, stored: tuple[bytes, NDArray[np.uint8]]
) -> None:
    s3.objects[KEY] = stored[0][: len(stored[0]) // 2]
    try:
        short = open_image(URL)
    except ImageError as error:
        assert "cut short" in str(error)  # noqa: PT017 - both ends are right
    else:
        unread = lost(short, stored[1])
        assert unread
        assert not any(one.unreachable for one in unread)
