"""A generated scene with ships, its request, and readers of the published files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

from tasks.request import Request


def paint(path: Path, width: int = 900, height: int = 700, *, blank: bool = True) -> Path:
    """A dark scene with bright ships, some on seams, and a corner without data if `blank`."""
    random = np.random.default_rng(3)
    pixels = random.integers(20, 40, (3, height, width), dtype=np.uint8)
    for x, y in random.integers(60, (width - 30, height - 30), (25, 2)):
        pixels[:, y : y + 8, x : x + 20] = 230
    if blank:
        pixels[:, :300, :300] = 0
    profile = {"width": width, "height": height, "count": 3, "dtype": "uint8", "nodata": 0}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_400_000, 0.5, 0.5),
        **profile,
    ) as sink:
        sink.write(pixels)
    return path


def request(path: Path, out: Path, **fields: Any) -> Request:
    message = {
        "jobId": "job-1",
        "imageUrls": [str(path)],
        "outputs": [{"type": "File", "path": str(out)}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "imageProcessorTileSize": 256,
        "imageProcessorTileOverlap": 64,
    }
    return Request.parse(json.dumps(message | fields))


def features(out: Path, name: str) -> list[dict[str, Any]]:
    """The published features without their inference time."""
    found: list[dict[str, Any]] = json.loads((out / f"{name}.geojson").read_text())["features"]
    for feature in found:
        feature["properties"].pop("inferenceMetadata")
    return found


def ledger(out: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(out / "scene.tif.coverage.parquet")


def lines(out: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = pq.read_table(out / "scene.tif.coverage.parquet").to_pylist()
    return read


def corner(scene: Path) -> str:
    """A triangle of the scene as WKT: half of 300 × 200 pixels."""
    with rasterio.open(scene) as source:
        x, y = source.transform * np.array([(500, 600), (800, 600), (800, 400), (500, 600)]).T
        ring = zip(*rasterio.warp.transform(source.crs, "EPSG:4326", x, y), strict=True)
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in ring) + "))"
