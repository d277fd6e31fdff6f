"""Detections become features: their position, their id, and the precedence of properties."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import Affine

from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, geolocate
from tasks.publish.feature_batches import FeatureBatch
from tasks.publish.feature_properties import feature_properties
from tasks.publish.features import Features
from tasks.results.detections import SCHEMA
from tests.provenance import provenance

METADATA = FeatureMetadata(provenance())


def projected(epsg: int, west: float, north: float, metres: float) -> AffineGeoreference:
    """Square pixels in a projected reference system, north up."""
    transform = Affine(metres, 0, west, 0, -metres, north)
    return AffineGeoreference(transform, f"EPSG:{epsg}", (1000, 1000))


@dataclass(frozen=True)
class Function:
    """A georeference given by a function of x and y."""

    place: Callable[[Any, Any], tuple[Any, Any]]
    kind: str = "affine"
    text: str = "a function"

    def to_world(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(self.place(points[:, 0], points[:, 1]))

    def to_image(self, lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
        raise NotImplementedError


UTM = projected(32633, 500_000, 5_400_000, 0.5)
FIJI = projected(3832, 3_330_000, 0, 100)  # PDC Mercator, whose middle is 150° E
ARCTIC = projected(3413, -50_000, 50_000, 100)  # polar stereographic, the pole at pixel 500, 500


def row(
    box: tuple[float, float, float, float] = (10, 10, 20, 30),
    geometry: shapely.Geometry | None = None,
    **properties: Any,
) -> dict[str, Any]:
    classes = [{"iri": "ship", "score": 0.5}]
    return dict(zip(("x_min", "y_min", "x_max", "y_max"), map(float, box), strict=True)) | {
        "score": 0.5,
        "class_name": "ship",
        "geometry": None if geometry is None else shapely.to_wkb(geometry),
        "properties": json.dumps({"featureClasses": classes} | properties),
    }


def detections(*rows: dict[str, Any]) -> pa.Table:
    numbered = [{"tile": i // 3, "ordinal": i % 3} | r for i, r in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=SCHEMA)


def test_a_box_alone_becomes_a_polygon_on_the_ground() -> None:
    features = geolocate(detections(row()), UTM)
    corners = np.array([(10, 10), (20, 10), (20, 30), (10, 30)], dtype=float)
    assert (
        features.geometry[0]
        .normalize()
        .equals_exact(shapely.Polygon(UTM.to_world(corners)).normalize(), 1e-12)
    )
    assert features.geometry[0].exterior.is_ccw
    assert features.image_geometry[0].equals(shapely.box(10, 10, 20, 30))
    np.testing.assert_allclose(features.centers, UTM.to_world(np.array([[15.0, 20.0]])))
    np.testing.assert_allclose(features.bboxes[0], features.geometry[0].bounds)


@pytest.mark.parametrize(
    "wkt",
    [
        "POINT (12 13)",
        "MULTIPOINT (12 13, 14 15)",
        "LINESTRING (10 10, 20 30)",
        "POLYGON ((10 10, 20 10, 20 30, 10 30, 10 10), (12 12, 12 14, 14 14, 14 12, 12 12))",
        "MULTIPOLYGON (((10 10, 20 10, 20 30, 10 10)), ((30 30, 40 30, 40 40, 30 30)))",
        "GEOMETRYCOLLECTION (POINT (12 13), POLYGON ((10 10, 20 10, 20 30, 10 10)))",
    ],
)
def test_a_model_geometry_keeps_its_kind(wkt: str) -> None:
    pixels = shapely.from_wkt(wkt)
    features = geolocate(detections(row(geometry=pixels)), UTM)
    expected = shapely.transform(pixels, UTM.to_world)
    assert features.geometry[0].normalize().equals_exact(expected.normalize(), 1e-12)
    assert features.image_geometry[0] == pixels


def test_heights_are_left_out_and_an_empty_outline_is_the_box() -> None:
    rows = [row(geometry=shapely.Point(12, 13, 99)), row(geometry=shapely.Polygon())]
    point, box = geolocate(detections(*rows), UTM).geometry
    assert not point.has_z
    assert box.geom_type == "Polygon"


def test_all_vertices_are_placed_by_one_call() -> None:
    calls = []

    def place(x: Any, y: Any) -> tuple[Any, Any]:
        calls.append(len(x))
        return x / 1000, y / 1000

    geolocate(detections(*[row() for _ in range(50)]), Function(place))
    assert len(calls) == 1


def test_an_image_without_a_georeference_gives_features_without_geometry() -> None:
    features = geolocate(detections(row()), None)
    assert features.geometry[0] is None
    assert np.isnan(features.centers).all()
    assert np.isnan(features.bboxes).all()
    assert features.image_geometry[0].equals(shapely.box(10, 10, 20, 30))


def test_a_vertex_off_the_earth_removes_only_its_features_geometry() -> None:
    georeference = Function(lambda x, y: (np.where(x > 100, np.inf, x / 1000), y / 1000))
    features = geolocate(detections(row(), row((90, 0, 110, 10)), row((0, 0, 5, 5))), georeference)
    assert [geometry is None for geometry in features.geometry] == [False, True, False]
    assert np.isnan(features.bboxes[1]).all()


def test_no_detections_are_no_features() -> None:
    assert len(geolocate(SCHEMA.empty_table(), UTM)) == 0
    assert len(geolocate(SCHEMA.empty_table(), None)) == 0


def test_an_object_on_the_antimeridian_is_cut() -> None:
    edge = FIJI.to_world(np.array([[0.0, 0.0]]))[0, 0]
    assert 179 < edge < 180
    features = geolocate(detections(row((0, 0, 2000, 100)), row((0, 0, 10, 10))), FIJI)
    assert [geometry.geom_type for geometry in features.geometry] == ["MultiPolygon", "Polygon"]
    west, _, east, _ = features.bboxes[0]
    assert west == pytest.approx(edge)
    assert -180 < east < -178
    assert all(part.exterior.is_ccw for part in features.geometry[0].geoms)
    assert features.centers[0, 0] < 0


def test_an_object_on_the_pole_holds_the_pole() -> None:
    features = geolocate(detections(row((450, 440, 560, 550)), row((600, 600, 610, 610))), ARCTIC)
    assert features.bboxes[0, [0, 2, 3]].tolist() == [-180, 180, 90]
    assert features.geometry[0].covers(shapely.Point(10, 89.99))
    assert features.bboxes[1, 2] - features.bboxes[1, 0] < 10


@given(st.floats(-200, 1200), st.floats(-200, 1200), st.floats(0.1, 200), st.integers(-1, 1))
def test_every_position_is_on_the_map(x: float, y: float, side: float, turns: int) -> None:
    georeference = Function(lambda px, py: (170 + px / 50 + 360 * turns, 40 - py / 50))
    features = geolocate(detections(row((x, y, x + side, y + side))), georeference)
    geometry, (west, south, east, north) = features.geometry[0], features.bboxes[0]
    assert geometry.is_valid
    assert geometry.area == pytest.approx((side / 50) ** 2, rel=1e-6)
    assert geometry.bounds[0] >= -180
    assert geometry.bounds[2] <= 180
    assert (east - west) % 360 == pytest.approx(side / 50, rel=1e-6)
    assert north - south == pytest.approx(side / 50, rel=1e-6)
    assert (features.centers[0, 0] - west) % 360 <= side / 50


@given(st.sets(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1)), max_size=50))
def test_ids_differ_and_come_back(places: set[tuple[int, int]]) -> None:
    rows = [row() | {"tile": tile, "ordinal": ordinal} for tile, ordinal in sorted(places)]
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    ids = METADATA.ids_of(table)
    assert len(set(ids)) == len(places)
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in ids)
    assert [METADATA.ids_of(table.slice(i, 1))[0] for i in range(len(table))] == ids
    for told in (provenance(image="s3://images/y.tif"), provenance(job="another")):
        assert set(FeatureMetadata(told).ids_of(table)).isdisjoint(ids)


def test_the_request_wins_over_the_model_and_swath_over_both() -> None:
    metadata = FeatureMetadata(
        provenance(),
        feature_properties=[{"colour": "red", "imageBBox": 1}, {"mission": 7}],
    )
    table = detections(row(colour="grey", heading=12.5, inferenceMetadata={"jobId": "?"}))
    found = feature_properties(table, metadata)
    assert found.classes.to_pylist() == [[{"iri": "ship", "score": 0.5}]]
    assert json.loads(found.properties[0]) == {"colour": "red", "heading": 12.5, "mission": 7}


def test_values_that_json_cannot_hold_are_replaced() -> None:
    text = '{"a": NaN, "b": [1e999, -Infinity, 2.5], "c": "\\ud800x", "d": "ship"}'
    found = feature_properties(detections(row() | {"properties": text}), METADATA)
    assert found.classes.to_pylist() == [[{"iri": "ship", "score": 0.5}]]
    own = {"a": None, "b": [None, None, 2.5], "c": "?x", "d": "ship"}
    assert json.loads(found.properties[0]) == own


def test_a_time_needs_its_offset() -> None:
    with pytest.raises(ValueError, match="add a Z"):
        provenance(time="2026-11-22T10:17:48")


CORNERS = st.tuples(st.floats(0, 1000), st.floats(0, 1000))


@given(st.lists(st.tuples(CORNERS, CORNERS, CORNERS, CORNERS) | st.none(), min_size=1, max_size=9))
def test_quadrilaterals_are_placed_as_other_geometries_are(
    outlines: list[tuple[tuple[float, float], ...] | None],
) -> None:
    """A line beside them, for which shapely is needed, changes nothing of theirs."""
    given = [row() if each is None else row(geometry=shapely.Polygon(each)) for each in outlines]
    alone = geolocate(detections(*given), UTM)
    beside = geolocate(detections(*given, row(geometry=shapely.LineString([(1, 2), (3, 4)]))), UTM)
    for name in ("image_geometry", "geometry", "centers", "bboxes", "repaired"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(beside, name)[:-1])
    np.testing.assert_array_equal(areas(alone), areas(beside)[:-1])
    pixels = alone.image.counterclockwise().shapes
    assert pixels.tolist() == shapely.orient_polygons(alone.image_geometry).tolist()


def areas(features: Features) -> list[float]:
    """Square metres of each."""
    found: list[float] = FeatureBatch(features, [], pa.array([[]]), [], []).areas.to_pylist()
    return found
