"""Reuses the memory of strips.

The operating system clears each page of new memory on first use. That takes as long as decoding a
strip: 0.5 ms per tile, and more in two threads at a time.
"""

from __future__ import annotations

import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_REFERENCES_OF_A_FREE_BLOCK = 2  # from the list of blocks, and from the call of getrefcount


class BufferPool:
    """Creates arrays in blocks of memory that are reused as soon as no view of them exists."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of this shape and type, with arbitrary contents, as `numpy.empty`."""
        size = prod(shape) * np.dtype(dtype).itemsize
        block = self._free_block(size)
        return block[:size].view(dtype).reshape(shape)

    def _free_block(self, size: int) -> NDArray[np.uint8]:
        """An unused block of at least `size` bytes, new if none is large enough."""
        free = [i for i in range(len(self._blocks)) if self._is_free(i)]
        fitting = [i for i in free if self._blocks[i].size >= size]
        if not fitting:
            self._blocks = [block for i, block in enumerate(self._blocks) if i not in free]
            self._blocks.append(np.empty(size, np.uint8))
            return self._blocks[-1]
        return self._blocks[min(fitting, key=lambda i: self._blocks[i].size)]

    def _is_free(self, index: int) -> bool:
        # each view of a block, and each view of a view, has a reference to the block itself
        return sys.getrefcount(self._blocks[index]) <= _REFERENCES_OF_A_FREE_BLOCK
