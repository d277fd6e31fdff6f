"""Soft NMS: every score equals the definition's; where ensemble-boxes differs."""

from math import exp, nan

import ensemble_boxes
import numpy as np
import pytest
from ensemble_boxes.ensemble_boxes_nms import cpu_soft_nms_float
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from tasks.merge.algorithms.soft_nms import Method, soft_nms
from tasks.merge.shapes import Shapes

coordinate = st.integers(0, 12).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
detection = st.tuples(box, st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9]), st.integers(0, 1))
Scene = list[tuple[tuple[float, ...], float, int]]


def iou(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    width = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    height = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    union = sum(areas) - width * height
    return float(width * height / union) if union > 0 else 0.0


def run(
    boxes: ArrayLike,
    scores: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    limit: float = 0.5,
    sigma: float = 0.5,
    least: float = 0.0,
    method: Method = "GAUSSIAN",
) -> NDArray[np.float64]:
    given = np.asarray(scores, np.float64)
    return soft_nms(
        Shapes.boxes(boxes),
        given,
        np.zeros(len(given), np.int64) if labels is None else np.asarray(labels, np.int64),
        iou_threshold=limit,
        sigma=sigma,
        skip_below=least,
        method=method,
    )


def by_definition(
    boxes: NDArray[np.float64],
    scores: list[float],
    labels: list[int],
    *,
    limit: float,
    sigma: float,
    least: float,
    method: Method,
) -> list[float]:
    current = list(scores)
    left = list(range(len(scores)))
    while left:
        best = max(left, key=lambda place: (current[place], -place))
        left.remove(best)
        for other in left:
            if labels[other] != labels[best]:
                continue
            common = iou(boxes[best], boxes[other])
            if method == "GAUSSIAN":
                current[other] *= exp(-(common * common) / sigma)
            elif common > limit:
                current[other] *= 1 - common
    return [nan if score < least else score for score in current]


@settings(deadline=None)
@given(
    st.lists(detection, max_size=30),
    st.sampled_from([0.0, 1 / 3, 0.5, 0.75]),
    st.sampled_from([0.1, 0.5]),
    st.sampled_from([0.0, 0.0001, 0.1, 0.3]),
    st.sampled_from(["GAUSSIAN", "LINEAR"]),
)
def test_every_score_is_the_definitions_to_the_last_bit(
    scene: Scene, threshold: float, sigma: float, skip_below: float, method: Method
) -> None:
    boxes = np.array([d[0] for d in scene]).reshape(-1, 4)
    scores, labels = [d[1] for d in scene], [d[2] for d in scene]
    found = run(
        boxes, scores, labels, limit=threshold, sigma=sigma, least=skip_below, method=method
    )
    expected = by_definition(
        boxes, scores, labels, limit=threshold, sigma=sigma, least=skip_below, method=method
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("method", ["GAUSSIAN", "LINEAR"])
@pytest.mark.parametrize("seed", range(3))
def test_crowded_scenes_too_are_the_definition(method: Method, seed: int) -> None:
    boxes, scores = crowd(300, seed)
    labels = np.random.default_rng(seed).integers(0, 3, len(boxes))
    found = run(boxes, scores, labels, limit=0.3, sigma=0.1, least=0.01, method=method)
    expected = by_definition(
        boxes, scores.tolist(), labels.tolist(), limit=0.3, sigma=0.1, least=0.01, method=method
    )
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.isnan(found).sum() < len(found)


def crowd(count: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    chance = np.random.default_rng(seed)
    corners, sizes = chance.uniform(0, 80, (count, 2)), chance.uniform(2, 20, (count, 2))
    return np.hstack([corners, corners + sizes]), chance.random(count)


@pytest.mark.parametrize(("method", "number"), [("LINEAR", 1), ("GAUSSIAN", 2)])
def test_scores_are_those_inside_ensemble_boxes(method: Method, number: int) -> None:
    boxes, scores = crowd(200, 7)
    theirs = scores.copy()
    order = cpu_soft_nms_float(boxes / 100, theirs, 0.3, 0.5, -1, number)
    ours = run(boxes, scores, limit=0.3, method=method)
    np.testing.assert_allclose(ours[order], theirs, rtol=1e-9)


def test_ensemble_boxes_gives_back_the_scores_that_it_was_given() -> None:
    """Its decay works on a copy that it throws away; OSML's SOFT_NMS is the same code."""
    twice = np.array([[0.1, 0.1, 0.5, 0.5]] * 2)
    scores = np.array([0.9, 0.8])
    _, theirs, _ = ensemble_boxes.soft_nms([twice], [scores], [np.zeros(2)], sigma=0.5)
    assert theirs.tolist() == [0.9, 0.8]
    ours = run(twice, scores, least=0.001)
    assert ours.tolist() == [0.9, 0.8 * exp(-1 / 0.5)]


def test_ensemble_boxes_lets_a_better_box_elsewhere_decide_a_tie() -> None:
    """It swaps the best to the front; the one that stood there is then behind its equal."""
    boxes = np.array([[0, 0, 0.1, 0.1], [0, 0, 0.1, 0.1], [0.5, 0.5, 0.6, 0.6]])
    theirs = np.array([0.5, 0.5, 0.9])
    order = cpu_soft_nms_float(boxes, theirs, 0.5, 0.5, -1, 2)
    assert order.tolist() == [2, 1, 0]
    ours = run(boxes, [0.5, 0.5, 0.9])
    assert ours[0] == 0.5
    assert ours[1] < 0.5


def test_an_overlap_at_the_threshold_is_left_alone_by_linear_decay() -> None:
    boxes, scores = [[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.8]
    assert run(boxes, scores, limit=0.5, method="LINEAR").tolist() == [0.9, 0.8]
    assert run(boxes, scores, limit=0.49, method="LINEAR").tolist() == [0.9, 0.4]


def test_boxes_of_no_area_and_those_that_only_touch_keep_their_scores() -> None:
    boxes = [[5, 5, 5, 5], [5, 5, 5, 5], [5, 0, 9, 9], [9, 0, 12, 9]]
    scores = [0.9, 0.8, 0.7, 0.6]
    assert run(boxes, scores, limit=0).tolist() == scores


def test_the_scores_that_were_given_stay_as_they_are() -> None:
    scores = np.array([0.9, 0.8])
    assert np.isnan(run([[0, 0, 1, 1]] * 2, scores, sigma=0.1, least=0.5)[1])
    assert scores.tolist() == [0.9, 0.8]
