"""Oriented boxes and masks from served models: half precision, several tiles a call, outputs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oip_server import oip_server
from tests.onnx_models import bright_prototypes, describe, oriented_box, write_json
from tests.oriented_scene import TRUTH, check, published, scene

TILE = 96


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of served models: `obb`, whose batch is open, in half precision, and `seg`."""
    folder = tmp_path_factory.mktemp("model")
    obb = oriented_box(folder / "obb.onnx", side=TILE, batch="n", dtype="float16")
    with oip_server(obb=obb, seg=bright_prototypes(folder / "seg.onnx")) as address:
        yield f"{address}/v2/models"


@pytest.mark.parametrize("overlap", [24, 40])
def test_an_object_where_tiles_overlap_comes_out_once(
    models: str, allowed: Path, overlap: int
) -> None:
    server = f"{models}/obb"
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


def test_masks_are_those_of_the_same_model_in_this_process(models: str, allowed: Path) -> None:
    document = describe(
        {"type": "yolov8-seg", "prototypes": "output1", "letterbox": "centre"},
        classes=["ship"],
        shape=(1, 3, 64, 64),
        output="output0",
        value_scaling=[{"type": "scale", "value": 255}],
    )
    described = write_json(allowed / "seg.json", document)
    image = scene(allowed, TRUTH[1])
    tiles = {"imageProcessorTileSize": 64, "imageProcessorTileOverlap": 16}
    model = bright_prototypes(allowed / "seg.onnx")
    (wanted,) = published(allowed, image, model, **tiles)
    (found,) = published(
        allowed,
        image,
        model,
        jobId="job-2",
        imageProcessor={"name": f"{models}/seg", "type": "OIP_ENDPOINT"},
        imageProcessorParameters={"description": str(described)},
        **tiles,
    )
    assert found["properties"]["imageGeometry"] == wanted["properties"]["imageGeometry"]
