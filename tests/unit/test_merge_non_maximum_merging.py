"""Non-maximum merging: its groups, compared with the definition, NMS and SAHI."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sahi.postprocess.combine import GreedyNMMPostprocess, batched_greedy_nmm
from sahi.prediction import ObjectPrediction

from tasks.merge.algorithms.nms import nms_decisions
from tasks.merge.algorithms.non_maximum_merging import merge_groups
from tasks.merge.deferral import KEPT
from tasks.merge.shapes import Shapes
from tasks.request import Measure

coordinate = st.integers(0, 12).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
detection = st.tuples(box, st.sampled_from([0.1, 0.5, 0.5, 0.9]), st.integers(0, 1))
threshold = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])


def overlap(
    one: NDArray[np.float64], two: NDArray[np.float64], measure: Measure = Measure.IOU
) -> float:
    width = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    height = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    union = min(areas) if measure is Measure.IOS else sum(areas) - width * height
    return float(width * height / union) if union > 0 else 0.0


def by_definition(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    limit: float,
    measure: Measure,
) -> list[int]:
    keepers: dict[int, int] = {}
    order = sorted(range(len(boxes)), key=lambda place: (-scores[place], place))
    for keeper in order:
        if keeper in keepers:
            continue
        for other in order:
            over = overlap(boxes[keeper], boxes[other], measure) > limit
            if other not in keepers and labels[other] == labels[keeper] and over:
                keepers[other] = keeper
        keepers[keeper] = keeper
    return [keepers[place] for place in range(len(boxes))]


@settings(deadline=None)
@given(st.lists(detection, max_size=40), threshold, st.sampled_from(Measure))
def test_it_is_the_definition_and_the_keepers_are_those_of_nms(
    detections: list[tuple[tuple[float, ...], float, int]], limit: float, measure: Measure
) -> None:
    boxes = np.array([d[0] for d in detections]).reshape(-1, 4)
    scores = np.array([d[1] for d in detections])
    labels = np.array([d[2] for d in detections], np.int64)
    shapes, none = Shapes.boxes(boxes), np.zeros(len(boxes), bool)
    keepers = merge_groups(shapes, scores, labels, limit, measure)
    assert keepers.tolist() == by_definition(boxes, scores, labels, limit, measure)
    own = np.flatnonzero(keepers == np.arange(len(keepers)))
    decisions = nms_decisions(shapes, scores, labels, limit, none, measure=measure)
    assert own.tolist() == np.flatnonzero(decisions == KEPT).tolist()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.1, 0.3, 0.5])
def test_sahi_makes_the_same_groups(seed: int, limit: float) -> None:
    """If its float32 is exact, no two scores are equal and no IoU is at the threshold."""
    chance = np.random.default_rng(seed)
    corners, sizes = chance.integers(0, 60, (300, 2)), chance.integers(5, 20, (300, 2))
    boxes = np.hstack([corners, corners + sizes]).astype(np.float64)
    scores = chance.permutation(300) / 512
    labels = chance.integers(0, 3, 300)
    rows = np.column_stack([boxes, scores, labels]).astype(np.float32)
    theirs = batched_greedy_nmm(rows, "IOU", limit + 1e-6)
    ours = merge_groups(Shapes.boxes(boxes), scores, labels, limit + 1e-6)
    expected = {keeper: {keeper, *taken} for keeper, taken in theirs.items()}
    for keeper, group in expected.items():
        assert set(np.flatnonzero(ours == keeper).tolist()) == group
    assert sum(map(len, expected.values())) == 300


def test_sahi_loses_members_that_no_longer_match_the_grown_box() -> None:
    """Both overlap the keeper by 0.6; after the left one has joined, the right one is dropped."""
    boxes = np.array([[4, 0, 12, 10], [2, 0, 10, 10], [6, 0, 14, 10]], np.float64)
    scores = np.array([0.9, 0.8, 0.7])
    keepers = merge_groups(Shapes.boxes(boxes), scores, np.zeros(3, np.int64), 0.55)
    assert keepers.tolist() == [0, 0, 0]
    theirs = GreedyNMMPostprocess(match_threshold=0.55, match_metric="IOU")(
        [
            ObjectPrediction(box.tolist(), category_id=0, score=score, full_shape=[20, 20])
            for box, score in zip(boxes, scores.tolist(), strict=True)
        ]
    )
    assert [found.bbox.to_xyxy() for found in theirs] == [[2, 0, 12, 10]]


def test_sahi_in_float32_groups_boxes_that_do_not_overlap_enough() -> None:
    """At 200,000 px, float32 coordinates are 1/64 px apart."""
    boxes = np.array([[200_000, 0, 200_010, 1], [200_005.004, 0, 200_015.004, 1]])
    scores = np.array([0.9, 0.8])
    limit = 1 / 3  # the IoU is less, by 0.0004
    rows = np.column_stack([boxes, scores, [0, 0]]).astype(np.float32)
    assert batched_greedy_nmm(rows, "IOU", limit) == {0: [1]}
    keepers = merge_groups(Shapes.boxes(boxes), scores, np.zeros(2, np.int64), limit)
    assert keepers.tolist() == [0, 1]


def test_many_overlapping_boxes_are_grouped() -> None:
    place = np.random.default_rng(3).uniform(0, 10, (20_000, 2))
    shapes = Shapes.boxes(np.hstack([place, place + 20]))
    scores = np.random.default_rng(4).random(20_000)
    keepers = merge_groups(shapes, scores, np.zeros(20_000, np.int64), 0.5)
    assert (keepers[keepers] == keepers).all()
    assert (scores[keepers] >= scores).all()
