"""The size of a preview."""

from __future__ import annotations


def scale(image_size: tuple[int, int], size: int) -> float:
    """Pixels of the picture for each of the image.

    Args:
        image_size: Width and height of the image in pixels.
        size: Pixels of the picture's longer side. An image of fewer pixels is enlarged by the
            greatest whole number that fits.
    """
    longer = max(image_size)
    return size / longer if longer >= size else float(size // longer)


def scaled(image_size: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height of the picture in pixels, by the arguments of `scale`."""
    factor = scale(image_size, size)
    width, height = (max(1, round(side * factor)) for side in image_size)
    return width, height
