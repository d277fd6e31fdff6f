"""Every georeference agrees with pyproj or its definition, in both directions."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine

from tasks.errors import ImageError
from tasks.imagery import Georeference, open_image
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.spline import SplineGeoreference
from tests.examples import examples

DATA = Path(__file__).parents[2].parent / "shared" / "data"
GEOD = pyproj.Geod(ellps="WGS84")


def metres(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """The largest distance between two sets of longitude, latitude."""
    return float(np.max(GEOD.inv(one[:, 0], one[:, 1], two[:, 0], two[:, 1])[2]))


def pixels(size: tuple[int, int], count: int = 500) -> NDArray[np.float64]:
    return np.random.default_rng(1).uniform(0, 1, (count, 2)) * size


def georeference(tmp_path: Path, driver: str = "GTiff", **profile: Any) -> Georeference | None:
    """The georeference of a file written with a profile."""
    gcps = {key: profile.pop(key) for key in ("gcps", "rpcs") if key in profile}
    file = tmp_path / "image"
    shape = {"width": 200, "height": 100, "count": 1, "dtype": "uint8"}
    with rasterio.open(file, "w", driver=driver, **shape, **profile, **gcps) as dataset:
        dataset.write(np.zeros((1, 100, 200), np.uint8))
    return open_image(str(file), roots=[tmp_path]).georeference


@pytest.mark.parametrize("epsg", [32618, 3857, 4326, 4269, 3413, 2154])
@examples(0.25)
@given(
    angle=st.floats(-180, 180),
    scale=st.floats(0.1, 30),
    seed=st.integers(0, 99),
)
def test_affine_equals_pyproj(epsg: int, angle: float, scale: float, seed: int) -> None:
    centres = {32618: (5e5, 4.5e6), 3857: (0, 5e6), 4326: (2, 48), 4269: (-90, 40), 3413: (0, -2e6)}
    x, y = centres.get(epsg, (7e5, 6.6e6))
    scale = scale / 1e5 if epsg in (4326, 4269) else scale
    turn = Affine.rotation(angle)
    transform = Affine(turn.a * scale, turn.b * scale, x, turn.d * scale, -turn.e * scale, y)
    found = AffineGeoreference(transform, f"EPSG:{epsg}", (1000, 800))
    points = np.random.default_rng(seed).uniform(-10, 1010, (50, 2))
    columns, rows = points.T
    to_wgs = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    expected = np.stack(
        to_wgs.transform(
            transform.a * columns + transform.b * rows + transform.c,
            transform.d * columns + transform.e * rows + transform.f,
        ),
        axis=1,
    )
    world = found.to_world(points)
    assert metres(world, expected) < 1e-3
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-3)


@pytest.mark.parametrize("start", [179.0, 359.0 - 180.0 + 0.5, -181.0])
def test_affine_over_the_antimeridian(start: float) -> None:
    found = AffineGeoreference(Affine(0.01, 0, start, 0, -0.01, 10), "EPSG:4326", (200, 100))
    points = pixels((200, 100))
    world = found.to_world(points)
    assert np.abs(world[:, 0]).max() <= 180
    assert (world[:, 0] > 0).any()
    assert (world[:, 0] < 0).any()
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-6)


def test_a_point_that_cannot_be_converted_is_nan() -> None:
    found = AffineGeoreference(Affine(1e7, 0, 0, 0, -1e7, 0), "EPSG:32618", (9, 9))
    world = found.to_world(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert np.isnan(world[1]).all()


def test_an_affine_file_is_affine(tmp_path: Path) -> None:
    found = georeference(tmp_path, crs="EPSG:32618", transform=Affine(2, 0, 5e5, 0, -2, 4e6))
    assert found
    assert (found.kind, found.text) == ("affine", "affine in EPSG:32618")
    expected = pyproj.Transformer.from_crs(32618, 4326, always_xy=True).transform(500001, 3999999)
    assert metres(found.to_world(np.array([[0.5, 0.5]])), np.array([expected])) < 1e-3


def control(longitude: float) -> list[GroundControlPoint]:
    rng = np.random.default_rng(0)
    return [
        GroundControlPoint(
            row=row,
            col=column,
            x=(longitude + column * 1e-3 + row * 2e-4 + rng.normal(0, 1e-4) + 180) % 360 - 180,
            y=20 - row * 1e-3 + rng.normal(0, 1e-4),
        )
        for row in range(0, 101, 25)
        for column in range(0, 201, 40)
    ]


@pytest.mark.parametrize("longitude", [77.0, 179.9])
def test_gcps_are_mapped_exactly(tmp_path: Path, longitude: float) -> None:
    points = control(longitude)
    found = georeference(tmp_path, gcps=points, crs="EPSG:4326")
    assert isinstance(found, SplineGeoreference)
    assert (found.kind, found.text) == ("gcp", "thin-plate spline through 30 GCPs")
    image = np.array([[point.col, point.row] for point in points])
    world = np.array([[point.x, point.y] for point in points])
    assert metres(found.to_world(image), world) < 1e-3
    np.testing.assert_allclose(found.to_image(world), image, atol=1e-5)
    inside = pixels((200, 100))
    np.testing.assert_allclose(found.to_image(found.to_world(inside)), inside, atol=1e-4)


@pytest.mark.parametrize("pole", [90, -90])
def test_gcps_around_a_pole_are_mapped_exactly_and_points_between_them_closely(pole: int) -> None:
    local = pyproj.CRS(f"+proj=laea +lat_0={pole} +lon_0=0 +datum=WGS84").to_wkt()
    truth = AffineGeoreference(Affine(300, 0, -5e4, 0, -300, 4e4), local, (400, 300))
    grid = np.stack(np.meshgrid(np.arange(0, 401, 50.0), np.arange(0, 301, 50.0)), -1).reshape(
        -1, 2
    )
    points = [
        GroundControlPoint(row=y, col=x, x=longitude, y=latitude)
        for (x, y), (longitude, latitude) in zip(grid, truth.to_world(grid), strict=True)
    ]
    found = SplineGeoreference(points, "EPSG:4326")
    assert metres(found.to_world(grid), truth.to_world(grid)) < 1e-3
    inside = pixels((400, 300))
    assert metres(found.to_world(inside), truth.to_world(inside)) < 3
    np.testing.assert_allclose(found.to_image(found.to_world(inside)), inside, atol=1e-3)


def test_gcps_in_metres() -> None:
    points = [
        GroundControlPoint(row=row, col=column, x=5e5 + column * 10, y=4e6 - row * 10)
        for row in (0, 50, 100)
        for column in (0, 100, 200)
    ]
    spline = SplineGeoreference([*points, points[0]], "EPSG:32618")
    affine = AffineGeoreference(Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32618", (200, 100))
    inside = pixels((200, 100))
    assert metres(spline.to_world(inside), affine.to_world(inside)) < 1e-3


RPCS = RPC(
    height_off=120.0,
    height_scale=500.0,
    lat_off=39.8,
    lat_scale=0.05,
    long_off=-84.1,
    long_scale=0.07,
    line_off=50.0,
    line_scale=60.0,
    samp_off=100.0,
    samp_scale=110.0,
    line_num_coeff=[0.01, 0.02, -1.0, 0.03, 0.001, 0, 0.002, 0, 0.0005] + [0.0] * 11,
    line_den_coeff=[1.0, 0.001, 0.002, 0] + [0.0] * 16,
    samp_num_coeff=[0.005, 1.0, 0.02, -0.02, 0.001, 0.0003, 0, 0.001] + [0.0] * 12,
    samp_den_coeff=[1.0, -0.001, 0.001, 0] + [0.0] * 16,
)


def by_definition(lonlat: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample and line of longitude, latitude at the height offset (STDI-0002, RPC00B)."""
    ell = (lonlat[:, 0] - RPCS.long_off) / RPCS.long_scale
    p = (lonlat[:, 1] - RPCS.lat_off) / RPCS.lat_scale
    terms = np.stack(
        [
            *[np.ones_like(ell), ell, p, 0 * ell, ell * p, 0 * ell, 0 * ell, ell**2, p**2],
            *[np.zeros_like(ell)] * 11,
        ],
        axis=1,
    )
    sample = terms @ RPCS.samp_num_coeff / (terms @ RPCS.samp_den_coeff)
    line = terms @ RPCS.line_num_coeff / (terms @ RPCS.line_den_coeff)
    return np.stack(
        [
            sample * RPCS.samp_scale + RPCS.samp_off,
            line * RPCS.line_scale + RPCS.line_off,
        ],
        axis=1,
    )


def test_rpc_equals_its_definition_plus_half_a_pixel(tmp_path: Path) -> None:
    found = georeference(tmp_path, rpcs=RPCS)
    assert isinstance(found, RpcGeoreference)
    assert (found.kind, found.text) == ("rpc", "RPC at 120 m")
    inside = pixels((200, 100))
    world = found.to_world(inside)
    np.testing.assert_allclose(by_definition(world) + 0.5, inside, atol=1e-4)
    np.testing.assert_allclose(found.to_image(world), inside, atol=1e-4)
    assert metres(found.to_world(found.to_image(world)), world) < 0.01


def test_an_empty_array_of_points_is_accepted() -> None:
    none = np.empty((0, 2))
    spline = SplineGeoreference(control(10), "EPSG:4326")
    affine = AffineGeoreference(Affine(1, 0, 5e5, 0, -1, 4e6), "EPSG:32618", (9, 9))
    for found in (spline, affine, RpcGeoreference(RPCS)):
        assert found.to_world(none).shape == (0, 2)
        assert found.to_image(none).shape == (0, 2)


def test_an_image_without_a_crs_has_no_georeference(tmp_path: Path) -> None:
    transform = Affine(1, 0, 5, 0, -1, 5)  # in no CRS
    assert georeference(tmp_path, transform=transform) is None


def test_an_engineering_crs_gives_no_georeference(tmp_path: Path) -> None:
    local = 'LOCAL_CS["bench",UNIT["metre",1]]'
    assert georeference(tmp_path, crs=local, transform=Affine(2, 0, 7, 0, -2, 7)) is None


@pytest.mark.parametrize(
    "transform", [Affine(0, 0, 5, 0, 0, 5), Affine(1, 1, 0, 1, 1, 0), Affine(nan, 0, 0, 0, 1, 0)]
)
def test_a_geotransform_that_defines_no_mapping_is_refused(
    tmp_path: Path, transform: Affine
) -> None:
    with pytest.raises(ImageError, match=r"image: Its geotransform .* one position, or none"):
        georeference(tmp_path, crs="EPSG:32631", transform=transform)


def test_nitf_corners_are_igeolo(tmp_path: Path) -> None:
    corners = "395923N0840000W395923N0835900W395800N0835900W395800N0840000W"
    transform = {"ICORDS": "G", "IGEOLO": corners}
    file = tmp_path / "corners.ntf"
    with rasterio.open(
        file, "w", driver="NITF", width=80, height=60, count=1, dtype="uint8", **transform
    ) as written:
        written.write(np.zeros((1, 60, 80), np.uint8))
    found = open_image(str(file), roots=[tmp_path]).georeference
    assert found
    assert (found.kind, found.text) == ("igeolo", "corner points (IGEOLO)")
    centres = np.array([[0.5, 0.5], [79.5, 0.5], [79.5, 59.5], [0.5, 59.5]])
    north, south = 39 + 59 / 60 + 23 / 3600, 39 + 58 / 60
    west, east = -84.0, -(83 + 59 / 60)
    expected = np.array([[west, north], [east, north], [east, south], [west, south]])
    assert metres(found.to_world(centres), expected) < 1


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not on this machine")
def test_sentinel_1_gcps_are_mapped_exactly() -> None:
    image = open_image(str(DATA / "cog_gcps_s1.tif"), roots=[DATA])
    with rasterio.open(image.path) as dataset:
        points = dataset.gcps[0]
    assert image.georeference
    pixel = np.array([[point.col, point.row] for point in points])
    world = np.array([[point.x, point.y] for point in points])
    assert metres(image.georeference.to_world(pixel), world) < 1e-3


def test_a_crs_without_a_code_is_described_by_its_name(tmp_path: Path) -> None:
    own = pyproj.CRS("+proj=laea +lat_0=52 +lon_0=10 +datum=WGS84").to_wkt()
    own = own.replace('PROJCRS["unknown"', 'PROJCRS["Our grid"')
    found = georeference(tmp_path, crs=own, transform=Affine(2, 0, 5e5, 0, -2, 4e6))
    assert found
    assert found.text == "affine in Our grid"


@pytest.mark.parametrize(("epsg", "width"), [(3857, 40_075_016.68), (4087, 40_075_016.68)])
@pytest.mark.parametrize("edge", [-1, 1])
def test_an_image_may_go_on_past_the_edge_of_a_cylinders_map(
    epsg: int, width: float, edge: int
) -> None:
    transform = Affine(100, 0, edge * width / 2 - 50_000, 0, -100, 50_000)
    georeference = AffineGeoreference(transform, f"EPSG:{epsg}", (1000, 1000))
    points = np.random.default_rng(0).uniform(0, 1000, (500, 2))
    world = georeference.to_world(points)
    assert np.abs(world[:, 0]).min() > 179.5
    np.testing.assert_allclose(georeference.to_image(world), points, atol=1e-5)


@pytest.mark.parametrize(
    "places",
    [
        [(0, 0), (1, 1), (2, 2), (3, 3)],
        [(5, 5), (5, 5), (5, 5), (5, 5)],
    ],
)
def test_gcps_that_define_no_mapping_are_refused(
    tmp_path: Path, places: list[tuple[int, int]]
) -> None:
    pixels = [(0, 0), (0, 90), (90, 0), (90, 90)]
    points = [
        GroundControlPoint(row=row, col=column, x=x, y=y)
        for (row, column), (x, y) in zip(pixels, places, strict=True)
    ]
    shape = {"width": 100, "height": 100, "count": 1, "dtype": "uint8", "crs": "EPSG:4326"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", gcps=points, **shape):
        pass
    with pytest.raises(ImageError, match=r"a\.tif: Its 4 ground control points lie on one line"):
        open_image(str(tmp_path / "a.tif"), roots=[tmp_path])
