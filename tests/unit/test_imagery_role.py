"""Reading with `imageReadRole`: credentials that expire during the read."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import TilePixels, open_image, read_tiles
from tests.range_server import RangeServer

ROLE = "arn:aws:iam::123456789012:role/reader"
URL = "s3://bucket/a.tif"
SIDE = 1200


class Account:
    """Access keys and their expiry, issued by STS and checked by S3."""

    def __init__(self) -> None:
        self.lifetime = timedelta(hours=1)
        self.ends: dict[str, datetime] = {}
        self.used: set[str] = set()
        self.stale: list[str] = []
        self.refused = False

    def assume(self) -> str:
        key = f"ROLE{len(self.ends)}"
        self.ends[key] = datetime.now(UTC) + self.lifetime
        return (
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>{key}-token</SessionToken>"
            f"<Expiration>{self.ends[key].isoformat()}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )

    def admits(self, authorization: str, token: str) -> bool:
        match = re.search(r"Credential=(\w+)/", authorization)
        key = match[1] if match else ""
        ended = key not in self.ends or self.ends[key] <= datetime.now(UTC)
        if ended or token != f"{key}-token":
            self.stale.append(key)
            return False
        self.used.add(key)
        return True


@pytest.fixture
def account(s3: RangeServer, monkeypatch: pytest.MonkeyPatch) -> Account:
    """STS and S3 of one account, on the port of the S3 server."""
    here = Account()
    plain: Any = s3.RequestHandlerClass

    class Handler(plain):  # type: ignore[misc]
        def do_POST(self) -> None:  # noqa: N802 - the names that http.server asks for
            self.rfile.read(int(self.headers["Content-Length"]))
            if here.refused:
                self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            else:
                self._answer(200, here.assume().encode())

        def do_GET(self) -> None:  # noqa: N802
            token = self.headers.get("X-Amz-Security-Token", "")
            if here.admits(self.headers.get("Authorization", ""), token):
                super().do_GET()
            else:
                self._answer(400, b"<Error><Code>ExpiredToken</Code></Error>")

        do_HEAD = do_GET  # noqa: N815

    s3.RequestHandlerClass = Handler
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{s3.server_port}")
    return here


@pytest.fixture
def pixels(s3: RangeServer, tmp_path: Path) -> np.ndarray:
    """What is stored at URL, hardly compressible, so that each strip is fetched by itself."""
    array = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
    shape = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="COG", blocksize=128, overviews="NONE", **shape, **place
    ) as dataset:
        dataset.write(array)
    s3.objects["/bucket/a.tif"] = (tmp_path / "a.tif").read_bytes()
    return array


def test_a_read_continues_when_credentials_expire(account: Account, pixels: np.ndarray) -> None:
    account.lifetime = timedelta(seconds=4)
    image = open_image(URL, read_role=ROLE)
    grid = Grid(SIDE, SIDE, 256, 10)
    (region,) = grid.regions(10**9)
    row = None
    for one in read_tiles(image, grid.tiles(region), read_role=ROLE):
        assert isinstance(one, TilePixels), one
        if one.tile.window.row_off != row:
            row = one.tile.window.row_off
            time.sleep(2.5)  # a model at work
        rows, columns = one.tile.window.toslices()
        np.testing.assert_array_equal(one.pixels, pixels[:, rows, columns])
    assert len(account.used) > 3


def test_long_lived_credentials_are_fetched_once(account: Account, pixels: np.ndarray) -> None:
    image = open_image(URL, read_role=ROLE)
    grid = Grid(SIDE, SIDE, 256, 10)
    (region,) = grid.regions(10**9)
    assert all(
        isinstance(one, TilePixels) for one in read_tiles(image, grid.tiles(region), read_role=ROLE)
    )
    assert account.used == {"ROLE0"}
    assert not account.stale


def test_the_error_names_a_role_that_cannot_be_assumed(
    account: Account, pixels: np.ndarray
) -> None:
    account.refused = True
    with pytest.raises(ImageError, match=f"{ROLE} cannot be assumed.*trust policy"):
        open_image(URL, read_role=ROLE)


def test_without_a_role_the_identity_of_the_process_is_used(
    account: Account, pixels: np.ndarray
) -> None:
    with pytest.raises(ImageError, match="credentials have expired"):
        open_image(URL)
    assert set(account.stale) == {"known"}
