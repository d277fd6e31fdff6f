"""The parts in which answers of a model are kept: what their names say, and what they hold.

A part is one object with the detections of some tiles, as the model gave them, and their lines of
the ledger. It is stored whole or not at all, under a name of the attempt that wrote it, so that
two attempts at a region never share one. If the model answers with pixels, their maps are in an
object beside it, which is stored before, and ends with a checksum.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

import pyarrow as pa

from tasks.grid.tiles import Region
from tasks.results import coverage, detections
from tasks.results.tile_results import TileResults
from tasks.storage.checksum import with_checksum, without_checksum

NOT_A_PART = (pa.ArrowException, KeyError, OSError, TypeError, ValueError)
"""What `decode` raises for bytes that are not a part."""

_NAME = re.compile(r"(\d+)-(\d+)x(\d+)-(\d+)\.from-(.+)\.[0-9a-f]{32}\.\d+\.arrow")
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow IPC stream
_MAPS = pa.schema([pa.field("tile", pa.int64()), pa.field("map", pa.large_binary())])
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


@dataclass(frozen=True)
class PartName:
    """The name of a part, with what it says.

    Attributes:
        text: The name.
        block: Tile rows and columns of the region: first row, one after the last, and so on.
        least_score: The score from which on the model's detections are complete.
    """

    text: str
    block: tuple[int, ...]
    least_score: float

    def meets(self, region: Region) -> bool:
        """Whether the part may have tiles of a region."""
        row_start, row_stop, column_start, column_stop = self.block
        in_rows = region.row_start < row_stop and row_start < region.row_stop
        return in_rows and region.column_start < column_stop and column_start < region.column_stop


def names_of_attempt(region: Region, least_score: float) -> Iterator[str]:
    """The names of the parts of a new attempt at a region, without an end."""
    attempt = uuid4().hex
    return (f"{region.block}.from-{least_score}.{attempt}.{number:05}.arrow" for number in count())


def part_names(names: Iterable[str]) -> Iterator[PartName]:
    """The names of parts among those of objects, sorted."""
    for text in sorted(names):
        if found := _NAME.fullmatch(text):
            *block, least_score = found.groups()
            yield PartName(text, tuple(map(int, block)), float(least_score))


def encode(results: TileResults) -> bytes:
    """The bytes of a part: the ledger and the detections, each an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    for table in (results.ledger, results.detections):
        with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
            writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def decode(body: bytes) -> TileResults:
    """The content of a part; raises one of `NOT_A_PART` for other bytes."""
    if not body.endswith(_END):  # Arrow reads a stream that is cut between two batches as whole
        raise ValueError("it is cut off")
    source = pa.BufferReader(body)
    ledger, table = (pa.ipc.open_stream(source).read_all() for _ in range(2))
    ledger = coverage.completed(ledger)
    if (ledger.schema, table.schema) != (coverage.SCHEMA, detections.SCHEMA):
        raise ValueError("it has other columns, as of another version of Swath")
    return TileResults(table, ledger)


def maps_of(part: str) -> str:
    """The name of the object with the maps of a part."""
    return part.removesuffix(".arrow") + ".maps"


def encode_maps(maps: Mapping[int, bytes]) -> bytes:
    """The bytes of the maps of a part, given by the index of the tile."""
    tiles = sorted(maps)
    table = pa.table([pa.array(tiles), [maps[tile] for tile in tiles]], schema=_MAPS)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _MAPS) as writer:
        writer.write_table(table)
    return with_checksum(memoryview(sink.getvalue()))


def decode_maps(body: bytes) -> dict[int, memoryview]:
    """The maps of a part by the index of the tile; raises one of `NOT_A_PART` for other bytes."""
    table = pa.ipc.open_stream(pa.BufferReader(without_checksum(body))).read_all()
    maps = (memoryview(each.as_buffer()) for each in table["map"])
    return dict(zip(table["tile"].to_pylist(), maps, strict=True))
