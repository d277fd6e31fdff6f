"""Regions of interest: which tiles a polygon on the ground asks for."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.roi import RegionOfInterest
from tasks.imagery import Image, open_image
from tasks.planning.roi import region_of_interest

DATA = Path(__file__).parents[2].parent / "shared" / "data"
UTM = "EPSG:32631"
WORLD = shapely.box(-180, -90, 180, 90)

Make = Callable[..., Image]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes an image of 200 × 100 pixels."""

    def make(crs: str | None, transform: Affine | None) -> Image:
        file = tmp_path / "a.tif"
        shape = {"width": 200, "height": 100, "count": 1, "dtype": "uint8"}
        with rasterio.open(
            file, "w", driver="GTiff", crs=crs, transform=transform, **shape
        ) as dataset:
            dataset.write(np.ones((1, 100, 200), np.uint8))
        return open_image(str(file), roots=[tmp_path])

    return make


@pytest.fixture
def plain(make: Make) -> Image:
    """An image of 10 m pixels in UTM."""
    return make(UTM, from_origin(500_000, 5_700_000, 10, 10))


def on_the_ground(image: Image, pixels: shapely.Geometry) -> str:
    """WKT of an area of pixels, computed with pyproj only."""
    with rasterio.open(image.path) as dataset:
        transform, crs = dataset.transform, dataset.crs.to_wkt()
    to_world = Transformer.from_crs(crs, 4326, always_xy=True)

    def place(points: np.ndarray) -> np.ndarray:
        x, y = transform * points.T
        return np.stack(to_world.transform(x, y), axis=1)

    return str(shapely.to_wkt(shapely.transform(pixels, place), rounding_precision=-1))


def placed(area: shapely.Geometry, image: Image) -> RegionOfInterest:
    roi = region_of_interest(area.wkt, image)
    assert roi is not None
    return roi


def share(roi: RegionOfInterest) -> float:
    """Share of the image of 200 × 100 pixels inside the region of interest."""
    return float(shapely.intersection(roi.area, shapely.box(0, 0, 200, 100)).area / 20_000)


def test_without_a_polygon_the_whole_image_is_processed(plain: Image) -> None:
    assert region_of_interest(None, plain) is None


@pytest.mark.parametrize(
    "transform",
    [
        from_origin(500_000, 5_700_000, 10, 10),
        Affine.translation(500_000, 5_700_000) * Affine.rotation(30) * Affine.scale(10, -10),
        Affine(0, 10, 500_000, 10, 0, 5_700_000),
    ],
    ids=["north-up", "rotated", "transposed"],
)
def test_a_polygon_comes_back_to_the_pixels_it_was_drawn_on(make: Make, transform: Affine) -> None:
    image = make(UTM, transform)
    drawn = shapely.box(20, 30, 120.5, 70) - shapely.box(40, 40, 60, 60)
    roi = region_of_interest(on_the_ground(image, drawn), image)
    assert roi is not None
    assert shapely.hausdorff_distance(roi.area, drawn) < 0.01
    assert shapely.get_num_interior_rings(roi.area) == 1


@pytest.mark.parametrize(
    ("window", "wanted"),
    [
        (Window(30, 30, 10, 10), True),
        (Window(0, 0, 200, 100), True),
        (Window(42, 42, 10, 10), False),  # in the hole
        (Window(35, 42, 10, 10), True),  # on the hole's edge
        (Window(40, 40, 20, 20), False),  # the hole itself, edge on edge
        (Window(0, 0, 20, 100), False),  # touches the left edge
        (Window(0, 0, 21, 100), True),
        (Window(120, 70, 20, 20), False),  # touches a corner
        (Window(119, 69, 20, 20), True),
        (Window(150, 0, 20, 20), True),  # the second polygon
        (Window(130, 0, 20, 20), False),
    ],
)
def test_a_window_is_wanted_if_it_intersects_the_region(window: Window, wanted: bool) -> None:
    first = shapely.box(20, 30, 120, 70) - shapely.box(40, 40, 60, 60)
    roi = RegionOfInterest(shapely.union_all([first, shapely.box(150, 0, 160, 5)]))
    assert roi.meets([window]).tolist() == [wanted]


def test_points_in_a_hole_are_outside_and_those_on_an_edge_inside() -> None:
    roi = RegionOfInterest(shapely.box(0, 0, 9, 9) - shapely.box(3, 3, 6, 6))
    points = np.array([[1, 1], [4, 4], [0, 0], [3, 4], [10, 1]], np.float64)
    assert roi.contains(points).tolist() == [True, False, True, True, False]
    assert roi.contains(points[:0]).tolist() == []


corner = st.tuples(st.integers(-50, 240), st.integers(-50, 140))


@given(corner, corner, st.integers(0, 190), st.integers(0, 90))
def test_every_tile_that_intersects_the_region_is_wanted(
    one: tuple[int, int], two: tuple[int, int], x: int, y: int
) -> None:
    (x_min, x_max), (y_min, y_max) = (sorted(pair) for pair in zip(one, two, strict=True))
    assume(x_min < x_max and y_min < y_max)
    roi = RegionOfInterest(shapely.box(x_min, y_min, x_max, y_max))
    overlap = min(x + 10, x_max) > max(x, x_min) and min(y + 10, y_max) > max(y, y_min)
    assert roi.meets([Window(x, y, 10, 10)]).tolist() == [overlap]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (UTM, from_origin(500_000, 5_700_000, 10, 10)),
        ("EPSG:4326", from_origin(175, 10, 0.05, 0.05)),  # across the antimeridian
        ("EPSG:32660", from_origin(800_000, 2_000_000, 1000, 1000)),  # the same
        ("EPSG:3413", from_origin(-1e6, 1e6, 1e4, 2e4)),  # around the pole
        ("EPSG:4326", from_origin(-180, 90, 1.8, 1.8)),
        ("EPSG:4326", from_origin(0, 90, 1.8, 1.8)),  # 0° to 360°
        ("EPSG:3857", from_origin(-2e7, 1e7, 2e5, 2e5)),
    ],
)
def test_the_whole_world_is_the_whole_image(make: Make, crs: str, transform: Affine) -> None:
    assert share(placed(WORLD, make(crs, transform))) == pytest.approx(1, abs=1e-6)


def test_halves_on_either_side_of_the_antimeridian_are_one_area(make: Make) -> None:
    image = make("EPSG:4326", from_origin(175, 10, 0.05, 0.05))  # to 185° east, 5° north
    halves = shapely.MultiPolygon([shapely.box(177, 6, 180, 9), shapely.box(-180, 6, -178, 9)])
    roi = placed(halves, image)
    assert roi.area.geom_type == "Polygon"
    assert roi.area.bounds == pytest.approx((40, 20, 140, 80))
    assert share(roi) == pytest.approx(0.3)


def test_a_ring_around_the_pole_has_the_pole_as_its_hole(make: Make) -> None:
    image = make("EPSG:3413", from_origin(-2e6, 1e6, 2e4, 2e4))
    roi = placed(shapely.box(-180, 82, 180, 86), image)
    assert not roi.contains(np.array([[100.0, 50.0]]))[0]
    ring = [[100 + 30 * np.cos(turn), 50 + 30 * np.sin(turn)] for turn in np.linspace(0, 6, 50)]
    assert roi.contains(np.array(ring)).all()


def test_the_edges_of_a_large_region_are_densified_within_the_image(make: Make) -> None:
    image = make(UTM, from_origin(700_000, 7_000_000, 10, 10))
    north = 63.0685  # a parallel through the image, which bends in UTM
    roi = placed(shapely.box(-170, -80, 170, north), image)
    to_utm = Transformer.from_crs(4326, UTM, always_xy=True)
    longitudes = np.linspace(6.96, 6.99, 40)
    x, y = to_utm.transform(longitudes, np.full(40, north))
    edge = shapely.MultiPoint(np.stack([(x - 700_000) / 10, (7_000_000 - y) / 10], axis=1))
    inside = shapely.intersection(edge, shapely.box(0, 0, 200, 100))
    assert not inside.is_empty
    assert max(shapely.distance(roi.area.boundary, p) for p in inside.geoms) < 0.01


def test_an_image_outside_the_region_is_refused_with_both_extents(plain: Image) -> None:
    with pytest.raises(RequestError, match="regionOfInterest") as refused:
        region_of_interest(shapely.box(20, -2, 21.5, -1).wkt, plain)
    reason = str(refused.value)
    assert "20.000000, -2.000000, 21.500000, -1.000000" in reason
    assert "3.000000, 51.442" in reason
    assert plain.url in reason
    assert "do not meet" in reason


def test_an_image_that_the_region_only_touches_is_refused(make: Make) -> None:
    image = make("EPSG:4326", from_origin(10, 20, 0.125, 0.125))  # to 35° east
    with pytest.raises(RequestError, match="do not meet"):
        region_of_interest(shapely.box(35, 0, 40, 30).wkt, image)


def test_an_image_without_a_georeference_is_refused(make: Make) -> None:
    with pytest.warns(NotGeoreferencedWarning):
        image = make(None, None)
    with pytest.raises(RequestError, match=r"regionOfInterest: .*a\.tif has no georeference"):
        region_of_interest(WORLD.wkt, image)


def test_a_region_outside_the_domain_of_the_projection_is_refused(make: Make) -> None:
    seen_from_above = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"
    image = make(seen_from_above, from_origin(-5.5e6, 5.5e6, 55_000, 110_000))
    with pytest.raises(RequestError, match="has no pixel position in"):
        region_of_interest(WORLD.wkt, image)
    assert share(placed(shapely.box(-20, -20, 20, 20), image)) > 0.1


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
@pytest.mark.parametrize("name", ["cog_gcps_s1.tif", "mosaic_cog1_l8_rgb16.tif", "RGB.byte.tif"])
def test_real_georeferences_place_a_polygon_and_the_world(name: str) -> None:
    image = open_image(str(DATA / name), roots=[DATA])
    assert image.georeference is not None
    width, height = image.size
    drawn = shapely.box(width * 0.4, height * 0.4, width * 0.6, height * 0.6)
    ground = shapely.transform(shapely.segmentize(drawn, width / 50), image.georeference.to_world)
    assert shapely.hausdorff_distance(placed(ground, image).area, drawn) < 1
    world = placed(WORLD, image)
    whole = shapely.box(0, 0, width, height)
    assert shapely.intersection(world.area, whole).area == pytest.approx(whole.area)


@given(
    corners=st.lists(
        st.tuples(st.floats(-20, 320), st.floats(-20, 220)), min_size=3, max_size=3, unique=True
    ),
    size=st.tuples(st.integers(1, 300), st.integers(1, 200)),
)
def test_the_pixels_inside_are_counted(
    corners: list[tuple[float, float]], size: tuple[int, int]
) -> None:
    triangle = shapely.Polygon(corners)
    assume(triangle.is_valid and triangle.area > 1)
    roi, window = RegionOfInterest(triangle), Window(3, 5, *size)
    assert roi.count(window) == roi.pixels(window).sum()
