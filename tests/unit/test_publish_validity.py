"""No invalid or empty geometry is published, and what was repaired is counted."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pytest
import shapely
import shapely.geometry
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.publish.validity import repair
from tasks.request import FileOutput
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.examples import examples
from tests.provenance import provenance

METADATA = FeatureMetadata(provenance())


def utm(metres: float) -> AffineGeoreference:
    transform = Affine(metres, 0, 5e5, 0, -metres, 5.4e6)
    return AffineGeoreference(transform, "EPSG:32633", (1000, 1000))


def detections(outlines: list[shapely.Geometry | None]) -> pa.Table:
    count = len(outlines)
    boxes = [(10.0, 10.0, 20.0, 30.0) if each is None else each.bounds for each in outlines]
    sides = dict(
        zip(("x_min", "y_min", "x_max", "y_max"), np.array(boxes).reshape(-1, 4).T, strict=True)
    )
    return pa.table(
        sides
        | {
            "tile": np.zeros(count, int),
            "ordinal": pa.array(np.arange(count), pa.int32()),
            "score": np.full(count, 0.5),
            "class_name": ["ship"] * count,
            "geometry": [None if each is None else shapely.to_wkb(each) for each in outlines],
            "properties": ["{}"] * count,
        },
        schema=SCHEMA,
    )


def published(
    table: pa.Table, georeference: Georeference | None
) -> tuple[dict[str, NDArray[np.object_]], list[dict[str, Any]], int]:
    """Every published geometry by file and property, the GeoJSON features, and `repaired`."""
    grid = Grid(100, 100, 100, 0)
    record = TileRecord(grid.tile(0, 0), TileState.INFERRED)
    ledger = measure(coverage.ledger([record]), Cells.of(grid, None))
    results = ImageResults(lambda: [table], METADATA, ledger, georeference)
    with TemporaryDirectory() as folder:
        output = FileOutput(type="File", path=folder)
        done = publish([output], results, "x", roots=[Path(folder)])
        features = json.loads(
            Path(done.uris["geojson" if georeference else "pixels.geojson"]).read_text()
        )["features"]
        frame = geopandas.read_parquet(done.uris["parquet"])
    pixels = [shapely.geometry.shape(each["properties"]["imageGeometry"]) for each in features]
    geometries = {
        "imageGeometry": np.array(pixels, dtype=object),
        "image_geometry": shapely.from_wkb(frame["image_geometry"].to_numpy()),
    }
    if georeference is not None:
        world = [shapely.geometry.shape(each["geometry"]) for each in features]
        geometries["geojson"] = np.array(world, dtype=object)
        geometries["parquet"] = frame.geometry.to_numpy()
    return geometries, features, done.repaired


def check_valid(geometries: dict[str, NDArray[np.object_]]) -> None:
    for name, each in geometries.items():
        assert shapely.is_valid(each).all(), name
        assert not shapely.is_empty(each).any(), name


BROKEN = {
    "bow-tie": "POLYGON ((10 10, 30 30, 30 10, 10 30, 10 10))",
    "hole outside": "POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (20 20, 25 20, 25 25, 20 25, 20 20))",
    "hole across": "POLYGON ((0 0, 9 0, 9 9, 0 9, 0 0), (5 5, 15 5, 15 6, 5 6, 5 5))",
    "spike": "POLYGON ((0 0, 9 0, 9 9, 9 30, 9 9, 0 9, 0 0))",
    "overlap": "MULTIPOLYGON (((0 0, 9 0, 9 9, 0 0)), ((5 1, 12 1, 12 9, 5 1)))",
    "no area": "POLYGON ((5 5, 9 9, 5 5, 5 5))",
    "one point": "POLYGON ((5 5, 5 5, 5 5, 5 5))",
    "no length": "LINESTRING (5 5, 5 5)",
    "collection": "GEOMETRYCOLLECTION (POINT (1 1), POLYGON ((5 5, 9 9, 5 5, 5 5)))",
}


@pytest.mark.parametrize("georeference", [utm(0.5), None], ids=["world", "pixels"])
@pytest.mark.parametrize("wkt", BROKEN.values(), ids=BROKEN)
def test_an_invalid_geometry_of_a_model_is_published_valid_and_counted(
    wkt: str, georeference: Georeference | None
) -> None:
    sound = shapely.box(1, 2, 3, 4)
    table = detections([shapely.from_wkt(wkt), sound])
    geometries, features, repaired = published(table, georeference)
    check_valid(geometries)
    assert repaired == 1
    assert geometries["imageGeometry"][1].equals(sound)
    if georeference is not None:
        bounds = shapely.bounds(geometries["geojson"])
        np.testing.assert_allclose([each["bbox"] for each in features], bounds, atol=1e-12)


def test_repair_keeps_the_area_that_rings_enclose() -> None:
    wkts = [BROKEN["bow-tie"], BROKEN["hole across"], BROKEN["spike"], BROKEN["one point"]]
    geometry, repaired = repair(shapely.from_wkt(np.array([*wkts, "POINT (1 2)", None])))
    assert shapely.area(geometry[:4]).tolist() == [200, 77, 81, 0]
    assert geometry[3:5].tolist() == [shapely.Point(5, 5), shapely.Point(1, 2)]
    assert geometry[5] is None
    assert repaired.tolist() == [True, True, True, True, False, False]


def test_a_box_without_an_area_is_a_point_or_a_line_and_not_counted() -> None:
    table = detections([None, None])
    for name, values in (("x_max", [10.0, 10.0]), ("y_max", [10.0, 30.0])):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values))
    geometries, _, repaired = published(table, utm(0.5))
    check_valid(geometries)
    for each in geometries.values():
        assert [geometry.geom_type for geometry in each] == ["Point", "LineString"]
    assert repaired == 0


def test_rounding_breaks_no_outline_in_pixels_of_a_centimetre() -> None:
    random = np.random.default_rng(3)
    outlines = [star(random.uniform(-1, 1, (12, 2)) * 4 + (500, 500)) for _ in range(400)]
    assert shapely.is_valid(outlines).all()
    geometries, features, repaired = published(detections(list(outlines)), utm(0.01))
    check_valid(geometries)
    assert repaired == 0
    assert shapely.area(geometries["geojson"]) == pytest.approx(
        shapely.area(geometries["parquet"]), rel=0.2
    )
    rounded = [shapely.get_coordinates(each).round(7) for each in geometries["geojson"]]
    exact = [shapely.get_coordinates(each) for each in geometries["geojson"]]
    shortened = sum(np.array_equal(*pair) for pair in zip(rounded, exact, strict=True))
    assert 0 < shortened < len(features)  # 7 decimals, except where they do not keep it valid


def star(points: NDArray[np.float64]) -> shapely.Polygon:
    """A polygon of points in the order of their directions from the middle."""
    towards = points - points.mean(axis=0)
    return shapely.Polygon(points[np.argsort(np.arctan2(towards[:, 1], towards[:, 0]))])


coordinates = st.tuples(st.floats(0, 3), st.floats(0, 3))
rings = st.lists(coordinates, min_size=3, max_size=8)


@examples(1.5)
@given(st.lists(rings, min_size=1, max_size=4), st.sampled_from([0.01, 0.5, 1e-4]))
def test_whatever_a_model_outlines_every_published_geometry_is_valid(
    outlines: list[list[tuple[float, float]]], metres: float
) -> None:
    table = detections([shapely.Polygon(ring) for ring in outlines])
    geometries, features, _ = published(table, utm(metres))
    check_valid(geometries)
    assert len(features) == len(outlines)
    for feature, geometry in zip(features, geometries["geojson"], strict=True):
        assert feature["bbox"] == list(geometry.bounds)
        for part in shapely.get_parts(geometry):
            assert part.geom_type != "Polygon" or part.exterior.is_ccw
