"""The network fails in the middle of an image: every tile has its own pixels, or says why not."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.transform import Affine

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import ReadTile, TilePixels, UnreadTile, environment, open_image, read_tiles
from tasks.imagery.opening.dataset import require_complete_header
from tests.range_server import Fault, RangeServer

KEY, URL = "/bucket/a.tif", "s3://bucket/a.tif"
SIZE = 1100
PLACE: dict[str, Any] = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
CODECS = ["none", "deflate", "zstd", "jpeg"]
FAULTS: list[Fault] = [503, 500, 404, 403, "reset", "short", "zeros"]
GRID = Grid(SIZE, SIZE, 400, 50)

Files = dict[str, tuple[bytes, NDArray[Any]]]


@pytest.fixture(autouse=True)
def short_retry_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0.001)
    monkeypatch.setitem(environment._OPTIONS, "GDAL_HTTP_RETRY_DELAY", 0.01)


def write(file: Path, pixels: NDArray[Any], block: int, **options: Any) -> None:
    bands, height, width = pixels.shape
    shape = {"width": width, "height": height, "count": bands, "dtype": "uint8"}
    blocks = {"tiled": True, "blockxsize": block, "blockysize": block, "interleave": "pixel"}
    with rasterio.open(file, "w", driver="GTiff", **shape, **blocks, **options, **PLACE) as to:
        to.write(pixels)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """By codec, a TIFF none of whose pixels are blank, and what they are once decoded."""
    file = tmp_path_factory.mktemp("network") / "a.tif"
    pixels = np.random.default_rng(0).integers(1, 255, (3, SIZE, SIZE), dtype=np.uint8)
    found = {}
    for codec in CODECS:
        write(file, pixels, 256, **({} if codec == "none" else {"compress": codec}))
        with rasterio.open(file) as written:
            found[codec] = file.read_bytes(), written.read()
    return found


def check(found: list[ReadTile], pixels: NDArray[Any]) -> list[UnreadTile]:
    """That every tile has its own pixels, or a reason why it has none; those that have none."""
    for one in found:
        assert isinstance(one, TilePixels | UnreadTile)
        if isinstance(one, TilePixels):
            rows, columns = one.tile.window.toslices()
            np.testing.assert_array_equal(one.pixels, pixels[:, rows, columns])
            assert not one.blank
        else:
            assert one.reason
    return [one for one in found if isinstance(one, UnreadTile)]


def read_all() -> list[ReadTile]:
    image = open_image(URL)
    (region,) = GRID.regions(10**6)
    return list(read_tiles(image, GRID.tiles(region)))


def told_apart(codec: str, fault: Fault) -> bool:
    """Zeros of the right length are pixels like others where nothing is compressed."""
    return (codec, fault) != ("none", "zeros")


@pytest.mark.parametrize(
    ("codec", "fault"),
    [(codec, fault) for codec in CODECS for fault in FAULTS if told_apart(codec, fault)],
)
def test_a_read_that_fails_once_is_repeated(
    s3: RangeServer, files: Files, codec: str, fault: Fault
) -> None:
    s3.objects[KEY], pixels = files[codec]
    middle, faults = len(s3.objects[KEY]) // 2, count()
    s3.fault = lambda _, last: fault if last > middle and next(faults) < 1 else None
    assert check(read_all(), pixels) == []


@pytest.mark.parametrize("codec", ["none", "jpeg"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_read_that_always_fails_fails_only_its_tiles(
    s3: RangeServer, files: Files, codec: str, fault: Fault
) -> None:
    if not told_apart(codec, fault):
        pytest.skip("zeros of the right length are pixels like others where nothing is compressed")
    s3.objects[KEY], pixels = files[codec]
    late = 9 * len(s3.objects[KEY]) // 10
    s3.fault = lambda _, last: fault if last > late else None
    lost = check(read_all(), pixels)
    assert 0 < len(lost) < len(GRID)
    assert lost[-1].tile.index == len(GRID) - 1


@pytest.fixture(scope="module")
def many_blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[Any]]:
    """A TIFF of 16 px blocks, whose index is longer than what is fetched at once."""
    pixels = np.random.default_rng(0).integers(1, 3, (1, 8000, 8000), dtype=np.uint8)
    file = tmp_path_factory.mktemp("index") / "a.tif"
    write(file, pixels, 16, compress="deflate", nodata=0)
    return file, pixels


@pytest.mark.parametrize("fault", [503, 404, "reset", "short"])
def test_an_index_that_cannot_be_fetched_makes_no_blank_tiles(
    s3: RangeServer,
    many_blocks: tuple[Path, NDArray[Any]],
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, pixels = many_blocks
    s3.objects[KEY] = file.read_bytes()
    image = open_image(URL)
    beyond_the_first_fetch = str(1 << 20), str(1_500_000)
    server = [sys.executable, "-m", "tests.range_server"]
    with subprocess.Popen(
        [*server, str(file), KEY, str(fault), *beyond_the_first_fetch],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        clients.renew_credentials()
        tiles = [Grid(8000, 8000, 100, 0).tile(row, 40) for row in (0, 25, 50, 79)]
        try:
            lost = check(list(read_tiles(image, tiles)), pixels)
        finally:
            process.kill()
    assert lost or fault in ("reset", "short")  # of these, enough arrives in the end


@pytest.mark.parametrize("fault", [503, 404, 403])
def test_an_image_whose_header_cannot_be_fetched_completely_is_refused(
    s3: RangeServer, many_blocks: tuple[Path, NDArray[Any]], fault: Fault
) -> None:
    s3.objects[KEY] = many_blocks[0].read_bytes()
    place_of_the_tie_point = s3.objects[KEY].index(np.float64(PLACE["transform"].c).tobytes())
    assert place_of_the_tie_point > 1 << 20
    assert open_image(URL).georeference
    s3.fault = lambda first, last: fault if first <= place_of_the_tie_point <= last else None
    with pytest.raises(ImageError):
        open_image(URL)
    with (
        environment.gdal_environment(s3=True),
        pytest.raises(RasterioIOError, match="IO error"),
        require_complete_header(),
    ):
        rasterio.open(f"/vsis3{KEY}").close()
    s3.fault = lambda *_: None
    assert open_image(URL).georeference


def test_a_server_that_hangs_does_not_hold_the_job_tile_by_tile(
    s3: RangeServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(environment._OPTIONS, "GDAL_HTTP_LOW_SPEED_TIME", 1)
    monkeypatch.setitem(environment._OPTIONS, "GDAL_HTTP_MAX_RETRY", 0)
    s3.objects[KEY], pixels = files["deflate"]
    image = open_image(URL)
    middle = len(s3.objects[KEY]) // 2
    s3.fault = lambda _, last: "hang" if last > middle else None
    (region,) = GRID.regions(10**6)
    lost = check(list(read_tiles(image, GRID.tiles(region))), pixels)
    s3.hung.set()
    assert 0 < len(lost) < len(GRID)
    assert "s of failed reads" in lost[-1].reason


def test_an_image_that_is_gone_for_good_is_not_asked_for_tile_by_tile(
    s3: RangeServer, files: Files
) -> None:
    s3.objects[KEY], _ = files["deflate"]
    image = open_image(URL)
    s3.refusals[KEY] = 403, "ExpiredToken"
    (region,) = GRID.regions(10**6)
    found = list(read_tiles(image, GRID.tiles(region)))
    assert len(found) == len(GRID)
    assert {type(one) for one in found} == {UnreadTile}
    assert all(isinstance(one, UnreadTile) and "expired" in one.reason for one in found)
