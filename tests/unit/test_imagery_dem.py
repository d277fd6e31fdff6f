"""Heights of the ground, and RPC over them, against GDAL's RPC_DEM."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.rpc import RPC
from rasterio.transform import Affine, RPCTransformer
from scipy.ndimage import map_coordinates

from tasks.errors import ImageError
from tasks.imagery import open_image
from tasks.imagery.georeference.dem import Dem
from tasks.imagery.georeference.dem_source import source_of
from tasks.imagery.georeference.ground import ground_of
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.planning.plan import make_plan
from tasks.request import Request
from tasks.settings import settings as operator_settings
from tests.examples import examples

GEOD = pyproj.Geod(ellps="WGS84")
SIZE = (2000, 2000)
ARCSECOND = 1 / 3600

RPCS = RPC(  # metre pixels, seen at 24° from the side and 11° from behind
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
CRS, WEST, NORTH = "EPSG:4326", -73.6, 45.6
EXTENT = (-73.514, 45.49, -73.486, 45.51)


def write(file: Path, heights: NDArray[Any], transform: Affine, **profile: Any) -> str:
    rows, columns = heights.shape
    shape = {"width": columns, "height": rows, "count": 1, "dtype": heights.dtype.name}
    file.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        file, "w", **({"driver": "GTiff", "crs": CRS, "transform": transform} | shape | profile)
    ) as dataset:
        dataset.write(heights, 1)
    return str(file)


def hills(
    rows: int = 720, columns: int = 720, relief: float = 80, waves: float = 55
) -> NDArray[np.float64]:
    """Cells of one arc second; slopes reach relief · 2π / (waves · 22 m)."""
    y, x = np.mgrid[:rows, :columns]
    heights: NDArray[np.float64] = relief * (
        np.sin(2 * np.pi * x / waves) + np.cos(2 * np.pi * y / waves)
    )
    return 150 + heights


def degrees(west: float = WEST, north: float = NORTH, cell: float = ARCSECOND) -> Affine:
    return Affine(cell, 0, west, 0, -cell, north)


def pixels(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).uniform(0, 1, (count, 2)) * SIZE


def metres(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    return float(np.max(GEOD.inv(one[:, 0], one[:, 1], two[:, 0], two[:, 1])[2]))


def gdal(dem: str) -> RPCTransformer:
    return RPCTransformer(
        RPCS,
        RPC_DEM=dem,
        RPC_DEMINTERPOLATION="bilinear",
        RPC_PIXEL_ERROR_THRESHOLD=1e-5,
        RPC_MAX_ITERATIONS=100,
    )


@pytest.fixture(scope="module")
def dem(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("dem") / "hills.tif", hills(), degrees(), tiled=True)


@pytest.fixture(scope="module")
def alps(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Walls of more than 70°, which a straight iteration cannot climb."""
    heights = hills(relief=500, waves=40)
    return write(tmp_path_factory.mktemp("dem") / "alps.tif", heights, degrees())


def test_heights_are_bilinear_between_cells_and_over_blocks(dem: str) -> None:
    cells = np.random.default_rng(0).uniform(0.5, 719.5, (20_000, 2))
    places = [WEST, NORTH] + cells * [ARCSECOND, -ARCSECOND]
    expected = map_coordinates(hills(), cells[:, ::-1].T - 0.5, order=1, mode="nearest")
    np.testing.assert_allclose(Dem(source_of(dem)).heights(places), expected, atol=1e-6)


@pytest.mark.parametrize("crs", ["EPSG:32618", "EPSG:3413", "EPSG:4269"])
@examples(0.25)
@given(seed=st.integers(0, 9999))
def test_a_plane_stays_a_plane_in_any_crs(
    tmp_path_factory: pytest.TempPathFactory, crs: str, seed: int
) -> None:
    to_crs = pyproj.Transformer.from_crs(4326, crs, always_xy=True)
    x, y = to_crs.transform(-73.5, 45.5)
    cell = ARCSECOND if crs == "EPSG:4269" else 30
    turned = Affine.translation(x, y) @ Affine.rotation(seed % 360) @ Affine.scale(cell, -cell)
    rows, columns = np.mgrid[-150:150, -150:150] + 0.5
    heights = 3 * columns - 2 * rows + 100
    file = tmp_path_factory.mktemp("dem") / "plane.tif"
    ours = write(file, heights, turned @ Affine.translation(-150, -150), crs=crs)
    cells = np.random.default_rng(seed).uniform(-149, 149, (50, 2))
    places = np.stack(
        to_crs.transform(
            turned.a * cells[:, 0] + turned.b * cells[:, 1] + turned.c,
            turned.d * cells[:, 0] + turned.e * cells[:, 1] + turned.f,
            direction="INVERSE",
        ),
        axis=1,
    )
    expected = 3 * cells[:, 0] - 2 * cells[:, 1] + 100
    np.testing.assert_allclose(Dem(source_of(ours)).heights(places), expected, atol=1e-3)


def test_scaled_integers_are_metres(tmp_path: Path) -> None:
    file = write(tmp_path / "a.tif", np.full((9, 9), 1234, np.int16), degrees(cell=0.1))
    with rasterio.open(file, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1,), (5,)
    assert Dem(source_of(file)).heights(np.array([[-73.2, 45.2]])) == pytest.approx(128.4)


def test_cells_without_a_height_are_ignored(tmp_path: Path) -> None:
    heights = np.full((5, 5), 100.0, np.float32)
    heights[:, 3:] = -32768
    file = write(tmp_path / "coast.tif", heights, Affine(1, 0, 0, 0, -1, 5), nodata=-32768)
    across = np.array([[0.1, 2.5], [2.5, 2.5], [3.1, 2.5], [3.6, 2.5], [-0.1, 2.5], [2.5, 5.1]])
    np.testing.assert_array_equal(
        Dem(source_of(file)).heights(across), [100, 100, 100, np.nan, np.nan, np.nan]
    )
    np.testing.assert_array_equal(
        ground_of(7.0, file, (0, 0, 5, 5)).heights(across), [100, 100, 100, 7, 7, 7]
    )


def test_rpc_over_hills_equals_gdals_in_both_directions(dem: str) -> None:
    found, theirs = RpcGeoreference(RPCS, dem), gdal(dem)
    points = pixels(20_000)
    world = found.to_world(points)
    expected = np.stack(theirs.xy(points[:, 1], points[:, 0], offset="ul"), axis=1)
    assert metres(world, expected) < 0.01
    rows, columns = theirs.rowcol(*world.T, op=np.positive)
    np.testing.assert_allclose(found.to_image(world), np.stack([columns, rows], 1), atol=1e-6)
    np.testing.assert_allclose(found.to_image(world), points, atol=1e-3)
    assert found.text == f"RPC over {dem}"
    flat = RpcGeoreference(RPCS).to_world(points)
    assert metres(world, flat) > 50  # so the hills mattered


def test_on_flat_ground_the_model_changes_nothing_but_the_height(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.tif", np.full((720, 720), 120.0), degrees())
    points = pixels(1000)
    over, at = RpcGeoreference(RPCS, plain), RpcGeoreference(RPCS)
    assert at.text == "RPC at 120 m"
    assert metres(over.to_world(points), at.to_world(points)) < 1e-3


def test_lines_of_sight_intersect_steep_ground(alps: str) -> None:
    found = RpcGeoreference(RPCS, alps)
    points = pixels(20_000)
    world = found.to_world(points)
    assert np.isfinite(world).all()
    heights = Dem(source_of(alps)).heights(world)
    assert np.ptp(heights) > 900
    at_height = RPCTransformer(RPCS)
    rows, columns = at_height.rowcol(*world.T, zs=heights, op=np.positive)
    np.testing.assert_allclose(np.stack([columns, rows], 1), points, atol=1e-3)


def test_beyond_the_model_the_height_offset_is_used(tmp_path: Path) -> None:
    half = write(tmp_path / "half.tif", hills()[:, :360], degrees())
    found, flat = RpcGeoreference(RPCS, half), RpcGeoreference(RPCS)
    points = pixels(2000)
    world = found.to_world(points)
    beyond = flat.to_world(points)[:, 0] > WEST + 360 * ARCSECOND + 0.002
    assert beyond.any()
    assert metres(world[beyond], flat.to_world(points)[beyond]) < 1e-3
    assert np.isfinite(world).all()


def test_a_model_without_heights_at_the_image_is_recorded(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere.tif", hills(), degrees(west=10))
    found = RpcGeoreference(RPCS, elsewhere)
    assert found.text == f"RPC at 120 m ({elsewhere} has no heights there)"
    points = pixels(100)
    assert metres(found.to_world(points), RpcGeoreference(RPCS).to_world(points)) == 0


def copernicus(folder: Path, west: int, south: int, heights: NDArray[Any], cell: float) -> None:
    """A tile as Copernicus cuts them: its first cell's centre is the corner, none is shared."""
    east_west, north_south = "EW"[west < 0], "NS"[south < 0]
    place = f"{north_south}{abs(south):02}_00_{east_west}{abs(west):03}_00"
    name = f"Copernicus_DSM_COG_10_{place}_DEM"
    write(
        folder / name / f"{name}.tif", heights, degrees(west - cell / 2, south + 1 + cell / 2, cell)
    )


def test_a_folder_of_tiles_is_their_mosaic(tmp_path: Path) -> None:
    cell = 1 / 240
    whole = np.add(*np.meshgrid(np.arange(480) * 0.7, np.arange(480) * 0.3)) % 211
    file = write(tmp_path / "whole.tif", whole, degrees(-74 - cell / 2, 46 + cell / 2, cell))
    for row in (0, 1):
        for column in (0, 1):
            part = whole[240 * row :, 240 * column :][:240, :240]
            copernicus(tmp_path / "tiles", -74 + column, 45 - row, part, cell)
    copernicus(tmp_path / "tiles", 20, 45, np.zeros((240, 240)), cell)
    (tmp_path / "tiles" / "README.txt").write_text("not a tile")
    places = np.random.default_rng(1).uniform([-73.9, 44.1], [-72.1, 45.9], (5000, 2))
    extent = (-74.0, 44.0, -72.0, 46.0)
    tiled, one = (ground_of(0, str(uri), extent) for uri in (tmp_path / "tiles", file))
    np.testing.assert_allclose(tiled.heights(places), one.heights(places), atol=1e-6)
    assert tiled.text == f"over {tmp_path / 'tiles'}"


def test_tiles_far_away_are_not_opened(tmp_path: Path) -> None:
    write(tmp_path / "n45w074.tif", np.full((9, 9), 5.0), degrees(-74, 46, 1 / 9))
    (tmp_path / "S12E003.tif").write_text("would fail to open")
    assert ground_of(0, str(tmp_path), EXTENT).heights(np.array([[-73.5, 45.5]])) == 5
    far = ground_of(3, str(tmp_path), (100, 10, 101, 11))
    assert far.text == f"at 3 m ({tmp_path} has no heights there)"


def test_tiles_meet_at_the_antimeridian(tmp_path: Path) -> None:
    cell = 1 / 60
    ramp = np.tile(np.arange(120.0), (60, 1))
    copernicus(tmp_path, 179, 10, ramp[:, :60], cell)
    copernicus(tmp_path, -180, 10, ramp[:, 60:], cell)
    east = np.linspace(179.1, 180.9, 100)
    for turn in (0, 360):
        places = np.stack([np.where(east > 180, east - 360, east), np.full(100, 10.5)], 1)
        ground = ground_of(0, str(tmp_path), (179.1 - turn, 10.2, 180.9 - turn, 10.8))
        np.testing.assert_allclose(ground.heights(places), (east - 179) / cell, atol=1e-6)


def test_a_vrt_is_followed(tmp_path: Path, dem: str) -> None:
    vrt = tmp_path / "dem.vrt"
    vrt.write_text(virtual(dem, "EPSG:4326"))
    points = pixels(500)
    assert (
        metres(
            RpcGeoreference(RPCS, str(vrt)).to_world(points),
            RpcGeoreference(RPCS, dem).to_world(points),
        )
        == 0
    )


def virtual(dem: str, crs: str) -> str:
    return (
        f'<VRTDataset rasterXSize="720" rasterYSize="720"><SRS>{escape(crs)}</SRS>'
        f"<GeoTransform>{WEST},{ARCSECOND},0,{NORTH},0,{-ARCSECOND}</GeoTransform>"
        '<VRTRasterBand dataType="Float64" band="1"><SimpleSource>'
        f"<SourceFilename>{dem}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )


def test_heights_above_a_geoid_are_converted_as_gdal_does(tmp_path: Path, dem: str) -> None:
    geoid = tmp_path / "geoid.gtx"
    undulation = np.linspace(-40, -30, 400, dtype=np.float32).reshape(20, 20)
    write(geoid, undulation, Affine(0.1, 0, -74.5, 0, -0.1, 46.5), driver="GTX")
    crs = pyproj.CRS(f"+proj=longlat +datum=WGS84 +geoidgrids={geoid} +vunits=m +type=crs")
    vrt = tmp_path / "dem.vrt"
    vrt.write_text(virtual(dem, crs.to_wkt()))
    points = pixels(2000)
    world = RpcGeoreference(RPCS, str(vrt)).to_world(points)
    expected = np.stack(gdal(str(vrt)).xy(points[:, 1], points[:, 0], offset="ul"), axis=1)
    assert metres(world, expected) < 0.01
    assert metres(world, RpcGeoreference(RPCS, dem).to_world(points)) > 10


def test_a_geoid_without_its_grid_is_refused(tmp_path: Path, dem: str) -> None:
    crs = "+proj=longlat +datum=WGS84 +geoidgrids=absent.gtx +vunits=m +type=crs"
    vrt = tmp_path / "dem.vrt"
    vrt.write_text(virtual(dem, pyproj.CRS(crs).to_wkt()))
    with pytest.raises(ImageError, match=r"SWATH_DEM_URI.*dem\.vrt.*pyproj sync"):
        RpcGeoreference(RPCS, str(vrt))


def broken(folder: Path) -> Iterator[tuple[str, str]]:
    """URIs of models that cannot be used, and the expected message."""
    yield str(folder / "absent.tif"), "cannot be read"
    yield str(folder / "absent.vrt"), "cannot be read"
    yield str(folder / "absent"), "folder with GeoTIFF tiles"
    yield "https://example.com/dem.tif", "s3://bucket/key"
    yield "/vsicurl/https://example.com/dem.tif", "s3://bucket/key"
    (folder / "text.tif").write_text("not a raster")
    yield str(folder / "text.tif"), "cannot be read"
    yield write(folder / "nowhere.tif", hills(9, 9), degrees(), crs=None), "reference system"
    feet = write(folder / "feet.tif", hills(9, 9), degrees())
    with rasterio.open(feet, "r+") as dataset:
        dataset.units = ("ft",)
    yield feet, "convert them to metres"
    write(folder / "mixed" / "a.tif", hills(9, 9), degrees())
    write(
        folder / "mixed" / "b.tif", hills(9, 9), Affine(30, 0, 5e5, 0, -30, 5e6), crs="EPSG:32618"
    )
    yield str(folder / "mixed"), "different reference systems"
    (folder / "many").mkdir()
    for number in range(401):
        (folder / "many" / f"tile-{number}.tif").touch()
    yield str(folder / "many"), "gdalbuildvrt"


def test_the_error_for_an_unusable_model_names_the_setting(tmp_path: Path) -> None:
    for uri, remedy in broken(tmp_path):
        with pytest.raises(ImageError, match=remedy) as refusal:
            ground_of(0, uri, EXTENT)
        assert str(refusal.value).startswith("SWATH_DEM_URI: ")
        assert uri.split("/")[-1] in str(refusal.value)


def test_threads_share_a_georeference(dem: str) -> None:
    found = RpcGeoreference(RPCS, dem)
    sets = [pixels(3000, seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(found.to_world, sets))
    for points, world in zip(sets, answers, strict=True):
        np.testing.assert_array_equal(world, RpcGeoreference(RPCS, dem).to_world(points))


def test_an_image_is_opened_with_the_model_of_the_settings(
    tmp_path: Path, dem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "image.tif"
    with rasterio.open(
        file, "w", driver="GTiff", width=2000, height=2000, count=1, dtype="uint8", rpcs=RPCS
    ):
        pass
    image = open_image(str(file), roots=[tmp_path], dem=dem)
    assert image.source_metadata[0]["georeference"] == f"RPC over {dem}"
    monkeypatch.setenv("SWATH_DEM_URI", dem)
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", f'["{tmp_path}"]')
    operator_settings.cache_clear()
    request = Request.model_validate(
        {
            "jobId": "a",
            "imageUrls": [str(file)],
            "outputs": [{"type": "File", "path": str(tmp_path)}],
            "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
        }
    )
    planned = make_plan(request, str(file)).image
    operator_settings.cache_clear()
    assert planned.georeference
    assert planned.georeference.text == f"RPC over {dem}"
