"""The raster of a model's answers, from logits to the file, beside a plain blend in NumPy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from scipy.ndimage import gaussian_filter

from tasks.grid.tiles import Grid, Tile
from tasks.inference.answer.raster import ViewAnswer, map_of
from tasks.inference.endpoint import Pixels
from tasks.raster import BLOCK, Painter, predictor, put_together
from tasks.raster.tile_maps import TileMap, decode_map, encode_map
from tasks.request import RasterOutput

SIDE, TILE, OVERLAP, ROUNDS = 2048, 256, 51, 3
GRID = Grid(SIDE, SIDE, TILE, OVERLAP)
OUTPUT = RasterOutput.model_validate(
    {"values": "logits", "classes": [{"value": at, "name": f"class {at}"} for at in range(3)]}
)


def answers() -> list[NDArray[np.float32]]:
    """(3, TILE, TILE) smooth logits of a few tiles, which all tiles take in turn."""
    random = np.random.default_rng(3)
    noise = random.normal(0, 80, (5, 3, TILE, TILE))
    return [gaussian_filter(each, (0, 8, 8)).astype(np.float32) for each in noise]


def blended(logits: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    """The class map in plain NumPy, all of it in memory and in no file."""
    sums, total = np.zeros((3, SIDE, SIDE)), np.zeros((SIDE, SIDE))
    sine = np.sin(np.pi * (np.arange(TILE) + 0.5) / TILE) ** 2
    weights = np.outer(sine, sine)
    for tile in tiles():
        raw = np.exp(logits[tile.index % len(logits)].astype(np.float64))
        where = tile.window.toslices()
        sums[:, *where] += weights * raw / raw.sum(axis=0)
        total[where] += weights
    classes: NDArray[np.uint8] = (sums / total).argmax(axis=0).astype(np.uint8)
    return classes


def tiles() -> list[Tile]:
    return [
        GRID.tile(row, column)
        for row in range(len(GRID.rows))
        for column in range(len(GRID.columns))
    ]


def whole(logits: list[NDArray[np.float32]], folder: Path) -> bytes:
    """The file of the class map, with overviews, of answers that are kept in between."""
    shape = TILE, TILE
    views = [ViewAnswer(Pixels(each), shape, lambda bands: bands) for each in logits]
    kept = {
        tile.index: encode_map(map_of(views[tile.index % len(views)], OUTPUT)) for tile in tiles()
    }
    read: dict[int, TileMap] = {}

    def read_map(tile: Tile) -> TileMap:
        if tile.index not in read:
            read[tile.index] = decode_map(kept[tile.index], OUTPUT, shape)
        return read[tile.index]

    raster = put_together(Painter(GRID, OUTPUT, None, read_map), [], str(folder / "blocks"))
    (layer,) = raster.layers
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", count=1, width=SIDE, height=SIDE, dtype="uint8", tiled=True,
            blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", predictor=predictor(layer),
            bigtiff="yes", sparse_ok=True, crs="EPSG:32631",
            transform=rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000),
        ):  # fmt: skip
            pass
        return b"".join(raster.cog(layer, bytes(memory.read())))


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU milliseconds a tile, of all threads."""
    before = time.process_time()
    work()
    return 1000 * (time.process_time() - before) / len(GRID)


def test_cpu_per_tile(tmp_path: Path) -> None:
    logits = answers()
    with MemoryFile(whole(logits, tmp_path)) as memory, memory.open() as found:
        differing = (found.read(1) != blended(logits)).mean()
    assert differing < 1e-4
    ours, plain = [], []
    for _ in range(ROUNDS):
        ours.append(cpu_ms(lambda: whole(logits, tmp_path)))
        plain.append(cpu_ms(lambda: blended(logits)))
    line = {
        "tiles": len(GRID),
        "swath_ms_per_tile": round(min(ours), 2),
        "numpy_ms_per_tile": round(min(plain), 2),
        "ratio": round(min(ours) / min(plain), 2),
    }
    print(f"\n{json.dumps({'benchmark': 'class map of 3 classes, 256 px tiles'} | line)}")
