"""Geometries that cross the antimeridian or hold a pole."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.affinity import translate

from tasks.imagery.georeference.transformers import wrap_near
from tasks.publish.antimeridian import bounds, split


def test_a_box_over_the_antimeridian_is_cut_in_two() -> None:
    cut = split(shapely.box(170, 0, 190, 10))
    expected = shapely.union(shapely.box(170, 0, 180, 10), shapely.box(-180, 0, -170, 10))
    assert cut.equals(expected)
    assert cut.geom_type == "MultiPolygon"
    assert bounds(cut) == (170, 0, -170, 10)


def test_wrapped_longitudes_are_the_same_box() -> None:
    ring = [(170, 0), (-170, 0), (-170, 10), (170, 10)]
    assert split(shapely.Polygon(ring)).equals(split(shapely.box(170, 0, 190, 10)))


def test_a_hole_over_the_antimeridian_stays_a_hole() -> None:
    frame = shapely.box(160, -20, 200, 20).difference(shapely.box(175, -5, 185, 5))
    cut = split(frame)
    assert cut.area == pytest.approx(40 * 40 - 100)
    assert not cut.contains(shapely.Point(179, 0))
    assert not cut.contains(shapely.Point(-179, 0))


def test_a_line_is_cut_and_points_are_moved() -> None:
    line = split(shapely.LineString([(179, 0), (181, 2)]))
    assert line.equals(shapely.from_wkt("MULTILINESTRING((179 0, 180 1), (-180 1, -179 2))"))
    assert split(shapely.Point(181, 2)) == shapely.Point(-179, 2)
    both = split(shapely.GeometryCollection([line, shapely.Point(-181, 1)]))
    assert [part.geom_type for part in both.geoms] == ["MultiLineString", "Point"]


@pytest.mark.parametrize("pole", [90, -90])
def test_a_ring_round_a_pole_holds_it(pole: int) -> None:
    latitude = np.sign(pole) * 80
    ring = [(lon, latitude) for lon in (-135, -45, 45, 135)]
    cap = split(shapely.Polygon(ring))
    assert cap.equals(shapely.box(-180, min(pole, latitude), 180, max(pole, latitude)))
    assert bounds(cap) == (-180, min(pole, latitude), 180, max(pole, latitude))


def test_a_ring_round_a_hole_with_the_pole_in_it() -> None:
    outer = [(lon, 70) for lon in (-135, -45, 45, 135)]
    inner = [(lon, 80) for lon in (-135, -45, 45, 135)]
    band = split(shapely.Polygon(outer, [inner]))
    assert band.equals(shapely.box(-180, 70, 180, 80))


def test_a_box_over_the_whole_world_stays_one() -> None:
    world = shapely.box(-180, -60, 180, 60)
    assert split(shapely.segmentize(world, 90)).equals(world)
    assert bounds(world) == (-180, -60, 180, 60)


def test_an_outline_that_crosses_itself_is_still_cut() -> None:
    bow_tie = shapely.Polygon([(170, 0), (190, 10), (190, 0), (170, 10)])
    cut = split(bow_tie)
    assert cut.is_valid
    assert cut.area == pytest.approx(100)


polygons = st.builds(
    lambda lon, lat, radius: shapely.Point(lon, lat).buffer(radius, quad_segs=3),
    lon=st.floats(-179.9, 179.9),
    lat=st.floats(-30, 30),
    radius=st.floats(0.01, 50),
)


@given(polygons, st.integers(-1, 1))
def test_cutting_keeps_the_area_and_ends_within_one_turn(
    polygon: shapely.Polygon, turns: int
) -> None:
    cut = split(translate(polygon, 360.0 * turns))
    west, south, east, north = bounds(cut)
    assert cut.is_valid
    assert cut.area == pytest.approx(polygon.area)
    assert cut.bounds[0] >= -180
    assert cut.bounds[2] <= 180
    assert (south, north) == pytest.approx((polygon.bounds[1], polygon.bounds[3]))
    assert (east - west) % 360 == pytest.approx(polygon.bounds[2] - polygon.bounds[0])


@given(st.floats(-1000, 1000), st.floats(-180, 180))
def test_unwrapped_longitudes_are_near_and_the_same_place(longitude: float, near: float) -> None:
    moved = wrap_near(np.array([longitude]), near)[0]
    assert abs(moved - near) <= 180 + 1e-9
    turns = (moved - longitude) / 360
    assert turns == pytest.approx(round(turns))


@given(st.lists(st.floats(0, 1), min_size=5, max_size=12), st.sampled_from([1, -1]))
def test_a_cap_has_no_seam(parts: list[float], pole: int) -> None:
    longitudes = np.cumsum(np.array(parts) + 1) / (sum(parts) + len(parts)) * 360 - 180
    latitudes = pole * (80 + np.array(parts))
    cap = split(shapely.Polygon(np.column_stack([longitudes, latitudes])))
    assert cap.geom_type == "Polygon"
    assert cap.is_valid
    west, south, east, north = bounds(cap)
    assert (west, east, pole * 90) == (-180, 180, north if pole > 0 else south)


@pytest.mark.parametrize("turn", [0, 360])
def test_a_vertex_on_the_pole_has_the_longitudes_beside_it(turn: int) -> None:
    """A quarter of the cap, of which a vertex is the pole with any longitude at all."""
    for longitude in (0.0, 45.0, -100.0, 179.0):
        ring = [(0, 80), (90 + turn, 80), (longitude, 90)]
        assert split(shapely.Polygon(ring)).equals(shapely.box(0, 80, 90, 90))
        line = split(shapely.LineString(ring))
        assert line.equals(shapely.LineString([(0, 80), (90, 80), (90, 90)]))


def test_a_ring_without_area_is_a_line() -> None:
    flat = split(shapely.Polygon([(179, 5), (181, 5), (179, 5)]))
    assert flat.equals(shapely.from_wkt("MULTILINESTRING((179 5, 180 5), (-180 5, -179 5))"))
