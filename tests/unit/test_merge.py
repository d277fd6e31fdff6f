"""Merging detections: what stays, in which order, and what is refused."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import detections
from tasks.errors import RequestError
from tasks.merge import check_algorithm, merge
from tasks.request import Algorithm

NMS = Algorithm.model_validate({"algorithmType": "NMS", "iouThreshold": 0.5})
NONE = Algorithm.model_validate({"algorithmType": "NONE"})


def row(
    tile: int, ordinal: int, box: tuple[float, ...], score: float = 0.5, name: str = "ship"
) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box
    return {
        "tile": tile,
        "ordinal": ordinal,
        "x_min": x_min,
        "y_min": y_min,
        "x_max": x_max,
        "y_max": y_max,
        "score": score,
        "class_name": name,
        "geometry": None,
        "properties": f'{{"from":"{tile}.{ordinal}"}}',
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=detections.SCHEMA)


def names(found: pa.Table) -> list[tuple[int, int]]:
    return list(zip(found["tile"].to_pylist(), found["ordinal"].to_pylist(), strict=True))


SEEN_TWICE = table(
    row(0, 0, (90, 0, 100, 10), 0.6),
    row(0, 1, (0, 0, 10, 10), 0.4),
    row(1, 0, (90, 0, 100, 10.5), 0.9),
    row(1, 1, (90, 0, 100, 10), 0.6, "crane"),
)


def test_the_best_of_what_was_seen_twice_stays_whole() -> None:
    merged = merge(SEEN_TWICE, NMS)
    assert names(merged) == [(0, 1), (1, 0), (1, 1)]
    assert merged.schema == detections.SCHEMA
    assert merged["properties"].to_pylist()[1] == '{"from":"1.0"}'


def test_none_keeps_every_detection() -> None:
    assert merge(SEEN_TWICE, NONE).equals(SEEN_TWICE)


@pytest.mark.parametrize(
    ("kind", "limit", "left"),
    [
        ("NONE", 0, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("NONE", 0.6, [(0, 0), (1, 0), (1, 1)]),
        ("NONE", 0.91, []),
        ("NMS", 0.6, [(1, 0), (1, 1)]),
        ("NMS", 1, []),
    ],
)
def test_scores_below_the_threshold_are_dropped(
    kind: str, limit: float, left: list[tuple[int, int]]
) -> None:
    algorithm = Algorithm.model_validate(
        {"algorithmType": kind, "iouThreshold": 0.5, "skipBoxThreshold": limit}
    )
    assert names(merge(SEEN_TWICE, algorithm)) == left


@pytest.mark.parametrize("algorithm", [NMS, NONE])
def test_nothing_merges_to_nothing(algorithm: Algorithm) -> None:
    merged = merge(table(), algorithm)
    assert len(merged) == 0
    assert merged.schema == detections.SCHEMA


box = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 6)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
sighting = st.tuples(
    st.integers(0, 3), box, st.sampled_from([0.2, 0.5, 0.5, 0.9]), st.sampled_from("ab")
)
Sighting = tuple[int, tuple[int, ...], float, str]


def sightings(drawn: list[Sighting]) -> list[dict[str, Any]]:
    return [
        row(tile, ordinal, box, score, name)
        for ordinal, (tile, box, score, name) in enumerate(drawn)
    ]


@given(st.lists(sighting, max_size=25), st.data(), st.sampled_from(["NMS", "NONE"]))
def test_the_order_in_which_tiles_finish_does_not_matter(
    drawn: list[Sighting], data: st.DataObject, kind: str
) -> None:
    rows = sightings(drawn)
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    algorithm = Algorithm.model_validate({"algorithmType": kind, "iouThreshold": 0.3})
    expected = merge(detections.concatenate([table(*rows)]), algorithm)
    parts = [table(*shuffled[:cut]), table(*shuffled[cut:])]
    assert merge(detections.concatenate(parts), algorithm).equals(expected)
    assert names(expected) == sorted(names(expected))


@given(st.lists(sighting, max_size=25))
def test_merging_again_changes_nothing(
    drawn: list[Sighting],
) -> None:
    rows = sightings(drawn)
    once = merge(detections.concatenate([table(*rows)]), NMS)
    assert merge(once, NMS).equals(once)


@pytest.mark.parametrize("kind", ["SOFT_NMS", "NMM", "WBF"])
def test_what_is_not_available_is_refused_by_name(kind: str) -> None:
    algorithm = Algorithm.model_validate({"algorithmType": kind})
    for refuse in (lambda: check_algorithm(algorithm), lambda: merge(SEEN_TWICE, algorithm)):
        with pytest.raises(RequestError, match=rf"algorithmType: {kind} .* NMS, NONE"):
            refuse()
