"""Shapes of real images, segmented tile by tile and dissolved, equal those of the whole image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import gaussian_filter

from tasks.grid.tiles import Grid
from tests.unit.test_merge_dissolve import assert_same, dissolve, polygons, segmented, threshold

DATA = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.mark.skipif(not DATA.is_dir(), reason="the real images are not here: ../shared/data")
@pytest.mark.parametrize(("tile", "overlap"), [(100, 0), (128, 16), (256, 64), (256, 150)])
@pytest.mark.parametrize(
    ("name", "percent"),
    [("mosaic_cog1_l8_rgb16.tif", 80), ("solaris_wv_pan16.tif", 60), ("RGB.byte.tif", 50)],
)
def test_real_shapes_are_as_in_the_whole_image(
    name: str, percent: float, tile: int, overlap: int
) -> None:
    with rasterio.open(DATA / name) as image:
        band = gaussian_filter(image.read(1).astype(np.float32), 1)[:700, :700]
    mask = band > np.percentile(band, percent)
    grid = Grid(mask.shape[1], mask.shape[0], tile, overlap)
    found = segmented(mask, grid)
    expected = polygons(mask)
    assert len(found) > 1.1 * len(expected) > 100
    assert_same(dissolve(found, grid, threshold(overlap)), expected)
