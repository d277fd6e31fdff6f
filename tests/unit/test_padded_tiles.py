"""Images thinner than a model's input: boxes in Swath's own padding are not errors of the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels
from tasks.inference.answer import read_answer
from tasks.inference.description import Description
from tasks.inference.description.properties import Properties
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.results import detections
from tests.job_scene import features, request
from tests.onnx_models import answering, describe, write_json

SIDE = 64  # of the model's input, in pixels
SHAPE = (1, 3, SIDE, SIDE)

Box = Sequence[float]


def outputs(boxes: Sequence[Box]) -> dict[str, Any]:
    """The answer of a model of torchvision's kind: these boxes, in pixels of its input."""
    return {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.zeros(len(boxes), np.int64),
        "scores": np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
    }


def read(
    boxes: Sequence[Box], size: tuple[int, int], *, resize_type: str = "pad", **fields: Any
) -> tuple[list[list[float]], int]:
    """The detections of a tile of this width and height, and the number of rejected boxes."""
    detector = {"type": "torchvision"} | fields
    properties = Properties.model_validate(describe(detector, shape=SHAPE, resize_type=resize_type))
    description = Description("m.json", properties)
    tile = Tile(0, Window(0, 0, *size))
    prepared = description.prepare(TilePixels(tile, np.zeros((3, *size[::-1]), np.uint8), None))
    (found,) = description.decode(outputs(boxes), [prepared])
    answer = read_answer(found, tile)
    table = answer.detections
    return [] if table is None else detections.boxes(table).tolist(), answer.rejected


@pytest.mark.parametrize("letterbox", [None, "corner", "centre"])
@pytest.mark.parametrize("width", [1, 10, SIDE - 1])
def test_boxes_are_clipped_to_the_tile_and_those_beyond_the_padding_are_rejected(
    width: int, letterbox: str | None
) -> None:
    left = (SIDE - width) // 2 if letterbox == "centre" else 0
    right = left + width
    in_padding = [(right, 2, SIDE, 30), (right + 0.25, 2, SIDE + 5, 7), (right, 3, right + 0.1, 4)]
    if left:
        in_padding += [(0, 2, left, 30), (-3, 2, left - 0.25, 7)]
    straddling = [(left - 0.5, 8, SIDE, 24), (left, 30, right + 0.5, 40)]
    outside = [(SIDE + 2, 8, SIDE + 9, 20), (-20, 8, -10, 20), (2, -9, 9, -3)]
    boxes = [*in_padding, *straddling, *outside]
    found, rejected = read(boxes, (width, SIDE), letterbox=letterbox)
    assert found == [[0, 8, width, 24], [0, 30, width, 40]]
    assert rejected == len(outside)


@pytest.mark.parametrize("letterbox", ["corner", "centre"])
@pytest.mark.parametrize("width", [1, 10, 2 * SIDE - 3, 2 * SIDE - 1])
def test_the_same_holds_for_tiles_that_are_resampled(width: int, letterbox: str) -> None:
    content = max(1, round(width / 2))
    left = (SIDE - content) // 2 if letterbox == "centre" else 0
    right = left + content
    boxes = [(left - 0.5, 8, SIDE + 1, 24), (SIDE + 2, 8, SIDE + 9, 20)]
    if right < SIDE:
        boxes += [(right, 2, SIDE, 30), (right + 0.01, 40, SIDE, 50)]
    size = (width, 2 * SIDE)
    found, rejected = read(boxes, size, resize_type="interpolation-linear", letterbox=letterbox)
    assert found == [[0, 16, width, 48]]
    assert rejected == 1


def test_points_in_the_tile_stay_and_those_in_the_padding_are_dropped() -> None:
    found, rejected = read([(4, 8, 4, 8), (40, 8, 40, 8)], (10, SIDE))
    assert found == [[4, 8, 4, 8]]
    assert rejected == 0


@pytest.mark.parametrize(
    "box",
    [(40, 20, 30, 10), (40, 20, float("nan"), 30), (40, 20, float("inf"), 30)],
    ids=["disordered", "nan", "infinite"],
)
def test_a_malformed_box_is_rejected_also_in_the_padding(box: Box) -> None:
    assert read([box], (10, SIDE)) == ([], 1)


def test_a_tile_that_fills_the_input_has_no_padding() -> None:
    boxes = [(2, 8, 30, 20), (SIDE, 8, SIDE + 0.5, 20), (SIDE - 1, 30, SIDE + 8, 40)]
    assert read(boxes, (SIDE, SIDE)) == ([[2, 8, 30, 20], [SIDE - 1, 30, SIDE, 40]], 1)


def work(folder: Path, boxes: Sequence[Box], size: tuple[int, int]) -> Summary:
    """Work a whole image with an ONNX model that answers with these boxes."""
    model = answering(folder / "m.onnx", outputs(boxes), shape=SHAPE)
    detector = {"type": "torchvision", "letterbox": "centre"}
    write_json(folder / "m.json", describe(detector, shape=SHAPE, resize_type="pad"))
    shape = {"width": size[0], "height": size[1], "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 0.5, 0.5)}
    with rasterio.open(folder / "thin.tif", "w", driver="GTiff", **shape, **place) as sink:
        sink.write(np.full((3, size[1], size[0]), 90, np.uint8))
    asked = request(
        folder / "thin.tif",
        folder / "out",
        imageProcessor={"name": str(model), "type": "ONNX"},
        imageProcessorTileSize=SIDE,
        imageProcessorTileOverlap=0,
    )
    return work_image(asked, asked.image_urls[0])


@pytest.mark.parametrize("width", [1, 10, SIDE - 1])
def test_features_of_a_thin_image_lie_in_it_and_padding_is_no_reason_for_partial(
    allowed: Path, width: int
) -> None:
    boxes = [(0, 8, SIDE, 24), (SIDE - (SIDE - width + 1) // 2, 30, SIDE, 40)]
    summary = work(allowed, boxes, (width, SIDE))
    assert (summary.status, summary.features, summary.rejected) == (JobStatus.SUCCESS, 1, 0)
    (feature,) = features(allowed / "out", "thin.tif")
    assert feature["properties"]["imageBBox"] == [0, 8, width, 24]
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert (np.ptp(ring, axis=0) > 0).all()


@pytest.mark.parametrize(
    ("box", "status", "rejected"),
    [((40, 8, 60, 20), JobStatus.SUCCESS, 0), ((70, 8, 90, 20), JobStatus.PARTIAL, 1)],
    ids=["in the padding", "outside"],
)
def test_boxes_outside_the_padded_tile_alone_make_a_job_partial(
    allowed: Path, box: Box, status: JobStatus, rejected: int
) -> None:
    summary = work(allowed, [box], (10, SIDE))
    assert (summary.status, summary.features, summary.rejected) == (status, 0, rejected)
