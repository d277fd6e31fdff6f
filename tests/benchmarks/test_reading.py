"""Reading every tile of an image, beside the raw decoding of its blocks and the naive way.

Ratios are to the raw decode: each block of the file once, in a plain loop with one handle. Above 1
is faster. The naive way reads each tile's window by itself, from GDAL with a small cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil

from deployments.demo.scene import generate
from tasks.imagery import Image, TilePixels, open_image, read_tiles
from tasks.imagery.environment import MEBIBYTE
from tasks.tiling import Grid

SIZE = 6144
TILE, OVERLAP = 512, 128
ROUNDS = 5

CODECS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate", "predictor": "YES"},
    "lzw": {"compress": "lzw", "predictor": "YES"},
    "zstd": {"compress": "zstd", "predictor": "YES"},
    "jpeg": {"compress": "jpeg", "quality": 85},
}


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
    for region in grid.regions(SIZE):
        for tile in read_tiles(image, grid.tiles(region)):
            assert isinstance(tile, TilePixels)


def seconds(work: Callable[[], None]) -> tuple[float, float]:
    """CPU time of all threads, and wall time."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


@pytest.mark.parametrize("codec", CODECS)
def test_reading(scene: Path, codec: str) -> None:
    file = scene.with_name(f"{codec}.tif")
    options = {"nodata": "none"} if codec == "jpeg" else {}
    rasterio.shutil.copy(
        scene, file, driver="COG", interleave="PIXEL", overviews="NONE", **CODECS[codec], **options
    )
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
