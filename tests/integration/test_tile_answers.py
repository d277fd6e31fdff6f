"""Models behind a network that answer about each tile as a whole: over HTTP and OIP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio

from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tests.oip_server import oip_server
from tests.onnx_models import pooled, write_json

WEIGHTS = [[0.03, 0.0, -0.01], [0.0, 0.02, 0.0]]
COLUMNS = ["class", "score", "image_geometry"]


@pytest.fixture
def scene(allowed: Path) -> Path:
    path = allowed / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=100, height=80, count=3, dtype="uint8"
    ) as dataset:
        coarse = np.random.default_rng(1).integers(1, 255, (3, 8, 10), np.uint8)
        dataset.write(np.kron(coarse, np.ones((1, 10, 10), np.uint8)))
    return path


def published(scene: Path, name: str, kind: str, **fields: Any) -> pa.Table:
    """The features of a job of its own."""
    out = scene.parent / str(len(list(scene.parent.iterdir())))
    message = {
        "jobId": out.name,
        "imageUrls": [str(scene)],
        "outputs": [{"type": "File", "path": str(out)}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorTileSize": 32,
        "imageProcessorTileOverlap": 8,
        "imageProcessorTileFormat": "GTIFF",
        "postProcessing": [{"algorithm": {"iouThreshold": 0.01}}],
    }
    request = Request.model_validate(message | fields)
    assert work_image(request, str(scene)).status is JobStatus.SUCCESS
    return pq.read_table(out / "scene.tif.parquet")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_built_in_model_answers_alike_in_process_and_over_http(
    scene: Path, models: str
) -> None:
    built_in = published(scene, "brightness-scenes", "BUILTIN")
    url, output = f"{models}/brightness-scenes/invocations", {"values": "probabilities"}
    served = published(scene, url, "HTTP_ENDPOINT", tileOutput=output)
    assert len(built_in) == 12
    assert built_in.select(COLUMNS).equals(served.select(COLUMNS))
    assert set(served["class"].to_pylist()) <= {"dark", "medium", "bright"}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("task", ["scene-classification", "similarity-search"])
def test_a_model_answers_alike_in_process_and_over_oip(scene: Path, task: str) -> None:
    model = pooled(scene.parent / "pooled.onnx", WEIGHTS)
    structure = {"shape": [-1, 3, 32, 32], "dim_order": ["batch", "bands", "height", "width"]}
    embedding = task == "similarity-search"
    names = [] if embedding else [{"value": 0, "name": "a"}, {"value": 1, "name": "b"}]
    document = {
        "mlm:name": "pooled",
        "mlm:tasks": [task],
        "mlm:input": [{"name": "images", "input": structure | {"data_type": "float32"}}],
        "mlm:output": [{"name": "numbers", "classification:classes": names}],
    } | ({"swath:tile": {"size": 2}} if embedding else {})
    told = {"description": str(write_json(scene.parent / "pooled.json", document))}
    local = published(scene, str(model), "ONNX", imageProcessorParameters=told)
    with oip_server(pooled=model) as address:
        url = f"{address}/v2/models/pooled"
        served = published(scene, url, "OIP_ENDPOINT", imageProcessorParameters=told)
    assert len(local) == 12
    assert served.select(COLUMNS).equals(local.select(COLUMNS))
    assert ("embedding" in served.column_names) == embedding
    if embedding:
        assert served["embedding"].equals(local["embedding"])
