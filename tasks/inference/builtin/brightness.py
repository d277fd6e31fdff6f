"""A model that answers with pixels: `brightness-classes`, a stand-in for a land-cover model."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

CENTRES = {"dark": 0.15, "medium": 0.45, "bright": 0.75}
"""Brightness of each class, where white is 1; the classes are numbered from 1 in this order."""

_WIDTH = 0.1  # of a class: the brightness from its centre at which its logit is -1
_REFLECTANCE = 10_000.0  # white of 16 bits: reflectance is mostly stored in 10,000ths


class BrightnessClasses(BaseModel):
    """Tells dark, medium and bright pixels, with the probability of each; for trying out rasters.

    A pixel's brightness is the mean of all bands and of its neighbours in the tile. Near a tile's
    edge it has fewer of them, so that neighbouring tiles differ a little, as those of real models.

    Attributes:
        white: Value of a white pixel; by default 255 for 8 bits, 10,000 for more, 1 for floats.
        smoothing: Side in pixels of the square over which brightness is averaged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    white: float | None = Field(None, gt=0)
    smoothing: int = Field(9, ge=1, le=255)

    def __call__(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """(3, height, width) the probability of each class.

        Args:
            pixels: (bands, height, width), any real dtype; what is not finite counts as 0.
        """
        # imported here because SciPy takes long to load, and runs of other models do not need it
        from scipy import ndimage  # noqa: PLC0415

        white = np.float32(self.white or _white(pixels.dtype))
        grey = np.nan_to_num(pixels.mean(axis=0, dtype=np.float32), posinf=0, neginf=0) / white
        grey = ndimage.uniform_filter(grey, self.smoothing, mode="nearest")
        centres = np.array(list(CENTRES.values()), np.float32)[:, None, None]
        logits = -np.square((np.clip(grey, 0, 1) - centres) / np.float32(_WIDTH))
        odds = np.exp(logits - logits.max(axis=0))
        probabilities: NDArray[np.float32] = odds / odds.sum(axis=0)
        return probabilities


def _white(dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return 1.0
    return 255.0 if dtype.itemsize == 1 else _REFLECTANCE


RASTER_OUTPUT = {
    "values": "probabilities",
    "classes": [
        {"value": number, "name": name, "colour": colour}
        for (number, name), colour in zip(
            enumerate(CENTRES, 1), ("#26456e", "#5b8f3c", "#e8e0c8"), strict=True
        )
    ],
}
"""The fields of `rasterOutput` that say what the model answers."""
