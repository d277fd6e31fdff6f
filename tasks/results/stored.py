"""The results of tiles, and of regions as they are stored for the merge: Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import PublishError
from tasks.grid.tiles import Grid, Region, Tile
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState
from tasks.storage import objects

_DECIDED = "decided"  # metadata of the deferred table: the number of decided detections


@dataclass(frozen=True)
class TileResults:
    """The detections and the ledger of a batch of tiles, or of a region.

    Attributes:
        detections: Table of `detections.SCHEMA`, in pixels of the full image.
        ledger: Table of `coverage.SCHEMA`.
    """

    detections: pa.Table
    ledger: pa.Table


def gather(results: Iterable[TileResults]) -> TileResults:
    """Several results as one, in the order of the grid."""
    parts = list(results)
    return TileResults(
        detections.concatenate([part.detections for part in parts]),
        coverage.concatenate([part.ledger for part in parts]),
    )


def without_detections(tiles: Iterable[Tile], state: TileState, reason: str = "") -> TileResults:
    """The results of tiles that were not sent to the model, or whose region was lost."""
    records = [TileRecord(tile, state, reason) for tile in tiles]
    return TileResults(detections.SCHEMA.empty_table(), coverage.ledger(records))


def save(
    decided: Iterable[pa.Table], deferred: pa.Table, ledger: pa.Table, work_uri: str, region: Region
) -> None:
    """Store the results of a region. The ledger is last: a region without one is unfinished.

    Args:
        decided: Tables of `detections.SCHEMA`, by tile and ordinal: detections that are final.
        deferred: Table of `detections.SCHEMA`: detections that the merge decides.
        ledger: Table of `coverage.SCHEMA`, of the whole region.
        work_uri: Folder or s3:// prefix of the image's run.
        region: The region.

    Raises:
        PublishError: They cannot be stored.
    """
    sink, count = pa.BufferOutputStream(), 0
    with pq.ParquetWriter(sink, detections.SCHEMA, compression="zstd") as writer:
        for table in decided:
            writer.write_table(table)
            count += len(table)
    objects.put(_uri(work_uri, region, "decided"), bytes(sink.getvalue()))
    objects.put(
        _uri(work_uri, region, "deferred"),
        _parquet(deferred.replace_schema_metadata({_DECIDED: str(count)})),
    )
    objects.put(_uri(work_uri, region, "ledger"), _parquet(ledger))


def load_ledger(work_uri: str, region: Region) -> pa.Table:
    """The stored ledger of a region.

    Raises:
        PublishError: It does not exist, or cannot be read.
    """
    return _load(work_uri, region, "ledger")


@dataclass(frozen=True)
class StoredResults:
    """The stored results of an image's regions, read a part at a time to save memory.

    Attributes:
        work_uri: Folder or s3:// prefix of the image's run.
        regions: The regions that stored results, by index.
        grid: All tiles of the image.
    """

    work_uri: str
    regions: Sequence[Region]
    grid: Grid

    def deferred(self) -> tuple[pa.Table, int]:
        """All deferred detections, for the merge, and the number of decided ones."""
        tables = [_load(self.work_uri, region, "deferred") for region in self.regions]
        decided = sum(int(table.schema.metadata[_DECIDED.encode()]) for table in tables)
        return detections.concatenate([t.replace_schema_metadata() for t in tables]), decided

    def all_detections(self, merged: pa.Table) -> Iterator[pa.Table]:
        """The detections of the image by tile and ordinal: one table for each row of regions.

        Args:
            merged: The deferred detections that remain after the merge.
        """
        tiles, across = merged["tile"].to_numpy(), len(self.grid.columns)
        start = 0
        for row_stop, side_by_side in groupby(self.regions, lambda region: region.row_stop):
            stop = int(np.searchsorted(tiles, row_stop * across))
            decided = [_load(self.work_uri, region, "decided") for region in side_by_side]
            yield detections.concatenate([merged.slice(start, stop - start), *decided])
            start = stop


def _load(work_uri: str, region: Region, part: str) -> pa.Table:
    uri = _uri(work_uri, region, part)
    try:
        return pq.read_table(pa.BufferReader(objects.get(uri)))
    except (OSError, pa.ArrowException) as error:
        raise PublishError(
            f"Cannot read {uri}, the stored results of a region: {error}. Send the request again."
        ) from error


def _uri(work_uri: str, region: Region, part: str) -> str:
    return objects.join(work_uri, f"region-{region.index:05}.{part}.parquet")


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
