"""Reading every tile of an image, compared with decoding its blocks and with window reads.

Ratios are relative to decoding each block of the file once, in a plain loop with one dataset; above
1 is faster. The window reads take each tile by itself from GDAL, with a small cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

from deployments.demo.harbour.scene import NODATA, generate
from tasks.grid.tiles import Grid
from tasks.imagery import Image, TilePixels, open_image, read_tiles
from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.reading.blocks import block_sizes
from tests.benchmarks.repeated_blocks import CODECS, repeat_blocks
from tests.range_server import RangeServer

SIZE = 6144  # of the scene
REGION = 2 * SIZE  # of the image whose reading is timed
TILE, OVERLAP = 512, 128
ROUNDS = 5


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reading")
    generate(folder / "scene.tif", size=SIZE)
    return folder / "scene.tif"


def raw_blocks(image: Image) -> None:
    with rasterio.open(image.path) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)


def naive(image: Image, grid: Grid) -> None:
    with rasterio.Env(GDAL_CACHEMAX=16 * MEBIBYTE), rasterio.open(image.path) as dataset:
        for row in range(len(grid.rows)):
            for column in range(len(grid.columns)):
                dataset.read(window=grid.tile(row, column).window)


def ours(image: Image, grid: Grid) -> None:
    for region in grid.regions(image.height):
        for tile in read_tiles(image, grid.tiles(region)):
            assert isinstance(tile, TilePixels)
            assert tile.blank in (True, False)


def far_naive(image: Image, grid: Grid) -> None:
    """Read windows of an object in S3 with GDAL and its well-known options."""
    server = {"AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
    known = {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_INGESTED_BYTES_AT_OPEN": MEBIBYTE,
        "GDAL_CACHEMAX": 16 * MEBIBYTE,
    }
    with (
        rasterio.Env(**server, **known),
        rasterio.open(image.path) as dataset,
    ):
        for row in range(len(grid.rows)):
            for column in range(len(grid.columns)):
                dataset.read(window=grid.tile(row, column).window)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """CPU time of all threads, and wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


@pytest.mark.parametrize("codec", CODECS)
def test_reading(scene: Path, codec: str) -> None:
    file = scene.with_name(f"{codec}.tif")
    repeat_blocks(scene, file, REGION, codec, nodata=None if codec == "jpeg" else NODATA)
    image = open_image(str(file), roots=[file.parent])
    grid = Grid(*image.size, TILE, OVERLAP)
    ways: dict[str, Callable[[], None]] = {
        "raw": lambda: raw_blocks(image),
        "naive": lambda: naive(image, grid),
        "swath": lambda: ours(image, grid),
    }
    times = np.array([[seconds(work) for work in ways.values()] for _ in range(ROUNDS)])
    cpu, wall = np.median(times, axis=0).T
    print(
        json.dumps(
            {
                "benchmark": "reading",
                "codec": codec,
                "tiles": len(grid),
                "cpu_ms_per_tile": round(1000 * cpu[2] / len(grid), 2),
                "cpu_ratio": round(median(times[:, 0, 0] / times[:, 2, 0]), 2),
                "cpu_ratio_naive": round(median(times[:, 0, 0] / times[:, 1, 0]), 2),
                "wall_ratio": round(median(times[:, 0, 1] / times[:, 2, 1]), 2),
                "wall_ratio_naive": round(median(times[:, 0, 1] / times[:, 1, 1]), 2),
            }
        )
    )
    assert cpu[2] < cpu[1]
    assert wall[2] < wall[1]


def test_fetching(scene: Path, s3: RangeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.objects["/bucket/scene.tif"] = scene.read_bytes()
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{s3.server_port}")
    image = open_image("s3://bucket/scene.tif")
    grid = Grid(*image.size, TILE, OVERLAP)
    with rasterio.open(scene) as dataset:
        window = Window(0, 0, image.width, image.height)
        needed = int(block_sizes(image, dataset, window).sum())
    figures: dict[str, float] = {}
    for name, way in {"": ours, "_naive": far_naive}.items():
        s3.ranges.clear()
        way(image, grid)
        figures |= {
            f"bytes_ratio{name}": round(s3.fetched / needed, 3),
            f"gets{name}": len(s3.ranges),
        }
    print(json.dumps({"benchmark": "fetching", "tiles": len(grid), "needed": needed} | figures))
    assert figures["bytes_ratio"] < figures["bytes_ratio_naive"]
    assert figures["gets"] < figures["gets_naive"]
