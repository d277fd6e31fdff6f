"""Masks of objects as outlines: prototypes, masks of boxes, and masks of the whole input."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from tasks.inference.description.head import Size
from tasks.inference.description.resample import resize

_LEAST = 0.5  # probability above which a pixel is of the object
_FARTHEST = 3  # times the input's size that a box may lie away

Mask = NDArray[Any]  # of any floating type
Boxes = NDArray[np.float64]
Geometries = NDArray[np.object_]


def from_prototypes(coefficients: Mask, prototypes: Mask, boxes: Boxes, size: Size) -> Geometries:
    """The outlines of objects by Ultralytics' arithmetic, in pixels of the input.

    A mask is the sum of the prototypes, weighted by an object's coefficients. These logits are
    enlarged to the input linearly; pixels above 0 are of the object, as far as they are in its box.

    Args:
        coefficients: (n, k) of each object.
        prototypes: (k, height, width) of a tile, smaller than the input by a stride.
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the input.
        size: Width and height of the input.

    Returns:
        (n,) polygons and multi-polygons along the borders of pixels; None where a mask is empty.
    """
    prototypes = prototypes.astype(np.float32)
    outlines: Geometries = np.full(len(boxes), None, object)
    for index, (weights, box) in enumerate(zip(coefficients, boxes, strict=True)):
        left, top, right, bottom = _within(box, size)
        if left < right and top < bottom:
            logits = _logits_within(weights, prototypes, (left, top, right, bottom), size)
            outlines[index] = _outline(logits > 0, left, top)
    return outlines


def from_boxes(masks: Mask, boxes: Boxes, size: Size) -> Geometries:
    """The outlines of objects by torchvision's `paste_masks_in_image`, in pixels of the input.

    Args:
        masks: (n, m, m) the probabilities within the box of each object.
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the input.
        size: Width and height of the input.

    Returns:
        As `from_prototypes`.
    """
    side = masks.shape[-1]
    grown = _grown(boxes, (side + 2) / side)
    padded = np.pad(masks.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    outlines: Geometries = np.full(len(boxes), None, object)
    for index, (mask, box) in enumerate(zip(padded, grown, strict=True)):
        if not (np.abs(box) <= _FARTHEST * max(size)).all():  # is rejected with the answer
            continue
        left, top, right, bottom = (int(edge) for edge in np.trunc(box))
        pasted = _resized(mask, (max(1, right - left + 1), max(1, bottom - top + 1)))
        x, y = max(0, left), max(0, top)
        part = pasted[y - top : size[1] - top, x - left : size[0] - left]
        outlines[index] = _outline(part > _LEAST, x, y)
    return outlines


def from_input(masks: Mask) -> Geometries:
    """The outlines of objects whose masks have the size of the input, in its pixels.

    Args:
        masks: (n, height, width) probabilities.

    Returns:
        As `from_prototypes`.
    """
    outlines: Geometries = np.full(len(masks), None, object)
    for index, mask in enumerate(masks):
        found = mask > _LEAST
        rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
        if len(rows):
            left, top = int(columns[0]), int(rows[0])
            part = found[top : rows[-1] + 1, left : columns[-1] + 1]
            outlines[index] = _outline(part, left, top)
    return outlines


def _within(box: Boxes, size: Size) -> tuple[int, int, int, int]:
    """First and last + 1 column and row of the input that a box takes in.

    As of Ultralytics' `crop_mask`: those whose index is at least the box's minimum, and below its
    maximum.
    """
    if not np.isfinite(box).all():
        return 0, 0, 0, 0
    left, top, right, bottom = np.ceil(np.clip(box, 0, size * 2)).astype(int).tolist()
    return left, top, right, bottom


def _logits_within(
    weights: Mask, prototypes: Mask, part: tuple[int, int, int, int], size: Size
) -> NDArray[np.float32]:
    """The logits of an object in a part of the input, first and last + 1 column and row."""
    left, top, right, bottom = part
    _, height, width = prototypes.shape
    stride = size[0] // width
    if size == (stride * width, stride * height):
        # linear interpolation looks one cell further
        first, last = max(0, left // stride - 1), min(width, (right - 1) // stride + 2)
        above, below = max(0, top // stride - 1), min(height, (bottom - 1) // stride + 2)
    else:  # the filter is not the same everywhere
        first, last, above, below, stride = 0, width, 0, height, 0
    cells = np.tensordot(weights.astype(np.float32), prototypes[:, above:below, first:last], 1)
    whole = ((last - first) * stride, (below - above) * stride) if stride else size
    x, y = first * stride, above * stride
    return _resized(cells, whole)[top - y : bottom - y, left - x : right - x]


def _grown(boxes: Boxes, factor: float) -> Boxes:
    """Boxes that are larger by a factor around their centres."""
    middle, half = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.hstack([middle - half * factor, middle + half * factor])


def _resized(mask: Mask, size: tuple[int, int]) -> NDArray[np.float32]:
    """A mask in another size, width and height, by linear interpolation."""
    resized = np.empty(size[::-1], np.float32)
    for rows, part in resize(mask, size, "linear"):
        resized[rows] = part
    return resized


def _outline(mask: NDArray[np.bool_], left: int, top: int) -> shapely.Geometry | None:
    """The outline of a mask whose first pixel is at a column and row; None of an empty one."""
    found = rasterio.features.shapes(
        mask.astype(np.uint8), mask, connectivity=4, transform=Affine.translation(left, top)
    )
    rings = [shape["coordinates"] for shape, _ in found]
    polygons = [shapely.Polygon(shell, holes) for shell, *holes in rings]
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else shapely.MultiPolygon(polygons)
