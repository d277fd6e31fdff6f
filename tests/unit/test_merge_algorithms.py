"""Soft NMS, NMM and WBF applied to tables of detections."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.algorithms.tables import apply_algorithm
from tasks.merge.deferral import clusters
from tasks.merge.shapes import Shapes, shapes_of
from tasks.results.detections import SCHEMA, boxes, concatenate

ALGORITHMS = ("SOFT_NMS", "NMM", "WBF")
coordinate = st.integers(0, 30).map(float)
side = st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0])
box = st.tuples(coordinate, coordinate, side, side).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
score = st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.9])
detection = st.tuples(st.integers(0, 3), box, score, st.sampled_from(["ship", "crane"]))
scene = st.lists(detection, max_size=30)


def row(
    tile: int,
    ordinal: int,
    box: Sequence[float],
    score: float = 0.5,
    name: str = "ship",
    *,
    outline: shapely.Geometry | None = None,
    **own: Any,
) -> dict[str, Any]:
    classes = [{"iri": name, "score": score}, {"iri": "other", "score": score / 2}]
    return {
        "tile": tile,
        "ordinal": ordinal,
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), box, strict=True)),
        "score": score,
        "class_name": name,
        "geometry": None if outline is None else shapely.to_wkb(outline),
        "properties": json.dumps({"from": f"{tile}.{ordinal}", "featureClasses": classes} | own),
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def drawn(detections: list[tuple[int, Sequence[float], float, str]], offset: int = 0) -> pa.Table:
    """Detections as a table; half of them have outlines."""
    rows = [
        row(
            tile + offset,
            ordinal,
            (np.array(corners) + 1000 * offset).tolist(),
            score,
            name,
            outline=shapely.box(*corners) if ordinal % 2 and corners[2] > corners[0] else None,
        )
        for ordinal, (tile, corners, score, name) in enumerate(detections)
    ]
    return concatenate([table(*rows)])


def labels_of(found: pa.Table) -> NDArray[np.int64]:
    return np.array([name == "ship" for name in found["class_name"].to_pylist()], np.int64)


def run(found: pa.Table, algorithm_type: str, limit: float = 0.3, **options: Any) -> pa.Table:
    shapes = Shapes.boxes(boxes(found))
    labels = labels_of(found)
    return apply_algorithm(found, shapes, labels, algorithm_type, iou_threshold=limit, **options)


def names(found: pa.Table) -> list[tuple[int, int]]:
    return list(zip(found["tile"].to_pylist(), found["ordinal"].to_pylist(), strict=True))


def own(found: pa.Table, place: int) -> dict[str, Any]:
    properties: dict[str, Any] = json.loads(found["properties"][place].as_py())
    return properties


SEEN_TWICE = table(
    row(0, 0, (90, 0, 100, 10), 0.6, more=[1, None, "é"]),
    row(0, 1, (0, 0, 10, 10), 0.4),
    row(1, 0, (90, 0, 100, 11), 0.9),
    row(1, 1, (90, 0, 100, 10), 0.6, "crane"),
)


def test_soft_nms_keeps_rows_with_new_scores_and_the_models_as_raw_scores() -> None:
    found = run(SEEN_TWICE, "SOFT_NMS")
    assert names(found) == names(SEEN_TWICE)
    lowered = 0.6 * np.exp(-((10 / 11) ** 2) / 0.1)
    assert found["score"].to_pylist() == [pytest.approx(lowered, rel=1e-12), 0.4, 0.9, 0.6]
    assert own(found, 0) == {
        "from": "0.0",
        "featureClasses": [
            {"iri": "ship", "score": found["score"][0].as_py(), "rawScore": 0.6},
            {"iri": "other", "score": 0.3},
        ],
        "more": [1, None, "é"],
    }
    assert own(found, 1)["featureClasses"][0] == {"iri": "ship", "score": 0.4, "rawScore": 0.4}
    unchanged = [name for name in SCHEMA.names if name not in ("score", "properties")]
    assert found.select(unchanged) == SEEN_TWICE.select(unchanged)


def test_soft_nms_drops_rows_whose_new_score_is_below_the_threshold() -> None:
    assert names(run(SEEN_TWICE, "SOFT_NMS", skip_below=0.0001)) == names(SEEN_TWICE)
    assert names(run(SEEN_TWICE, "SOFT_NMS", skip_below=0.4)) == [(0, 1), (1, 0), (1, 1)]


def test_soft_nms_names_the_class_of_a_row_that_has_no_feature_classes() -> None:
    bare = row(0, 0, (0, 0, 1, 1), 0.5) | {"properties": "{}"}
    assert own(run(table(bare), "SOFT_NMS"), 0) == {
        "featureClasses": [{"iri": "ship", "score": 0.5, "rawScore": 0.5}]
    }


def test_merging_gives_the_best_row_the_hull_of_what_it_took() -> None:
    found = run(SEEN_TWICE, "NMM")
    assert names(found) == [(0, 1), (1, 0), (1, 1)]
    assert boxes(found)[1].tolist() == [90, 0, 100, 11]
    assert found["score"].to_pylist() == [0.4, 0.9, 0.6]
    assert found["properties"].to_pylist() == SEEN_TWICE["properties"].to_pylist()[1:]


def test_merged_geometry_is_the_union_of_the_members_also_of_those_with_a_box_only() -> None:
    bow_tie = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10)])
    found = run(
        table(
            row(0, 0, (0, 0, 10, 10), 0.9),
            row(0, 1, (2, 0, 12, 10), 0.8, outline=shapely.Polygon([(2, 0), (12, 5), (2, 10)])),
            row(0, 2, (50, 0, 60, 10), 0.9),
            row(0, 3, (52, 0, 62, 10), 0.8),
            row(0, 4, (0, 50, 10, 60), 0.9, outline=shapely.box(0, 50, 10, 60)),
            row(0, 5, (0, 90, 10, 100), 0.9, outline=shapely.transform(bow_tie, above)),
            row(0, 6, (0, 90, 10, 100), 0.8, outline=shapely.transform(bow_tie, above)),
        ),
        "NMM",
    )
    assert names(found) == [(0, 0), (0, 2), (0, 4), (0, 5)]
    assert boxes(found)[:2].tolist() == [[0, 0, 12, 10], [50, 0, 62, 10]]
    outlines = shapely.from_wkb(found["geometry"].to_pylist())
    assert outlines[1] is None
    assert outlines[0].bounds == (0, 0, 12, 10)
    assert outlines[0].area == pytest.approx(102)
    assert outlines[2].equals(shapely.box(0, 50, 10, 60))
    assert outlines[3].is_valid
    assert outlines[3].area == pytest.approx(50)


def test_merged_lines_and_points_stay_those_of_the_best_row() -> None:
    point, line = shapely.Point(5, 5), shapely.LineString([(0, 50), (10, 60)])
    found = run(
        table(
            row(0, 0, (0, 0, 10, 10), 0.8, outline=shapely.Point(5, 6)),
            row(0, 1, (0, 0, 10, 10), 0.9, outline=point),
            row(0, 2, (0, 50, 10, 60), 0.9, outline=line),
            row(0, 3, (0, 50, 10, 60), 0.8, outline=shapely.box(0, 50, 5, 60)),
        ),
        "NMM",
    )
    assert names(found) == [(0, 1), (0, 2)]
    outlines = shapely.from_wkb(found["geometry"].to_pylist())
    assert outlines[0].equals(point)
    assert outlines[1].equals(shapely.box(0, 50, 5, 60))


def test_polygons_overlap_as_such_and_not_by_their_boxes() -> None:
    corner, opposite = [(0, 0), (10, 0), (0, 10)], [(10, 10), (10, 0.1), (0.1, 10)]
    found = table(
        row(0, 0, (0, 0, 10, 10), 0.9, outline=shapely.Polygon(corner)),
        row(0, 1, (0, 0, 10, 10), 0.8, outline=shapely.Polygon(opposite)),
        row(0, 2, (0, 0, 10, 10), 0.7, outline=shapely.Polygon(corner)),
    )
    shapes = shapes_of(found, Grid(100, 100, 100, 0))
    merged = apply_algorithm(found, shapes, labels_of(found), "NMM", iou_threshold=0.3)
    assert names(merged) == [(0, 0), (0, 1)]
    softened = apply_algorithm(found, shapes, labels_of(found), "SOFT_NMS", iou_threshold=0.3)
    assert softened["score"].to_pylist()[:2] == [0.9, 0.8]
    assert softened["score"].to_pylist()[2] == pytest.approx(0.7 * np.exp(-10))


def above(points: NDArray[np.float64]) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = points + np.array([0, 90])
    return moved


def test_fusion_gives_the_best_row_the_mean_of_what_joined_it() -> None:
    outline = shapely.box(90, 0, 100, 10)
    found = run(
        table(
            row(0, 0, (90, 0, 100, 10), 0.6, outline=outline),
            row(0, 1, (0, 0, 10, 10), 0.4, outline=shapely.box(0, 0, 10, 10)),
            row(1, 0, (90, 0, 100, 11), 0.9, outline=outline),
        ),
        "WBF",
    )
    assert names(found) == [(0, 1), (1, 0)]
    assert boxes(found)[0].tolist() == [0, 0, 10, 10]
    assert boxes(found)[1].tolist() == pytest.approx([90, 0, 100, 10.6])
    assert found["score"].to_pylist() == [0.4, 0.75]
    assert found["geometry"].is_null().to_pylist() == [False, True]
    assert own(found, 1)["featureClasses"][0] == {"iri": "ship", "score": 0.75, "rawScore": 0.9}
    assert own(found, 0)["featureClasses"][0] == {"iri": "ship", "score": 0.4}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_detections_give_none(algorithm: str) -> None:
    assert run(SCHEMA.empty_table(), algorithm) == SCHEMA.empty_table()


def test_another_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="NMX is not"):
        run(SEEN_TWICE, "NMX")


@settings(deadline=None)
@given(scene, st.sampled_from(ALGORITHMS), st.randoms())
def test_the_order_in_which_tiles_arrive_changes_nothing(
    detections: list[Any], algorithm: str, chance: Any
) -> None:
    found = drawn(detections)
    pieces = [found.slice(place, 1) for place in range(len(found))]
    chance.shuffle(pieces)
    assert run(concatenate(pieces), algorithm) == run(found, algorithm)


@settings(deadline=None)
@given(scene, scene, st.sampled_from(ALGORITHMS))
def test_scenes_far_apart_do_not_affect_each_other(
    here: list[Any], there: list[Any], algorithm: str
) -> None:
    one, two = drawn(here), drawn(there, offset=100)
    apart = pa.concat_tables([run(one, algorithm), run(two, algorithm)])
    assert run(concatenate([one, two]), algorithm) == apart


@settings(deadline=None)
@given(scene, st.sampled_from(ALGORITHMS), st.sampled_from([0.0, 0.3, 0.6]), st.integers(0, 2**30))
def test_some_clusters_alone_give_the_same_rows_as_all(
    detections: list[Any], algorithm: str, limit: float, chosen: int
) -> None:
    found = drawn(detections)
    groups = clusters(boxes(found), labels_of(found))
    mask = (chosen >> groups) & 1 == 1
    whole = run(found, algorithm, limit)
    members = set(names(found.filter(pa.array(mask))))
    expected = whole.filter(pa.array([name in members for name in names(whole)], pa.bool_()))
    assert run(found.filter(pa.array(mask)), algorithm, limit) == expected
