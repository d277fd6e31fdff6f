"""Objects among bright pixels: connected components and their bounding rectangles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import ndimage

EIGHT = np.ones((3, 3), dtype=bool)  # 8-connectivity
ROUNDS = 3  # of shrinking an outline, enough to exclude a ship's wake
EDGE = 0.5  # contrast at an object's outline, as a fraction of its mean contrast


@dataclass(frozen=True, slots=True)
class Objects:
    """Connected components of a tile's bright pixels: n objects in the order of their first rows.

    Attributes:
        labels: (height, width), 0 for background, 1 to n for the objects.
        boxes: (n, 4) x_min, y_min, x_max, y_max in tile pixels, corner-origin.
        rectangles: (n, 5, 2), x and y of the minimum-area rectangle of each, a closed ring,
            counter-clockwise on a map with y up.
        lengths: (n,) longer side of each rectangle in pixels.
        areas: (n,) number of pixels of each object.
    """

    labels: NDArray[np.int32]
    boxes: NDArray[np.float64]
    rectangles: NDArray[np.float64]
    lengths: NDArray[np.float64]
    areas: NDArray[np.int64]

    def means(self, plane: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean of a plane (height, width) over the pixels of each object, (n,)."""
        inside = self.labels > 0
        sums = np.bincount(self.labels[inside], plane[inside], minlength=len(self) + 1)[1:]
        means: NDArray[np.float64] = sums / self.areas
        return means

    def __len__(self) -> int:
        """The number of objects."""
        return len(self.areas)


def objects(
    bright: NDArray[np.bool_], contrast: NDArray[np.float32], smallest: int, longest: float
) -> Objects:
    """The objects among bright pixels, filtered by size.

    An object's outline is where the contrast has fallen to half the object's mean, so neither the
    sensor's blur nor a wake makes it longer, however bright it is.

    Args:
        bright: (height, width), pixels above the detection threshold.
        contrast: (height, width), pixels minus their background.
        smallest: Minimum area in pixels.
        longest: Maximum length of the longer side in pixels.
    """
    labels, count = ndimage.label(bright, EIGHT)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    fits = (sizes >= smallest) & (sizes <= longest**2)
    fits[0] = False
    inside = fits[labels]
    for _ in range(ROUNDS):
        owners, values = labels[inside], contrast[inside]
        held = np.bincount(owners, minlength=count + 1)
        means = np.bincount(owners, values, minlength=count + 1) / np.maximum(held, 1)
        inside[inside] = values >= (EDGE * means)[owners]
    labels = _renumbered(np.where(inside, labels, 0))
    found = _measured(labels)
    return _selected(found, (found.areas >= smallest) & (found.lengths <= longest))


def _measured(labels: NDArray[np.int32]) -> Objects:
    """The boxes and rectangles of labelled objects, from the first and last pixel of each row."""
    rows, columns = np.nonzero(labels)
    owners = labels[rows, columns] - 1
    order = np.argsort(owners, kind="stable")
    rows, columns, owners = rows[order], columns[order], owners[order]
    if not owners.size:
        return Objects(labels, np.empty((0, 4)), np.empty((0, 5, 2)), np.empty(0), np.empty(0, int))
    starts = np.flatnonzero(np.diff(owners, prepend=-1) | np.diff(rows, prepend=-1))
    stops = np.append(starts[1:], owners.size) - 1
    top, left, right, owner = rows[starts], columns[starts], columns[stops] + 1, owners[starts]
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    corners = np.stack([left, top, right, top, left, top + 1, right, top + 1], 1).reshape(-1, 2)
    hulls = shapely.multipoints(corners.astype(np.float64), indices=owner.repeat(4))
    rings = shapely.get_coordinates(shapely.normalize(shapely.oriented_envelope(hulls))).reshape(
        -1, 5, 2
    )
    return Objects(
        labels,
        np.stack(
            [
                np.minimum.reduceat(left, first),
                np.minimum.reduceat(top, first),
                np.maximum.reduceat(right, first),
                np.maximum.reduceat(top, first) + 1,
            ],
            axis=1,
        ).astype(np.float64),
        rings[:, ::-1],
        np.linalg.norm(np.diff(rings, axis=1), axis=2).max(axis=1),
        np.bincount(owners),
    )


def _selected(found: Objects, keep: NDArray[np.bool_]) -> Objects:
    """The objects for which `keep` (n,) is True, renumbered."""
    labels = np.where(np.append(False, keep)[found.labels], found.labels, 0)
    return Objects(
        _renumbered(labels),
        found.boxes[keep],
        found.rectangles[keep],
        found.lengths[keep],
        found.areas[keep],
    )


def _renumbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """The labels with consecutive numbers, in the same order."""
    used = np.bincount(labels.ravel()) > 0
    used[0] = False
    numbers = np.where(used, np.cumsum(used), 0).astype(np.int32)
    renumbered: NDArray[np.int32] = numbers[labels]
    return renumbered
