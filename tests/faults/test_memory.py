"""A region's run stays under 1 GiB, however wide the image and however it is stored.

Nor does what publishing takes grow with what was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from tasks.findings import Findings
from tests.null_model import null_model

GIBIBYTE = 1 << 30
PLACE = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}

LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled": {
        "width": 120_000,
        "height": 1700,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
    },
    "tall blocks": {
        "width": 60_000,
        "height": 4096,
        "tiled": True,
        "blockxsize": 4096,
        "blockysize": 4096,
    },
    "strips": {"width": 120_000, "height": 1700, "blockysize": 16},
    "bands apart": {
        "width": 40_000,
        "height": 1700,
        "count": 8,
        "interleave": "band",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    },
}


def write(file: Path, layout: dict[str, Any]) -> None:
    shape = {"count": 3, "dtype": "uint8", "interleave": "pixel", "nodata": 0, **layout}
    with rasterio.open(
        file, "w", driver="GTiff", compress="lzw", **shape, **PLACE, BIGTIFF="YES"
    ) as dataset:
        for row in range(0, shape["height"], 512):
            rows = min(512, shape["height"] - row)
            pixels = np.full((shape["count"], rows, shape["width"]), 7, np.uint8)
            dataset.write(pixels, window=Window(0, row, shape["width"], rows))


def peak_of_a_region(file: Path, most_tiles: int, url: str) -> tuple[int, int]:
    """Peak memory of this process once tiles of a region were read, and how many were."""
    import os

    os.environ["SWATH_LOCAL_ROOTS"] = f'["{file.parent}"]'
    import flows.region  # noqa: F401 - what a region's run has loaded
    from tasks import coverage
    from tasks.inference import open_endpoint
    from tasks.inference.batch import Batch, infer, most_calls
    from tasks.inference.calls import Calls
    from tasks.inference.limiter import Limiter
    from tasks.plan import make_plan
    from tasks.request import Request

    request = Request.model_validate(
        {
            "jobId": "memory",
            "imageUrls": [str(file)],
            "outputs": [{"type": "File", "path": str(file.parent)}],
            "imageProcessor": {"name": url, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileFormat": "GTIFF",
            "imageProcessorTileSize": 512,
            "imageProcessorTileOverlap": 128,
        }
    )
    plan = make_plan(request, str(file))
    region = plan.regions(4096)[0]
    most = most_calls(plan.tile_bytes)
    endpoint = open_endpoint(request, plan.image, 60)
    calls = Calls(endpoint, Limiter(most), tiles=most_tiles, most=most, attempts=1, patience=9)
    batch, tiles = Batch(), plan.read(plan.wanted(region))
    with closing(batch):
        batch.fill(islice(tiles, most_tiles), calls)
    asked = coverage.count(infer(batch).ledger)["inferred"]
    calls.close()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]), asked


def measured(file: Path, most_tiles: int = 10**6) -> tuple[int, int]:
    slow = null_model(0.25)  # so that as many calls as may be are in flight
    with slow as url, ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(peak_of_a_region, file, most_tiles, url).result()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_takes_less_than_a_gibibyte(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "wide.tif", LAYOUTS[layout])
    peak, tiles = measured(tmp_path / "wide.tif")
    print(layout, peak / 2**20)
    assert tiles > 0
    assert peak < GIBIBYTE


def test_a_file_of_strips_of_40_gb_is_read_in_place(tmp_path: Path) -> None:
    side = 115_500
    shape = {"width": side, "height": side, "count": 3, "dtype": "uint8", "interleave": "pixel"}
    with rasterio.open(
        tmp_path / "strips.tif", "w", driver="GTiff", **shape, **PLACE, BIGTIFF="YES"
    ):
        pass  # uncompressed and never written: as long as it says, without taking room on the disk
    assert (tmp_path / "strips.tif").stat().st_size > 40e9
    peak, tiles = measured(tmp_path / "strips.tif", 1000)
    print("40G", peak / 2**20)
    assert tiles >= 1000
    assert peak < GIBIBYTE


def peak_of_many_detections(folder: Path, side: int, per_tile: int) -> tuple[int, int]:
    """Peak memory of this process once a region's detections were stored, and how many."""
    import flows.region  # noqa: F401 - what a region's run has loaded
    from tasks import coverage
    from tasks.findings import gather, save
    from tasks.imagery import TilePixels
    from tasks.inference import BuiltinEndpoint
    from tasks.inference.batch import Batch, infer
    from tasks.inference.calls import Calls
    from tasks.inference.limiter import Limiter
    from tasks.merge import settle
    from tasks.request import Algorithm
    from tasks.tiling import Grid

    grid = Grid(side * 64, side * 64, 64, 0)
    (region,) = grid.regions(side * 64)
    tiles = len(region)
    pixels = np.full((1, 64, 64), 9, np.uint8)
    read = (TilePixels(tile, pixels, None) for tile in grid.tiles(region))
    flood = BuiltinEndpoint("flood", {"count": per_tile})
    calls = Calls(flood, Limiter(8), tiles=tiles, most=8, attempts=1, patience=9)

    def batches() -> Iterator[Findings]:
        for _ in range(32):
            batch = Batch()
            with closing(batch):
                batch.fill(islice(read, -(-tiles // 32)), calls)
            yield infer(batch)

    found = gather(batches())
    calls.close()
    algorithm = Algorithm.model_validate({"algorithmType": "NMS"})
    settled = settle(found.detections, algorithm, grid, coverage.inferred(found.ledger, grid))
    save(settled, found.ledger, str(folder), region)
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]), len(found.detections)


def test_a_million_detections_in_a_region_take_less_than_a_gibibyte(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, found = process.submit(peak_of_many_detections, tmp_path, 20, 2500).result()
    print("million", peak / 2**20)
    assert found == 1_000_000
    assert peak < GIBIBYTE


def peak_of_publishing(folder: Path, tables: int, rows: int) -> tuple[int, int]:
    """How far this process's peak memory rose in publishing, and how many features it was."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    from tasks import coverage
    from tasks.coverage import TileRecord, TileState
    from tasks.detections import SCHEMA
    from tasks.imagery.georeference.affine import AffineGeoreference
    from tasks.publish import Provenance, Results, publish
    from tasks.request.outputs import FileOutput
    from tasks.tiling import Grid

    def bands() -> Iterator[pa.Table]:
        random = np.random.default_rng(0)
        for tile in range(tables):
            (x, y), scores = random.uniform(0, 9e4, (2, rows)), random.random(rows)
            outlines = shapely.buffer(shapely.points(x, y), 20, quad_segs=4)
            columns = {
                "tile": np.full(rows, tile),
                "ordinal": pa.array(np.arange(rows), pa.int32()),
                "x_min": x,
                "y_min": y,
                "x_max": x + 20,
                "y_max": y + 20,
                "score": scores,
                "class_name": ["ship"] * rows,
                "geometry": shapely.to_wkb(outlines),
                "properties": [f'{{"heading":{360 * score}}}' for score in scores.tolist()],
            }
            del outlines
            yield pa.table(columns, schema=SCHEMA)

    def high_water() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])

    grid = Grid(100_000, 100_000, 100_000, 0)
    record = TileRecord(grid.tile(0, 0), TileState.INFERRED)
    ledger = coverage.measure(coverage.ledger([record]), grid, None)
    place = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (100_000,) * 2)
    results = Results(bands, Provenance("memory", "x.tif", "2026-11-22T10:17:48Z"), ledger, place)
    start = high_water()
    publish([FileOutput(type="File", path=str(folder))], results, "x", [folder])
    return high_water() - start, pq.read_metadata(folder / "x.parquet").num_rows


def test_publishing_400_000_features_takes_less_than_300_mib(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        rise, features = process.submit(peak_of_publishing, tmp_path, 20, 20_000).result()
    print("publishing", rise / 2**20)
    assert features == 400_000
    assert rise < 300 << 20
