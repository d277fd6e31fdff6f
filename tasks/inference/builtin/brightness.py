"""Stand-ins for models of land cover: the class of each pixel, and that of a whole tile."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.inference.builtin.geojson import collection

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

        grey = ndimage.uniform_filter(_grey(pixels, self.white), self.smoothing, mode="nearest")
        return _probabilities(grey)


class BrightnessScenes(BaseModel):
    """Tells whether a tile as a whole is dark, medium or bright, with the probability of each.

    Attributes:
        white: Value of a white pixel; by default 255 for 8 bits, 10,000 for more, 1 for floats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    white: float | None = Field(None, gt=0)

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """One feature without a place, which has the three classes.

        Args:
            pixels: (bands, height, width), any real dtype; what is not finite counts as 0.
        """
        grey = _grey(pixels, self.white).mean(keepdims=True)
        scores = _probabilities(grey).ravel().tolist()
        classes = [
            {"iri": name, "score": score} for name, score in zip(CENTRES, scores, strict=True)
        ]
        properties = {"featureClasses": classes}
        return collection([{"type": "Feature", "geometry": None, "properties": properties}])


def _grey(pixels: NDArray[Any], white: float | None) -> NDArray[np.float32]:
    """(height, width) the brightness of each pixel, where white is 1."""
    unit = np.float32(white or _white(pixels.dtype))
    mean = pixels.mean(axis=0, dtype=np.float32)
    grey: NDArray[np.float32] = np.nan_to_num(mean, posinf=0, neginf=0) / unit
    return grey


def _probabilities(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, height, width) the probability of each class, of a brightness (height, width)."""
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

TILE_OUTPUT = {"values": "probabilities"}
"""The fields of `tileOutput` that say what `brightness-scenes` answers."""
