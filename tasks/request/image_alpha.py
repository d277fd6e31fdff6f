"""What the alpha band of an image is taken for."""

from __future__ import annotations

from enum import StrEnum


class ImageAlpha(StrEnum):
    """Whether an alpha band decides which pixels hold data."""

    MASK = "mask"
    IGNORE = "ignore"  # a band as any other
