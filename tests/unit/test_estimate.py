"""The estimate of a plan equals what its run then finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.transform import from_origin

from tasks.grid.tiles import Grid
from tasks.imagery import AbsentTile, TilePixels
from tasks.imagery.reading.windows import reading_bytes
from tasks.planning.estimate import Estimate, estimate
from tasks.planning.plan import Plan, make_plan
from tasks.planning.throughput import Throughput
from tasks.request import Request
from tasks.settings import settings

SIZE = 640
LEFT_HALF = "POLYGON ((10 50, 10.32 50, 10.32 49.36, 10 49.36, 10 50))"

Make = Callable[..., Plan]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Plans an image whose lower half was never written, cut into 64 px tiles."""

    def plan(fields: dict[str, Any] | None = None, **profile: Any) -> Plan:
        file = tmp_path / "a.tif"
        pixels = np.random.default_rng(0).integers(1, 255, (3, SIZE, SIZE), dtype=np.uint8)
        pixels[:, SIZE // 2 :] = 0
        shape = {"width": SIZE, "height": SIZE, "count": 3, "dtype": "uint8"}
        with rasterio.open(
            file,
            "w",
            driver="GTiff",
            crs="EPSG:4326",
            transform=from_origin(10, 50, 0.001, 0.001),
            tiled=True,
            blockxsize=64,
            blockysize=64,
            interleave="pixel",
            **shape,
            **{"compress": "deflate", **profile},
        ) as dataset:
            dataset.write(pixels)
        whole = {
            "jobId": "job-1",
            "imageUrls": [str(file)],
            "outputs": [{"type": "File", "path": str(tmp_path)}],
            "imageProcessor": {"name": "centerpoint", "type": "BUILTIN"},
            "imageProcessorTileSize": 64,
            "imageProcessorTileOverlap": 0,
        }
        return make_plan(Request.model_validate(whole | (fields or {})), str(file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", f'["{tmp_path}"]')
        settings.cache_clear()
        yield plan
    settings.cache_clear()


def found_by(plan: Plan) -> dict[str, int]:
    """Tiles by state, as a run finds them."""
    counts = {"inferred": 0, "blank": 0, "outside": 0}
    for region in plan.regions_for(Throughput()):
        counts["outside"] += len(plan.split_by_roi(region)[1])
        for tile in plan.read(plan.tiles_in_roi(region)):
            blank = isinstance(tile, AbsentTile) or (isinstance(tile, TilePixels) and tile.blank)
            counts["blank" if blank else "inferred"] += 1
    return counts


def test_tiles_of_absent_blocks_are_counted_as_blank_and_not_read(make: Make) -> None:
    plan = make(sparse_ok=True)
    found = estimate(plan)
    assert found.tiles == {"inferred": 50, "blank": 50, "outside": 0} == found_by(plan)
    assert (found.blank_is, found.model_calls) == ("counted", 50)
    assert found.bytes_to_send == 50 * 3 * 64 * 64
    with rasterio.open(plan.image.path) as dataset:
        sizes = [
            int(dataset.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1) or 0)
            for y in range(10)
            for x in range(10)
        ]
    assert found.bytes_to_read == sum(sizes)


def test_tiles_outside_the_region_of_interest_are_not_read(make: Make) -> None:
    whole, half = estimate(make()), estimate(make({"regionOfInterest": LEFT_HALF}))
    assert half.tiles == {"inferred": 50, "blank": 0, "outside": 50}
    assert half.bytes_to_read < 0.6 * whole.bytes_to_read


def test_blocks_that_two_regions_read_count_twice(make: Make) -> None:
    plan = make({"imageProcessorTileSize": 96, "imageProcessorTileOverlap": 32})
    one, many = estimate(plan, SIZE), estimate(plan, 100)
    assert (one.regions, one.region_size) == (1, (SIZE, SIZE))
    assert many.regions > 3
    assert many.region_size[0] == SIZE
    assert many.bytes_to_read > one.bytes_to_read
    assert many.memory_bytes == one.memory_bytes


def test_regions_without_a_set_size_are_sized_by_throughput(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make()  # 100 tiles
    assert estimate(plan).regions == 1
    monkeypatch.setenv("SWATH_REGION_SECONDS", "5")
    settings.cache_clear()
    found = estimate(plan)
    assert (found.regions, found.tile_seconds) == (2, 0.1)
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/region-local")
    monkeypatch.setenv("SWATH_REGION_WORKERS", "4")
    settings.cache_clear()
    assert estimate(plan).regions == 4
    monkeypatch.setenv("SWATH_REGION_SIZE", "640")
    settings.cache_clear()
    found = estimate(plan)
    assert (found.regions, found.tile_seconds) == (1, None)


def test_an_overview_shows_the_blank_tiles_of_a_declared_nodata(make: Make) -> None:
    plan = make(nodata=0)
    assert estimate(plan).blank_is == "unknown"
    with rasterio.open(plan.image.path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8], Resampling.average)
    plan = make_plan(plan.request, plan.image.url)
    found = estimate(plan)
    assert found.blank_is == "estimated"
    seen = found_by(plan)
    assert seen["blank"] == 50
    assert found.tiles["blank"] in range(40, 51)  # dilated by a pixel, so never too many


def test_an_image_without_nodata_has_no_blank_tiles(make: Make) -> None:
    found = estimate(make())
    assert found.tiles == {"inferred": 100, "blank": 0, "outside": 0}
    assert found.blank_is == "counted"


def test_an_estimate_is_available_as_json(make: Make) -> None:
    found = estimate(make())
    assert Estimate.model_validate_json(found.model_dump_json()) == found
    assert found.georeference == "affine in EPSG:4326"


def test_a_raster_is_estimated_with_its_scratch_space_and_the_views_of_tiles(make: Make) -> None:
    classes = [{"value": number, "name": str(number)} for number in range(3)]
    raster = {"values": "logits", "classes": classes, "scores": "uint8", "augmentation": "flips"}
    found = estimate(make({"rasterOutput": raster}))
    features = estimate(make())
    assert features.raster is None
    assert found.raster is not None
    assert found.model_calls == 4 * features.model_calls
    assert found.bytes_to_send == 4 * features.bytes_to_send
    assert found.raster.files == ("raster", "scores")
    assert found.raster.bytes == 4 * (640**2 + 320**2)
    kept = 64 * 64 * 3 * 2 * features.model_calls
    assert found.raster.max_scratch_bytes == kept + found.raster.bytes
    assert found.raster.file_bytes < found.raster.bytes
    assert found.raster.scratch_bytes < found.raster.max_scratch_bytes


def test_regions_of_a_raster_are_narrower_as_the_one_before_is_painted_meanwhile(
    make: Make,
) -> None:
    def memory(fields: dict[str, Any]) -> tuple[int, int]:
        plan = make({"imageProcessorTileSize": 512} | fields)
        wide = replace(
            plan, image=replace(plan.image, width=200_000), grid=Grid(200_000, SIZE, 512, 64)
        )
        width = max(region.width for region in wide.regions(SIZE))
        return width, reading_bytes(wide.image, 512, width) + wide.painting_bytes

    classes = [{"value": number, "name": str(number)} for number in range(3)]
    (features, one), (raster, other) = (
        memory(fields)
        for fields in ({}, {"rasterOutput": {"values": "classes", "classes": classes}})
    )
    assert raster < features
    assert max(one, other) <= 528 << 20
