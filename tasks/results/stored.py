"""What tiles gave: their detections and their lines of the ledger, kept between runs as Parquet."""

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

_DECIDED = "decided"  # in the metadata of what was deferred: how many were not


@dataclass(frozen=True)
class TileResults:
    """What a batch, a region or an image gave.

    Attributes:
        detections: Table of `detections.SCHEMA`, in pixels of the full image.
        ledger: Table of `coverage.SCHEMA`.
    """

    detections: pa.Table
    ledger: pa.Table


def gather(findings: Iterable[TileResults]) -> TileResults:
    """Several findings as one, in the order of the grid, whatever order they came in."""
    parts = list(findings)
    return TileResults(
        detections.concatenate([part.detections for part in parts]),
        coverage.concatenate([part.ledger for part in parts]),
    )


def without_detections(tiles: Iterable[Tile], state: TileState, reason: str = "") -> TileResults:
    """The findings of tiles that no model was asked about, or whose run was lost."""
    records = [TileRecord(tile, state, reason) for tile in tiles]
    return TileResults(detections.SCHEMA.empty_table(), coverage.ledger(records))


def save(
    decided: Iterable[pa.Table], deferred: pa.Table, ledger: pa.Table, work_uri: str, region: Region
) -> None:
    """Keep what a region's run came to; one without a ledger was not finished.

    Args:
        decided: Detections that are published as they are, `detections.SCHEMA`, table
            after table, in order.
        deferred: Those that wait for the merge, likewise.
        ledger: Of the whole region, `coverage.SCHEMA`.
        work_uri: Folder or s3:// prefix of the image's run.
        region: Whose findings they are.
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
    """The ledger that a region's run kept."""
    return _load(work_uri, region, "ledger")


@dataclass(frozen=True)
class StoredResults:
    """What the runs of regions kept, a part of it in memory at a time.

    Attributes:
        work_uri: Folder or s3:// prefix of the image's run.
        regions: Those that kept something, in their order.
        grid: All tiles of the image.
    """

    work_uri: str
    regions: Sequence[Region]
    grid: Grid

    def deferred(self) -> tuple[pa.Table, int]:
        """All that had to wait, for the merge; and how many detections had not."""
        tables = [_load(self.work_uri, region, "deferred") for region in self.regions]
        decided = sum(int(table.schema.metadata[_DECIDED.encode()]) for table in tables)
        return detections.concatenate([t.replace_schema_metadata() for t in tables]), decided

    def bands(self, merged: pa.Table) -> Iterator[pa.Table]:
        """An image's detections in their order, those of regions side by side in a table.

        Args:
            merged: What the merge made of those that had to wait.
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
            f"Cannot read {uri}, which a region's run kept: {error}. Send the request again."
        ) from error


def _uri(work_uri: str, region: Region, part: str) -> str:
    return objects.join(work_uri, f"region-{region.index:05}.{part}.parquet")


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
