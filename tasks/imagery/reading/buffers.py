"""BufferPool that strips take turns in.

The system clears each page of new memory when it is first touched, which costs as much as decoding
a strip: half a millisecond a tile, and more where two threads do it.
"""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_REFERENCES_OF_A_FREE_BLOCK = 2  # by the list of blocks, and by the question


class BufferPool:
    """Hands out arrays; takes a block back by itself, once no view of it is left anywhere."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of this shape and type, with arbitrary values."""
        size = prod(shape) * np.dtype(dtype).itemsize
        block = self._free_block(size)
        return block[:size].view(dtype).reshape(shape)

    def _free_block(self, size: int) -> NDArray[np.uint8]:
        """A block of at least this size that nobody uses; the free ones that are too small go."""
        free = [i for i in range(len(self._blocks)) if self._is_free(i)]
        fitting = [i for i in free if self._blocks[i].size >= size]
        if not fitting:
            self._blocks = [block for i, block in enumerate(self._blocks) if i not in free]
            self._blocks.append(np.empty(size, np.uint8))
            return self._blocks[-1]
        return self._blocks[min(fitting, key=lambda i: self._blocks[i].size)]

    def _is_free(self, index: int) -> bool:
        # Every view of a block, and every view of a view, refers to the block itself.
        return sys.getrefcount(self._blocks[index]) <= _REFERENCES_OF_A_FREE_BLOCK
