"""Points per second, from pixels to the world and back, compared with pyproj, GDAL and sarkit.

The libraries do the same work: pyproj the projection alone, GDAL its transformers in one thread
with the same thresholds, sarkit its own functions. A million points each.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine, GCPTransformer, RPCTransformer

from tasks.imagery import Georeference, open_image
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.spline import SplineGeoreference

COUNT = 1_000_000
SIDE = 2000  # pixels
SICD = Path(__file__).parents[2].parent / "shared" / "data" / "sicd_50x50.nitf"
ROUNDS = 3

Way = Callable[[NDArray[np.float64]], object]
EXACT = {"RPC_PIXEL_ERROR_THRESHOLD": 1e-5, "RPC_MAX_ITERATIONS": 50}
RPCS = RPC(
    height_off=120.0,
    height_scale=500.0,
    lat_off=45.5,
    lat_scale=0.01,
    long_off=-73.5,
    long_scale=0.014,
    line_off=1000.0,
    line_scale=1100.0,
    samp_off=1000.0,
    samp_scale=1100.0,
    line_num_coeff=[0.01, 0.02, -1.0, 0.09, 0.001, 0, 0.002, 0, 0.0005] + [0.0] * 11,
    line_den_coeff=[1.0, 0.001, 0.002, 0.0002] + [0.0] * 16,
    samp_num_coeff=[0.005, 1.0, 0.02, -0.2, 0.001, 0.0003, 0, 0.001] + [0.0] * 12,
    samp_den_coeff=[1.0, -0.001, 0.001, 0.0001] + [0.0] * 16,
)


def pixels(side: int = SIDE, count: int = COUNT) -> NDArray[np.float64]:
    return np.random.default_rng(0).uniform(0, side, (count, 2))


def seconds(way: Way, points: NDArray[np.float64]) -> float:
    """The fastest of several rounds, after a warm-up on a few points."""
    way(points[:1000])
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        way(points)
        taken.append(time.perf_counter() - start)
    return min(taken)


def report(
    name: str,
    found: Georeference,
    points: NDArray[np.float64],
    beside: str,
    theirs: tuple[Way, Way] | None,
) -> None:
    """Print millions of points per second in both directions, for Swath and the library."""
    world = found.to_world(points)
    assert np.isfinite(world).all()
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-2)
    figures = {
        "to_world": seconds(found.to_world, points),
        "to_image": seconds(found.to_image, world),
    }
    if theirs:
        figures[f"{beside}_to_world"] = seconds(theirs[0], points)
        figures[f"{beside}_to_image"] = seconds(theirs[1], world)
    rates = {way: round(len(points) / taken / 1e6, 3) for way, taken in figures.items()}
    line = {"benchmark": f"geolocation, {name}", "points": len(points), "unit": "million/s"}
    print(json.dumps(line | rates))


def of_gdal(transformer: Any) -> tuple[Way, Way]:
    return (
        lambda p: transformer.xy(p[:, 1], p[:, 0], offset="ul"),
        lambda w: transformer.rowcol(w[:, 0], w[:, 1], op=np.positive),
    )


def of_pyproj(epsg: int) -> tuple[Way, Way]:
    transformer = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True)
    return (
        lambda p: transformer.transform(5e5 + p[:, 0], 4.5e6 - p[:, 1]),
        lambda w: transformer.transform(w[:, 0], w[:, 1], direction="INVERSE"),
    )


@pytest.mark.parametrize("epsg", [32618, 3857])
def test_affine(epsg: int) -> None:
    found = AffineGeoreference(Affine(1, 0, 5e5, 0, -1, 4.5e6), f"EPSG:{epsg}", (SIDE, SIDE))
    report(found.text, found, pixels(), "pyproj", of_pyproj(epsg))


def test_affine_in_degrees() -> None:
    found = AffineGeoreference(Affine(1e-5, 0, 10, 0, -1e-5, 50), "EPSG:4326", (SIDE, SIDE))
    report(found.text, found, pixels(), "", None)


def test_ground_control_points() -> None:
    points = [
        GroundControlPoint(row=y, col=x, x=10 + x * 1e-5 + np.sin(y) * 1e-6, y=50 - y * 1e-5)
        for x in range(0, SIDE + 1, 200)
        for y in range(0, SIDE + 1, 200)
    ]
    found = SplineGeoreference(points, "EPSG:4326")
    theirs = of_gdal(GCPTransformer(points, tps=True))
    report(found.text, found, pixels(), "gdal", theirs)


def test_rational_polynomials() -> None:
    found = RpcGeoreference(RPCS)
    theirs = of_gdal(RPCTransformer(RPCS, RPC_HEIGHT=RPCS.height_off, **EXACT))
    report(found.text, found, pixels(), "gdal", theirs)


def test_rational_polynomials_over_an_elevation_model(tmp_path: Path) -> None:
    y, x = np.mgrid[:720, :720]
    heights = 150 + 80 * (np.sin(2 * np.pi * x / 55) + np.cos(2 * np.pi * y / 55))
    dem = str(tmp_path / "dem.tif")
    shape = {"width": 720, "height": 720, "count": 1, "dtype": "float32"}
    place = {"crs": "EPSG:4326", "transform": Affine(1 / 3600, 0, -73.6, 0, -1 / 3600, 45.6)}
    with rasterio.open(dem, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(heights.astype(np.float32), 1)
    found = RpcGeoreference(RPCS, dem)
    options = {"RPC_DEM": dem, "RPC_DEMINTERPOLATION": "bilinear"}
    theirs = of_gdal(RPCTransformer(RPCS, **options, **EXACT))
    report("RPC over an elevation model", found, pixels(), "gdal", theirs)


@pytest.mark.skipif(not SICD.is_file(), reason="../shared/data is not on this machine")
def test_sicd() -> None:
    sicd = pytest.importorskip("sarkit.sicd", reason="the extra `sar` is not installed")
    wgs84 = pytest.importorskip("sarkit.wgs84")
    found = open_image(str(SICD), roots=[SICD.parent]).georeference
    assert found
    with SICD.open("rb") as file, sicd.NitfReader(file) as reader:
        xml = reader.metadata.xmltree
    spacing = [float(xml.findtext(f"{{*}}Grid/{{*}}{axis}/{{*}}SS")) for axis in ("Row", "Col")]
    height = float(xml.findtext("{*}GeoData/{*}SCP/{*}LLH/{*}HAE"))

    def to_world(points: NDArray[np.float64]) -> object:
        grid = points[:, ::-1] * spacing
        places, _, _ = sicd.image_to_constant_hae_surface(xml, grid, height, delta_hae_max=1e-4)
        return wgs84.cartesian_to_geodetic(places)

    def to_image(world: NDArray[np.float64]) -> object:
        geodetic = np.insert(world[:, ::-1], 2, height, axis=1)
        return sicd.scene_to_image(xml, wgs84.geodetic_to_cartesian(geodetic))

    report(found.text, found, pixels(side=50), "sarkit", (to_world, to_image))
