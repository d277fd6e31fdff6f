"""Masks of objects: decoded by the reference's arithmetic, and joined over the seams of tiles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import expit

from tasks.errors import RequestError
from tasks.inference.description.inspection import draft_description
from tasks.inference.description.load import load_description
from tasks.inference.description.mlm import Class
from tasks.inference.description.properties import Properties
from tasks.inference.description.signature import ModelSignature, TensorSpec
from tasks.inference.endpoint import Boxes
from tasks.inference.model_defaults import resolve
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import settings
from tests.onnx_models import (
    bright_box,
    bright_prototypes,
    describe,
    of_ultralytics,
    write_json,
)

WIDTH, HEIGHT = 96, 64  # of the input
CLASSES = [Class(value=0, name="ship"), Class(value=1, name="barge")]
COEFFICIENTS = 8


def interpolated(mask: NDArray[Any], height: int, width: int) -> NDArray[np.float64]:
    """`torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` of a mask."""
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height - 0.5
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width - 0.5
    at = np.meshgrid(rows, columns, indexing="ij")
    found: NDArray[np.float64] = ndimage.map_coordinates(
        mask.astype(np.float64), at, order=1, mode="nearest"
    )
    return found


def process_mask(
    prototypes: NDArray[Any], coefficients: NDArray[Any], box: NDArray[Any]
) -> NDArray[np.float64]:
    """Ultralytics' `process_mask` with `upsample=True`, before its threshold of 0; -inf is cropped.

    Since 2026 it enlarges logits, not probabilities, and crops what is enlarged.
    """
    count, height, width = prototypes.shape
    logits = coefficients.astype(np.float64) @ prototypes.astype(np.float64).reshape(count, -1)
    enlarged = interpolated(logits.reshape(height, width), HEIGHT, WIDTH)
    x_min, y_min, x_max, y_max = box
    columns, rows = np.arange(WIDTH)[None, :], np.arange(HEIGHT)[:, None]
    inside = (columns >= x_min) & (columns < x_max) & (rows >= y_min) & (rows < y_max)
    return np.where(inside, enlarged, -np.inf)


def paste_mask(mask: NDArray[Any], box: NDArray[Any]) -> NDArray[np.float64]:
    """Torchvision's `paste_masks_in_image` of one mask, before its threshold of 0.5."""
    side = mask.shape[-1]
    scale = (side + 2) / side
    half, middle = (box[2:] - box[:2]) * 0.5 * scale, (box[2:] + box[:2]) * 0.5
    x_0, y_0, x_1, y_1 = np.concatenate([middle - half, middle + half]).astype(np.int64)
    width, height = max(x_1 - x_0 + 1, 1), max(y_1 - y_0 + 1, 1)
    drawn = interpolated(np.pad(mask, 1), height, width)
    whole = np.zeros((HEIGHT, WIDTH))
    left, right = max(x_0, 0), min(x_1 + 1, WIDTH)
    top, bottom = max(y_0, 0), min(y_1 + 1, HEIGHT)
    whole[top:bottom, left:right] = drawn[top - y_0 : bottom - y_0, left - x_0 : right - x_0]
    return whole


def check(outline: shapely.Geometry, mask: NDArray[np.float64], threshold: float) -> None:
    """Check that an outline has the pixels above a threshold, those near it aside."""
    drawn = rasterio.features.rasterize([outline], (HEIGHT, WIDTH)).astype(bool)
    clear = np.abs(mask - threshold) > 1e-4
    np.testing.assert_array_equal(drawn[clear], (mask > threshold)[clear])
    assert outline.area == drawn.sum()


def decoded(detector: dict[str, Any], **tensors: NDArray[Any]) -> Boxes:
    names = [one.name for one in CLASSES]
    document = describe(detector, classes=names, shape=(1, 3, HEIGHT, WIDTH))
    found = Properties.model_validate(document).detector
    assert found is not None
    (boxes,) = found.decode(tensors, CLASSES, (WIDTH, HEIGHT))
    return boxes


def random_boxes(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Boxes (n, 4), some of which reach beyond the input, as x_min, y_min, x_max, y_max."""
    low = random.uniform(-6, (WIDTH - 10, HEIGHT - 10), (count, 2))
    high = low + random.uniform(2, 60, (count, 2))
    return np.hstack([low, high]).astype(np.float32)


class TestYolo:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("layout", ["columns", "rows", "end2end"])
    def test_masks_are_those_of_ultralytics(self, seed: int, layout: str) -> None:
        random = np.random.default_rng(seed)
        count, sizes = 12, (HEIGHT // 4, WIDTH // 4)
        prototypes = ndimage.gaussian_filter(
            random.normal(0, 8, (COEFFICIENTS, *sizes)), (0, 1, 1)
        ).astype(np.float32)
        coefficients = random.normal(0, 1, (count, COEFFICIENTS)).astype(np.float32)
        corners = random_boxes(random, count)
        scores = random.uniform(0.3, 0.9, count).astype(np.float32)
        labels = random.integers(0, 2, count)
        if layout == "end2end":
            predictions = np.column_stack([corners, scores, labels, coefficients])[None]
        else:
            middle, size = (corners[:, 2:] + corners[:, :2]) / 2, corners[:, 2:] - corners[:, :2]
            by_class = np.where(labels[:, None] == np.arange(2), scores[:, None], 0.1)
            predictions = np.column_stack([middle, size, by_class, coefficients])[None]
            predictions = predictions if layout == "rows" else predictions.transpose(0, 2, 1)
        detector = {"type": "yolov8-seg", "end2end": layout == "end2end", "nms_iou_threshold": 1}
        found = decoded(detector, predictions=predictions, prototypes=prototypes[None])
        order = np.arange(count) if layout == "end2end" else np.argsort(-scores, kind="stable")
        masks = [process_mask(prototypes, coefficients[at], corners[at]) for at in order]
        filled = [(at, mask) for at, mask in zip(order, masks, strict=True) if (mask > 0).any()]
        assert found.outlines is not None
        assert len(found.outlines) == len(filled) > 6
        for row, (at, mask) in enumerate(filled):
            check(found.outlines[row], mask, 0)
            np.testing.assert_allclose(found.boxes[row], corners[at], atol=1e-4)
            assert (found.scores[row], found.classes[row]) == (
                pytest.approx(scores[at]),
                labels[at],
            )

    def test_prototypes_that_are_no_whole_fraction_of_the_input(self) -> None:
        random = np.random.default_rng(3)
        prototypes = ndimage.gaussian_filter(random.normal(0, 9, (1, 15, 21)), (0, 2, 2))
        box = np.array([10.0, 5.0, 80.0, 60.0])
        predictions = np.array([[*box, 0.9, 0.0, 1.0]])[None]
        detector = {"type": "yolov8-seg", "end2end": True}
        found = decoded(detector, predictions=predictions, prototypes=prototypes[None])
        assert found.outlines is not None
        check(found.outlines[0], process_mask(prototypes, np.ones(1), box), 0)

    def test_a_box_that_is_not_finite_is_left_to_the_check_of_the_answer(self) -> None:
        predictions = np.array([[np.nan, 0, 9, 9, 0.9, 0, 1], [0, 0, 40, 40, 0.8, 0, 1]])[None]
        prototypes = np.full((1, 1, 16, 24), 5.0)
        detector = {"type": "yolov8-seg", "end2end": True}
        found = decoded(detector, predictions=predictions, prototypes=prototypes)
        assert len(found.boxes) == 2


class TestMaskRcnn:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize("pasted", [False, True])
    def test_masks_are_those_of_torchvision(self, seed: int, pasted: bool) -> None:
        random = np.random.default_rng(seed)
        boxes = random_boxes(random, 9)
        masks = expit(ndimage.gaussian_filter(random.normal(0, 30, (9, 28, 28)), (0, 3, 3)))
        wanted = [paste_mask(mask, box) for mask, box in zip(masks, boxes, strict=True)]
        own = (np.array(wanted) if pasted else masks).astype(np.float32)
        found = decoded(
            {"type": "mask-rcnn"},
            boxes=boxes[None],
            labels=np.ones((1, 9), np.int64),
            scores=np.linspace(0.9, 0.1, 9)[None],
            masks=own[None, :, None],
        )
        filled = [mask for mask in wanted[:7] if (mask > 0.5).any()]  # scores of 0.3 and more
        assert found.outlines is not None
        assert len(found.outlines) == len(filled) > 4
        for outline, mask in zip(found.outlines, filled, strict=True):
            check(outline, mask, 0.5)


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield
    settings.cache_clear()


SHAPE = shapely.union(shapely.box(20, 20, 100, 40), shapely.box(20, 36, 32, 60))
"""An object that three of the four tiles show a part of: the seams are 48 to 64 in x."""


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.tif"
    pixels = rasterio.features.rasterize([SHAPE], (64, 112)).astype(np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", width=112, height=64, count=3, dtype="uint8"
    ) as dataset:
        dataset.write(np.broadcast_to(pixels * 254 + 1, (3, 64, 112)))
    return path


def asked(scene: Path, model: Path, **fields: Any) -> Request:
    return Request.model_validate(
        {
            "jobId": "masks",
            "imageUrls": [str(scene)],
            "outputs": [{"type": "File", "path": str(scene.parent / "out")}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "imageProcessorTileSize": 64,
            "imageProcessorTileOverlap": 16,
            **fields,
        }
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
class TestSeams:
    @staticmethod
    def yolo(folder: Path) -> Path:
        metadata = of_ultralytics(task="segment", names={0: "ship"})
        return bright_prototypes(folder / "best.onnx", metadata=metadata)

    @staticmethod
    def mask_rcnn(folder: Path) -> Path:
        document = describe({"type": "mask-rcnn"}, classes=["ship"], first_class=1, output=None)
        write_json(folder / "mask.json", document | {"mlm:tasks": ["instance-segmentation"]})
        return bright_box(folder / "mask.onnx", masks=True)

    @pytest.mark.parametrize("family", ["yolo", "mask_rcnn"])
    def test_an_object_that_a_seam_cuts_is_one_feature(self, scene: Path, family: str) -> None:
        model = getattr(self, family)(scene.parent)
        assert work_image(asked(scene, model), str(scene)).status is JobStatus.SUCCESS
        table = pq.read_table(scene.parent / "out" / "scene.tif.parquet")
        assert table["class"].to_pylist() == ["ship"]
        (outline,) = shapely.from_wkb(table["image_geometry"].to_numpy())
        off = shapely.symmetric_difference(outline, SHAPE).area
        assert off == 0 if family == "mask_rcnn" else off < 0.01 * SHAPE.area
        bounds = [
            table[f"image_{side}"][0].as_py() for side in ("x_min", "y_min", "x_max", "y_max")
        ]
        assert bounds == [20, 20, 100, 60]

    def test_masks_of_resized_tiles_are_in_pixels_of_the_image(self, scene: Path) -> None:
        half = asked(scene, self.yolo(scene.parent), imageProcessorTileSize=32)
        assert work_image(half, str(scene)).status is JobStatus.SUCCESS
        table = pq.read_table(scene.parent / "out" / "scene.tif.parquet")
        (outline,) = shapely.from_wkb(table["image_geometry"].to_numpy())
        assert shapely.symmetric_difference(outline, SHAPE).area < 0.03 * SHAPE.area

    def test_two_objects_side_by_side_at_a_seam_stay_two(self, scene: Path) -> None:
        apart = [shapely.box(40, 2, 60, 14), shapely.box(44, 50, 72, 62)]  # no tile shows both
        resized: dict[str, Any] = {"output": None, "resize_type": "interpolation-linear"}
        document = describe({"type": "mask-rcnn"}, classes=["ship"], first_class=1, **resized)
        write_json(scene.parent / "two.json", document)
        pixels = rasterio.features.rasterize(apart, (64, 112)).astype(np.uint8)
        with rasterio.open(scene, "r+") as dataset:
            dataset.write(np.broadcast_to(pixels * 254 + 1, (3, 64, 112)))
        model = bright_box(scene.parent / "two.onnx", masks=True)
        request = asked(scene, model, imageProcessorTileSize=32)
        assert work_image(request, str(scene)).status is JobStatus.SUCCESS
        table = pq.read_table(scene.parent / "out" / "scene.tif.parquet")
        outlines = shapely.from_wkb(table["image_geometry"].to_numpy())
        assert len(outlines) == 2
        for outline, drawn in zip(outlines, apart, strict=True):
            assert shapely.symmetric_difference(outline, drawn).area < 0.05 * drawn.area

    def test_an_algorithm_that_the_request_names_counts(self, scene: Path) -> None:
        model = self.yolo(scene.parent)
        assert resolve(asked(scene, model)).algorithm.algorithm_type == "DISSOLVE"
        named = [{"algorithm": {"algorithmType": "NMS"}}]
        request = resolve(asked(scene, model, postProcessing=named))
        assert request.algorithm.algorithm_type == "NMS"
        filtered = [{"algorithm": {"skipBoxThreshold": 0.4}}]
        algorithm = resolve(asked(scene, model, postProcessing=filtered)).algorithm
        assert (algorithm.algorithm_type, algorithm.iou_threshold) == ("DISSOLVE", 0.2)
        assert algorithm.skip_box_threshold == 0.4


@pytest.mark.parametrize("masks", ["masks", "2614"])
def test_mask_rcnn_is_recognised_by_its_outputs(masks: str) -> None:
    outputs = {
        "boxes": TensorSpec("float32", (None, 4)),
        "labels": TensorSpec("int64", (None,)),
        "scores": TensorSpec("float32", (None,)),
        masks: TensorSpec("float32", (None, 1, 64, 64)),
    }
    inputs = {"image": TensorSpec("float32", (1, 3, 64, 64))}
    draft = draft_description(ModelSignature("ships.onnx", inputs, outputs), ["ship"])
    assert draft.runs
    assert draft.document["mlm:tasks"] == ["instance-segmentation"]
    detector = Properties.model_validate(draft.document).detector
    assert detector is not None
    assert detector.type == "mask-rcnn"
    assert detector.output_names([])["masks"] == masks


def test_a_detector_of_boxes_segments_no_instances(tmp_path: Path) -> None:
    document = describe({"type": "yolov8"}) | {"mlm:tasks": ["instance-segmentation"]}
    path = write_json(tmp_path / "model.json", document)
    with pytest.raises(
        RequestError, match=r"swath:detector: .* mlm:tasks is instance-segmentation"
    ):
        load_description(str(path), [tmp_path], None)
