"""What decides that pixels hold no data is told, and nothing is found where there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rich.console import Console

from deployments.plan import plan
from deployments.run.options import TilingOptions
from tasks.errors import ImageError
from tasks.job import work_image
from tasks.reporting.page import summary_page
from tasks.reporting.summary import Summary
from tasks.settings import settings
from tests.job_scene import features, ledger, request

WIDTH, HEIGHT, WATER = 512, 256, 256
PLACE = {"crs": "EPSG:32618", "transform": from_origin(500_000, 4_000_000, 1, 1)}


def write(file: Path, pixels: NDArray[Any], **options: Any) -> Path:
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128}
    with rasterio.open(file, "w", driver="GTiff", **shape, **blocks, **options) as dataset:
        dataset.write(pixels)
    return file


def naip(file: Path) -> Path:
    """Red, green, blue and near infrared that is declared alpha: 0 on the water to the left."""
    random = np.random.default_rng(3)
    pixels = random.integers(20, 40, (4, HEIGHT, WIDTH), dtype=np.uint8)
    for x, y in [(40, 40), (90, 150), (180, 60)]:
        pixels[:3, y : y + 8, x : x + 20] = 230
    pixels[3, :, :WATER] = 0
    pixels[3, :, WATER:] = random.integers(60, 200, (HEIGHT, WIDTH - WATER))
    return write(file, pixels, photometric="rgb", alpha="yes", **PLACE)


def run(scene: Path, out: Path, **fields: Any) -> Summary:
    """The outcome of a request, with no answers kept from another one."""
    asked = request(scene, out, **{"imageProcessorTileOverlap": 0} | fields)
    with settings.override(work_uri=str(out.parent / uuid4().hex)):
        return work_image(asked, str(scene))


def test_near_infrared_that_is_declared_alpha_is_told_and_can_be_ignored(allowed: Path) -> None:
    scene = naip(allowed / "scene.tif")
    summary = run(scene, allowed / "masked")
    assert (summary.features, summary.no_data) == (0, "alpha: band 4")
    assert summary.blank == [("alpha: band 4", 1)]
    assert "1 blank (alpha: band 4)" in summary.message
    tiles = ledger(allowed / "masked")
    assert tiles["reason"][tiles["state"] == "blank"].tolist() == ["alpha: band 4"]
    (warning,) = summary.warnings
    assert "band 4 is declared alpha and has more than two values" in warning
    assert warning in summary.message
    page = summary_page(summary, None, "")
    assert "1 blank (alpha: band 4)" in page
    assert "more than two values" in page

    summary = run(scene, allowed / "ignored", imageAlpha="ignore")
    assert (summary.features, summary.no_data, summary.warnings) == (3, None, [])
    assert summary.tiles["blank"] == 0


def test_an_alpha_band_that_is_a_mask_gives_no_warning(allowed: Path) -> None:
    pixels = np.full((4, HEIGHT, WIDTH), 30, np.uint8)
    pixels[3] = 255
    pixels[:, :, :WATER] = 0
    scene = write(allowed / "scene.tif", pixels, photometric="rgb", alpha="yes", **PLACE)
    summary = run(scene, allowed / "out")
    assert (summary.blank, summary.warnings) == ([("alpha: band 4", 1)], [])


def test_features_wholly_without_data_are_dropped_and_counted(allowed: Path) -> None:
    pixels = np.full((1, HEIGHT, WIDTH), 30, np.int16)
    pixels[:, :, 60:200] = -9999  # around the centre of the first tile, none of the second's
    scene = write(allowed / "scene.tif", pixels, nodata=-9999, **PLACE)
    centres = {"name": "centerpoint", "type": "BUILTIN"}
    summary = run(scene, allowed / "out", imageProcessor=centres)
    assert (summary.features, summary.without_data) == (1, 1)
    assert "1 feature dropped where there is no data (nodata -9999)" in summary.message
    tiles = ledger(allowed / "out")
    assert tiles["without_data"].tolist() == [1, 0]
    assert tiles["detections"].tolist() == [0, 1]
    assert len(features(allowed / "out", "scene.tif")) == 1


def test_a_geotransform_without_a_crs_is_told(allowed: Path) -> None:
    pixels = np.full((1, HEIGHT, WIDTH), 30, np.uint8)
    scene = write(allowed / "scene.tif", pixels, transform=PLACE["transform"])
    summary = run(scene, allowed / "out")
    (warning,) = summary.warnings
    assert "geotransform without a CRS" in warning
    assert "gdal_edit.py -a_srs" in warning
    assert warning in summary.message
    (warning,) = run(write(allowed / "b.tif", pixels), allowed / "none").warnings or ("none",)
    assert warning == "none"


def test_an_image_with_a_mask_in_a_file_beside_it_is_refused(allowed: Path) -> None:
    scene = write(allowed / "scene.tif", np.full((1, HEIGHT, WIDTH), 30, np.uint8), **PLACE)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(scene, "r+") as dataset:
        dataset.write_mask(np.tile(np.arange(WIDTH) > WATER, (HEIGHT, 1)))
    assert scene.with_name("scene.tif.msk").exists()
    with pytest.raises(ImageError, match="has its mask in a file beside it"):
        run(scene, allowed / "out")
    assert run(scene, allowed / "out", imageNodata=0).tiles["blank"] == 0


def test_a_plan_tells_what_decides_that_pixels_hold_no_data(
    allowed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = str(naip(allowed / "scene.tif"))
    plan((scene,), TilingOptions(tile_size=256, overlap=0), Console())
    printed = capsys.readouterr().out
    assert "no data       alpha: band 4" in printed
    assert "give --alpha ignore" in printed
    options = TilingOptions(tile_size=256, overlap=0, alpha="ignore", nodata=7)
    plan((scene,), options, Console(), json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["no_data"], found["warnings"]) == ("nodata 7", [])
