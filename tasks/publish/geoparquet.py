"""Features as GeoParquet 1.1, sorted along a Hilbert curve: a reader of a bbox skips the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from math import isqrt
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.features import Features
from tasks.publish.geometry_wkb import wkb
from tasks.publish.geoparquet_writer import GEOMETRY_FIELDS, Columns, geoparquet_writer
from tasks.publish.hilbert import ORDER, hilbert_index
from tasks.publish.image_results import ImageResults
from tasks.publish.measures import MEASURES
from tasks.publish.sorted_rows import KEY, SortedRows
from tasks.results.detections import EMBEDDING, boxes

_CLASS = pa.struct([("iri", pa.string()), ("score", pa.float64())])
_TIME = pa.timestamp("ms", tz="UTC")

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *GEOMETRY_FIELDS,
        pa.field("score", pa.float64(), nullable=False),  # of the best class
        pa.field("class", pa.string(), nullable=False),  # the best class
        pa.field("feature_classes", pa.list_(_CLASS), nullable=False),
        pa.field("image_x_min", pa.float64(), nullable=False),  # pixels of the full image
        pa.field("image_y_min", pa.float64(), nullable=False),
        pa.field("image_x_max", pa.float64(), nullable=False),
        pa.field("image_y_max", pa.float64(), nullable=False),
        pa.field("image_geometry", pa.binary(), nullable=False),  # WKB, pixels of the full image
        pa.field("center_longitude", pa.float64()),
        pa.field("center_latitude", pa.float64()),
        pa.field("job_id", pa.string(), nullable=False),
        pa.field("image_url", pa.string(), nullable=False),
        pa.field("inference_dt", _TIME, nullable=False),
        pa.field("source_metadata", pa.string(), nullable=False),  # JSON list
        pa.field("properties", pa.string(), nullable=False),  # JSON object: model's and request's
        pa.field("area_square_metres", pa.float64()),  # of `geometry`, on the ellipsoid
        pa.field("acquired", _TIME),  # when the image was taken
    ]
)
_REPEATED = (
    "class",
    "feature_classes.list.element.iri",
    "job_id",
    "image_url",
    "inference_dt",
    "source_metadata",
    "properties",
    "acquired",
)

# A read of a bbox takes the footer, which is longer the more row groups there are, and what else is
# in the row groups that it meets, which is more the larger they are. Both are least in a group of
# the geometric mean of all rows' bytes and of a footer's bytes for a group, with a factor.
_GROUP_SCALE = 1536
_MIN_GROUP = 1 << 18  # bytes before compression
_BOUNDS = np.array([0.6, 1.4])  # of a group: shares of what is best
_ROW_BYTES = 200  # of what has the same length in every row


@contextmanager
def geoparquet_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as GeoParquet, in the order of the Hilbert curve through the image's pixels.

    Features whose boxes have their centres in the same cell of the curve are in the order of tile
    and ordinal. Neither the order nor the row groups depend on how the features are divided into
    batches.

    Without a georeference, `geometry` is in pixels like `image_geometry`.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    metadata = results.metadata
    georeferenced = results.georeference is not None
    schema = _schema(metadata)
    runs = path.with_name(f"{path.name}.runs")
    rows, cells = SortedRows(runs), _Cells(results.ledger)
    count = total = 0
    with geoparquet_writer(
        path,
        schema,
        metadata.provenance,
        georeferenced=georeferenced,
        repeated=_REPEATED,
    ) as writer:

        def write(batch: FeatureBatch) -> None:
            nonlocal count, total
            features = batch.features
            geometries = features.world if georeferenced else features.image.counterclockwise()
            numbers = np.arange(count, count + len(features), dtype=np.uint64)
            table = pa.table(
                {
                    KEY.name: cells.index(features) << np.uint64(32) | numbers,
                    **_own_columns(batch, metadata),
                    **writer.geometry_columns(geometries),
                }
            )
            count += len(features)
            total += int(_sizes(table).sum())
            rows.add(table)

        try:
            yield write
            size = max(_MIN_GROUP, isqrt(total * _GROUP_SCALE))
            for group in _row_groups(rows.read(), size):
                columns = dict(zip(group.column_names, group.columns, strict=True))
                columns |= _shared_columns(len(group), metadata)
                del columns[KEY.name]
                writer.write_row_group(pa.table(columns, schema=schema))
        finally:
            runs.unlink(missing_ok=True)


def _schema(metadata: FeatureMetadata) -> pa.Schema:
    schema = SCHEMA
    if metadata.oriented:
        for name in MEASURES:
            schema = schema.append(pa.field(name, pa.float64()))
    if metadata.embedding_size is not None:
        vector = pa.list_(pa.float32(), metadata.embedding_size)  # of a fixed size
        schema = schema.append(pa.field(EMBEDDING, vector, nullable=False))
    return schema


class _Cells:
    """The cells of the Hilbert curve: squares that cover the image, 2^n pixels wide."""

    def __init__(self, ledger: pa.Table) -> None:
        corner = (("x", "width"), ("y", "height"))
        ends = [pc.max(pc.add(ledger[start], ledger[length])) for start, length in corner]
        side = max(end.as_py() or 1 << ORDER for end in ends)
        self._scale = 2.0 ** (ORDER - (side - 1).bit_length())  # cells of a pixel

    def index(self, features: Features) -> NDArray[np.uint64]:
        """(n,) positions of the cells with the centres of features' boxes along the curve.

        Features over the antimeridian or a pole come last: their extents reach around the Earth,
        as would those of all row groups that have one.
        """
        found = boxes(features.table)
        centers = (found[:, :2] + found[:, 2:]) / 2
        cells = np.clip(centers * self._scale, 0, (1 << ORDER) - 1).astype(np.uint32)
        index = hilbert_index(cells[:, 0], cells[:, 1]).astype(np.uint64)
        west, _, east, _ = features.bboxes.T
        index[(west > east) | (east - west == 360)] = (1 << 2 * ORDER) - 1
        return index


def _row_groups(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Sorted rows in row groups of about a number of bytes.

    Each ends where the coarsest cells of the curve meet that are near: a group's extent is then
    nearly a square, which fewer boxes meet. Groups depend on the rows alone, not on the tables.
    """
    rest = pa.table({})
    for table in tables:
        rest = pa.concat_tables([rest, table]) if len(rest) else table
        ends = np.cumsum(_sizes(rest))
        cells = rest[KEY.name].to_numpy() >> np.uint64(32)
        steps = cells[1:] ^ cells[:-1]
        start = before = 0
        while len(rest) - start > 1 and ends[-2] - before > size * _BOUNDS[1]:
            nearest, farthest = np.searchsorted(ends, before + size * _BOUNDS).tolist()
            end = 1 + nearest + int(np.argmax(steps[nearest : farthest + 1]))
            yield rest.slice(start, end - start)
            start, before = end, int(ends[end - 1])
        rest = rest.slice(start)
    if len(rest):
        yield rest


def _sizes(table: pa.Table) -> NDArray[np.int64]:
    """(n,) bytes of rows before compression, nearly."""
    sizes = np.full(len(table), _ROW_BYTES, np.int64)
    for name in ("geometry", "image_geometry", "properties"):
        sizes += pc.fill_null(pc.binary_length(table[name]), 0).to_numpy()
    if EMBEDDING in table.column_names:
        sizes += 4 * table.schema.field(EMBEDDING).type.list_size
    return sizes


def _own_columns(batch: FeatureBatch, metadata: FeatureMetadata) -> Columns:
    """The columns of a batch's features that are not the same in all of them."""
    features = batch.features
    table = features.table
    missing = features.world.missing
    own: dict[str, pa.Array] = {}
    if metadata.oriented:
        own |= batch.measures
    if batch.embeddings is not None:
        numbers = pa.array(batch.embeddings.ravel())
        own[EMBEDDING] = pa.FixedSizeListArray.from_arrays(numbers, batch.embeddings.shape[1])
    return {
        "id": batch.ids,
        "score": table["score"],
        "class": table["class_name"],
        "feature_classes": batch.classes,
        "image_x_min": table["x_min"],
        "image_y_min": table["y_min"],
        "image_x_max": table["x_max"],
        "image_y_max": table["y_max"],
        "image_geometry": wkb(features.image),
        "center_longitude": pa.array(features.centers[:, 0], mask=missing),
        "center_latitude": pa.array(features.centers[:, 1], mask=missing),
        "properties": pa.array(batch.properties, pa.string()),
        "area_square_metres": batch.areas,
        **own,
    }


def _shared_columns(count: int, metadata: FeatureMetadata) -> Columns:
    """The columns with one value, for a number of rows."""
    time = datetime.fromisoformat(metadata.provenance.time)
    source_metadata = orjson.dumps(list(metadata.source_metadata)).decode()
    return {
        "job_id": pa.repeat(metadata.provenance.job, count),
        "image_url": pa.repeat(metadata.provenance.image, count),
        "inference_dt": pa.repeat(pa.scalar(time, _TIME), count),
        "source_metadata": pa.repeat(source_metadata, count),
        "acquired": pa.repeat(pa.scalar(metadata.acquired, _TIME), count),
    }
