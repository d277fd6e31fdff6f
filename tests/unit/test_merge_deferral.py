"""Clusters: groups of detections that cannot affect each other."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.merge.deferral import clusters

coordinate = st.integers(0, 40).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 15.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
labelled = st.lists(st.tuples(box, st.integers(-1, 1)), max_size=60)


def arrays(
    detections: list[tuple[tuple[float, ...], int]],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    bounds = np.array([d[0] for d in detections], np.float64).reshape(-1, 4)
    return bounds, np.array([d[1] for d in detections], np.int64)


def touch(one: NDArray[np.float64], two: NDArray[np.float64]) -> bool:
    return bool((one[:2] <= two[2:]).all() and (two[:2] <= one[2:]).all())


def by_definition(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> list[int]:
    """Join any two groups that touch, until none do."""
    groups = [[place] for place in range(len(bounds))]
    while True:
        solid = [bounds[group] for group in groups]
        pairs = (
            (i, j)
            for j in range(len(groups))
            for i in range(j)
            if labels[groups[i][0]] == labels[groups[j][0]]
            and any(touch(one, two) for one, two in product(solid[i], solid[j]))
        )
        pair = next(pairs, None)
        if pair is None:
            break
        groups[pair[0]] = sorted(groups[pair[0]] + groups.pop(pair[1]))
    numbers = {place: n for n, group in enumerate(sorted(groups)) for place in group}
    return [numbers[place] for place in range(len(bounds))]


@settings(deadline=None)
@given(labelled)
def test_clusters_equal_their_definition(detections: list[tuple[tuple[float, ...], int]]) -> None:
    bounds, labels = arrays(detections)
    assert clusters(bounds, labels).tolist() == by_definition(bounds, labels)


def test_boxes_of_one_label_that_only_touch_are_together() -> None:
    bounds = np.array([[0, 0, 10, 10], [10, 10, 20, 20], [10, 0, 20, 5]], np.float64)
    assert clusters(bounds, np.array([3, 3, 7])).tolist() == [0, 0, 1]


def test_a_stack_of_boxes_and_a_chain_of_boxes_are_one_cluster_each() -> None:
    place = np.random.default_rng(5).uniform(0, 10, (20_000, 2))
    pile = np.hstack([place, place + 20])
    steps = np.arange(200_000.0)[:, None] * [5, 0]
    chain = np.hstack([steps, steps + 10]) + 1000
    labels = np.zeros(len(pile) + len(chain), np.int64)
    found = clusters(np.vstack([pile, chain]), labels)
    assert (found[: len(pile)] == 0).all()
    assert (found[len(pile) :] == 1).all()


def test_no_boxes_are_no_clusters() -> None:
    assert clusters(np.empty((0, 4)), np.empty(0, np.int64)).tolist() == []
