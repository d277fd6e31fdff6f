"""Bright targets on a darker surface, ships above all, at a constant false-alarm rate (CFAR).

A pixel is compared with the mean and the standard deviation of the background in a ring around it,
outside a guard window: two-parameter CFAR (H. M. Finn and R. S. Johnson, "Adaptive detection mode
with threshold control as a function of spatially sampled clutter-level estimates", RCA Review 29,
1968, 414–464). Bright pixels are first excluded from the ring, so that ships moored in a row do not
mask each other. They are found by order statistics of small cells (H. Rohling, "Radar CFAR
thresholding in clutter and multiple target situations", IEEE Trans. AES-19, 1983, 608–621).

Where surfaces of different brightness meet, the darkest one nearby is the background: at a quay,
the water. An object that touches a brighter surface, or lies on a surface that is itself brighter
than the background, counts as part of that surface and is not reported.
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

BLUR = 1  # width in pixels of the blurred edge, which is neither object nor surroundings
SURROUND = 4  # width in pixels of the surroundings, outside the blurred edge
DARK = 0.6  # minimum fraction of the surroundings below the detection threshold
DIM = 0.3  # maximum contrast of these surroundings, as a fraction of the object's


class BrightTargets(BaseModel):
    """Finds objects of class `bright-target`, brighter than what surrounds them.

    Attributes:
        threshold: Detection threshold above the background's mean, in its standard deviations.
        ratio: Minimum target-to-clutter ratio: mean of the object over mean of its background.
        smallest: Minimum area of an object in pixels.
        longest: Maximum length of an object in pixels; longer ones are land, quays or breakwaters.
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
                finite, or is 0 in every band, is nodata: neither target nor background.

        Returns:
            A FeatureCollection, in the order of the objects' first rows. The score is
            z / (z + threshold), where z is the object's mean contrast in standard deviations of the
            background; it is between 0.5 and 1.
        """
        # imported here because SciPy takes long to load, and runs of other models do not need it
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
    """Mean of the bands (height, width), and the mask of pixels with data."""
    intensity = pixels.mean(axis=0, dtype=np.float32)
    valid = np.isfinite(intensity) & pixels.any(axis=0)
    return np.where(valid, intensity, np.float32(0)), valid


def _isolated(
    found: Objects,
    intensity: NDArray[np.float32],
    around: Background,
    dark: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """(n,) True for objects with dark surroundings, unlike a roof among roofs or a patch of land.

    Args:
        found: The objects.
        intensity: (height, width), the pixels.
        around: The background of each pixel.
        dark: (height, width), pixels with data that are below the detection threshold.
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
