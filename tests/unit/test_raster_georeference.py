"""The files of a raster lie where their image lies, by whatever the image's place is known."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.rpc import RPC
from rasterio.transform import GCPTransformer

from tasks.grid.tiles import Grid
from tasks.imagery import Image, open_image
from tasks.publish.rasters import raster_files
from tasks.raster import Painter, put_together
from tasks.request import RasterOutput
from tests.provenance import provenance

DATA = Path(__file__).parents[2].parent / "shared" / "data"
OUTPUT = RasterOutput.model_validate(
    {"values": "classes", "classes": [{"value": 1, "name": "water"}], "nodata": 0}
)
ONE = [0.0] * 19
CONTROL = [
    GroundControlPoint(row, col, 18 + col / 1e4, -34 - row / 1e4 + col**2 / 1e9, 120 + row / 8)
    for row in (0, 33.5, 60)
    for col in (0, 40, 80)
]
PLACES: dict[str, dict[str, Any]] = {
    "affine": {"crs": "EPSG:32618", "transform": rasterio.Affine(0.4, 0.3, 5e5, 0.3, -0.4, 4e6)},
    "control points": {"crs": "EPSG:4326", "gcps": CONTROL},
    "RPC": {
        "rpcs": RPC(
            height_off=10, height_scale=500, lat_off=-34, lat_scale=0.1, line_off=30,
            line_scale=30, long_off=18, long_scale=0.1, samp_off=40, samp_scale=40,
            line_num_coeff=[0, 0, -1, *ONE[:17]], line_den_coeff=[1, *ONE],
            samp_num_coeff=[0, 1, *ONE[:18]], samp_den_coeff=[1, *ONE],
            err_bias=None, err_rand=None,
        )
    },
    "none": {},
}  # fmt: skip


def quietly_open(path: Path, *args: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path, *args, **options)


def published(image: Image, folder: Path) -> bytes:
    """The file of an image's class map, every pixel of class 1."""
    grid = Grid(image.width, image.height, min(256, image.width, image.height), 0)
    pixels = np.ones((1, grid.tile_height, grid.tile_width), np.uint8)
    painter = Painter(grid, OUTPUT, None, lambda _: pixels)
    raster = put_together(painter, [], str(folder / "blocks"))
    return b"".join(raster_files(image, raster, provenance())["raster"]())


@pytest.mark.parametrize("place", PLACES)
def test_the_georeference_is_the_images_own(tmp_path: Path, place: str) -> None:
    path = tmp_path / "image.tif"
    profile = {"driver": "GTiff", "width": 80, "height": 60, "count": 1, "dtype": "uint8"}
    with quietly_open(path, "w", **profile, **PLACES[place]) as sink:
        sink.write(np.ones((1, 60, 80), np.uint8))
    check(path, open_image(str(path), roots=[tmp_path]), tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason=f"no real images in {DATA}")
@pytest.mark.parametrize("name", ["cog_gcps_s1.tif", "2_planes.tiff"])
def test_the_georeference_of_a_real_image_is_kept(tmp_path: Path, name: str) -> None:
    check(DATA / name, open_image(str(DATA / name), roots=[DATA]), tmp_path)


def control(dataset: Any) -> list[tuple[float, ...]]:
    """The control points with their heights."""
    return [(each.col, each.row, each.x, each.y, each.z) for each in dataset.gcps[0]]


def check(path: Path, image: Image, folder: Path) -> None:
    with MemoryFile(published(image, folder)) as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open() as found, rasterio.open(path) as expected:
            assert found.shape == expected.shape
            assert (found.crs, found.transform) == (expected.crs, expected.transform)
            np.testing.assert_allclose(control(found), control(expected), rtol=1e-12)
            assert found.gcps[1] == expected.gcps[1]
            assert (found.rpcs is None) == (expected.rpcs is None)
            if expected.rpcs is not None:
                ours, theirs = found.rpcs.to_dict(), expected.rpcs.to_dict()
                assert {name: ours[name] for name in theirs if theirs[name] is not None} == {
                    name: pytest.approx(value)
                    for name, value in theirs.items()
                    if value is not None
                }


@pytest.mark.skipif(not DATA.exists(), reason=f"no real images in {DATA}")
@pytest.mark.parametrize("name", ["wpafb_20091021_r3.ntf", "sicd_50x50.nitf"])
def test_a_place_that_a_geotiff_cannot_have_is_approximated(tmp_path: Path, name: str) -> None:
    image = open_image(str(DATA / name), roots=[DATA])
    assert image.georeference is not None
    with MemoryFile(published(image, tmp_path)) as memory, memory.open() as found:
        points, crs = found.gcps
        assert crs is not None or found.crs is not None
        corners = np.array([[0, 0], [image.width, 0], [0, image.height]], float)
        world = image.georeference.to_world(corners)
        if points:
            with GCPTransformer(points) as transformer:
                x, y = transformer.xy(corners[:, 1], corners[:, 0], offset="ul")
            placed = np.column_stack([x, y])
        else:
            placed = np.array([found.transform * tuple(corner) for corner in corners])
        np.testing.assert_allclose(placed, world, atol=1e-5)
