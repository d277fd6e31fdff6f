"""Oriented boxes from a served model: tensors in half precision, several tiles a call."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.settings import settings
from tests.oip_server import oip_server
from tests.onnx_models import describe, oriented_box, write_json
from tests.oriented_scene import TRUTH, check, published, scene

TILE = 96


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a model whose batch is open, and that takes and gives half precision."""
    file = tmp_path_factory.mktemp("model") / "obb.onnx"
    with oip_server(obb=oriented_box(file, side=TILE, batch="n", dtype="float16")) as address:
        yield f"{address}/v2/models/obb"


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images, models and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()


@pytest.mark.parametrize("overlap", [24, 40])
def test_an_object_where_tiles_overlap_comes_out_once(
    server: str, allowed: Path, overlap: int
) -> None:
    document = describe(
        {"type": "yolov8-obb", "letterbox": "centre"},
        classes=["ship"],
        shape=(-1, 3, TILE, TILE),
        data_type="float16",
        output="output0",
        value_scaling=[{"type": "scale", "value": 255}],
    ) | {"mlm:batch_size_suggestion": 3}
    described = write_json(allowed / "obb.json", document)
    (found,) = published(
        allowed,
        scene(allowed, TRUTH[1]),
        server,
        imageProcessor={"name": server, "type": "OIP_ENDPOINT"},
        imageProcessorParameters={"description": str(described)},
        imageProcessorTileOverlap=overlap,
    )
    check(found, TRUTH[1])
