"""CPU time per tile of a model in process, without the model itself: input, call, decoding.

Tiles are views into a strip, bands first, as the reader gives them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels
from tasks.inference.description import Description
from tasks.inference.description.load import find_file
from tasks.inference.description.properties import Properties
from tasks.inference.onnx import OnnxEndpoint
from tasks.inference.onnx.session import open_session
from tests import model_answers
from tests.onnx_models import COCO, answering, describe

ROUNDS, TILES, SIDE = 9, 40, 512


def yolox(folder: Path, side: int, objects: int) -> tuple[Path, dict[str, Any]]:
    """A constant model with the output of a YOLOX of 80 classes: each object has three boxes."""
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    head = np.zeros((1, cells, 85), np.float32)
    head[0, : 3 * objects, 4] = head[0, : 3 * objects, 9] = 0.9
    model = answering(folder / "yolox.onnx", {"output": head}, shape=(1, 3, side, side))
    return model, describe({"type": "yolox"}, classes=COCO, shape=(1, 3, side, side))


def yolov8(folder: Path, side: int, objects: int) -> tuple[Path, dict[str, Any]]:
    """The same with the output of YOLOv8."""
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    head = np.zeros((1, 84, cells), np.float32)
    head[0, 0, : 3 * objects] = np.repeat(np.arange(objects) * 20, 3)
    head[0, 2:4, : 3 * objects] = 16
    head[0, 4, : 3 * objects] = 0.9
    model = answering(folder / "yolov8.onnx", {"output": head}, shape=(1, 3, side, side))
    words: dict[str, Any] = {"value_scaling": [{"type": "scale", "value": 255}]}
    return model, describe({"type": "yolov8"}, classes=COCO, shape=(1, 3, side, side), **words)


def milliseconds(work: Callable[[], object]) -> float:
    """CPU time of all threads per tile in ms, median of the rounds."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(TILES):
            work()
        rounds.append(1000 * (time.process_time() - start) / TILES)
    return round(median(rounds), 3)


@pytest.mark.parametrize("side", [512, 416])
@pytest.mark.parametrize("family", [yolox, yolov8])
def test_a_tile_beside_the_model(
    family: Callable[..., tuple[Path, dict[str, Any]]], side: int, tmp_path: Path
) -> None:
    model, document = family(tmp_path, side, objects=10)
    document["mlm:input"][0]["resize_type"] = "interpolation-linear"
    strip = np.random.default_rng(0).integers(0, 255, (3, SIDE + 8, 3072), np.uint8)
    pixels: NDArray[np.uint8] = strip[:, 4 : 4 + SIDE, SIDE : 2 * SIDE]
    tile = TilePixels(Tile(0, Window(SIDE, 4, SIDE, SIDE)), pixels, None)
    description = Description(str(model), Properties.model_validate(document))
    session = open_session(
        find_file(str(model), [tmp_path], None, max_bytes=1 << 30), cpu_only=True
    )
    endpoint = OnnxEndpoint(session, description, 60)
    prepared = endpoint.prepare(tile)
    (answer,) = model_answers.boxes(endpoint.ask([prepared]))
    line: dict[str, object] = {"benchmark": "ONNX, beside the model", "family": family.__name__}
    line |= {"tile": f"3 x {SIDE} px uint8", "input": side, "boxes": len(answer.boxes)}
    line["cpu_ms_prepare"] = milliseconds(lambda: endpoint.prepare(tile))
    line["cpu_ms_call_and_decode"] = milliseconds(lambda: endpoint.ask([prepared]))
    line["cpu_ms"] = milliseconds(lambda: endpoint.ask([endpoint.prepare(tile)]))
    print(json.dumps(line))
    assert len(answer.boxes) > 0
