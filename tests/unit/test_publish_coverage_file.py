"""The coverage file: the ledger as GeoParquet, with footprints that lie where the pixels do."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.transform import GCPTransformer
from rasterio.warp import transform as warp

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import Georeference, open_image
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish.coverage_file import write_coverage
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tests.provenance import provenance

DATA = Path(__file__).parents[2].parent / "shared" / "data"
STATES = list(TileState)


def ledger(grid: Grid) -> pa.Table:
    """Tiles in all the states in turn."""
    tiles = (tile for region in grid.regions(10**9) for tile in grid.tiles(region))
    found = [TileRecord(tile, STATES[tile.index % 4], "x" * (tile.index % 2)) for tile in tiles]
    return measure(coverage.ledger(found), Cells.of(grid, None))


def written(folder: Path, grid: Grid, georeference: Georeference | None) -> geopandas.GeoDataFrame:
    write_coverage(folder / "x.parquet", ledger(grid), georeference, provenance())
    return geopandas.read_parquet(folder / "x.parquet")


def placed(grid: Grid, crs: str, transform: Affine) -> AffineGeoreference:
    return AffineGeoreference(transform, crs, (grid.width, grid.height))


def ring(grid: Grid, index: int, points: int) -> np.ndarray:
    """(4 · points, 2) pixels around a tile."""
    window = grid.tile(*divmod(index, len(grid.columns))).window
    x, y = window.col_off, window.row_off
    outline = shapely.box(x, y, x + window.width, y + window.height).exterior
    along = np.linspace(0, 1, 4 * points, endpoint=False)
    found: np.ndarray = shapely.get_coordinates(outline.interpolate(along, normalized=True))
    return found


def off(footprint: shapely.Geometry, lonlat: np.ndarray) -> float:
    """How far places on a tile's edge are from the edge of its footprint, metres at the most."""
    west, south = lonlat.mean(axis=0)
    local = Transformer.from_crs(4326, f"+proj=aeqd +lat_0={south} +lon_0={west}", always_xy=True)

    def metres(points: np.ndarray) -> np.ndarray:
        return np.stack(local.transform(*points.T), axis=1)

    # straight in degrees, so bent in metres
    boundary = shapely.segmentize(footprint.boundary, footprint.length / 1000)
    edge = shapely.transform(boundary, metres)
    return float(shapely.distance(shapely.points(metres(lonlat)), edge).max())


def test_a_row_is_a_line_of_the_ledger(tmp_path: Path) -> None:
    grid = Grid(900, 700, 256, 64)
    frame = written(tmp_path, grid, placed(grid, "EPSG:32633", Affine(1, 0, 5e5, 0, -1, 5.4e6)))
    lines, stored = ledger(grid), pq.read_table(tmp_path / "x.parquet")
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert schema.names == [*lines.column_names, "geometry", "bbox"]
    for name in lines.column_names:
        assert stored[name].to_pylist() == lines[name].to_pylist()
    assert frame["area_px"].sum() == 900 * 700
    assert frame.crs == "OGC:CRS84"


def test_the_file_is_geoparquet_that_is_read_by_bbox(tmp_path: Path) -> None:
    grid = Grid(2000, 2000, 256, 64)
    frame = written(tmp_path, grid, placed(grid, "EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 50)))
    geo = json.loads(pq.read_metadata(tmp_path / "x.parquet").metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0"
    assert column["geometry_types"] == ["Polygon"]
    assert column["bbox"] == pytest.approx([10, 49.8, 10.2, 50])
    query = (10.05, 49.85, 10.06, 49.86)
    some = geopandas.read_parquet(tmp_path / "x.parquet", bbox=query)
    meets = frame.geometry.intersects(shapely.box(*query))
    assert some["tile"].tolist() == frame["tile"][meets].tolist()
    assert 0 < len(some) < len(frame)
    assert all(shape.exterior.is_ccw for shape in frame.geometry)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", Affine(1e-4, 0, 10, 0, -1e-4, 50)),
        ("EPSG:32633", Affine(30, 0, 200_000, 0, -30, 8_900_000)),  # far north, where it bends
        ("EPSG:32633", Affine.translation(5e5, 5e6) * Affine.rotation(33) * Affine.scale(10, -10)),
        ("EPSG:3413", Affine(20, 0, -6e5, 0, -20, -9e5)),
    ],
)
def test_footprints_follow_the_edges_of_their_tiles(
    tmp_path: Path, crs: str, transform: Affine
) -> None:
    grid = Grid(2000, 1500, 512, 50)
    frame = written(tmp_path, grid, placed(grid, crs, transform))
    to_world = Transformer.from_crs(crs, 4326, always_xy=True)
    pixel = np.sqrt(abs(transform.determinant)) * (111_320 if crs == "EPSG:4326" else 1)
    for index, footprint in enumerate(frame.geometry):
        x, y = transform * ring(grid, index, 40).T
        lonlat = np.stack(to_world.transform(x, y), axis=1)
        assert off(footprint, lonlat) < 0.6 * pixel


def test_footprints_are_drawn_in_no_more_pieces_than_needed(tmp_path: Path) -> None:
    grid = Grid(1000, 1000, 256, 50)
    straight = placed(grid, "EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 50))
    bent = placed(grid, "EPSG:3413", Affine(5000, 0, -2.6e6, 0, -5000, -1e5))
    fewest = shapely.get_num_coordinates(written(tmp_path, grid, straight).geometry)
    most = shapely.get_num_coordinates(written(tmp_path, grid, bent).geometry)
    assert set(fewest) == {5}
    assert min(most) > 5


def test_a_footprint_over_the_antimeridian_is_cut(tmp_path: Path) -> None:
    grid = Grid(1000, 500, 500, 0)
    beside = placed(grid, "EPSG:4326", Affine(0.01, 0, 175, 0, -0.01, 10))
    before, after = written(tmp_path, grid, beside).geometry
    assert before.geom_type == after.geom_type == "Polygon"
    assert (before.bounds[2], after.bounds[0]) == (180, -180)
    across = placed(grid, "EPSG:4326", Affine(0.01, 0, 178, 0, -0.01, 10))
    crossing, _ = written(tmp_path, grid, across).geometry
    assert crossing.geom_type == "MultiPolygon"
    west, east = sorted(part.bounds for part in crossing.geoms)
    assert west == pytest.approx((-180, 5, -177, 10))
    assert east == pytest.approx((178, 5, 180, 10))


def test_without_a_georeference_footprints_are_windows_in_pixels(tmp_path: Path) -> None:
    frame = written(tmp_path, Grid(900, 700, 256, 64), None)
    assert frame.crs.is_engineering
    right, lower = frame["x"] + frame["width"], frame["y"] + frame["height"]
    windows = geopandas.GeoSeries(shapely.box(frame["x"], frame["y"], right, lower))
    assert frame.geometry.geom_equals(windows.set_crs(frame.crs)).all()
    assert frame["tile"].tolist() == list(range(20))


def test_a_tile_beyond_the_edge_of_the_earth_has_no_footprint(tmp_path: Path) -> None:
    grid = Grid(200, 100, 20, 0)
    seen_from_above = "+proj=geos +h=35785831 +lon_0=0 +sweep=y"
    disc = placed(grid, seen_from_above, Affine(55_000, 0, -5.5e6, 0, -110_000, 5.5e6))
    frame = written(tmp_path, grid, disc)
    assert frame.geometry.isna()[0]
    (place,) = disc.to_world(np.array([[110.0, 55.0]]))
    assert frame["tile"][frame.contains(shapely.Point(place))].tolist() == [25]


def test_a_large_ledger_is_written_in_parts_that_agree(tmp_path: Path) -> None:
    grid = Grid(200 * 64, 200 * 64, 64, 0)
    frame = written(tmp_path, grid, placed(grid, "EPSG:4326", Affine(1e-3, 0, 0, 0, -1e-3, 10)))
    file = pq.read_metadata(tmp_path / "x.parquet")
    assert file.num_row_groups > 1
    assert frame["tile"].tolist() == list(range(40_000))
    assert shapely.area(frame.geometry.to_numpy()).sum() == pytest.approx(12.8**2)
    geo = json.loads(file.metadata[b"geo"])
    assert geo["columns"]["geometry"]["bbox"] == pytest.approx([0, -2.8, 12.8, 10])


@dataclass(frozen=True)
class Real:
    """A real image, its pixel size in metres, and its georeference by GDAL alone."""

    name: str
    pixel: float

    def lonlat(self, pixels: np.ndarray) -> np.ndarray:
        with rasterio.open(DATA / self.name) as dataset:
            points, crs = dataset.gcps
            if points:
                with GCPTransformer(points, tps=True) as spline:
                    x, y = spline.xy(pixels[:, 1], pixels[:, 0], offset="ul")
            else:
                (x, y), crs = dataset.transform * pixels.T, dataset.crs
        return np.stack(warp(crs, "EPSG:4326", x, y), axis=1)


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
@pytest.mark.parametrize(
    "real", [Real("mosaic_cog1_l8_rgb16.tif", 300), Real("cog_gcps_s1.tif", 200)]
)
def test_footprints_of_real_images_lie_where_gdal_says(tmp_path: Path, real: Real) -> None:
    image = open_image(str(DATA / real.name), roots=[DATA])
    grid = Grid(image.width, image.height, 256, 64)
    frame = written(tmp_path, grid, image.georeference)
    assert frame.geometry.is_valid.all()
    for index, footprint in enumerate(frame.geometry):
        assert off(footprint, real.lonlat(ring(grid, index, 20))) < 0.6 * real.pixel
