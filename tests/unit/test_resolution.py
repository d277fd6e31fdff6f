"""Tiles at the metres a pixel of a model: what they hold, and where its answers lie."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

import swath
from tasks.imagery import TilePixels, encoder
from tasks.inference.resampled_map import resampled_map
from tasks.planning.plan import Plan, make_plan
from tasks.request import RasterOutput, Request
from tasks.settings import settings
from tests.onnx_models import write_json, yolox_nano

UTM = "EPSG:32631"
WIDTH, HEIGHT = 300, 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("images")
    with settings.override(local_roots=[path]):
        yield path


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint16]:
    return np.random.default_rng(1).integers(1, 60_000, (2, HEIGHT, WIDTH), np.uint16)


@pytest.fixture(scope="module")
def image(folder: Path, pixels: NDArray[np.uint16]) -> Path:
    return write(folder / "plain.tif", pixels)


def write(
    path: Path,
    pixels: NDArray[Any],
    *,
    overviews: Sequence[int] = (),
    crs: str | None = UTM,
    nodata: float | None = None,
) -> Path:
    """An image of pixels of 1 m."""
    count, height, width = pixels.shape
    shape = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
    place = {"crs": crs, "transform": from_origin(500_000, 5_700_000, 1, 1)} if crs else {}
    blocks = {"tiled": True, "blockxsize": 64, "blockysize": 64, "nodata": nodata}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **place, **blocks) as dataset:
            dataset.write(pixels)
            if overviews:
                dataset.build_overviews(list(overviews), Resampling.average)
    return path


def plan_of(image: Path, resolution: float, **fields: Any) -> Plan:
    message = {
        "jobId": "job",
        "imageUrls": [str(image)],
        "outputs": [{"type": "File", "path": str(image.parent / "out")}],
        "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
        "imageProcessorTileSize": 32,
        "imageProcessorTileOverlap": 8,
        "imageResolution": resolution,
    }
    return make_plan(Request.model_validate(message | fields), str(image))


def sent(plan: Plan, region_rows: int = 10_000) -> list[TilePixels]:
    """The tiles as they are sent, in the order of the grid."""
    found: list[TilePixels] = []
    for region in plan.regions(region_rows):
        for tile in plan.read(plan.tiles_in_roi(region)):
            assert isinstance(tile, TilePixels)
            found.append(plan.preparation(tile))
    return sorted(found, key=lambda tile: tile.tile.index)


def test_larger_pixels_are_the_mean_of_those_of_the_image(
    image: Path, pixels: NDArray[np.uint16]
) -> None:
    plan = plan_of(image, 2)
    assert (plan.grid.tile_size, plan.grid.overlap) == (64, 16)
    for tile in sent(plan):
        row, column = divmod(tile.tile.index, len(plan.grid.columns))
        x, y = plan.grid.columns[column], plan.grid.rows[row]
        part = pixels[:, y : y + 64, x : x + 64].reshape(2, 32, 2, 32, 2)
        assert np.abs(tile.pixels - part.mean(axis=(2, 4))).max() <= 0.5


def test_the_largest_overview_that_serves_is_read(folder: Path, pixels: NDArray[np.uint16]) -> None:
    image = write(folder / "overviews.tif", pixels, overviews=[2, 4])
    with rasterio.open(image, OVERVIEW_LEVEL=1) as dataset:
        reduced = dataset.read()
    plan = plan_of(image, 4)
    assert "from an overview of 75 × 50 pixels" in plan.text(1)
    first = sent(plan)[0]
    np.testing.assert_array_equal(first.pixels, reduced[:, :32, :32])
    assert "overview of 150 × 100 pixels" in plan_of(image, 3.9).text(1)
    assert "overview" not in plan_of(image, 1.5).text(1)


def test_overviews_without_the_mask_of_the_image_are_not_read(folder: Path) -> None:
    image = write(folder / "late.tif", np.full((2, HEIGHT, WIDTH), 50, np.uint8), overviews=[2, 4])
    empty = np.zeros((HEIGHT, WIDTH), np.bool_)
    empty[:, :100] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(image, "r+") as dataset:
        dataset.write_mask(~empty)
    plan = plan_of(image, 4)
    assert "overview" not in plan.text(1)
    assert sum(not tile.blank and tile.valid is None for tile in sent(plan)) == 2
    assert {tuple(np.unique(tile.pixels)) for tile in sent(plan)} == {(0, 50), (50,)}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(image, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    assert "overview" in plan_of(image, 4).text(1)


@limits(max_examples=12)
@given(
    resolution=st.floats(0.8, 5),
    rows=st.integers(20, 200),
    with_overviews=st.booleans(),
)
def test_tiles_do_not_depend_on_regions(
    folder: Path,
    pixels: NDArray[np.uint16],
    resolution: float,
    rows: int,
    with_overviews: bool,
) -> None:
    name = folder / f"regions{with_overviews}.tif"
    if not name.exists():
        write(name, pixels, overviews=[2, 4] if with_overviews else ())
    plan = plan_of(name, resolution)
    whole, parts = sent(plan), sent(plan, rows)
    assert len(whole) == len(parts) == len(plan.grid)
    for one, other in zip(whole, parts, strict=True):
        assert one.tile == other.tile
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_pixels_without_data_take_no_part(folder: Path) -> None:
    pixels = np.full((2, HEIGHT, WIDTH), 1000, np.int16)
    pixels[:, :, :41] = -9999
    plan = plan_of(write(folder / "collar.tif", pixels, nodata=-9999), 3.3, imageFill=7)
    tiles = sent(plan)
    assert {value for tile in tiles for value in np.unique(tile.pixels).tolist()} == {7, 1000}
    first = tiles[0].valid
    assert first is not None
    np.testing.assert_array_equal(first, tiles[0].pixels[0] == 1000)
    assert first.mean() == pytest.approx(1 - 41 / (32 * 3.3), abs=0.03)


@pytest.mark.parametrize("resolution", [0.5, 1, 2.7])
def test_answers_are_in_pixels_of_the_image(folder: Path, resolution: float) -> None:
    pixels = np.zeros((1, HEIGHT, WIDTH), np.uint8)
    truth = np.array([[20, 30, 60, 50], [150, 100, 190, 125]])
    for x_min, y_min, x_max, y_max in truth:
        pixels[:, y_min:y_max, x_min:x_max] = 255
    image = write(folder / f"boxes{resolution}.tif", pixels)
    shapes: set[tuple[int, ...]] = set()

    def model(tiles: NDArray[Any]) -> list[NDArray[Any]]:
        shapes.update(tile.shape for tile in tiles)
        return [_bright(tile[0]) for tile in tiles]

    options: dict[str, Any] = {"tile_size": 128, "overlap": 96, "progress": False}
    result = swath.run(image, model=model, resolution=resolution, merge="NMM", iou=0.3, **options)
    names = ["image_x_min", "image_y_min", "image_x_max", "image_y_max"]
    found = result.features[names].to_numpy()
    found = found[np.argsort(found[:, 0])]
    np.testing.assert_allclose(found, truth, atol=max(resolution, 1))
    assert all(max(shape) <= 128 for shape in shapes)


def _bright(band: NDArray[Any]) -> NDArray[Any]:
    """The boxes of bright objects that lie wholly in a tile."""
    from scipy import ndimage

    labels, _ = ndimage.label(band > 127)
    boxes = [
        [columns.start, rows.start, columns.stop, rows.stop]
        for rows, columns in ndimage.find_objects(labels)
    ]
    return np.array(boxes, np.float64).reshape(-1, 4)


def test_the_plan_and_the_tiles_say_where_they_are(image: Path) -> None:
    plan = plan_of(image, 2)
    assert plan.sent_bytes == 32 * 32 * 2 * 2  # two bands of uint16
    assert "2 m a pixel (the image has 1 m): 64 × 64 of its pixels are sent as 32 × 32" in (
        plan.text(1)
    )
    own, of_tiles = plan.image.georeference, plan.preparation.image.georeference
    assert own is not None
    assert of_tiles is not None
    np.testing.assert_allclose(
        of_tiles.to_world(np.array([[10.0, 20.0]])), own.to_world(np.array([[20.0, 40.0]]))
    )


@pytest.mark.parametrize("kind", ["percentile", "z-score"])
def test_the_plan_of_a_region_is_that_of_its_image(image: Path, kind: str) -> None:
    plan = plan_of(image, 2, imageScaling={"type": kind}, imageBands=[2])
    message = plan.request.model_dump(mode="json")
    again = make_plan(Request.model_validate(message), str(image))
    assert (again.prepared, again.identity) == (plan.prepared, plan.identity)
    for one, other in zip(sent(plan), sent(again), strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("compression", ["NONE", "LZW"])
def test_a_geotiff_tile_has_the_larger_pixels(image: Path, compression: str) -> None:
    plan = plan_of(image, 2)
    tile = sent(plan)[-1]
    body = encoder(plan.preparation.image, "GTIFF", compression)(tile)
    with MemoryFile(body) as memory, memory.open() as dataset:
        np.testing.assert_array_equal(dataset.read(), tile.pixels)
        left, top = 500_000 + WIDTH - 64, 5_700_000 - HEIGHT + 64
        assert dataset.transform.almost_equals(from_origin(left, top, 2, 2))
        assert dataset.crs.to_epsg() == 32631


def test_a_nitf_tile_lies_where_the_image_does(image: Path) -> None:
    plan = plan_of(image, 2)
    tile = sent(plan)[-1]
    body = encoder(plan.preparation.image, "NITF", "NONE")(tile)
    with MemoryFile(body) as memory, memory.open(driver="NITF") as dataset:
        np.testing.assert_array_equal(dataset.read(), tile.pixels)
        corner = dataset.transform @ (0, 0)
    assert plan.image.georeference is not None
    (own,) = plan.image.georeference.to_world(np.array([[WIDTH - 64.0, HEIGHT - 64.0]]))
    np.testing.assert_allclose(corner, own, atol=1e-3)


@pytest.mark.parametrize("name", ["raster:spatial_resolution", "gsd"])
def test_a_description_that_names_another_resolution_warns(
    folder: Path, image: Path, name: str
) -> None:
    model = folder / "model.onnx"
    model.write_bytes(b"not opened by a plan")
    write_json(folder / "model.json", yolox_nano() | {name: 0.3})
    warning = (
        "the model's description names 0.3 m a pixel, and tiles have 1 m: give imageResolution 0.3"
    )
    assert swath.plan(image, model=model).warnings == [warning]
    assert swath.plan(image, model=model, resolution=0.3).warnings == []
    write_json(folder / "model.json", yolox_nano() | {name: 1.2})
    assert swath.plan(image, model=model).warnings == []


@pytest.mark.parametrize("resolution", [0.01, 200])
def test_a_resolution_far_from_that_of_the_image_is_refused(image: Path, resolution: float) -> None:
    reason = f"imageResolution: {resolution:g} m a pixel is .* give metres from 0.0156 to 64"
    with pytest.raises(swath.SwathError, match=reason):
        plan_of(image, resolution)


SCENE = 120 + 50 * (np.sin(np.arange(HEIGHT) / 40)[:, None] + np.cos(np.arange(WIDTH) / 30))


@pytest.fixture(scope="module")
def slopes(folder: Path) -> Path:
    return write(folder / "slopes.tif", SCENE[np.newaxis].astype(np.float32))


def raster_of(image: Path, **options: Any) -> NDArray[Any]:
    """What a model that answers with pixels makes of an image, in one band."""
    result = swath.run(image, tile_size=64, overlap=16, progress=False, **options)
    with rasterio.open(image) as own, rasterio.open(result.raster) as dataset:
        assert (dataset.shape, dataset.transform) == (own.shape, own.transform)
        found: NDArray[Any] = dataset.read(1)
    return found


@pytest.mark.parametrize(("resolution", "error"), [(0.5, 0.5), (2, 1.5), (3.3, 3)])
def test_a_raster_is_in_pixels_of_the_image(slopes: Path, resolution: float, error: float) -> None:
    def same(tiles: NDArray[Any]) -> NDArray[Any]:
        return tiles

    options: dict[str, Any] = {"raster": "values", "resolution": resolution}
    found = raster_of(slopes, model=same, **options)
    np.testing.assert_allclose(found, SCENE, atol=error)
    again = raster_of(slopes, model=same, region_size=64, **options)
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("augment", ["none", "turns"])
def test_classes_are_in_pixels_of_the_image(slopes: Path, augment: Any) -> None:
    def two(tiles: NDArray[Any]) -> NDArray[Any]:
        share = np.clip((tiles - 120) / 100 + 0.5, 0, 1)
        return np.concatenate([1 - share, share], axis=1)

    options: dict[str, Any] = {"class_names": ["low", "high"], "resolution": 2}
    found = raster_of(slopes, model=two, raster="probabilities", augment=augment, **options)
    assert (found == (SCENE > 120)).mean() > 0.999
    whole = raster_of(
        slopes, model=lambda tiles: (tiles > 120).astype(np.uint8), raster="classes", **options
    )
    assert (whole == (SCENE > 120)).mean() > 0.99


def test_pixels_without_an_answer_take_no_part_in_a_larger_map() -> None:
    output = RasterOutput.model_validate({"values": "values"})
    values = np.full((1, 8, 8), 5, np.float32)
    values[:, :, :3] = np.nan
    larger = resampled_map(values, output, (20, 16))
    assert larger.shape == (1, 16, 20)
    assert set(np.unique(larger[np.isfinite(larger)])) == {5}
    np.testing.assert_array_equal(np.isnan(larger[0]).sum(axis=1), 7)  # of 20: centres below 3
    assert np.isnan(resampled_map(values[:, :, :3], output, (6, 16))).all()


def test_an_image_without_a_georeference_has_no_resolution(
    folder: Path, pixels: NDArray[np.uint16]
) -> None:
    image = write(folder / "nowhere.tif", pixels, crs=None)
    with pytest.raises(swath.SwathError, match="has no georeference, so the size of its pixels"):
        plan_of(image, 2)
