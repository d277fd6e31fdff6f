"""docs/rasters.md: its fields are those of the message, and its model runs as it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio

import swath
from deployments.run.raster import RasterOptions
from tasks.request import RasterOutput
from tasks.request.raster_output import Blend, Polygons
from tests.pages import ROOT, blocks, json_objects, read, rows

PAGE = read("rasters")
SHARED = ROOT.parent / "shared"
MODEL, SCENE = SHARED / "models" / "cloudmask_4b_l1c.onnx", SHARED / "data" / "sentinel2_6band.tif"


def test_every_field_of_a_raster_is_listed_with_its_option() -> None:
    table = rows(PAGE, "field |")
    listed = [name for cells in table for name in re.findall(r"`(\w+)`", cells[0])]
    assert set(listed) == {field.alias for field in RasterOutput.model_fields.values()}
    table += rows(PAGE, "field of `polygons`")
    named = {option for cells in table for option in re.findall(r"`(--[\w-]+)`", "".join(cells))}
    options = {f"--{name.replace('_', '-')}" for name in RasterOptions.__dataclass_fields__}
    assert named == options | {"--classes"}


def test_every_field_of_outlines_is_listed() -> None:
    listed = {cells[0].strip("`") for cells in rows(PAGE, "field of `polygons`")}
    assert listed == {field.alias for field in Polygons.model_fields.values()}


def test_every_way_to_blend_is_listed() -> None:
    assert {cells[0].strip("`") for cells in rows(PAGE, "way")} == {*Blend}


def test_the_request_on_the_page_is_valid() -> None:
    (given,) = (each["rasterOutput"] for each in json_objects(PAGE) if "rasterOutput" in each)
    output = RasterOutput.model_validate(given)
    assert output.model_dump(mode="json", exclude_defaults=True).keys() == given.keys()


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "seam.jpg").stat().st_size < 150_000


@pytest.mark.skipif(not MODEL.exists(), reason=f"{SHARED} is not there")
def test_the_model_on_the_page_runs_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clouds.onnx").symlink_to(MODEL)
    (tmp_path / "clouds.json").write_text(blocks(PAGE, "json")[0])
    (tmp_path / "sentinel2.tif").symlink_to(SCENE)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(PAGE, "python"):
        exec(block, names)
    result = names["result"]
    assert isinstance(result, swath.Result)
    said = re.search(r"SUCCESS: (.*?); …", PAGE)
    assert said is not None
    assert result.summary.message.startswith(said[1])
    assert result.preview(200).startswith(b"\x89PNG")
    assert repr(result).startswith("<swath.Result SUCCESS: raster of 512")
    with pytest.raises(swath.SwathError, match="polygons=True"):
        _ = result.features
    classes, cloud = names["classes"], names["cloud"]
    assert names["names"] == {0: "clear", 1: "cloud", 2: "shadow"}
    assert isinstance(classes, np.ma.MaskedArray)
    assert isinstance(cloud, np.ma.MaskedArray)
    assert 0.99 < cloud.max() <= 1
    assert (cloud[classes == 1] > 0.33).all()
    with rasterio.open(SHARED / "data" / "sentinel2_truth.tif") as dataset:
        truth = np.select([dataset.read(1) == 4, dataset.read(1) == 0], [1, 2], 0)
    assert (classes == truth).mean() > 0.92
    assert json.loads(blocks(PAGE, "json")[0])["mlm:tasks"] == ["semantic-segmentation"]
