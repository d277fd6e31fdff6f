"""NMS equals its definition in every decision, at once or in parts, for any boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.merge.algorithms.nms import nms, nms_decisions
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED
from tasks.merge.shapes import Shapes
from tasks.request import Measure

Boxes = NDArray[np.float64]
Scene = tuple[Boxes, NDArray[np.float64], NDArray[np.int64]]

# few distinct values, so that ties, touching edges and equal boxes are common
coordinate = st.integers(0, 12).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
detection = st.tuples(box, st.sampled_from([0.1, 0.5, 0.5, 0.9]), st.sampled_from([3, 7]))
threshold = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])


def arrays(detections: list[tuple[tuple[float, ...], float, int]]) -> Scene:
    boxes = np.array([d[0] for d in detections], float).reshape(-1, 4)
    return boxes, np.array([d[1] for d in detections]), np.array([d[2] for d in detections], int)


def iou(box: Boxes, others: Boxes, measure: Measure = Measure.IOU) -> NDArray[np.float64]:
    """Intersection over union, or over the smaller of both."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.clip(size, 0, None).prod(axis=1)
    union = area(box) + area(others) - common
    if measure is Measure.IOS:
        union = np.minimum(area(box), area(others))
    overlap: NDArray[np.float64] = np.divide(
        common, union, out=np.zeros_like(union), where=union > 0
    )
    return overlap


def area(boxes: Boxes) -> NDArray[np.float64]:
    areas: NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def by_definition(scene: Scene, limit: float, measure: Measure = Measure.IOU) -> list[int]:
    boxes, scores, classes = scene
    alive = np.ones(len(boxes), bool)
    kept: list[int] = []
    for index in np.lexsort((np.arange(len(scores)), -scores)).tolist():
        if alive[index]:
            kept.append(index)
            apart = iou(boxes[index], boxes, measure) <= limit
            alive &= apart | (classes != classes[index])
    return sorted(kept)


@settings(deadline=None)
@given(st.lists(detection, max_size=40), threshold)
def test_it_is_the_definition(
    detections: list[tuple[tuple[float, ...], float, int]], limit: float
) -> None:
    scene = arrays(detections)
    assert nms(*scene, limit).tolist() == by_definition(scene, limit)


def by_smaller(scene: Scene, limit: float) -> list[int]:
    boxes, scores, classes = scene
    none = np.zeros(len(boxes), bool)
    shapes = Shapes.boxes(boxes)
    decisions = nms_decisions(shapes, scores, classes, limit, none, measure=Measure.IOS)
    return np.flatnonzero(decisions == KEPT).tolist()


@settings(deadline=None)
@given(st.lists(detection, max_size=40), threshold)
def test_by_the_smaller_it_is_the_definition_too(
    detections: list[tuple[tuple[float, ...], float, int]], limit: float
) -> None:
    scene = arrays(detections)
    assert by_smaller(scene, limit) == by_definition(scene, limit, Measure.IOS)


COUNT = 1500  # boxes of a scene


def scattered(random: np.random.Generator) -> Boxes:
    corner = random.uniform(200_000, 203_000, (COUNT, 2))
    return np.hstack([corner, corner + random.lognormal(3, 0.5, (COUNT, 2))])


def crowded(random: np.random.Generator) -> Boxes:
    objects = random.uniform(0, 2500, (COUNT // 4, 2))
    corner = np.repeat(objects, 4, axis=0) + random.normal(0, 3, (COUNT, 2))
    return np.hstack([corner, corner + random.uniform(20, 30, (COUNT, 2))])


def mixed_sizes(random: np.random.Generator) -> Boxes:
    centre, half = random.uniform(0, 2000, (COUNT, 2)), np.exp(random.uniform(-7, 6, (COUNT, 2)))
    return np.hstack([centre - half, centre + half])


def far_apart(random: np.random.Generator) -> Boxes:
    island = np.repeat(random.uniform(0, 1e8, (6, 2)), COUNT // 6, axis=0)
    corner = island + random.normal(0, 50, (COUNT, 2))
    return np.hstack([corner, corner + 15])


def chain(random: np.random.Generator) -> Boxes:
    x = random.permutation(COUNT) * 3.0
    return np.stack([x, 0 * x, x + 10, 0 * x + 5], axis=1)


def pile(random: np.random.Generator) -> Boxes:
    corner = random.normal(500, 2, (COUNT, 2))
    return np.hstack([corner, corner + random.uniform(30, 60, (COUNT, 2))])


def thin(random: np.random.Generator) -> Boxes:
    corner, size = random.uniform(0, 300, (COUNT, 2)), random.uniform(0.1, 0.3, (COUNT, 2))
    size[np.arange(COUNT), random.integers(0, 2, COUNT)] = 100
    return np.hstack([corner, corner + size])


def as_small_as_rounding(random: np.random.Generator) -> Boxes:
    step = np.spacing(1e6)
    corner = 1e6 + step * random.integers(0, 40, (COUNT, 2))
    return np.hstack([corner, corner + step * random.integers(1, 60, (COUNT, 2))])


SCENES = [as_small_as_rounding, scattered, crowded, mixed_sizes, far_apart, chain, pile, thin]


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.75, 0.97])
@pytest.mark.parametrize("make", SCENES)
def test_it_is_the_definition_in_large_scenes(make: object, limit: float) -> None:
    random = np.random.default_rng(7)
    boxes: Boxes = make(random)  # type: ignore[operator]
    scores = np.round(random.random(len(boxes)), 3)  # with ties
    for classes in (1, 3):
        scene = boxes, scores, random.integers(0, classes, len(boxes))
        assert nms(*scene, limit).tolist() == by_definition(scene, limit)
        assert by_smaller(scene, limit) == by_definition(scene, limit, Measure.IOS)


@settings(deadline=None)
@given(st.lists(detection, max_size=40), threshold, st.data())
def test_deferring_any_of_them_changes_nothing(
    detections: list[tuple[tuple[float, ...], float, int]], limit: float, data: st.DataObject
) -> None:
    boxes, scores, classes = arrays(detections)
    count = len(boxes)
    parts = np.array(data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)), int)
    doubtful = np.array(
        [(iou(boxes[i], boxes[parts != parts[i]]) > limit).any() for i in range(count)], bool
    )
    kept, deferred = [], []
    for part in range(3):
        own = np.flatnonzero(parts == part)
        decisions = nms_decisions(
            Shapes.boxes(boxes[own]), scores[own], classes[own], limit, doubtful[own]
        )
        kept += own[decisions == KEPT].tolist()
        deferred += own[decisions == UNDECIDED].tolist()
    left = np.sort(np.array(deferred, int))
    kept += left[nms(boxes[left], scores[left], classes[left], limit)].tolist()
    assert sorted(kept) == by_definition((boxes, scores, classes), limit)


def test_a_kept_box_drops_others_and_an_undecided_box_leaves_them_undecided() -> None:
    boxes = [[0, 0, 10, 10], [1, 0, 11, 10], [100, 0, 110, 10], [101, 0, 111, 10]]
    decisions = nms_decisions(
        Shapes.boxes(boxes),
        np.array([0.9, 0.8, 0.7, 0.6]),
        np.zeros(4, int),
        0.5,
        np.array([False, True, True, False]),
    )
    assert decisions.tolist() == [KEPT, DROPPED, UNDECIDED, UNDECIDED]


def test_ties_go_to_the_lower_index() -> None:
    assert nms([[0, 0, 4, 4]] * 3, [0.5, 0.5, 0.5], [1, 1, 1], 0.5).tolist() == [0]


def test_classes_are_not_compared() -> None:
    assert nms([[0, 0, 4, 4]] * 2, [0.4, 0.9], ["ship", "crane"], 0.5).tolist() == [0, 1]


def test_boxes_without_an_area_stay() -> None:
    boxes = [[5, 5, 5, 5], [5, 5, 5, 5], [5, 0, 5, 10], [0, 0, 10, 10]]
    assert nms(boxes, [0.1, 0.2, 0.3, 0.9], [1] * 4, 0.0).tolist() == [0, 1, 2, 3]


def test_nothing_gives_nothing() -> None:
    assert nms(np.empty((0, 4)), [], [], 0.5).tolist() == []
