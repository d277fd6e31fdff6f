"""Cross-account reading: a role of an emulated STS, and an image in an emulated S3."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from tasks.aws.clients import client
from tasks.errors import ImageError
from tasks.grid.tiles import Grid
from tasks.imagery import TilePixels, open_image, read_tiles

ROLE = "arn:aws:iam::123456789012:role/reader"
PLACE = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}


@pytest.fixture
def url(aws: str, tmp_path: Path) -> str:
    """An image of ones in a bucket of the role's account."""
    bucket = f"images-{uuid4().hex[:8]}"
    file = tmp_path / "a.tif"
    shape = {"width": 300, "height": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(file, "w", driver="GTiff", **shape, **PLACE) as dataset:
        dataset.write(np.ones((1, 200, 300), np.uint8))
    client("s3", ROLE).create_bucket(Bucket=bucket)
    client("s3", ROLE).upload_file(str(file), bucket, "folder/a b.tif")
    return f"s3://{bucket}/folder/a b.tif"


def test_an_image_of_another_account_is_read_with_a_role_of_it(url: str) -> None:
    with pytest.raises(ImageError, match="imageReadRole"):
        open_image(url)
    image = open_image(url, read_role=ROLE)
    grid = Grid(300, 200, 128, 8)
    (region,) = grid.regions(10**9)
    for one in read_tiles(image, grid.tiles(region), read_role=ROLE):
        assert isinstance(one, TilePixels)
        assert (one.pixels == 1).all()
