"""Detections as features, some at a time: an image has more of them than memory has room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tasks.publish.features import Features, Georeference, geolocate
from tasks.publish.provenance import Provenance

SIZE = 1 << 11
"""Features whose geometries and text are held at once; it divides a row group of GeoParquet."""


@dataclass(frozen=True)
class Batch:
    """Some features in a row, with what every file and stream says of them.

    Properties are text, not objects: the interpreter's garbage collector would walk through those
    again and again while they are held, for a third of all the time that publishing takes.

    Attributes:
        features: n detections and their places.
        ids: (n,) 32 hexadecimal digits each.
        classes: (n,) lists of structs of `iri` and `score`.
        feature_classes: (n,) the same as the model gave them, each a JSON list.
        properties: (n,) the other properties, each a JSON object.
    """

    features: Features
    ids: list[str]
    classes: pa.ListArray
    feature_classes: list[bytes]
    properties: list[bytes]


def batches(
    tables: Iterable[pa.Table], georeference: Georeference | None, provenance: Provenance
) -> Iterator[Batch]:
    """Features of detections, in their order.

    Where a batch ends depends on the rows alone, never on the tables that they come in.

    Args:
        tables: Of `detections.SCHEMA`, in pixels of the full image. The next is asked for
            when all rows of the one before are in batches; nothing here holds that one then.
        georeference: Of the image; None where it has none, and then no feature has a place.
        provenance: Where they come from.
    """
    for table in _regrouped(tables):
        classes = _Classes()
        feature_classes, properties = [], []
        for described, others in provenance.describe(table):
            classes.add(described)
            feature_classes.append(orjson.dumps(described))
            properties.append(orjson.dumps(others))
        yield Batch(
            geolocate(table, georeference),
            provenance.identify(table),
            classes.array(),
            feature_classes,
            properties,
        )


class _Classes:
    """A column of lists of classes, grown a list at a time."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._scores: list[float] = []
        self._ends = [0]

    def add(self, classes: list[dict[str, Any]]) -> None:
        self._names += [each["iri"] for each in classes]
        self._scores += [each["score"] for each in classes]
        self._ends.append(len(self._names))

    def array(self) -> pa.ListArray:
        columns = [pa.array(self._names, pa.string()), pa.array(self._scores, pa.float64())]
        pairs = pa.StructArray.from_arrays(columns, ["iri", "score"])
        return pa.ListArray.from_arrays(pa.array(self._ends, pa.int32()), pairs)


def _regrouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of tables in tables of `SIZE` rows, the last of fewer."""
    pieces: list[pa.Table] = []
    missing = SIZE
    for table in tables:
        start = 0
        while start < len(table):
            piece = _copied(table.slice(start, missing))  # a slice would hold the whole table
            pieces.append(piece)
            start += len(piece)
            missing -= len(piece)
            if not missing:
                yield pa.concat_tables(pieces).combine_chunks()
                pieces, missing = [], SIZE
        del table  # before the next is loaded
    if pieces:
        yield pa.concat_tables(pieces).combine_chunks()


def _copied(table: pa.Table) -> pa.Table:
    return table.take(np.arange(len(table)))
