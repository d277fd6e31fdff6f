"""Tiles, requests and answers of a model that answers with pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.answer import read_answer
from tasks.inference.raster_endpoint import RasterEndpoint
from tasks.raster.tile_maps import ONE, decode_map
from tasks.request import Request

SIDE = 32
LEFT, TOP = 500_000, 5_700_000

OpenRaster = Callable[..., RasterEndpoint]
"""Opens a model for a `rasterOutput`, and for further fields of the request."""


def write_image(file: Path) -> Image:
    """An image of 2048 × 2048 pixels of 1 m with three bands of 8 bits."""
    shape = {"width": 2048, "height": 2048, "count": 3, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": "EPSG:32631", "transform": from_origin(LEFT, TOP, 1, 1)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.ones((3, 8, 8), np.uint8), window=Window(0, 0, 8, 8))
    return open_image(str(file), roots=[file.parent])


def tile(height: int = SIDE, width: int = SIDE, *, masked: bool = False) -> TilePixels:
    """A random tile of it."""
    pixels = np.random.default_rng(height).integers(1, 255, (3, height, width), np.uint8)
    mask = np.arange(height * width).reshape(height, width) % 5 > 0 if masked else None
    return TilePixels(Tile(0, Window(40, 70, width, height)), pixels, mask)


def request_for(
    name: str, output: dict[str, Any], kind: str = "HTTP_ENDPOINT", **fields: Any
) -> Request:
    """A request for a model that answers with pixels."""
    whole = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorTileFormat": "NPY",
        "imageProcessorTileSize": SIDE,
        "imageProcessorTileOverlap": 0,
        "rasterOutput": output,
    }
    return Request.model_validate(whole | fields)


def answer(
    endpoint: RasterEndpoint, output: dict[str, Any], one: TilePixels | None = None
) -> NDArray[Any]:
    """The map of a tile; probabilities as 0 to 1."""
    one = one or tile()
    (raster,) = endpoint.ask([endpoint.prepare(one)])
    read = read_answer(raster, one.tile)
    asked = request_for("http://127.0.0.1", output).raster_output
    assert asked is not None
    assert read.map is not None
    found = decode_map(read.map, asked, one.shape[1:])
    return found / ONE if asked.has_probabilities else found
