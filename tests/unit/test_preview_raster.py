"""The preview of a raster: its classes or values over the image, and what the legend says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image as Picture

from tasks.errors import PublishError
from tasks.imagery import Image, open_image
from tasks.publish.preview import preview_of_files
from tasks.publish.preview.raster_layer import layer_of_file, layer_of_raster
from tasks.raster import BLOCK, Layer, Raster, layers_of
from tasks.raster.block_store import Blocks, Place
from tasks.raster.compression import compress
from tasks.raster.pyramid import blocks_of, build_overviews
from tasks.request import RasterOutput

WATER, FOREST = (0, 0, 255), (0, 158, 115)
CLASSES = RasterOutput.model_validate(
    {
        "values": "classes",
        "classes": [
            {"value": 1, "name": "road"},
            {"value": 3, "name": "water", "colour": "#0000ff"},
            {"value": 7, "name": "forest"},
        ],
    }
)
HEIGHTS = RasterOutput.model_validate({"values": "values", "bands": ["height"], "unit": "m"})


def write(path: Path, pixels: NDArray[Any], **profile: Any) -> None:
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", "GTiff", width, height, bands, dtype=pixels.dtype, crs="EPSG:32618",
        transform=rasterio.Affine(1, 0, 5e5, 0, -1, 4e6), **profile,
    ) as dataset:  # fmt: skip
        dataset.write(pixels)


@pytest.fixture
def grey(tmp_path: Path) -> Image:
    write(tmp_path / "grey.tif", np.full((3, 600, 1000), 100, np.uint8))
    return open_image(str(tmp_path / "grey.tif"), roots=[tmp_path])


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Water in the west, forest in the east, and no answer in the south."""
    pixels = np.full((1, 600, 1000), 3, np.uint8)
    pixels[0, :, 600:] = 7
    pixels[0, 500:] = 255
    path = tmp_path / "classes.tif"
    write(path, pixels, nodata=255)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {3: (*WATER, 255), 7: (*FOREST, 255), 255: (0, 0, 0, 0)})
        dataset.update_tags(1, CLASS_3="water", CLASS_7="forest")
    return path


def test_classes_lie_over_the_image_in_their_colours(grey: Image, classes: Path) -> None:
    picture = Picture.open(io.BytesIO(preview_of_files(grey, None, None, classes, size=1000)))
    pixels = np.array(picture.convert("RGB"))
    np.testing.assert_array_equal(pixels[200, 100], np.rint((np.array(WATER) + 100) / 2))
    np.testing.assert_array_equal(pixels[200, 900], np.rint((np.array(FOREST) + 100) / 2))
    np.testing.assert_array_equal(pixels[550, 100], (100, 100, 100))
    assert layer_of_file(classes, 500).legend == ((WATER, "water 60 %"), (FOREST, "forest 40 %"))


def test_failed_tiles_are_hatched_over_a_raster(grey: Image, classes: Path, tmp_path: Path) -> None:
    tile = {"x": 0, "y": 400, "width": 200, "height": 200, "state": "failed"}
    ledger = tmp_path / "ledger.parquet"
    pq.write_table(pa.Table.from_pylist([tile]), ledger)
    picture = Picture.open(io.BytesIO(preview_of_files(grey, None, ledger, classes, size=1000)))
    red = (np.array(picture.convert("RGB"))[:600] == (255, 32, 32)).all(axis=-1)
    assert red[401:599, 1:199].any()
    assert not red[:399].any()


def test_values_are_shown_in_a_ramp_between_their_percentiles(tmp_path: Path) -> None:
    heights = np.linspace(0, 100, 1000, dtype=np.float32)[np.newaxis, np.newaxis].repeat(50, axis=1)
    heights[0, :10] = np.nan
    write(tmp_path / "heights.tif", heights, nodata=float("nan"))
    with rasterio.open(tmp_path / "heights.tif", "r+") as dataset:
        dataset.descriptions, dataset.units = ["height"], ["m"]
    layer = layer_of_file(tmp_path / "heights.tif", 1000)
    assert [text for _, text in layer.legend] == ["height 2 m", "height 50 m", "height 98 m"]
    np.testing.assert_array_equal(layer.pixels[20, 0], (68, 1, 84))
    np.testing.assert_array_equal(layer.pixels[20, -1], (253, 231, 37))
    assert not layer.seen[:10].any()
    assert layer.seen[10:].all()


def test_a_raster_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"gone\.tif cannot be read for the preview"):
        layer_of_file(tmp_path / "gone.tif", 100)


def stored(folder: Path, layer: Layer, pixels: NDArray[Any], output: RasterOutput) -> Raster:
    """A raster of one layer in stored blocks, with overviews."""
    size = pixels.shape[2], pixels.shape[1]
    blocks = Blocks(*size)
    writer = blocks.writer(str(folder / "blocks"))
    for row in range(-(-size[1] // BLOCK)):
        for column in range(-(-size[0] // BLOCK)):
            part = pixels[:, row * BLOCK :, column * BLOCK :][:, :BLOCK, :BLOCK]
            writer.add(Place(layer.name, 0, row, column), compress(part, layer))
    writer.flush()
    statistics = build_overviews(layer, *size, blocks_of(layer, blocks), writer)
    writer.flush()
    return Raster(
        output,
        size,
        blocks,
        {layer.name: statistics},
        lambda layer, places: blocks_of(layer, blocks)(places),
    )


def test_a_raster_in_blocks_is_drawn_from_the_overview_that_suffices(tmp_path: Path) -> None:
    pixels = np.full((1, 1500, 2300), 3, np.uint8)
    pixels[0, :, 1150:] = 7
    pixels[0, 1400:] = 255
    (layer,) = layers_of(CLASSES)
    raster = stored(tmp_path, layer, pixels, CLASSES)
    assert raster.reduced(layer, 640).shape == (1, 750, 1150)
    drawn = layer_of_raster(raster, 640)
    assert (drawn.width, drawn.height) == (640, 417)
    assert drawn.legend == ((WATER, "water 50 %"), (FOREST, "forest 50 %"))
    np.testing.assert_array_equal(drawn.pixels[100, 100], WATER)
    np.testing.assert_array_equal(drawn.pixels[100, 500], FOREST)
    assert not drawn.seen[395:].any()
    assert layer_of_raster(raster, 4600).width == 4600


def test_classes_without_a_list_have_colours_and_their_numbers(tmp_path: Path) -> None:
    output = RasterOutput.model_validate({"values": "classes"})
    pixels = np.zeros((1, 600, 700), np.uint8)
    pixels[0, :, 525:] = 2
    (layer,) = layers_of(output)
    drawn = layer_of_raster(stored(tmp_path, layer, pixels, output), 350)
    assert [text for _, text in drawn.legend] == ["class 0 75 %", "class 2 25 %"]
    assert [colour for colour, _ in drawn.legend] == [(0, 114, 178), (0, 158, 115)]


def test_values_in_blocks_have_their_name_and_unit_in_the_legend(tmp_path: Path) -> None:
    pixels = np.full((1, 600, 700), 4.5, np.float32)
    (layer,) = layers_of(HEIGHTS)
    drawn = layer_of_raster(stored(tmp_path, layer, pixels, HEIGHTS), 350)
    assert [text for _, text in drawn.legend] == ["height 4.5 m"] * 3
