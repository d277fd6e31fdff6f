"""The ground truth of a generated scene, and the score of detections against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform as reproject

WORLD = "EPSG:4326"


@dataclass(frozen=True)
class Truth:
    """The objects of a scene, n of them.

    Attributes:
        outlines: Outline of each object, (k, 2) x, y in full-image pixels (corner-origin), open.
        classes: Class of each object.
        crs: Coordinate reference system of the scene, such as "EPSG:32633".
        transform: Affine transform of the scene from pixels (corner-origin) to the CRS.
    """

    outlines: tuple[NDArray[np.float64], ...]
    classes: tuple[str, ...]
    crs: str
    transform: Affine

    @property
    def boxes(self) -> NDArray[np.float64]:
        """Boxes around the outlines, (n, 4): x_min, y_min, x_max, y_max in full-image pixels."""
        corners = [(*outline.min(axis=0), *outline.max(axis=0)) for outline in self.outlines]
        return np.array(corners, dtype=np.float64).reshape(-1, 4)

    def save(self, path: Path) -> None:
        """Write the objects as GeoJSON, with the scene's georeference as the member `image`.

        `geometry` is in longitude, latitude (7 decimals), `imageGeometry` in full-image pixels.
        """
        features = [
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [self._world(outline)]},
                "properties": {
                    "class": name,
                    "imageGeometry": {
                        "type": "Polygon",
                        "coordinates": [[*outline.tolist(), outline[0].tolist()]],
                    },
                },
            }
            for outline, name in zip(self.outlines, self.classes, strict=True)
        ]
        image = {"crs": self.crs, "transform": list(self.transform)[:6]}
        document = {"type": "FeatureCollection", "image": image, "features": features}
        path.write_text(json.dumps(document))

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read a file that `save` wrote; pixel coordinates are exact."""
        document = json.loads(path.read_text())
        properties = [feature["properties"] for feature in document["features"]]
        return cls(
            outlines=tuple(
                np.array(each["imageGeometry"]["coordinates"][0][:-1]) for each in properties
            ),
            classes=tuple(each["class"] for each in properties),
            crs=document["image"]["crs"],
            transform=Affine(*document["image"]["transform"]),
        )

    def _world(self, outline: NDArray[np.float64]) -> list[list[float]]:
        """An outline as a closed ring of longitude, latitude."""
        (column, row), to = outline.T, self.transform
        x, y = to.a * column + to.b * row + to.c, to.d * column + to.e * row + to.f
        longitude, latitude = reproject(self.crs, WORLD, x, y)
        ring = np.round(np.stack([longitude, latitude], axis=1), 7).tolist()
        return [*ring, ring[0]]


@dataclass(frozen=True)
class Score:
    """Agreement of boxes with those of the ground truth.

    Attributes:
        precision: Share of the boxes that match an object; 1 if there are no boxes.
        recall: Share of the objects that a box matches; 1 if there are no objects.
        matched: Number of pairs of a box and an object.
        missed: Number of objects without a box.
        false: Number of boxes without an object.
        duplicates: Number of false boxes that overlap an object matched by another box.
    """

    precision: float
    recall: float
    matched: int
    missed: int
    false: int
    duplicates: int


def score(boxes: NDArray[np.float64], truth: NDArray[np.float64], iou: float = 0.5) -> Score:
    """Match boxes one to one with those of the ground truth, the largest overlaps first.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in full-image pixels.
        truth: (m, 4) boxes of the ground truth, such as `Truth.boxes`.
        iou: Minimum intersection over union of a pair.
    """
    overlaps = np.stack([_iou(box, truth) for box in boxes]) if len(boxes) else np.empty((0, 0))
    free, wanted = np.ones(len(boxes), dtype=bool), np.ones(len(truth), dtype=bool)
    pairs = np.argwhere(overlaps >= iou)
    best_first = np.argsort(-overlaps[pairs[:, 0], pairs[:, 1]], kind="stable")
    for box, thing in pairs[best_first]:
        if free[box] and wanted[thing]:
            free[box] = wanted[thing] = False
    matched, false, missed = int((~free).sum()), int(free.sum()), int(wanted.sum())
    seconds = (overlaps[free][:, ~wanted] >= iou).any(axis=1) if false and len(truth) else False
    return Score(
        precision=matched / len(boxes) if len(boxes) else 1.0,
        recall=matched / len(truth) if len(truth) else 1.0,
        matched=matched,
        missed=missed,
        false=false,
        duplicates=int(np.sum(seconds)),
    )


def _iou(box: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box with each of (m, 4) others, (m,)."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    union: NDArray[np.float64] = areas + np.prod(box[2:] - box[:2]) - common
    return np.asarray(common / np.maximum(union, np.finfo(float).tiny))
