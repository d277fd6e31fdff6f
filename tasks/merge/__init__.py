"""Duplicate removal: one detection for each object, though overlapping tiles saw it twice.

Each region settles what it can, and the merge settles what was deferred. The result is the one of
settling all at once, whatever the regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import EVERYWHERE, Bounds, Grid
from tasks.request import Algorithm
from tasks.results import coverage

_BATCH = 1 << 16  # rows that are copied at a time

__all__ = ["Settled", "merge", "settle"]


@dataclass(frozen=True)
class Settled:
    """Detections of which it is known what becomes of them, and those that must wait.

    Attributes:
        detections: n rows, among them those that stay, as they are published.
        stay: (n,) which do.
        deferred: As they were found, those on which detections of other regions may bear.
    """

    detections: pa.Table
    stay: NDArray[np.bool_]
    deferred: pa.Table

    @property
    def decided(self) -> pa.Table:
        """Those that stay."""
        return self.detections.filter(pa.array(self.stay))

    def batches(self) -> Iterator[pa.Table]:
        """Those that stay, some at a time: a second copy of a million would be too much."""
        for start in range(0, len(self.detections), _BATCH):
            rows = slice(start, start + _BATCH)
            yield self.detections.slice(start, _BATCH).filter(pa.array(self.stay[rows]))


def settle(
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    inferred: NDArray[np.int8],
    interior: Bounds = EVERYWHERE,
) -> Settled:
    """Decide what becomes of detections, as far as nothing that is not among them has a say.

    Args:
        detections: Table of `detections.SCHEMA`, sorted by tile and ordinal; so are both of
            the result.
        algorithm: The request's feature distillation.
        grid: All tiles of the image.
        inferred: (len(grid),) as `tasks.results.coverage.inferred` gives it.
        interior: Where no tile looks of which the detections are elsewhere; see `Grid.interior`.
    """
    from tasks.merge.settling import settled  # noqa: PLC0415 - compilers take long to load

    return Settled(*settled(detections, algorithm, grid, inferred, interior))


def merge(deferred: pa.Table, algorithm: Algorithm, grid: Grid, ledger: pa.Table) -> pa.Table:
    """What becomes of all that the regions of an image deferred.

    Args:
        deferred: Table of `detections.SCHEMA`, sorted by tile and ordinal.
        algorithm: The request's feature distillation.
        grid: All tiles of the image.
        ledger: Of the whole image, `coverage.SCHEMA`.
    """
    return settle(deferred, algorithm, grid, coverage.inferred(ledger, grid)).decided
