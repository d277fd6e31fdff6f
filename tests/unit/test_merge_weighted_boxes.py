"""Weighted boxes fusion: the definition, and ensemble-boxes where it is right."""

import warnings

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.merge.algorithms.weighted_boxes import fuse

coordinate = st.integers(0, 12).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
detection = st.tuples(box, st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9]), st.integers(0, 1))
threshold = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])
Floats = NDArray[np.float64]


def iou(one: Floats, two: Floats) -> float:
    width = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    height = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    union = sum(areas) - width * height
    return float(width * height / union) if union > 0 else 0.0


def touch(one: Floats, other: Floats) -> bool:
    return bool((one[:2] <= other[2:]).all() and (other[:2] <= one[2:]).all())


def by_definition(
    boxes: Floats, scores: Floats, labels: NDArray[np.int64], limit: float
) -> dict[int, tuple[list[int], Floats]]:
    """Members and box by founder, in the order in which they were founded."""
    fused: dict[int, tuple[list[int], Floats]] = {}
    for place in sorted(range(len(boxes)), key=lambda place: (-scores[place], place)):
        best, most = -1, limit
        for founder, (_, mean) in fused.items():
            common = iou(boxes[place], mean)
            linked = touch(boxes[place], boxes[founder]) and labels[founder] == labels[place]
            if linked and common > most:
                best, most = founder, common
        if best < 0:
            fused[place] = ([place], boxes[place])
            continue
        members = [*fused[best][0], place]
        mean = boxes[best]
        if scores[best] > 0:
            weighted = sum((boxes[m] * scores[m] for m in members), np.zeros(4))
            mean = weighted / sum(scores[m] for m in members)
        fused[best] = (members, mean)
    return fused


@settings(deadline=None)
@given(st.lists(detection, max_size=40), threshold)
def test_it_is_the_definition(
    detections: list[tuple[tuple[float, ...], float, int]], limit: float
) -> None:
    boxes = np.array([d[0] for d in detections]).reshape(-1, 4)
    scores = np.array([d[1] for d in detections])
    labels = np.array([d[2] for d in detections], np.int64)
    owners, means, fused = fuse(boxes, scores, labels, limit)
    expected = by_definition(boxes, scores, labels, limit)
    assert sorted(set(owners.tolist())) == sorted(expected)
    for founder, (members, mean) in expected.items():
        assert np.flatnonzero(owners == founder).tolist() == sorted(members)
        assert means[founder].tolist() == mean.tolist()
        assert fused[founder] == pytest.approx(scores[members].mean(), rel=1e-12)


def crowd(seed: int, count: int = 300) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Boxes in 0 to 1 such as several tiles see of the same objects."""
    chance = np.random.default_rng(seed)
    corners, sizes = chance.uniform(0.05, 0.8, (60, 2)), chance.uniform(0.02, 0.1, (60, 2))
    objects = np.hstack([corners, corners + sizes])[chance.integers(0, 60, count)]
    seen = objects + chance.normal(0, 0.004, (count, 4))
    return seen, chance.uniform(0.05, 1, count), chance.integers(0, 3, count)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [0.3, 0.55, 0.75])
def test_ensemble_boxes_fuses_alike(seed: int, limit: float) -> None:
    boxes, scores, labels = crowd(seed)
    theirs = ensemble_boxes.weighted_boxes_fusion([boxes], [scores], [labels], iou_thr=limit)
    owners, means, fused = fuse(boxes, scores, labels, limit)
    founders = np.unique(owners)
    ours = np.column_stack([labels[founders], fused[founders], means[founders]])
    both = np.column_stack([theirs[2], theirs[1], theirs[0]])
    assert len(founders) < len(boxes)
    np.testing.assert_allclose(by_row(ours), by_row(both), rtol=2e-6)


def by_row(rows: Floats) -> Floats:
    """Rows by label, and then by their first corner's place to 1e-5, which no two share."""
    return rows[np.lexsort((rows[:, 3].round(5), rows[:, 2].round(5), rows[:, 0]))]


def test_ensemble_boxes_in_float32_moves_boxes_that_are_far_out() -> None:
    """The mean of two equal boxes at 200,000 px is off, for it is added up in float32."""
    twice = np.array([[199_990.0, 199_980.2, 199_999.1, 199_990.6]] * 2)
    scores, labels = np.array([0.9, 0.8]), np.zeros(2, np.int64)
    theirs, _, _ = ensemble_boxes.weighted_boxes_fusion([twice / 200_000], [scores], [labels])
    assert np.abs(theirs[0] * 200_000 - twice[0]).max() > 0.001
    _, ours, _ = fuse(twice, scores, labels, 0.55)
    np.testing.assert_allclose(ours[0], twice[0], rtol=1e-15)


def test_ensemble_boxes_clips_pixels_to_one_and_drops_what_is_left_without_area() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float64)
    scores, labels = np.array([0.9, 0.8]), np.zeros(2, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, _, _ = ensemble_boxes.weighted_boxes_fusion([boxes], [scores], [labels])
        points, _, _ = ensemble_boxes.weighted_boxes_fusion(
            [np.full((2, 4), 0.5)], [scores], [labels]
        )
    np.testing.assert_allclose(theirs, [[0, 0, 1, 1]], rtol=1e-6)
    assert len(points) == 0
    assert fuse(boxes, scores, labels, 0.55)[0].tolist() == [0, 0]
    assert fuse(np.full((2, 4), 0.5), scores, labels, 0.55)[0].tolist() == [0, 1]


def test_of_equal_scores_the_first_founds_and_of_equal_overlaps_it_is_joined() -> None:
    """In ensemble-boxes the order of equal scores is whatever an unstable sort makes of it."""
    boxes = np.array([[0, 0, 16, 16], [16, 0, 32, 16], [8, 0, 24, 16]], np.float64)
    scores, labels = np.array([0.9, 0.9, 0.5]), np.zeros(3, np.int64)
    assert fuse(boxes, scores, labels, 0.2)[0].tolist() == [0, 1, 0]


def test_a_box_alone_stays_to_the_last_bit() -> None:
    boxes = np.array([[0.1, 0.2, 0.3, 0.7]])
    owners, means, scores = fuse(boxes, np.array([0.3]), np.zeros(1, np.int64), 0.5)
    assert owners.tolist() == [0]
    assert means.tolist() == boxes.tolist()
    assert scores.tolist() == [0.3]


def test_boxes_of_score_0_are_those_of_their_founder() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float64)
    owners, means, scores = fuse(boxes, np.zeros(2), np.zeros(2, np.int64), 0.5)
    assert owners.tolist() == [0, 0]
    assert means[0].tolist() == [0, 0, 10, 10]
    assert scores[0] == 0


def test_many_overlapping_boxes_are_fused() -> None:
    place = np.random.default_rng(3).uniform(0, 3, (20_000, 2))
    boxes = np.hstack([place, place + 20])
    owners, means, _ = fuse(boxes, np.full(20_000, 0.5), np.zeros(20_000, np.int64), 0.5)
    assert (owners == 0).all()
    np.testing.assert_allclose(means[0], boxes.mean(axis=0), rtol=1e-12)
