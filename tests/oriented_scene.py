"""A scene with an object at an angle, and what a model for oriented boxes is published to find."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
import shapely.affinity
from rasterio.transform import from_origin

from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tests.job_scene import features

SCALE = 0.5  # metres per pixel
SIDE = 184  # pixels of the scene
TRUTH = [  # centre x and y, length, width in pixels, degrees clockwise from up
    (92, 40, 22, 8, 30),
    (92, 92, 24, 6, 135),
    (20, 150, 18, 9, 100),
]
Object = tuple[float, float, float, float, float]


def outline_of(truth: Object) -> shapely.Polygon:
    x, y, length, width, angle = truth
    upright = shapely.box(x - width / 2, y - length / 2, x + width / 2, y + length / 2)
    return shapely.affinity.rotate(upright, angle)


def scene(folder: Path, truth: Object) -> Path:
    """An image with a bright rectangle."""
    shapes = [(outline_of(truth), 230)]
    pixels = rasterio.features.rasterize(shapes, (SIDE, SIDE), fill=0, dtype="uint8") + 1
    place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 54e5, SCALE, SCALE)}
    path = folder / "scene.tif"
    shape = {"width": SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as sink:
        sink.write(np.broadcast_to(pixels, (3, SIDE, SIDE)))
    return path


def published(folder: Path, image: Path, model: Path | str, **fields: Any) -> list[dict[str, Any]]:
    message = {
        "jobId": "job-1",
        "imageUrls": [str(image)],
        "outputs": [{"type": "File", "path": str(folder / "out")}],
        "imageProcessor": {"name": str(model), "type": "ONNX"},
        "imageProcessorTileSize": 96,
    }
    asked = Request.parse(json.dumps(message | fields))
    assert work_image(asked, asked.image_urls[0]).status is JobStatus.SUCCESS
    return features(folder / "out", image.name)


def check(feature: Mapping[str, Any], truth: Object) -> None:
    """A feature is the object, and says so in its properties."""
    own, outline = feature["properties"], outline_of(truth)
    shape = shapely.geometry.shape(own["imageGeometry"])
    assert shape.intersection(outline).area / shape.union(outline).area > 0.85
    assert own["angle"] == pytest.approx(truth[4], abs=3)
    assert own["lengthPixels"] == pytest.approx(truth[2], abs=1)
    assert own["widthPixels"] == pytest.approx(truth[3], abs=1)
    for name in ("length", "width"):
        metres = own[f"{name}Pixels"] * SCALE
        assert own[f"{name}Metres"] == pytest.approx(metres, rel=2e-3)
