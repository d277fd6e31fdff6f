from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.merge import nms

# few distinct values, so that ties, touching edges and equal boxes are common
coordinate = st.integers(0, 12).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
detection = st.tuples(box, st.sampled_from([0.1, 0.5, 0.5, 0.9]), st.sampled_from("ab"))
threshold = st.sampled_from([0.0, 0.1, 1 / 3, 0.5, 0.75, 1.0])


def iou(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    width = max(0.0, min(one[2], two[2]) - max(one[0], two[0]))
    height = max(0.0, min(one[3], two[3]) - max(one[1], two[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    union = sum(areas) - width * height
    return float(width * height / union) if union > 0 else 0.0


def by_definition(
    boxes: NDArray[np.float64], scores: Sequence[float], classes: Sequence[str], limit: float
) -> list[int]:
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        rivals = (k for k in kept if classes[k] == classes[index])
        if all(iou(boxes[k], boxes[index]) <= limit for k in rivals):
            kept.append(index)
    return kept


@given(st.lists(detection, max_size=40), threshold)
def test_it_is_the_definition(
    detections: list[tuple[tuple[float, ...], float, str]], limit: float
) -> None:
    boxes = np.array([d[0] for d in detections]).reshape(-1, 4)
    scores = [d[1] for d in detections]
    classes = [d[2] for d in detections]
    assert nms(boxes, scores, classes, limit).tolist() == by_definition(
        boxes, scores, classes, limit
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_definition_on_crowded_real_coordinates(seed: int) -> None:
    random = np.random.default_rng(seed)
    corner = random.uniform(200_000, 200_300, (400, 2))
    boxes = np.hstack([corner, corner + random.lognormal(2.5, 1, (400, 2))])
    scores, classes = random.random(400), random.choice(["a", "b", "c"], 400)
    kept = nms(boxes, scores, classes, 0.3).tolist()
    assert kept == by_definition(boxes, scores.tolist(), classes.tolist(), 0.3)
    assert 0 < len(kept) < 400


def test_ties_go_to_the_lower_index() -> None:
    assert nms([[0, 0, 4, 4]] * 3, [0.5, 0.5, 0.5], [1, 1, 1], 0.5).tolist() == [0]


def test_classes_never_meet() -> None:
    assert nms([[0, 0, 4, 4]] * 2, [0.4, 0.9], ["ship", "crane"], 0.5).tolist() == [1, 0]


def test_nothing_gives_nothing() -> None:
    assert nms(np.empty((0, 4)), [], [], 0.5).tolist() == []
