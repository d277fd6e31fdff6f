import json
from typing import Any

import pytest
import shapely
import shapely.geometry
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer import MAX_FEATURES, parse, read_answer
from tasks.inference.endpoint import JsonText

TILE = Tile(7, Window(1000, 2000, 100, 80))


def feature(**properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": None, "properties": properties}


def collection(*features: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


SHIP = {"iri": "ship", "score": 0.7}
WHOLE = feature(imageBBox=[1, 2, 30, 40], featureClasses=[SHIP], colour="red")


def rows(answer: object) -> list[dict[str, Any]]:
    """The detections of an answer that has some."""
    table = read_answer(answer, TILE).detections
    assert table is not None
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def test_a_feature_moves_to_pixels_of_the_full_image() -> None:
    answer = read_answer(collection(WHOLE), TILE)
    (row,) = rows(collection(WHOLE))
    assert (answer.first_rejected, answer.rejected) == ("", 0)
    assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == (1001, 2002, 1030, 2040)
    assert (row["tile"], row["ordinal"], row["score"], row["class_name"]) == (7, 0, 0.7, "ship")
    assert json.loads(row["properties"]) == {"colour": "red", "featureClasses": [SHIP]}


def test_a_geometry_moves_too_and_its_bounds_are_the_default_box() -> None:
    outline = [[[10, 10], [20, 10], [20, 30], [10, 10]]]
    given = feature(
        imageGeometry={"type": "Polygon", "coordinates": outline}, featureClasses=[SHIP]
    )
    (row,) = rows(collection(given))
    assert shapely.from_wkb(row["geometry"]).bounds == (1010, 2010, 1020, 2030)
    assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == (1010, 2010, 1020, 2030)


def test_osmls_deprecated_names_are_understood() -> None:
    given = feature(
        bounds_imcoords=[1, 2, 3, 4],
        geom_imcoords=[[1, 2], [3, 2], [3, 4], [1, 2]],
        feature_types={"ship": 0.4, "boat": 0.6},
        detection_score=0.6,
    )
    (row,) = rows(collection(given))
    assert (row["x_min"], row["score"], row["class_name"]) == (1001, 0.6, "boat")
    assert list(json.loads(row["properties"])) == ["featureClasses"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("no feature", "no properties"),
        ({"type": "Feature"}, "properties"),
        (feature(featureClasses=[SHIP]), "neither imageBBox nor imageGeometry"),
        (feature(imageBBox=[1, 2, 3, 4]), "no featureClasses"),
        (feature(imageBBox=[1, 2, 3, 4], featureClasses=[]), "no featureClasses"),
        (feature(imageBBox=[1, 2, 3, 4], featureClasses=[{"iri": "ship"}]), "score"),
        (feature(imageBBox=[1, 2, 3, 4], featureClasses=[{"iri": "a", "score": 1.5}]), "0 to 1"),
        (
            feature(imageBBox=[1, 2, 3, 4], featureClasses=[{"iri": "a", "score": float("nan")}]),
            "0 to 1",
        ),
        (feature(imageBBox=[1, 2, 3], featureClasses=[SHIP]), "not enough values"),
        (feature(imageBBox=[3, 2, 1, 4], featureClasses=[SHIP]), "x_min, y_min, x_max, y_max"),
        (feature(imageBBox=[1, 2, float("inf"), 4], featureClasses=[SHIP]), "x_min, y_min"),
        (feature(imageBBox=[500, 2, 510, 4], featureClasses=[SHIP]), "outside the tile"),
        (feature(imageGeometry={"type": "Blob"}, featureClasses=[SHIP]), "feature 0"),
    ],
)
def test_a_malformed_feature_is_rejected_alone(broken: Any, reason: str) -> None:
    answer = read_answer(collection(broken, WHOLE), TILE)
    assert [row["ordinal"] for row in rows(collection(broken, WHOLE))] == [1]
    assert answer.rejected == 1
    assert answer.first_rejected.startswith("feature 0: ")
    assert reason in answer.first_rejected


def test_the_oldest_of_osmls_names_is_understood() -> None:
    outline = {"type": "Polygon", "pixelCoordinates": [[[1, 2], [3, 2], [3, 4], [1, 2]]]}
    given = feature(detection=outline, featureClasses=[SHIP], adjusted_feature_types={"a": 1})
    (row,) = rows(collection(given))
    assert shapely.from_wkb(row["geometry"]).bounds == (1001, 2002, 1003, 2004)
    assert list(json.loads(row["properties"])) == ["featureClasses"]


@pytest.mark.parametrize(
    "box",
    [
        [100.5, 3, 101, 4],  # within a pixel of the edge
        [100, 3, 120, 4],  # touches the edge
        [-9, -9, 0, 50],
        [20, -2, 30, 0],
        [20, 20, 20, 30],  # a line
        [20, 20, 30, 20],
        [0, 20, 1e-30, 30],  # too thin to be told from a line beside 1000
        [102, 3, 102, 3],  # a point more than a pixel outside
        [20, -1.5, 20, -1.5],
    ],
)
def test_a_box_without_an_area_in_the_tile_is_rejected_and_counted(box: list[float]) -> None:
    given = feature(imageBBox=box, featureClasses=[SHIP])
    answer = read_answer(collection(given, WHOLE), TILE)
    assert [row["ordinal"] for row in rows(collection(given, WHOLE))] == [1]
    assert answer.rejected == 1
    assert answer.first_rejected.startswith("feature 0: its imageBBox ")


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [(20, 30, (1020, 2030)), (100.5, -0.5, (1100, 2000)), (0, 80, (1000, 2080))],
)
def test_a_point_is_a_feature_up_to_a_pixel_outside_the_tile(
    x: float, y: float, found: tuple[float, float]
) -> None:
    for point in (
        feature(imageBBox=[x, y, x, y], featureClasses=[SHIP]),
        feature(imageGeometry={"type": "Point", "coordinates": [x, y]}, featureClasses=[SHIP]),
    ):
        (row,) = rows(collection(point))
        assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == found * 2


LINE = {"type": "LineString", "coordinates": [[10, 20], [50, 20]]}


def test_a_line_is_a_feature_though_its_bounds_have_no_area() -> None:
    for box in ({}, {"imageBBox": [10, 20, 50, 20]}):
        (row,) = rows(collection(feature(imageGeometry=LINE, featureClasses=[SHIP], **box)))
        assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == (1010, 2020, 1050, 2020)


def polygon(*outline: tuple[float, float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[*outline, outline[0]]]}


@pytest.mark.parametrize("box", [{}, {"imageBBox": [10, 10, 30, 30]}])
@pytest.mark.parametrize(
    "outside",
    [
        polygon((110, 10), (150, 10), (150, 50)),
        polygon((100, 10), (150, 10), (150, 50)),  # touches the edge
        polygon((90, 90), (105, 75), (105, 90)),  # its bounds meet the tile's corner, it does not
        polygon((10, 10), (50, 50), (30, 30)),  # collapsed to a line
    ],
)
def test_a_polygon_without_an_area_in_the_tile_is_rejected_and_counted(
    outside: dict[str, Any], box: dict[str, Any]
) -> None:
    given = feature(imageGeometry=outside, featureClasses=[SHIP], **box)
    answer = read_answer(collection(given, WHOLE), TILE)
    assert answer.rejected == 1
    assert [row["ordinal"] for row in rows(collection(given, WHOLE))] == [1]


@pytest.mark.parametrize(
    "inside",
    [
        polygon((90, 10), (150, 10), (150, 50)),
        polygon((10, 10), (30, 30), (30, 10), (10, 30)),  # a bow-tie of two equal halves
        polygon((90, 10), (150, 50), (150, 10), (90, 50)),
    ],
)
def test_a_polygon_with_an_area_in_the_tile_stays_as_it_was_given(inside: dict[str, Any]) -> None:
    (row,) = rows(collection(feature(imageGeometry=inside, featureClasses=[SHIP])))
    moved = shapely.transform(
        shapely.from_wkb(row["geometry"]), lambda points: points - [1000, 2000]
    )
    assert shapely.equals_exact(moved, shapely.geometry.shape(inside))


def test_a_box_that_reaches_beyond_its_tile_is_clipped() -> None:
    given = feature(imageBBox=[-5, -5, 200, 50], featureClasses=[SHIP])
    (row,) = rows(collection(given))
    assert (row["x_min"], row["y_min"], row["x_max"], row["y_max"]) == (1000, 2000, 1100, 2050)


@pytest.mark.parametrize(
    "answer", [[1, 2, 3], {}, {"type": "FeatureCollection"}, {"error": "boom"}, "text", None, 3]
)
def test_an_answer_that_is_not_a_collection_fails_the_tile(answer: object) -> None:
    with pytest.raises(AnswerError):
        read_answer(answer, TILE)


def test_too_many_features_fail_the_tile() -> None:
    with pytest.raises(AnswerError, match="features"):
        read_answer(collection(*[WHOLE] * (MAX_FEATURES + 1)), TILE)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "properties",
                        "imageBBox",
                        "imageGeometry",
                        "featureClasses",
                        "iri",
                        "score",
                        "type",
                        "coordinates",
                    ]
                ),
                inner,
            )
        ),
        max_leaves=30,
    )
)
def test_any_feature_becomes_a_row_or_a_rejection(junk: Any) -> None:
    answer = read_answer(
        collection(junk, feature(**junk) if isinstance(junk, dict) else junk), TILE
    )
    assert len(answer.detections or ()) + answer.rejected == 2


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_not_json_fails_the_tile(body: bytes) -> None:
    with pytest.raises(AnswerError, match="not JSON"):
        parse(body)


def test_an_answer_in_text_is_decoded_and_errors_name_its_source() -> None:
    text = json.dumps(collection(WHOLE, feature(imageBBox=[1, 2, 3, 10**400]))).encode()
    answer = read_answer(JsonText("http://model", text), TILE)
    assert answer.rejected == 1
    with pytest.raises(AnswerError, match="http://model: The answer is not JSON"):
        read_answer(JsonText("http://model", b"<html>"), TILE)


@pytest.mark.parametrize(
    "broken", ['{"imageBBox": "1234"}', '{"imageBBox": [1,2,3,4], "note": "\\ud800"}']
)
def test_a_feature_with_properties_that_cannot_be_published_is_rejected_alone(broken: str) -> None:
    classes = '"featureClasses": [{"iri": "ship", "score": 0.5}]'
    properties = f"{broken[:-1]}, {classes}}}"
    text = f'{{"type": "FeatureCollection", "features": [{{"properties": {properties}}}]}}'
    answer = read_answer(JsonText("http://model", text.encode()), TILE)
    assert (answer.rejected, answer.detections) == (1, None)
