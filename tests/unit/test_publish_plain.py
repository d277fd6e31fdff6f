"""What is written for whole batches is what GEOS and a JSON writer give for each feature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
import shapely.geometry
from affine import Affine
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata
from tasks.publish.feature_batches import FeatureBatch, feature_batches
from tasks.publish.geojson import lines
from tasks.publish.quadrilaterals import orientations
from tasks.publish.rounding import decimals_for
from tasks.results.detections import SCHEMA, class_properties, quoted
from tests.examples import examples
from tests.provenance import provenance

SIDE = 1000  # px


def projected(epsg: int, west: float, north: float, metres: float) -> AffineGeoreference:
    transform = Affine(metres, 0, west, 0, -metres, north)
    return AffineGeoreference(transform, f"EPSG:{epsg}", (SIDE, SIDE))


PLACES = {
    "UTM": projected(32633, 500_000, 5_400_000, 0.5),
    "a centimetre": projected(32633, 500_000, 5_400_000, 0.01),
    "antimeridian": projected(3832, 3_330_000, 0, 100),
    "pole": projected(3413, -50_000, 50_000, 100),
    "equator": projected(4326, -1e-3, 1e-3, 1e-5),
    "north down": AffineGeoreference(Affine(-1e-3, 0, 20, 0, 1e-3, 10), "EPSG:4326", (SIDE, SIDE)),
    "nowhere": None,
}

pixels = st.floats(0, SIDE) | st.integers(0, SIDE).map(float)
points = st.tuples(pixels, pixels)
outlines = st.one_of(
    st.none(),
    st.lists(points, min_size=4, max_size=4).map(shapely.Polygon),
    st.lists(points, min_size=3, max_size=6).map(shapely.Polygon),
    st.lists(points, min_size=2, max_size=3).map(shapely.LineString),
    points.map(lambda xy: shapely.Point(xy).buffer(10, quad_segs=2)),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
own_names = st.sampled_from(["class", "score", "heading", "featureClasses", "imageBBox"]) | names


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    x, y = draw(points)
    name, score = draw(names), draw(st.floats(0, 1))
    own = draw(st.just({}) | st.dictionaries(own_names, values, max_size=3))
    own.pop("featureClasses", None)
    others = [{"iri": "other", "score": 0}] if own else []
    text = json.dumps({"featureClasses": [{"iri": name, "score": score}, *others]} | own)
    outline = draw(outlines)
    return {
        "x_min": x,
        "y_min": y,
        "x_max": x + draw(st.floats(0, 60)),
        "y_max": y + draw(st.floats(0, 60)),
        "score": score,
        "class_name": name,
        "geometry": None if outline is None else shapely.to_wkb(outline),
        "properties": draw(st.sampled_from([text, class_properties(quoted(name), score), "{}"])),
    }


def feature(batch: FeatureBatch, row: int, decimals: int) -> dict[str, Any]:
    """A feature of a batch, put together member by member."""
    features = batch.features
    found = features.table.slice(row, 1).to_pylist()[0]
    geometry, digits = features.geometry[row], None
    for tried in (decimals, decimals + 3) if geometry else ():
        shorter = shapely.transform(features.geometry[row], lambda xy, n=tried: np.round(xy, n))
        if shorter.is_valid:
            geometry, digits = shapely.orient_polygons(shorter, exterior_cw=False), tried
            break
    located = geometry is not None
    bbox, center = features.bboxes[row].tolist(), features.centers[row].tolist()
    if digits is not None:
        bbox, center = np.round(bbox, digits).tolist(), np.round(center, digits).tolist()
    image_geometry = features.image_geometry[row]
    return {
        "type": "Feature",
        "id": batch.ids[row],
        **({"bbox": bbox} if located else {}),
        "geometry": json.loads(shapely.to_geojson(geometry)) if located else None,
        "properties": {
            "class": found["class_name"],
            "score": found["score"],
            "imageGeometry": json.loads(shapely.to_geojson(image_geometry)),
            "imageBBox": [found[name] for name in ("x_min", "y_min", "x_max", "y_max")],
            "featureClasses": batch.classes[row].as_py(),
            **({"center_longitude": center[0], "center_latitude": center[1]} if located else {}),
            "inferenceMetadata": {"jobId": "job-1", "inferenceDT": "2026-11-22T10:17:48Z"},
            "sourceMetadata": [],
            **json.loads(batch.properties[row]),
        },
    }


TINY = {
    "x_min": 0.0, "y_min": 0.0, "x_max": 0.5, "y_max": 5e-324, "score": 0.0, "class_name": "",
    "geometry": None, "properties": "{}",
}  # fmt: skip
"""A box whose area is too small for a number."""


@examples(2)
@given(st.lists(rows(), min_size=1, max_size=8), st.sampled_from(sorted(PLACES)))
@example([TINY], "UTM")
def test_a_batch_is_written_as_its_features_are_one_by_one(
    found: Sequence[dict[str, Any]], place: str
) -> None:
    table = pa.Table.from_pylist(
        [{"tile": 1, "ordinal": number} | each for number, each in enumerate(found)], schema=SCHEMA
    )
    georeference: Georeference | None = PLACES[place]
    metadata = FeatureMetadata(provenance())
    (batch,) = feature_batches([table], georeference, metadata)
    for row, line in enumerate(lines(batch, metadata)):
        written = json.loads(line)
        assert written == feature(batch, row, decimals_for(None))
        given_properties = json.loads(found[row]["properties"])
        classes = given_properties.get("featureClasses")
        plain = [{"iri": found[row]["class_name"], "score": found[row]["score"]}]
        assert written["properties"]["featureClasses"] == (classes or plain)
    placed = batch.features.geometry[~shapely.is_missing(batch.features.geometry)]
    assert shapely.is_valid(placed).all()
    for polygon in shapely.get_parts(placed):
        assert polygon.geom_type != "Polygon" or polygon.exterior.is_ccw


@given(st.lists(points, min_size=4, max_size=4))
def test_a_ring_that_turns_one_way_is_a_valid_polygon(corners: list[tuple[float, float]]) -> None:
    ring = np.array([*corners, corners[0]])
    (turn,) = orientations(ring[np.newaxis])
    polygon = shapely.Polygon(ring)
    assert turn == 0 or (polygon.is_valid and polygon.exterior.is_ccw == (turn > 0))


def test_boxes_of_a_pixel_turn_one_way() -> None:
    rings = np.array([[(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]]) * 1e-7 + 179
    assert orientations(rings).tolist() == [1]
    assert orientations(rings[:, ::-1]).tolist() == [-1]
    assert orientations(np.full((1, 5, 2), np.nan)).tolist() == [0]
    assert orientations(rings[:, [0, 2, 1, 3, 0]]).tolist() == [0]


@pytest.mark.parametrize(
    ("metres", "decimals"),
    [(None, 7), (10, 7), (0.1, 7), (0.05, 8), (0.01, 8), (0.002, 9), (0.001, 9)],
)
def test_decimals_tell_a_tenth_of_a_pixel(metres: float | None, decimals: int) -> None:
    assert decimals_for(metres) == decimals
