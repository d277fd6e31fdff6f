"""Merged detections as batches of features: an image can have more than fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.imagery import Georeference, areas_of_degrees, areas_of_quadrilaterals
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.feature_properties import feature_properties
from tasks.publish.features import Features, geolocate
from tasks.publish.measures import measures
from tasks.publish.oriented_boxes import with_measures

BATCH_SIZE = 1 << 11
"""Features whose geometries and text are in memory at once."""


@dataclass(frozen=True)
class FeatureBatch:
    """A batch of n features with all that the formats write about them.

    Properties are JSON text, not objects: the garbage collector of Python visits objects repeatedly
    while they are in memory, which took a third of the time of publishing.

    Attributes:
        features: The detections and their geometries.
        ids: (n,) 32 hexadecimal digits each.
        classes: (n,) lists of structs of `iri` and `score`.
        feature_classes: (n,) the classes as the model gave them, each a JSON list.
        properties: (n,) the other properties, each a JSON object.
        embeddings: (n, numbers) float32 the vector of each feature; None if they have none.
    """

    features: Features
    ids: list[str]
    classes: pa.ListArray
    feature_classes: list[bytes]
    properties: list[bytes]
    embeddings: NDArray[np.float32] | None = None

    @cached_property
    def areas(self) -> pa.Array:
        """(n,) square metres on the ellipsoid; null of a feature that is not geolocated."""
        world = self.features.world
        if world.rings is not None:
            return pa.array(areas_of_quadrilaterals(world.rings))
        return pa.array(areas_of_degrees(world.shapes), mask=world.missing)

    @cached_property
    def measures(self) -> dict[str, pa.Array]:
        """The columns of `measures.MEASURES`."""
        return measures(self.properties)


WriteBatch = Callable[[FeatureBatch], None]
"""Appends a batch of features to a file."""


def feature_batches(
    tables: Iterable[pa.Table], georeference: Georeference | None, metadata: FeatureMetadata
) -> Iterator[FeatureBatch]:
    """Features of detections, in the order of the detections.

    The batches depend on the rows alone, not on how the rows are divided into tables.

    Args:
        tables: Of `detections.SCHEMA`, in pixels of the full image. The next table is requested
            only when all rows of the one before are in batches and its memory can be freed.
        georeference: The image's georeference; without one no feature has a geometry on the Earth.
        metadata: What all features have in common.
    """
    for each in _regrouped(tables):
        table = with_measures(each, georeference) if metadata.oriented else each
        own = feature_properties(table, metadata)
        yield FeatureBatch(geolocate(table, georeference), metadata.ids_of(table), *own)


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables as tables of `BATCH_SIZE` rows; the last one may have fewer."""
    pieces: list[pa.Table] = []
    missing = BATCH_SIZE
    for table in tables:
        start = 0
        while start < len(table):
            piece = _copied(table.slice(start, missing))  # a slice would keep the whole table
            pieces.append(piece)
            start += len(piece)
            missing -= len(piece)
            if not missing:
                yield pa.concat_tables(pieces).combine_chunks()
                pieces, missing = [], BATCH_SIZE
        del table  # free it before the next one is loaded
    if pieces:
        yield pa.concat_tables(pieces).combine_chunks()


def _copied(table: pa.Table) -> pa.Table:
    return table.take(np.arange(len(table)))
