"""ONNX models in S3, read with an assumed role."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.onnx import OnnxEndpoint, open_onnx
from tasks.request import Request
from tests.onnx_models import bright_box, describe, write_json

ROLE = "arn:aws:iam::123456789012:role/models"


@pytest.fixture
def scene(tmp_path: Path) -> Image:
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    shape = {"width": 64, "height": 64, "count": 3, "dtype": "uint8"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.ones((3, 64, 64), np.uint8))
    return open_image(str(tmp_path / "a.tif"), roots=[tmp_path])


@pytest.fixture
def bucket(aws: str, tmp_path: Path) -> str:
    """A bucket of the role's account with a model and its description."""
    name = f"models-{uuid4().hex[:8]}"
    s3 = client("s3", ROLE)
    s3.create_bucket(Bucket=name)
    s3.upload_file(str(bright_box(tmp_path / "m.onnx")), name, "ships/m.onnx")
    description = describe({"type": "torchvision"}, classes=("dark", "bright"))
    s3.upload_file(str(write_json(tmp_path / "m.json", description)), name, "ships/m.json")
    return name


def request(model: str, role: str | None = ROLE) -> Request:
    processor = {"name": model, "type": "ONNX"} | ({"assumedRole": role} if role else {})
    return Request.model_validate(
        {
            "jobId": "a",
            "imageUrls": ["s3://bucket/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": processor,
            "imageProcessorTileSize": 64,
        }
    )


def found(endpoint: OnnxEndpoint) -> list[float]:
    pixels = np.zeros((3, 64, 64), np.uint8)
    pixels[:, 5:20, 10:40] = 255
    tile = TilePixels(Tile(0, Window(0, 0, 64, 64)), pixels, None)
    (boxes,) = endpoint.ask([endpoint.prepare(tile)])
    corners: list[float] = boxes.boxes[0].tolist()
    return corners


def test_a_model_is_read_with_the_role_that_the_request_names(bucket: str, scene: Image) -> None:
    uri = f"s3://{bucket}/ships/m.onnx"
    assert found(open_onnx(request(uri), scene, [], 60)) == [10, 5, 40, 20]
    with pytest.raises(RequestError, match=r"imageProcessor\.name: s3://"):
        open_onnx(request(uri, role=None), scene, [], 60)


def test_an_unchanged_model_is_fetched_once(
    bucket: str, scene: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, s3 = f"s3://{bucket}/ships/m.onnx", client("s3", ROLE)
    fetched: list[str] = []
    s3.meta.events.register(
        "before-call.s3.GetObject", lambda params, **_: fetched.append(params["url_path"])
    )
    for _ in range(3):
        open_onnx(request(uri), scene, [], 60)
    assert sum(path.endswith(".onnx") for path in fetched) == 1
    s3.put_object(Bucket=bucket, Key="ships/m.onnx", Body=b"another")
    with pytest.raises(RequestError, match="export it again"):
        open_onnx(request(uri), scene, [], 60)


@pytest.mark.parametrize("absent", ["m.onnx", "m.json"])
def test_a_missing_file_is_named(bucket: str, scene: Image, absent: str) -> None:
    client("s3", ROLE).delete_object(Bucket=bucket, Key=f"ships/{absent}")
    with pytest.raises(
        RequestError, match=f"s3://{bucket}/ships/{absent}: there is no such object"
    ):
        open_onnx(request(f"s3://{bucket}/ships/m.onnx"), scene, [], 60)
