"""Images in S3: an S3 server of our own counts what is asked of it, and misbehaves on demand."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tasks import aws
from tasks.errors import ImageChanged, ImageError
from tasks.imagery import TilePixels, UnreadTile, open_image, read_tiles
from tasks.tiling import Grid, Tile

KEY = "/bucket/folder/a b+c.tif"


class Server(ThreadingHTTPServer):
    """Holds objects by path, and every range that was read."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.etag = '"v1"'
        self.refusals: dict[str, tuple[int, str]] = {}
        self.failing_after: int | None = None
        self.ranges: list[tuple[int, int]] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        path = re.sub("%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), self.path.split("?")[0])
        body = self.server.objects.get(path)
        if refusal := self.server.refusals.get(path):
            return self.answer(refusal[0], f"<Error><Code>{refusal[1]}</Code></Error>".encode())
        if body is None:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        first, last = 0, len(body) - 1
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first = int(match[1])
            last = min(last, int(match[2] or last))
        if first > last:
            return self.answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        limit = self.server.failing_after
        if limit is not None and last >= limit:
            return self.answer(400, b"<Error><Code>Broken</Code></Error>")
        self.server.ranges.append((first, last))
        total = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
        return self.answer(206, body[first : last + 1], total)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server asks for

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"ETag": self.server.etag, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "known")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        aws.client.cache_clear()
        aws.session.cache_clear()
        yield server
        aws.client.cache_clear()
        aws.session.cache_clear()
        server.shutdown()
        thread.join()


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


def test_every_byte_is_fetched_about_once(s3: Server, cog: tuple[bytes, np.ndarray]) -> None:
    s3.objects[KEY], pixels = cog
    image = open_image(URL)
    assert (image.size, image.etag, image.in_s3) == ((2100, 2100), "v1", True)
    s3.ranges.clear()
    for one in read_tiles(image, whole(Grid(2100, 2100, 512, 50))):
        assert isinstance(one, TilePixels)
        rows, columns = one.tile.window.toslices()
        np.testing.assert_array_equal(one.pixels, pixels[:, rows, columns])
    fetched = sum(last - first + 1 for first, last in s3.ranges)
    assert fetched < 1.02 * len(s3.objects[KEY])


def test_two_jobs_of_one_process_see_their_own_version(
    s3: Server, cog: tuple[bytes, np.ndarray]
) -> None:
    s3.objects[KEY], _ = cog
    image = open_image(URL)
    s3.etag = '"v2"'
    with pytest.raises(ImageChanged, match=r"version v1, now v2"):
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
def test_refusals_say_what_to_do(s3: Server, status: int, code: str, remedy: str) -> None:
    s3.refusals[KEY] = status, code
    with pytest.raises(ImageError, match=remedy) as refusal:
        open_image(URL)
    assert URL in str(refusal.value)
    assert "SECRET" not in str(refusal.value)


def test_absent_empty_and_foreign_objects(s3: Server) -> None:
    with pytest.raises(ImageError, match="no such object"):
        open_image(URL)
    s3.objects[KEY] = b""
    with pytest.raises(ImageError, match="empty"):
        open_image(URL)
    s3.objects[KEY] = b"hello"
    with pytest.raises(ImageError, match="not an image"):
        open_image(URL)


def test_what_cannot_be_fetched_is_told_by_tile(
    s3: Server, cog: tuple[bytes, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.imagery.strips._PAUSE", 0.001)
    s3.objects[KEY], _ = cog
    image = open_image(URL)
    s3.failing_after = len(s3.objects[KEY]) // 2
    grid = Grid(2100, 2100, 1024, 50)
    found = list(read_tiles(image, whole(grid)))
    assert len(found) == len(grid)
    assert isinstance(found[0], TilePixels)
    lost = [one for one in found if isinstance(one, UnreadTile)]
    assert lost
    assert lost[-1].tile == found[-1].tile
    assert lost[0].reason


def test_a_name_where_no_server_is(
    monkeypatch: pytest.MonkeyPatch, s3: Server, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    aws.client.cache_clear()
    aws.session.cache_clear()
    with pytest.raises(ImageError, match="cannot be reached as configured"):
        open_image(URL)
