"""The cells of a grid: they divide the image, and each lies in its tile."""

import numpy as np
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.grid.cells import Cells, edges
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, positions

cut = st.integers(1, 300).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))
grids = st.builds(
    lambda width, height, tile, overlap: Grid(width, height, tile, min(overlap, tile // 2)),
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(16, 120),
    st.integers(0, 60),
)
coordinates = st.integers(-60 * 16, 360 * 16).map(lambda sixteenths: sixteenths / 16)
points = st.tuples(coordinates, coordinates)
outlines = st.lists(points, min_size=3, max_size=9).map(shapely.Polygon)


@st.composite
def polygons(draw: st.DrawFn) -> RegionOfInterest:
    """Valid multipolygons with holes, made from rings that may cross themselves."""
    parts = [_valid(part) for part in draw(st.lists(outlines, min_size=1, max_size=3))]
    holes = [_valid(part) for part in draw(st.lists(outlines, max_size=2))]
    area = shapely.difference(shapely.union_all(parts), shapely.union_all(holes))
    area = _valid(area)
    assume(area.area > 1e-6)
    return RegionOfInterest(area)


def _valid(geometry: shapely.Geometry) -> shapely.Geometry:
    return shapely.make_valid(geometry, method="structure", keep_collapsed=False)


def cells(grid: Grid) -> shapely.Geometry:
    """Each tile's cell as a polygon, in the order of the grid."""
    x, y = edges(grid.columns, grid.tile_width), edges(grid.rows, grid.tile_height)
    left, top = np.meshgrid(x[:-1], y[:-1])
    right, bottom = np.meshgrid(x[1:], y[1:])
    return shapely.box(left.ravel(), top.ravel(), right.ravel(), bottom.ravel())


@given(st.integers(1, 5000), cut)
def test_cells_divide_an_axis_and_each_lies_in_its_tile(
    extent: int, tile_overlap: tuple[int, int]
) -> None:
    starts = np.array(positions(extent, *tile_overlap))
    tile = min(tile_overlap[0], extent)
    found = edges(starts.tolist(), tile)
    assert (found[0], found[-1], len(found)) == (0, extent, len(starts) + 1)
    assert (np.diff(found) > 0).all()
    assert (2 * found == np.round(2 * found)).all()
    assert (found[:-1] >= starts).all()
    assert (found[1:] <= starts + tile).all()


def test_cells_meet_midway_in_the_overlap() -> None:
    assert edges([0, 9, 19], 12).tolist() == [0, 10.5, 20, 31]
    assert edges([0], 7).tolist() == [0, 7]


@given(grids)
def test_without_a_region_of_interest_the_areas_are_the_cells(grid: Grid) -> None:
    found = Cells.of(grid, None).areas
    assert found.tolist() == shapely.area(cells(grid)).tolist()
    assert found.sum() == grid.width * grid.height


@given(grids, polygons())
def test_an_area_is_the_part_of_a_cell_inside_the_polygon(
    grid: Grid, roi: RegionOfInterest
) -> None:
    found = Cells.of(grid, roi)
    expected = shapely.area(shapely.intersection(roi.area, cells(grid)))
    np.testing.assert_allclose(found.areas, expected, rtol=1e-9, atol=1e-9)
    tolerance = 1e-9 * max(found.total_area, found.perimeter)
    assert abs(found.areas.sum() - found.total_area) <= tolerance


@given(grids, polygons())
def test_a_tile_outside_the_region_of_interest_has_no_area(
    grid: Grid, roi: RegionOfInterest
) -> None:
    found = Cells.of(grid, roi).areas
    for region in grid.regions(10_000):
        for tile in grid.tiles(region):
            assert found[tile.index] < 1e-9 or roi.meets([tile.window])[0]


def test_a_polygon_far_larger_than_the_image_covers_all_of_it() -> None:
    grid = Grid(900, 700, 256, 64)
    everything = RegionOfInterest(shapely.box(-1e6, -1e6, 1e6, 1e6))
    found, whole = Cells.of(grid, everything), Cells.of(grid, None)
    assert found.areas.tolist() == whole.areas.tolist()
    assert (found.total_area, found.perimeter) == (630_000, 3200)
    assert (whole.total_area, whole.perimeter) == (630_000, 3200)


def test_a_polygon_that_runs_along_cells_edges_gives_whole_cells() -> None:
    grid = Grid(100, 100, 20, 0)
    asked = Cells.of(grid, RegionOfInterest(shapely.box(20, 40, 60, 100))).areas.reshape(5, 5)
    expected = np.zeros((5, 5))
    expected[2:, 1:3] = 400
    assert asked.tolist() == expected.tolist()


@pytest.mark.parametrize("size", [1e-3, 1e-6])
def test_a_polygon_smaller_than_a_pixel_counts_by_its_size(size: float) -> None:
    grid = Grid(100_000, 100_000, 512, 50)
    corner = edges(grid.columns, 512)[100]  # four cells meet there
    speck = RegionOfInterest(shapely.Point(corner, corner).buffer(size))
    found = Cells.of(grid, speck)
    assert (found.areas > 0).sum() == 4
    tolerance = 1e-9 * max(found.total_area, found.perimeter)
    assert abs(found.areas.sum() - found.total_area) <= tolerance
