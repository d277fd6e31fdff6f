"""Models that answer with pixels, served over the Open Inference Protocol by a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import settings
from tests.oip_server import oip_server
from tests.onnx_models import describe_map, pixelwise, write_json

RGB = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
TILE = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the models and a scene of 4 × 3 tiles."""
    folder = tmp_path_factory.mktemp("maps")
    pixelwise(folder / "logits.onnx", RGB)
    pixelwise(folder / "many.onnx", [[1.0, 0.0, 0.0]] * 40, shape=("n", 3, 512, 512))
    pixelwise(folder / "half.onnx", RGB, dtype="float16", last=True)
    pixelwise(folder / "numbers.onnx", RGB, argmax=True, keepdims=False)
    random = np.random.default_rng(11)
    coarse = random.integers(1, 255, (3, 19, 26), np.uint8)
    pixels = np.kron(coarse, np.ones((1, 8, 8), np.uint8))
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}
    with rasterio.open(
        folder / "scene.tif", "w", driver="GTiff", count=3, height=152, width=208, dtype="uint8",
        **place,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(folder)]))
        patch.setenv("SWATH_WORK_URI", str(folder / "work"))
        settings.cache_clear()
        yield folder
    settings.cache_clear()


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    with oip_server(**{file.stem: file for file in folder.glob("*.onnx")}) as address:
        yield address


def class_map(folder: Path, name: str, kind: str, description: dict[str, Any]) -> NDArray[np.uint8]:
    path = write_json(folder / "described.json", description)
    message = {
        "jobId": "maps",
        "imageUrls": [str(folder / "scene.tif")],
        "outputs": [{"type": "File", "path": str(folder / "out")}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorParameters": {"description": str(path)},
        "imageProcessorTileOverlap": 12,
    }
    request = Request.parse(json.dumps(message))
    assert work_image(request, request.image_urls[0]).status is JobStatus.SUCCESS
    with rasterio.open(folder / "out" / "scene.tif.tif") as dataset:
        found: NDArray[np.uint8] = dataset.read(1)
    return found


@pytest.mark.parametrize(
    ("model", "variant"),  # JSON, the last, carries no float16
    [
        ("logits", ""),
        ("half", "/silent"),
        ("numbers", ""),
        ("logits", "/none"),
        ("numbers", "/none"),
    ],
)
def test_a_served_model_answers_as_in_this_process(
    folder: Path, server: str, model: str, variant: str
) -> None:
    document = describe_map(
        {"values": "classes"} if model == "numbers" else None,
        classes="rgb",
        data_type="float16" if model == "half" else "float32",
    ) | {"mlm:batch_size_suggestion": 3}
    local = class_map(folder, str(folder / f"{model}.onnx"), "ONNX", document)
    served = class_map(folder, f"{server}{variant}/v2/models/{model}", "OIP_ENDPOINT", document)
    np.testing.assert_array_equal(served, local)
    assert set(np.unique(served)) == {0, 1, 2}


def test_a_map_that_does_not_fit_is_refused_before_a_tile_is_sent(
    folder: Path, server: str
) -> None:
    for model, raster, reason in (
        ("logits", {"values": "classes"}, "must have 1 band, .*give logits or probabilities"),
        ("numbers", None, "must have 3 bands.*give values classes if it holds their numbers"),
    ):
        document = describe_map(raster, classes="rgb")
        with pytest.raises(RequestError, match=f"described.json: mlm:output: .*{reason}"):
            class_map(folder, f"{server}/v2/models/{model}", "OIP_ENDPOINT", document)


def test_an_answer_is_as_large_as_the_map_of_a_tile(folder: Path, server: str) -> None:
    names = [f"class {number}" for number in range(40)]  # 42 MB, and 16 MiB for other answers
    document = describe_map(None, classes=names, shape=(-1, 3, 512, 512))
    assert (class_map(folder, f"{server}/v2/models/many", "OIP_ENDPOINT", document) == 0).all()
