"""ONNX models in S3, read with an assumed role."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window
from rich.console import Console

from deployments.describe import describe as describe_model
from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.description import load_description
from tasks.inference.onnx import OnnxEndpoint, open_onnx
from tasks.request import Request
from tests import model_answers
from tests.onnx_models import answering, bright_box, describe, of_ultralytics, write_json

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
    (boxes,) = model_answers.boxes(endpoint.ask([endpoint.prepare(tile)]))
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


@pytest.fixture
def export(aws: str, tmp_path: Path) -> str:
    """The URI of an export of Ultralytics without a description, in the process's own account."""
    name = f"exports-{uuid4().hex[:8]}"
    output = {"output0": np.zeros((1, 6, 84), np.float32)}
    model = answering(tmp_path / "best.onnx", output, metadata=of_ultralytics())
    client("s3").create_bucket(Bucket=name)
    client("s3").upload_file(str(model), name, "best.onnx")
    return f"s3://{name}/best.onnx"


def test_an_export_of_ultralytics_needs_no_object_beside_it(export: str, scene: Image) -> None:
    endpoint = open_onnx(request(export, role=None), scene, [], 60)
    tile = TilePixels(Tile(0, Window(0, 0, 64, 64)), np.zeros((3, 64, 64), np.uint8), None)
    (boxes,) = model_answers.boxes(endpoint.ask([endpoint.prepare(tile)]))
    assert boxes.names == ["ship", "barge"]


def test_a_model_in_s3_is_described_in_a_file_that_is_named(
    export: str, aws: str, tmp_path: Path
) -> None:
    console = Console(quiet=True)
    out = tmp_path / "best.json"
    assert describe_model(export, str(out), console, force=False) == 0
    assert load_description(str(out), [tmp_path], None).tile_size == 64
    bucket, _, _ = export.removeprefix("s3://").partition("/")
    client("s3").upload_file(str(bright_box(tmp_path / "other.onnx")), bucket, "other.onnx")
    with pytest.raises(RequestError, match=r"--out: is needed"):
        describe_model(f"s3://{bucket}/other.onnx", None, console, force=False)
