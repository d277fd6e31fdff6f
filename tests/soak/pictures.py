"""The images of a soak, generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import rasterio.warp
from rasterio.transform import from_origin

from tests.soak.drawing import Condition, Job, Picture

_CRS = "EPSG:32633"
_PLACE = from_origin(500_000, 5_400_000, 0.5, 0.5)


def write(path: Path, job: Job, picture: Picture) -> None:
    """Write an image: bright ships on dark noise; half of the file if the job's is truncated."""
    random = np.random.default_rng(picture.seed)
    pixels = random.integers(20, 40, (3, picture.height, picture.width), dtype=np.uint8)
    for x, y in random.integers(20, (picture.width - 40, picture.height - 40), (40, 2)):
        pixels[:, y : y + 8, x : x + 20] = 230
    profile = {"width": picture.width, "height": picture.height, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", crs=_CRS, transform=_PLACE, **profile) as sink:
        sink.write(pixels)
    if job.condition is Condition.TRUNCATED:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)


def region_of_interest(picture: Picture) -> str:
    """A triangle of an image as WKT: half of its lower three quarters."""
    left, top = 0, picture.height // 4
    corners = [(left, top), (picture.width, top), (left, picture.height), (left, top)]
    x, y = _PLACE * np.array(corners).T
    ring = zip(*rasterio.warp.transform(_CRS, "EPSG:4326", x, y), strict=True)
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in ring) + "))"
