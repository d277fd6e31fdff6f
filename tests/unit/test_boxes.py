"""Answers in arrays are read under the same rules as features."""

import json
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer import MAX_FEATURES, Answer, read_answer
from tasks.inference.endpoint import Boxes
from tasks.results.detections import SCHEMA, boxes

TILE = Tile(7, Window(1000, 2000, 100, 80))
NAMES = ["ship", 'a "quoted" plane']


def answer(rows: list[tuple[list[float], float, int]]) -> Boxes:
    return Boxes(
        np.array([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in rows], np.float32),
        np.array([named for _, _, named in rows], np.int64),
        NAMES,
    )


def as_features(rows: list[tuple[list[float], float, int]]) -> dict[str, Any]:
    features = [
        {
            "properties": {
                "imageBBox": np.array(box, np.float32).tolist(),
                "featureClasses": [{"iri": NAMES[named], "score": float(np.float32(score))}]
                if 0 <= named < len(NAMES)
                else [],
            }
        }
        for box, score, named in rows
    ]
    return {"type": "FeatureCollection", "features": features}


numbers = st.floats(-150, 150, width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
scores = st.floats(0, 1, width=32) | st.sampled_from([np.nan, -0.5, 1.5])
any_box = st.lists(numbers, min_size=4, max_size=4)
points = st.tuples(numbers, numbers).map(lambda point: [*point, *point])
lines = st.tuples(numbers, numbers, numbers).map(lambda n: [n[0], n[1], n[0], n[2]])
given_rows = st.lists(st.tuples(any_box | points | lines, scores, st.integers(-1, 2)), max_size=20)


def told(read: Answer) -> tuple[list[dict[str, Any]], int]:
    rows = [] if read.detections is None else read.detections.to_pylist()
    return [row | {"properties": json.loads(row["properties"])} for row in rows], read.rejected


@settings(deadline=None)
@given(given_rows)
def test_boxes_are_read_as_the_features_of_the_same_values_are(
    rows: list[tuple[list[float], float, int]],
) -> None:
    found = read_answer(answer(rows), TILE)
    assert told(found) == told(read_answer(as_features(rows), TILE))
    assert bool(found.first_rejected) == bool(found.rejected)
    if found.detections is not None:
        assert found.detections.schema == SCHEMA
        placed = boxes(found.detections) - [1000, 2000, 1000, 2000]
        assert (placed >= 0).all()
        assert (placed <= [100, 80, 100, 80]).all()
        extents = placed[:, 2:] - placed[:, :2]
        assert ((extents > 0).all(axis=1) | (extents == 0).all(axis=1)).all()


def test_a_point_stays_and_a_box_without_an_area_in_the_tile_is_counted() -> None:
    given = [
        ([20.0, 30.0, 20.0, 30.0], 0.5, 0),
        ([100.5, 30.0, 120.0, 40.0], 0.5, 0),
        ([20.0, 30.0, 20.0, 40.0], 0.5, 0),
        ([90.0, 30.0, 120.0, 40.0], 0.5, 0),
    ]
    found = read_answer(answer(given), TILE)
    assert found.detections is not None
    assert found.detections["ordinal"].to_pylist() == [0, 3]
    assert boxes(found.detections).tolist() == [[1020, 2030, 1020, 2030], [1090, 2030, 1100, 2040]]
    assert found.rejected == 2
    assert found.first_rejected.startswith("feature 1: it needs a finite box with an area in the")


def test_arrays_that_do_not_fit_each_other_fail_the_tile() -> None:
    whole = answer([([1, 2, 3, 4], 0.5, 0)])
    for broken in (
        Boxes(whole.boxes[:, :3], whole.scores, whole.classes, NAMES),
        Boxes(whole.boxes, whole.scores[:0], whole.classes, NAMES),
        Boxes(whole.boxes, whole.scores, whole.classes[:0], NAMES),
    ):
        with pytest.raises(AnswerError, match="do not fit"):
            read_answer(broken, TILE)


def test_too_many_boxes_fail_the_tile() -> None:
    many = answer([([1, 2, 3, 4], 0.5, 0)] * (MAX_FEATURES + 1))
    with pytest.raises(AnswerError, match="more than"):
        read_answer(many, TILE)


def outlined(*outlines: shapely.Geometry, **properties: Any) -> Boxes:
    """An answer with an outline for each detection, and further properties of them."""
    given = np.array(outlines, object)
    columns = {name: np.array(column) for name, column in properties.items()}
    count = len(given)
    bounds, scores = shapely.bounds(given), np.full(count, 0.5)
    return Boxes(bounds, scores, np.zeros(count, np.int64), NAMES, given, columns)


def test_outlines_and_properties_are_those_of_the_features_of_the_same_values() -> None:
    diamond = shapely.Polygon([(50, 10), (90, 40), (50, 70), (10, 40)])
    holed = shapely.Polygon([(0, 0), (120, 0), (120, 60)], [[(80, 10), (110, 10), (110, 20)]])
    read = outlined(diamond, holed, angle=[12.5, 90.0], length=[3, 4], code=["a", "b"])
    features = [
        {
            "properties": {
                "imageGeometry": shapely.geometry.mapping(outline),
                "featureClasses": [{"iri": "ship", "score": 0.5}],
            }
            | {"angle": angle, "length": length, "code": code}
        }
        for outline, angle, length, code in zip(
            [diamond, holed], [12.5, 90.0], [3, 4], "ab", strict=True
        )
    ]
    collection = {"type": "FeatureCollection", "features": features}
    assert told(read_answer(read, TILE)) == told(read_answer(collection, TILE))


def test_outlines_without_an_area_in_the_tile_or_with_nan_in_a_property_are_counted() -> None:
    inside = shapely.box(10, 10, 20, 20)
    beyond = shapely.Polygon([(99, 83), (103, 79), (103, 83)])  # its bounds reach into the tile
    far, flat = shapely.box(50, 50, 400, 60), shapely.Polygon([(1, 1), (9, 9), (1, 1), (1, 1)])
    bow_tie = shapely.Polygon([(10, 10), (30, 30), (30, 10), (10, 30)])
    read = outlined(inside, beyond, far, flat, bow_tie, inside, angle=[0.0] * 5 + [np.nan])
    found = read_answer(read, TILE)
    assert found.detections is not None
    assert found.detections["ordinal"].to_pylist() == [0, 4]
    assert found.rejected == 4
    assert "an outline with an area in the tile" in found.first_rejected
    with pytest.raises(AnswerError, match="5 boxes, 6 angle"):
        read_answer(outlined(inside, beyond, far, flat, bow_tie, angle=[0.0] * 6), TILE)
