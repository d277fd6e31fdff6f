"""The levels of a raster: the raster itself, then its overviews, each half as large."""

from __future__ import annotations

from tasks.raster.blocks import BLOCK


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Width and height of the raster and its overviews, the last of which is one block."""
    sizes = [(width, height)]
    while max(sizes[-1]) > BLOCK:
        width, height = sizes[-1]
        sizes.append((-(-width // 2), -(-height // 2)))
    return sizes


def level_shape(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of blocks of a level with a width and height."""
    return -(-size[1] // BLOCK), -(-size[0] // BLOCK)
