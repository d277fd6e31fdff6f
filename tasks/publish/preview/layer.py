"""The features of an image as they are drawn on its preview, collected in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from tasks.publish.preview.size import scale, scaled
from tasks.results.detections import BOX_COLUMNS, boxes

COLUMNS = (*BOX_COLUMNS, "score", "class_name", "geometry")
"""The columns of `detections.SCHEMA` that are drawn."""

_MIN_OUTLINE = 5.0  # pixels of the picture: features that are smaller both ways are dots
_MAX_OUTLINES = 4000  # more would cover the image
_TOLERANCE = 0.5  # pixels of the picture between an outline and the line that is drawn
_LAST_NUMBER = 255  # of a class; all further ones share it


class Outline(NamedTuple):
    """A feature whose shape is drawn.

    Attributes:
        score: Of its best class.
        number: Of its class.
        lines: int32 (n, 2) each: x, y of its rings and lines in pixels of the picture.
        centre: x, y of the middle of its box in pixels of the picture.
    """

    score: float
    number: int
    lines: list[NDArray[np.int32]]
    centre: tuple[int, int]


class FeatureLayer:
    """The features of an image, drawn as they are added.

    Attributes:
        width: Pixels of the picture in x.
        height: Pixels of the picture in y.
        classes: Number of features of each class added so far.
        dots: uint8 (height, width) the number of the class of a feature drawn there as a dot, else
            0. Classes are numbered from 1 as they first occur.
    """

    def __init__(self, image_size: tuple[int, int], size: int) -> None:
        """An empty layer.

        Args:
            image_size: Width and height of the image in pixels.
            size: Pixels of the picture's longer side. An image of fewer pixels is enlarged by the
                greatest whole number that fits.
        """
        self._scale = scale(image_size, size)
        self.width, self.height = scaled(image_size, size)
        self.classes: Counter[str] = Counter()
        self.dots = np.zeros((self.height, self.width), np.uint8)
        self._numbers: dict[str, int] = {}
        self._outlines: list[Outline] = []

    def number_of(self, class_name: str) -> int:
        """The number of a class in `dots` and in outlines."""
        return self._numbers[class_name]

    def outlines(self) -> list[Outline]:
        """The features whose shape is drawn, lowest score first; at most `_MAX_OUTLINES`."""
        self._limit_outlines()
        return self._outlines[::-1]

    def add(self, table: pa.Table) -> None:
        """Add features.

        Args:
            table: The columns `COLUMNS` of `detections.SCHEMA`, in pixels of the full image.
        """
        if not len(table):
            return
        numbers = self._count(table["class_name"])
        corners = boxes(table) * self._scale
        limits = self.width - 1, self.height - 1
        centres = np.clip((corners[:, :2] + corners[:, 2:]) / 2, 0, limits).astype(np.int32)
        large = (corners[:, 2:] - corners[:, :2]).max(axis=1) >= _MIN_OUTLINE
        scores = table["score"].to_numpy()
        self._limit_outlines()
        if len(self._outlines) == _MAX_OUTLINES:
            large &= scores > self._outlines[-1].score
        rows = np.flatnonzero(large)
        rows = rows[np.argsort(-scores[rows], kind="stable")[:_MAX_OUTLINES]]
        dots = np.ones(len(table), np.bool_)
        dots[rows] = False
        self.dots[centres[dots, 1], centres[dots, 0]] = numbers[dots]
        shapes = self._shapes(table["geometry"].take(rows), corners[rows])
        self._outlines += [
            Outline(float(scores[row]), int(numbers[row]), list(_lines(shape)), tuple(centres[row]))
            for row, shape in zip(rows, shapes, strict=True)
        ]

    def _count(self, names: pa.ChunkedArray) -> NDArray[np.uint8]:
        """Count the classes of features; returns (n,) the number of each feature's class."""
        encoded = names.combine_chunks().dictionary_encode()
        found = encoded.dictionary.to_pylist()
        for name in found:
            self._numbers.setdefault(name, min(len(self._numbers) + 1, _LAST_NUMBER))
        for each in pc.value_counts(encoded).to_pylist():
            self.classes[each["values"]] += each["counts"]
        numbers = np.array([self._numbers[name] for name in found], np.uint8)
        return np.asarray(numbers[encoded.indices.to_numpy()])

    def _shapes(
        self, geometry: pa.ChunkedArray, corners: NDArray[np.float64]
    ) -> NDArray[np.object_]:
        """(n,) geometries in pixels of the picture: the model's own, or else the box."""
        own = shapely.from_wkb(geometry.to_numpy())
        own = shapely.transform(own, lambda vertices: vertices * self._scale)
        own = shapely.simplify(own, _TOLERANCE, preserve_topology=False)
        absent = shapely.is_missing(own) | shapely.is_empty(own)
        shapes: NDArray[np.object_] = np.where(absent, shapely.box(*corners.T), own)
        return shapes

    def _limit_outlines(self) -> None:
        """Keep the outlines with the best scores, best first; the others become dots."""
        self._outlines.sort(key=lambda outline: -outline.score)
        for outline in self._outlines[_MAX_OUTLINES:]:
            x, y = outline.centre
            self.dots[y, x] = outline.number
        del self._outlines[_MAX_OUTLINES:]


def _lines(shape: shapely.Geometry) -> Iterator[NDArray[np.int32]]:
    """The rings of polygons, and the lines of a geometry of another type."""
    for part in shapely.get_parts(shape):
        is_polygon = part.geom_type == "Polygon"
        for line in shapely.get_rings(part) if is_polygon else [part]:
            yield shapely.get_coordinates(line).round().astype(np.int32)
