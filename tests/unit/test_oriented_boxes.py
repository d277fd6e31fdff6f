"""Oriented boxes: decoded as Ultralytics does, measured, and found once where tiles overlap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rich.console import Console

from deployments.describe import describe as describe_model
from tasks.errors import AnswerError
from tasks.imagery import open_image
from tasks.inference.description import Description
from tasks.inference.description.properties import Properties
from tasks.inference.endpoint import Boxes
from tasks.inference.model_defaults import resolve
from tasks.inference.onnx import open_onnx
from tasks.request import Request
from tasks.results.oriented_boxes import corners_of, measure
from tests import model_answers
from tests.examples import examples
from tests.onnx_models import answering, describe, of_ultralytics, oriented_box, write_json
from tests.oriented_scene import SCALE, SIDE, TRUTH, Object, check, published, scene
from tests.unit.test_model_outputs import CLASSES, blank
from tests.unit.test_onnx_endpoint import request

SHAPE = (-1, 3, 64, 96)
OBB = {"type": "yolov8-obb", "score_threshold": 0.25}


def read(
    detector: Mapping[str, Any],
    output: NDArray[Any],
    size: tuple[int, int] = (96, 64),
    shape: tuple[int, ...] = SHAPE,
) -> Boxes:
    document = describe(
        OBB | dict(detector), classes=CLASSES, shape=shape, resize_type="interpolation-linear"
    )
    description = Description("model.json", Properties.model_validate(document))
    outputs = {"output": output}
    (found,) = model_answers.boxes(description.decode(outputs, [blank(description, size)]))
    return found


def covariance(box: NDArray[Any]) -> NDArray[Any]:
    """That of the normal distribution of a box x, y, w, h, r (arXiv:2106.06072, equation 2)."""
    turn = np.array([[cos(box[4]), -sin(box[4])], [sin(box[4]), cos(box[4])]])
    return np.asarray(turn @ np.diag([box[2] ** 2 / 12, box[3] ** 2 / 12]) @ turn.T)


def likeness(first: NDArray[Any], second: NDArray[Any]) -> float:
    """ProbIoU by its definition: one less the Hellinger distance, from that of Bhattacharyya."""
    one, two = covariance(first), covariance(second)
    mean = (one + two) / 2
    apart = first[:2] - second[:2]
    distance = apart @ np.linalg.solve(mean, apart) / 8 + 0.5 * np.log(
        np.linalg.det(mean) / np.sqrt(np.linalg.det(one) * np.linalg.det(two))
    )
    return float(1 - np.sqrt(max(0.0, 1 - np.exp(-distance))))


def reference(head: NDArray[Any], threshold: float, iou: float) -> list[tuple[Any, ...]]:
    """`non_max_suppression(rotated=True)`, `regularize_rboxes`, `xywhr2xyxyxyxy`, box by box.

    Args:
        head: (4 + classes + 1, n) of one image.
        threshold: Least score.
        iou: Least likeness of a box to a better one of its class for which it is dropped.

    Returns:
        Corners, score and class of each box left, best first.
    """
    scores = head[4:-1].max(axis=0)
    order = [n for n in np.argsort(-scores, kind="stable") if scores[n] >= threshold]
    left = []
    for rank, n in enumerate(order):
        box, label = head[[0, 1, 2, 3, -1], n], head[4:-1, n].argmax()
        better = (m for m in order[:rank] if head[4:-1, m].argmax() == label)
        if any(likeness(box, head[[0, 1, 2, 3, -1], m]) >= iou for m in better):
            continue
        x, y, w, h, r = box
        if r % pi >= pi / 2:
            w, h = h, w
        r = r % (pi / 2)
        along, across = w / 2 * np.array([cos(r), sin(r)]), h / 2 * np.array([-sin(r), cos(r)])
        centre = np.array([x, y])
        corners = [
            centre + along + across,
            centre + along - across,
            centre - along - across,
            centre - along + across,
        ]
        left.append((np.array(corners), scores[n], label))
    return left


def crowd(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """A head of boxes around a few places, so that many are alike."""
    head = np.zeros((4 + len(CLASSES) + 1, count))
    place = random.integers(0, 4, count)
    head[0] = random.uniform(10, 86, 4)[place] + random.normal(0, 1.5, count)
    head[1] = random.uniform(10, 54, 4)[place] + random.normal(0, 1.5, count)
    head[2] = random.uniform(4, 40, count)
    head[3] = random.uniform(4, 40, 4)[place] * random.uniform(0.8, 1.2, count)
    head[4:-1] = random.uniform(0, 0.6, (len(CLASSES), count))
    head[-1] = random.uniform(-pi / 4, 3 * pi / 4, count)
    return head


class TestDecoding:
    @examples(1)
    @given(
        seed=st.integers(0, 2**32 - 1),
        count=st.integers(0, 30),
        iou=st.sampled_from([0.1, 0.45, 0.7, 0.95]),
        transposed=st.booleans(),
    )
    def test_random_heads_are_decoded_as_ultralytics_does(
        self, seed: int, count: int, iou: float, transposed: bool
    ) -> None:
        head = crowd(np.random.default_rng(seed), count)
        wanted = reference(head, 0.25, iou)
        output = head[np.newaxis]
        if transposed and count != len(head):  # of a square one, the shape does not tell
            output = output.transpose(0, 2, 1)
        found = read({"nms_iou_threshold": iou}, output)
        assert found.outlines is not None
        assert found.classes.tolist() == [label for _, _, label in wanted]
        np.testing.assert_array_equal(found.scores, [score for _, score, _ in wanted])
        for outline, bounds, (corners, _, _) in zip(
            found.outlines, found.boxes, wanted, strict=True
        ):
            truth = shapely.Polygon(corners)
            assert outline.symmetric_difference(truth).area < 1e-6
            np.testing.assert_allclose(bounds, truth.bounds, atol=1e-9)

    def test_boxes_far_from_each_other_are_alike_by_no_threshold(self) -> None:
        """Those that an index leaves out are those that the definition would."""
        random = np.random.default_rng(1)
        head = crowd(random, 700)
        head[:2] = random.uniform(0, 3000, (2, 700))
        for iou in (0.02, 0.3):
            found = read({"nms_iou_threshold": iou, "score_threshold": 0.5}, head[np.newaxis])
            assert len(found.boxes) == len(reference(head, 0.5, iou))

    def test_an_end2end_export_is_read_as_it_is(self) -> None:
        rows = [[40, 30, 20, 6, 0.9, 1, pi / 6], [40, 30, 20, 6, 0.8, 1, pi / 6], [0] * 7]
        found = read({"end2end": True}, np.array([rows], np.float32))
        assert found.outlines is not None
        assert found.classes.tolist() == [1, 1]
        truth = shapely.affinity.rotate(shapely.box(30, 27, 50, 33), 30)
        assert found.outlines[1].symmetric_difference(truth).area < 1e-4
        np.testing.assert_allclose(found.properties["angle"], 120, atol=1e-3)
        np.testing.assert_allclose(found.properties["lengthPixels"], 20, atol=1e-3)
        np.testing.assert_allclose(found.properties["widthPixels"], 6, atol=1e-3)

    def test_fractions_of_the_input_are_turned_into_pixels(self) -> None:
        rows = [[0.5, 0.5, 20 / 96, 6 / 64, 0.9, 1, 0]]
        found = read({"end2end": True, "normalized": True}, np.array([rows]))
        np.testing.assert_allclose(found.boxes, [[38, 29, 58, 35]])

    def test_a_letterbox_is_undone(self) -> None:
        """A tile of 48 × 64 is placed at 24, 0 of an input of 96 × 64."""
        head = np.array([[44, 32, 20, 6, 0, 0.9, 0, pi / 4]])[..., np.newaxis]
        found = read({"letterbox": "centre"}, head, (48, 64), (1, *SHAPE[1:]))
        assert found.outlines is not None
        truth = shapely.affinity.rotate(shapely.box(10, 29, 30, 35), 45)
        assert found.outlines[0].symmetric_difference(truth).area < 1e-6

    def test_a_box_in_the_padding_alone_is_left_out(self) -> None:
        """Bounds may reach into the tile where the box does not."""
        inside, beside = [26, 32, 20, 6, 0.9, 1, 0], [8, 32, 6, 6, 0.9, 1, 0]
        reaching, outside = [16, 10, 30, 4, 0.9, 1, -pi / 4], [18, 2, 30, 4, 0.9, 1, -pi / 4]
        outputs = np.array([[inside, beside, reaching, outside]])
        every = read({"end2end": True}, outputs)
        assert (every.boxes[[0, 2, 3], 2] > 24).all()
        found = read({"end2end": True, "letterbox": "centre"}, outputs, (48, 64), (1, *SHAPE[1:]))
        np.testing.assert_allclose(found.boxes[:, 0] + 24, every.boxes[[0, 2], 0])

    @pytest.mark.parametrize("shape", [(1, 7, 40), (1, 40, 9), (9, 40), (8, 1, 5, 8)])
    def test_another_head_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(AnswerError, match=r"8 numbers per box|has the shape"):
            read({}, np.zeros(shape, np.float32))

    def test_boxes_without_an_area_or_a_place_are_left_to_the_check_of_the_answer(self) -> None:
        rows = [[40, 30, 20, 6, 0.9, 1, 0], [40, 30, 0, 6, 0.8, 1, 0], [40, 30, -9, 6, 0.8, 1, 0]]
        rows += [[np.inf, 30, 9, 6, 0.7, 1, 0], [40, 30, 9, 6, 0.6, 1, np.nan]]
        head = np.zeros((1, 8, len(rows)))
        for column, (*box, score, label, angle) in enumerate(rows):
            head[0, :4, column], head[0, 7, column] = box, angle
            head[0, 4 + int(label), column] = score
        for found in (read({}, head), read({"end2end": True}, np.array([rows]))):
            assert np.isfinite(found.boxes).all(axis=1).tolist() == [True, *[False] * 4]
            assert np.isfinite(found.properties["angle"]).tolist() == [True, *[False] * 4]


@examples(1)
@given(
    length=st.floats(2, 300),
    share=st.floats(0.01, 0.99),
    angle=st.floats(0, 179.9),
    turns=st.integers(0, 3),
    exterior_cw=st.booleans(),
)
def test_the_angle_is_clockwise_from_up_and_length_is_the_longer_side(
    length: float, share: float, angle: float, turns: int, exterior_cw: bool
) -> None:
    """However the corners are ordered."""
    up = shapely.box(-length * share / 2, -length / 2, length * share / 2, length / 2)
    corners = list(shapely.affinity.rotate(up, angle).exterior.coords)[
        :4
    ]  # clockwise, as y is down
    outline = shapely.Polygon(corners[turns:] + corners[:turns])
    outlines = np.array([shapely.orient_polygons(outline, exterior_cw=exterior_cw)], object)
    found = measure(corners_of(outlines))
    assert abs((found["angle"][0] - angle + 90) % 180 - 90) < 1e-2
    assert found["lengthPixels"][0] == pytest.approx(length, abs=1e-3)
    assert found["widthPixels"][0] == pytest.approx(length * share, abs=1e-3)


@pytest.mark.parametrize("overlap", [24, 40])
@pytest.mark.parametrize("truth", TRUTH)
def test_an_object_where_tiles_overlap_comes_out_once(
    allowed: Path, truth: Object, overlap: int
) -> None:
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[96, 96])
    model = oriented_box(allowed / "best.onnx", side=96, metadata=metadata)
    (found,) = published(allowed, scene(allowed, truth), model, imageProcessorTileOverlap=overlap)
    check(found, truth)


@pytest.mark.parametrize(
    ("algorithm", "threshold"),
    [
        ({}, 0.3),
        ({"skipBoxThreshold": 0.4}, 0.3),
        ({"algorithmType": "NMM"}, 0.3),
        ({"iouThreshold": 0.75}, 0.75),
        ({"measure": "IOS"}, 0.75),
        ({"algorithmType": "WBF"}, 0.75),
        ({"algorithmType": "DISSOLVE"}, 0.2),
    ],
    ids=str,
)
def test_thin_boxes_are_duplicates_at_a_lower_iou_unless_the_request_says(
    allowed: Path, algorithm: dict[str, Any], threshold: float
) -> None:
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[96, 96])
    model = oriented_box(allowed / "best.onnx", side=96, metadata=metadata)
    asked = Request.model_validate(
        {
            "jobId": "a",
            "imageUrls": ["s3://images/a.tif"],
            "outputs": [{"type": "File", "path": str(allowed)}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "postProcessing": [{"algorithm": algorithm}],
        }
    )
    found = resolve(asked).algorithm
    assert found.iou_threshold == threshold
    assert found.model_fields_set >= asked.algorithm.model_fields_set


def test_neighbours_at_an_angle_are_compared_by_their_polygons(allowed: Path) -> None:
    """Two ships side by side, of whose bounds each covers two thirds of the other's."""
    head = np.zeros((1, 6, 40), np.float32)
    head[0, :, 3] = [44, 44, 50, 6, 0.9, pi / 4]
    head[0, :, 7] = [49, 39, 50, 6, 0.8, pi / 4]
    head[0, :, 8] = [44.5, 44.5, 50, 6, 0.7, pi / 4]
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[SIDE, SIDE])
    shape = (1, 3, SIDE, SIDE)
    model = answering(allowed / "best.onnx", {"output0": head}, shape=shape, metadata=metadata)
    image = scene(allowed, TRUTH[0])
    found = published(allowed, image, model, imageProcessorTileSize=SIDE)
    scores = [each["properties"]["featureClasses"][0]["score"] for each in found]
    assert scores == pytest.approx([0.9, 0.8])


@pytest.mark.parametrize("algorithm", ["NMM", "WBF", "SOFT_NMS"])
def test_what_the_merge_changes_is_measured_anew(allowed: Path, algorithm: str) -> None:
    """Two views of a ship, of which the second is longer."""
    head = np.zeros((1, 6, 40), np.float32)
    head[0, :, 3] = [60, 60, 50, 8, 0.9, pi / 4]
    head[0, :, 7] = [60, 60, 60, 8, 0.8, pi / 4]
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[SIDE, SIDE])
    shape = (1, 3, SIDE, SIDE)
    model = answering(allowed / "best.onnx", {"output0": head}, shape=shape, metadata=metadata)
    step = {"algorithm": {"algorithmType": algorithm, "iouThreshold": 0.5}}
    given = {"imageProcessorTileSize": SIDE, "postProcessing": [step]}
    write_json(
        allowed / "best.json",
        describe(
            {"type": "yolov8-obb", "nms_iou_threshold": 1},
            classes=["ship"],
            shape=shape,
            output="output0",
        ),
    )
    first, *_ = published(allowed, scene(allowed, TRUTH[0]), model, **given)
    own = first["properties"]
    if algorithm == "WBF":  # the mean of upright boxes
        assert not {"angle", "lengthPixels", "widthMetres"} & own.keys()
        return
    longest = 50 if algorithm == "SOFT_NMS" else 60
    assert own["lengthPixels"] == pytest.approx(longest, abs=1e-2)
    assert own["lengthMetres"] == pytest.approx(longest * SCALE, rel=2e-3)
    assert own["angle"] == pytest.approx(135, abs=1e-2)


@pytest.mark.parametrize("form", ["raw", "transposed", "end2end"])
def test_an_export_of_ultralytics_describes_itself(allowed: Path, form: str) -> None:
    more = {"end2end": True} if form == "end2end" else {}
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[96, 96], **more)
    model = oriented_box(allowed / "best.onnx", side=96, form=form, metadata=metadata)
    written = allowed / "written.json"
    assert describe_model(str(model), str(written), Console(quiet=True), force=False) == 0
    detector = json.loads(written.read_text())["swath:detector"]
    assert (detector["type"], detector["letterbox"]) == ("yolov8-obb", "centre")
    assert detector.get("end2end", False) == (form == "end2end")
    (found,) = published(allowed, scene(allowed, TRUTH[1]), model, imageProcessorTileOverlap=40)
    check(found, TRUTH[1])


@pytest.mark.parametrize(("batch", "suggested", "together"), [("n", 3, 3), (4, None, 4), (1, 3, 1)])
def test_half_precision_goes_in_and_out_in_calls_of_as_many_tiles_as_the_batch_holds(
    allowed: Path, batch: int | str, suggested: int | None, together: int
) -> None:
    """Nine tiles are asked for; a fixed batch that is not full is filled up."""
    model = oriented_box(allowed / "half.onnx", side=96, batch=batch, dtype="float16")
    document = describe(
        {"type": "yolov8-obb"},
        classes=["ship"],
        shape=(batch if isinstance(batch, int) else -1, 3, 96, 96),
        data_type="float16",
        output="output0",
        value_scaling=[{"type": "scale", "value": 255}],
    )
    write_json(model.with_suffix(".json"), document | {"mlm:batch_size_suggestion": suggested})
    (found,) = published(allowed, scene(allowed, TRUTH[0]), model, imageProcessorTileOverlap=40)
    check(found, TRUTH[0])
    opened = open_image(str(allowed / "scene.tif"), roots=[allowed])
    with closing(open_onnx(request(model, 96), opened, [allowed], 60)) as endpoint:
        assert endpoint.tiles_per_call == together
