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

    A mask is the sigmoid of the prototypes, added up by an object's coefficients. It is set to 0
    outside the object's box, enlarged to the input linearly, and thresholded at 0.5.

    Args:
        coefficients: (n, k) of each object.
        prototypes: (k, height, width) of a tile, smaller than the input by a stride.
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the input.
        size: Width and height of the input.

    Returns:
        (n,) polygons and multi-polygons along the borders of pixels; None where a mask is empty.
    """
    prototypes = prototypes.astype(np.float32)
    _, height, width = prototypes.shape
    scale = np.array([width / size[0], height / size[1]] * 2)
    outlines: Geometries = np.full(len(boxes), None, object)
    for index, (weights, box) in enumerate(zip(coefficients, boxes * scale, strict=True)):
        left, top, right, bottom = _within(box, width, height)
        if left < right and top < bottom:
            logits = np.tensordot(weights, prototypes[:, top:bottom, left:right], 1)
            mask = _sigmoid(logits.astype(np.float32))
            outlines[index] = _enlarged(mask, (left, top), (width, height), size)
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


def _within(box: Boxes, width: int, height: int) -> tuple[int, int, int, int]:
    """First and last + 1 column and row that a box in pixels of the prototypes takes in.

    As of Ultralytics' `crop_mask`: those whose index is at least the box's minimum, and below its
    maximum.
    """
    if not np.isfinite(box).all():
        return 0, 0, 0, 0
    low = np.ceil(np.clip(box[:2], 0, (width, height))).astype(int)
    high = np.ceil(np.clip(box[2:], 0, (width, height))).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _enlarged(
    mask: Mask, corner: tuple[int, int], whole: tuple[int, int], size: Size
) -> shapely.Geometry | None:
    """The outline of a part of a mask, beyond which it is 0, enlarged to the input.

    Args:
        mask: (rows, columns) of the part.
        corner: Its first column and row.
        whole: Width and height of the whole mask.
        size: Width and height of the input.
    """
    left, top = corner
    height, width = mask.shape
    stride = size[0] // whole[0]
    if size != (stride * whole[0], stride * whole[1]):  # the filter is not the same everywhere
        all_of_it = np.zeros(whole[::-1], np.float32)
        all_of_it[top : top + height, left : left + width] = mask
        return _outline(_resized(all_of_it, size) > _LEAST, 0, 0)
    # a margin of 0, as linear interpolation looks one pixel further, unless the whole mask ends
    before = (int(top > 0), int(left > 0))
    after = (int(top + height < whole[1]), int(left + width < whole[0]))
    part = np.pad(mask, list(zip(before, after, strict=True)))
    enlarged = _resized(part, (part.shape[1] * stride, part.shape[0] * stride))
    return _outline(enlarged > _LEAST, (left - before[1]) * stride, (top - before[0]) * stride)


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


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # e to a large number is infinite, and 1 / infinity is 0
        odds: NDArray[np.float32] = np.exp(-logits)
    odds += 1
    return np.reciprocal(odds, out=odds)


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
