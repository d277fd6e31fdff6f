"""Bright targets on a darker surface, ships above all, at a constant false-alarm rate (CFAR).

A pixel is compared with the mean and the standard deviation of the background in a ring around it,
outside a guard window: the two-parameter CFAR that H. M. Finn and R. S. Johnson founded ("Adaptive
detection mode with threshold control as a function of spatially sampled clutter-level estimates",
RCA Review 29, 1968, 414–464). So that ships moored in a row do not hide one another, bright pixels
are kept out of the ring first, found by order statistics of small cells (H. Rohling, "Radar CFAR
thresholding in clutter and multiple target situations", IEEE Trans. AES-19, 1983, 608–621).

Where surfaces meet, the darkest nearby is the background: at a quay, the water. What touches a
brighter surface, or lies on one that stands out itself, is part of it and is not reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.inference.builtin.geojson import collection, feature

if TYPE_CHECKING:
    from tasks.inference.builtin.background import Background
    from tasks.inference.builtin.outlines import Objects

BLUR = 1  # pixels beyond an outline that are neither object nor surroundings
SURROUND = 4  # pixels beyond that, an object's surroundings
DARK = 0.6  # share of the surroundings that must be below the detection threshold
DIM = 0.3  # of an object's contrast: what these may have at most


class BrightTargets(BaseModel):
    """Finds objects of class `bright-target`, brighter than what surrounds them.

    Attributes:
        threshold: Standard deviations of the background that a pixel must exceed its mean by.
        ratio: Target to clutter: an object's mean is at least this many times its background's.
        smallest: Pixels that an object has at least.
        longest: Pixels that an object is long at most; longer ones are land, quays, breakwaters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    threshold: float = Field(5.0, gt=0)
    ratio: float = Field(1.75, ge=1)
    smallest: int = Field(12, ge=1)
    longest: float = Field(140.0, gt=0)

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """The objects of a tile, each with its oriented rectangle as imageGeometry.

        Args:
            pixels: (bands, height, width), any real dtype; bands are averaged. A pixel that is not
                finite, or 0 in every band, is nodata: neither target nor background.

        Returns:
            A FeatureCollection, in the order of the objects' first rows. The score is z / (z +
            threshold), z the object's mean contrast in standard deviations: over 0.5, up to 1.
        """
        # late, here and below: SciPy takes long to load, and runs of other models need none
        from tasks.inference.builtin.background import background  # noqa: PLC0415
        from tasks.inference.builtin.outlines import objects  # noqa: PLC0415

        intensity, valid = _intensity(pixels)
        if not valid.any():
            return collection([])
        around = background(intensity, valid)
        contrast = np.where(valid, intensity - around.mean, np.float32(0))
        bright = contrast > self.threshold * around.deviation
        found = objects(bright, contrast, self.smallest, self.longest)
        level = found.means(intensity)
        stands_out = level >= self.ratio * found.means(around.mean)
        keep = stands_out & _isolated(found, intensity, around, valid & ~bright)
        z = found.means(contrast / around.deviation)
        score = np.clip(z / (z + self.threshold), 0, 1)
        return collection(
            [
                feature(
                    "bright-targets",
                    found.boxes[index].tolist(),
                    iri="bright-target",
                    score=score[index],
                    geometry={
                        "type": "Polygon",
                        "coordinates": [found.rectangles[index].tolist()],
                    },
                )
                for index in np.flatnonzero(keep)
            ]
        )


def _intensity(pixels: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of the bands (height, width), and where there are data."""
    intensity = pixels.mean(axis=0, dtype=np.float32)
    valid = np.isfinite(intensity) & pixels.any(axis=0)
    return np.where(valid, intensity, np.float32(0)), valid


def _isolated(
    found: Objects,
    intensity: NDArray[np.float32],
    around: Background,
    dark: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which objects have dark surroundings close by: roofs among roofs, and specks of land, do not.

    Args:
        found: The objects.
        intensity: (height, width), the pixels.
        around: Their background.
        dark: (height, width), pixels with data below the detection threshold.
    """
    from scipy import ndimage  # noqa: PLC0415

    near = ndimage.maximum_filter(found.labels, 2 * (BLUR + SURROUND) + 1)
    near[ndimage.maximum_filter(found.labels, 2 * BLUR + 1) > 0] = 0
    owners, shade = near[near > 0], near[(near > 0) & dark]
    pixels, count = (np.bincount(each, minlength=len(found) + 1)[1:] for each in (owners, shade))
    values = intensity[(near > 0) & dark]
    total = np.bincount(shade, values, minlength=len(found) + 1)[1:]
    surroundings = total / np.maximum(count, 1)
    base, level = found.means(around.mean), found.means(intensity)
    isolated: NDArray[np.bool_] = (count >= DARK * pixels) & (
        surroundings - base <= DIM * (level - base)
    )
    return isolated
