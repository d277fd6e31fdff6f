"""Compressed blocks of a raster, stored in a few objects while it is put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

import pyarrow as pa

from tasks.errors import PublishError
from tasks.storage import objects
from tasks.storage.checksum import with_checksum, without_checksum

_OBJECT_BYTES = 16 << 20
_LONGEST_READ = 8 << 20  # bytes of blocks that lie side by side and are read at once
_INDEX = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("level", "row", "column")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("object", "offset", "length")),
    ]
)


class Place(NamedTuple):
    """Where a block belongs: level 0 is the raster itself, each further one has half its size."""

    layer: str
    level: int
    row: int
    column: int


class _Stored(NamedTuple):
    uri: str
    offset: int
    length: int


class _Part(NamedTuple):
    object: int
    offset: int
    length: int


class BlockWriter:
    """Stores blocks as they come; a context manager that completes them with an index."""

    def __init__(self, prefix: str, stored: Blocks | None = None) -> None:
        """Store nothing yet.

        Args:
            prefix: First part of the objects' URIs, which no other attempt has.
            stored: Is told of the blocks once they are stored and can be read.
        """
        self._prefix, self._buffer, self._number = prefix, bytearray(), 0
        self._index: dict[Place, _Part] = {}
        self._stored = Blocks() if stored is None else stored

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store the rest and the index, unless there was an error."""
        if error is None:
            self.flush()
            rows = [{**place._asdict(), **found._asdict()} for place, found in self._index.items()]
            table = pa.Table.from_pylist(rows, schema=_INDEX)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, _INDEX) as writer:
                writer.write_table(table)
            objects.put(index_of(self._prefix), with_checksum(memoryview(sink.getvalue())))

    def add(self, place: Place, body: bytes) -> None:
        """Take a block.

        Raises:
            PublishError: It cannot be stored.
        """
        self._index[place] = _Part(self._number, len(self._buffer), len(body))
        self._buffer += body
        if len(self._buffer) >= _OBJECT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Store all that has come so far, so that it can be read.

        Raises:
            PublishError: It cannot be stored.
        """
        if not self._buffer:
            return
        uri = _object(self._prefix, self._number)
        objects.put(uri, bytes(self._buffer))
        for place, (number, offset, length) in self._index.items():
            if number == self._number:
                self._stored.add(place, uri, offset, length)
        self._buffer, self._number = bytearray(), self._number + 1


@dataclass(frozen=True)
class _Run:
    """Blocks that lie side by side in one object."""

    uri: str
    offset: int
    lengths: Sequence[int]


class Blocks:
    """Where the blocks of a raster are stored, in objects of any number of writers."""

    def __init__(self) -> None:
        """Start without a block."""
        self._stored: dict[Place, _Stored] = {}

    def __contains__(self, place: Place) -> bool:
        """Whether a block is stored."""
        return place in self._stored

    def add(self, place: Place, uri: str, offset: int, length: int) -> None:
        """Take note of a block."""
        self._stored[place] = _Stored(uri, offset, length)

    def add_all(self, prefix: str) -> None:
        """Take note of all blocks of a writer.

        Raises:
            PublishError: Its index cannot be read.
        """
        uri = index_of(prefix)
        try:
            index = without_checksum(objects.get(uri))
        except ValueError as error:
            raise PublishError(
                f"Cannot read {uri}, the index of stored blocks: {error}. Send the request again."
            ) from error
        for row in pa.ipc.open_stream(pa.BufferReader(index)).read_all().to_pylist():
            place = Place(row["layer"], row["level"], row["row"], row["column"])
            self.add(place, _object(prefix, row["object"]), row["offset"], row["length"])

    def length(self, place: Place) -> int:
        """Bytes of a block."""
        return self._stored[place].length

    def read(self, places: Sequence[Place]) -> Iterator[bytes]:
        """The bytes of blocks, in the order given; those that lie side by side are read at once.

        Raises:
            PublishError: A block cannot be read.
        """
        for run in self._runs(places):
            body = objects.get_range(run.uri, run.offset, sum(run.lengths))
            start = 0
            for length in run.lengths:
                yield body[start : start + length]
                start += length

    def _runs(self, places: Sequence[Place]) -> Iterator[_Run]:
        at = 0
        while at < len(places):
            uri, offset, length = self._stored[places[at]]
            lengths, end = [length], offset + length
            at += 1
            while at < len(places) and end - offset < _LONGEST_READ:
                following = self._stored[places[at]]
                if (following.uri, following.offset) != (uri, end):
                    break
                lengths.append(following.length)
                end, at = end + following.length, at + 1
            yield _Run(uri, offset, lengths)


def index_of(prefix: str) -> str:
    """The URI of a writer's index."""
    return f"{prefix}.blocks.arrow"


def _object(prefix: str, number: int) -> str:
    return f"{prefix}.{number:05}.blocks"
