"""The decisions of a region on its detections, and the merge of those that all regions deferred.

The result is the same as deciding all detections of the image at once, whatever the regions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import EVERYWHERE, Bounds, Grid
from tasks.merge.compiled import quickest
from tasks.merge.distillation import distil
from tasks.request import Algorithm
from tasks.results import coverage

_BATCH = 1 << 16  # rows copied at a time


@dataclass(frozen=True)
class Settled:
    """Detections that are decided, and those that are deferred to the merge of the image.

    Attributes:
        detections: n rows of `detections.SCHEMA`; those that stay are final.
        stay: (n,) True for the rows that stay.
        deferred: Detections, unchanged, that detections of other regions may still affect.
    """

    detections: pa.Table
    stay: NDArray[np.bool_]
    deferred: pa.Table

    @property
    def decided(self) -> pa.Table:
        """The rows that stay."""
        return self.detections.filter(pa.array(self.stay))

    def batches(self) -> Iterator[pa.Table]:
        """The rows that stay, in batches: a million of them are not copied at once."""
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
    """Decide all detections that no detection outside the table can affect; defer the others.

    Args:
        detections: Table of `detections.SCHEMA`, sorted by tile and ordinal, as are both tables of
            the result.
        algorithm: The request's feature distillation.
        grid: All tiles of the image.
        inferred: (len(grid),) as returned by `tasks.results.coverage.inferred`.
        interior: The area that only tiles of these detections cover (`Grid.interior`).
    """
    with quickest(len(detections), detections["geometry"].nbytes):
        return Settled(*distil(detections, algorithm, grid, inferred, interior))


def merge(deferred: pa.Table, algorithm: Algorithm, grid: Grid, ledger: pa.Table) -> pa.Table:
    """Decide the detections that the regions of an image deferred.

    Args:
        deferred: Table of `detections.SCHEMA`, sorted by tile and ordinal.
        algorithm: The request's feature distillation.
        grid: All tiles of the image.
        ledger: The ledger of the whole image, `coverage.SCHEMA`.
    """
    return settle(deferred, algorithm, grid, coverage.inferred(ledger, grid)).decided
