"""What tiles gave: their detections and their lines of the ledger, kept between runs as Parquet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import coverage, detections, store
from tasks.coverage import TileRecord, TileState
from tasks.tiling import Region, Tile


@dataclass(frozen=True)
class Findings:
    """What a batch, a region or an image gave.

    Attributes:
        detections: Table of `tasks.detections.SCHEMA`, in pixels of the full image.
        ledger: Table of `tasks.coverage.SCHEMA`.
    """

    detections: pa.Table
    ledger: pa.Table


def gather(findings: Iterable[Findings]) -> Findings:
    """Several findings as one, in the order of the grid, whatever order they came in."""
    parts = list(findings)
    return Findings(
        detections.concatenate([part.detections for part in parts]),
        coverage.concatenate([part.ledger for part in parts]),
    )


def without_detections(tiles: Iterable[Tile], state: TileState, reason: str = "") -> Findings:
    """The findings of tiles that no model was asked about, or whose run was lost."""
    records = [TileRecord(tile, state, reason) for tile in tiles]
    return Findings(detections.SCHEMA.empty_table(), coverage.ledger(records))


def save(findings: Findings, work_uri: str, region: Region) -> None:
    """Keep a region's findings for the merge; a region without a ledger was not finished.

    Args:
        findings: Of the whole region.
        work_uri: Folder or s3:// prefix of the image's run.
        region: Whose findings they are.
    """
    store.put(_uri(work_uri, region, "detections"), _parquet(findings.detections))
    store.put(_uri(work_uri, region, "ledger"), _parquet(findings.ledger))


def load(work_uri: str, region: Region) -> Findings:
    """The findings that a region's run kept."""
    return Findings(
        *(
            pq.read_table(pa.BufferReader(store.get(_uri(work_uri, region, part))))
            for part in ("detections", "ledger")
        )
    )


def _uri(work_uri: str, region: Region, part: str) -> str:
    return store.join(work_uri, f"region-{region.index:05}.{part}.parquet")


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
