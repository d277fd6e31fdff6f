"""The plan of an image: tiles, regions, and refusals before any tile is sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from tasks.errors import ImageChangedError, ImageError, RequestError
from tasks.grid.roi import RegionOfInterest
from tasks.imagery import TilePixels
from tasks.inference import BuiltinEndpoint, open_endpoint
from tasks.job.image import check_plan
from tasks.planning.plan import Plan, make_plan
from tasks.request import Request
from tasks.results import coverage, detections
from tasks.results.coverage import TileState
from tasks.results.coverage_proof import check_complete, measure
from tasks.results.tile_results import TileResults, gather, without_detections
from tasks.settings import settings
from tests.examples import examples
from tests.infer_tiles import infer_tiles

WIDTH, HEIGHT, PIXEL = 230, 170, 0.001
ROI = "MULTIPOLYGON (((10 49.99, 10.12 49.99, 10.03 49.86, 10 49.99)), \
((10.2 49.97, 10.22 49.97, 10.22 49.95, 10.2 49.95, 10.2 49.97)))"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that requests may name, with an image whose north-east is nodata."""
    folder = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(3).integers(1, 255, (3, HEIGHT, WIDTH), dtype=np.uint8)
    pixels[:, :70, 120:] = 0
    with rasterio.open(
        folder / "a.tif",
        "w",
        driver="GTiff",
        width=WIDTH,
        height=HEIGHT,
        count=3,
        dtype="uint8",
        nodata=0,
        crs="EPSG:4326",
        transform=from_origin(10, 50, PIXEL, PIXEL),
        tiled=True,
        blockxsize=64,
        blockysize=32,
    ) as dataset:
        dataset.write(pixels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", f'["{folder}"]')
        settings.cache_clear()
        yield folder
    settings.cache_clear()


def ask(folder: Path, **fields: Any) -> Request:
    whole = {
        "jobId": "job-1",
        "imageUrls": [str(folder / "a.tif")],
        "outputs": [{"type": "File", "path": str(folder / "out")}],
        "imageProcessor": {"name": "flood", "type": "BUILTIN"},
        "imageProcessorParameters": {"count": 5},
        "imageProcessorTileSize": 48,
        "imageProcessorTileOverlap": 10,
    }
    return Request.model_validate(whole | fields)


def plan_of(request: Request) -> Plan:
    return make_plan(request, request.image_urls[0])


def worked(plan: Plan, region_size: int, batch_size: int, backwards: bool) -> TileResults:
    """The results of the image for a region size and a batch size."""
    endpoint = BuiltinEndpoint("flood", {"count": 5})
    regions = plan.grid.regions(region_size)
    found = []
    for region in regions:
        tiles = plan.read(plan.tiles_in_roi(region))
        while batch := list(islice(tiles, batch_size)):
            found.append(infer_tiles(batch, endpoint))
        outside = plan.split_by_roi(region)[1]
        found.append(without_detections(outside, TileState.OUTSIDE))
    return gather(found[::-1] if backwards else found)


@pytest.mark.parametrize("roi", [None, ROI])
@pytest.mark.parametrize("region_size", [50, 110, 10_000])
def test_each_tile_of_a_region_is_outside_or_read(
    folder: Path, roi: str | None, region_size: int
) -> None:
    plan = plan_of(ask(folder, regionOfInterest=roi))
    for region in plan.grid.regions(region_size):
        inside, outside = plan.split_by_roi(region)
        read = [tile.tile.index for tile in plan.read(inside)]
        indices = [tile.index for tile in outside] + read
        assert sorted(indices) == [tile.index for tile in plan.grid.tiles(region)]
        if roi is None:
            assert len(outside) == 0


def test_tiles_are_read_with_their_pixels(folder: Path) -> None:
    plan = plan_of(ask(folder))
    with rasterio.open(folder / "a.tif") as dataset:
        for region in plan.grid.regions(110):
            for tile in plan.read(plan.tiles_in_roi(region)):
                assert isinstance(tile, TilePixels)
                expected = dataset.read(window=tile.tile.window)
                np.testing.assert_array_equal(tile.pixels, expected)


@pytest.mark.parametrize("roi", [None, ROI])
def test_the_ledger_adds_up_to_the_image(folder: Path, roi: str | None) -> None:
    plan = plan_of(ask(folder, regionOfInterest=roi))
    ledger = measure(worked(plan, 110, 16, False).ledger, plan.cells)
    check_complete(ledger, plan.cells)
    counts = coverage.count(ledger)
    assert counts["failed"] == 0
    assert counts["blank"] > 0
    assert counts["inferred"] > 0
    assert bool(counts["outside"]) == (roi is not None)
    touched = np.zeros((HEIGHT, WIDTH), bool)
    for line in ledger.to_pylist():
        rows = slice(line["y"], line["y"] + line["height"])
        touched[rows, line["x"] : line["x"] + line["width"]] = True
    assert touched.all()


@examples(0.2)
@given(st.integers(1, 400), st.integers(1, 60), st.sampled_from([None, ROI]), st.booleans())
def test_results_do_not_depend_on_regions_and_batches(
    folder: Path, region_size: int, batch_size: int, roi: str | None, backwards: bool
) -> None:
    plan = plan_of(ask(folder, regionOfInterest=roi))
    whole = worked(plan, 10_000, 1000, False)
    parts = worked(plan, region_size, batch_size, backwards)
    assert parts.detections.equals(whole.detections)
    assert parts.ledger.equals(whole.ledger)
    assert len(whole.detections) > 0


def test_a_plan_has_a_text_of_one_line(folder: Path) -> None:
    plan = plan_of(ask(folder))
    assert plan.text(4) == "230 × 170 pixels, 3 × uint8: 30 tiles of 48 × 48 in 4 regions"
    assert plan.text(1).endswith("in 1 region")


def test_a_plan_that_can_be_processed_passes(folder: Path) -> None:
    request = ask(folder)
    assert check_plan(request, request.image_urls[0]).grid == plan_of(request).grid


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"imageProcessor": {"name": "flod", "type": "BUILTIN"}}, "no built-in model 'flod'"),
        ({"imageProcessorParameters": {"cuont": 3}}, r"imageProcessorParameters\.cuont"),
        ({"outputs": [{"type": "File", "path": "/elsewhere"}]}, "/elsewhere"),
        (
            {"regionOfInterest": "POLYGON ((1 1, 2 1, 2 2, 1 1))"},
            "regionOfInterest: .* do not meet",
        ),
    ],
)
def test_a_plan_that_cannot_be_processed_is_refused(
    folder: Path, fields: dict[str, Any], told: str
) -> None:
    request = ask(folder, **fields)
    with pytest.raises(RequestError, match=told):
        check_plan(request, request.image_urls[0])


def test_tiles_that_do_not_fit_in_memory_are_refused(folder: Path) -> None:
    with rasterio.open(
        folder / "deep.tif",
        "w",
        driver="GTiff",
        width=9000,
        height=9000,
        count=8,
        dtype="float64",
        tiled=True,
        sparse_ok=True,
        crs="EPSG:4326",
        transform=from_origin(10, 50, PIXEL, PIXEL),
    ):
        pass
    request = ask(folder, imageUrls=[str(folder / "deep.tif")], imageProcessorTileSize=4096)
    with pytest.raises(RequestError, match=r"imageProcessorTileSize: .* takes 1074 MB"):
        plan_of(request)


def test_an_image_that_is_not_there_is_refused(folder: Path) -> None:
    request = ask(folder, imageUrls=[str(folder / "b.tif")])
    with pytest.raises(ImageError, match=r"b\.tif"):
        check_plan(request, request.image_urls[0])


def test_an_encoding_that_would_harm_the_pixels_is_refused(folder: Path) -> None:
    file = folder / "deep.tif"
    shape = {"width": 40, "height": 40, "count": 1, "dtype": "float32"}
    place = {"crs": "EPSG:4326", "transform": from_origin(10, 50, PIXEL, PIXEL)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.ones((1, 40, 40), np.float32))
    request = ask(
        folder,
        imageUrls=[str(file)],
        imageProcessor={"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"},
        imageProcessorTileFormat="PNG",
    )
    plan = make_plan(request, str(file))
    with pytest.raises(RequestError, match=r"imageProcessorTileFormat PNG .* float32"):
        open_endpoint(request, plan.image, 1.0)


def test_an_image_that_the_request_does_not_name_is_refused(folder: Path) -> None:
    with pytest.raises(RequestError, match=r"is none of the request.s imageUrls"):
        check_plan(ask(folder), "/elsewhere.tif")


def test_another_version_of_the_image_is_refused(folder: Path) -> None:
    request = ask(folder)
    (url,) = request.image_urls
    etag = make_plan(request, url).image.etag
    assert make_plan(request, url, etag).image.etag == etag
    with pytest.raises(ImageChangedError, match="send the request again"):
        make_plan(request, url, "an older one")


def test_detections_are_clipped_to_the_roi_by_their_centre(
    folder: Path,
) -> None:
    ring = shapely.box(0, 0, 20, 10) - shapely.box(5, 2, 9, 6)
    boxes: list[list[float]] = [
        [0, 0, 4, 4],
        [5, 2, 9, 6],
        [0, 4, 4, 18],
        [0, 0, 20, 20],
        [12, 8, 14, 12.5],
    ]
    corners = ("x_min", "y_min", "x_max", "y_max")
    rest = {"tile": 0, "score": 0.5, "class_name": "any", "properties": "{}"}
    found = pa.Table.from_pylist(
        [
            rest | {"ordinal": place, **dict(zip(corners, box, strict=True))}
            for place, box in enumerate(boxes)
        ],
        detections.SCHEMA,
    )
    plan = plan_of(ask(folder))
    assert plan.clip_to_roi(found).equals(found)
    asked = replace(plan, roi=RegionOfInterest(ring)).clip_to_roi(found)
    assert asked["ordinal"].to_pylist() == [0, 3]
    assert asked.schema == detections.SCHEMA
