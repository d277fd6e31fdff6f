"""Compressed blocks of a raster, stored in a few objects while it is put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import PublishError
from tasks.raster.levels import level_shape, level_sizes
from tasks.raster.threads import in_order
from tasks.storage import objects
from tasks.storage.checksum import with_checksum, without_checksum

_OBJECT_BYTES = 16 << 20
_LONGEST_READ = 2 << 20  # bytes of blocks that lie side by side and are read at once
_READS, _AHEAD = 8, 16 << 20  # requests at the same time, and bytes that are read ahead
_INDEX = pa.schema(
    [
        pa.field("layer", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("level", "row", "column")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("object", "offset", "length")),
    ]
)
_STORED = np.dtype([("object", np.int32), ("offset", np.int64), ("length", np.int32)])
"""Where a block is stored: the number of an object from 1 (0 for none), and its bytes there."""


class Place(NamedTuple):
    """Where a block belongs: level 0 is the raster itself, each further one has half its size."""

    layer: str
    level: int
    row: int
    column: int


class Stored(NamedTuple):
    """Where a block is stored: in an object of a writer, by its number."""

    place: Place
    object: int
    offset: int
    length: int


@dataclass
class _Buffer:
    """Blocks of a layer that are not stored yet."""

    body: bytearray = field(default_factory=bytearray)
    blocks: list[tuple[Place, int, int]] = field(default_factory=list)


class BlockWriter:
    """Stores blocks as they come; an object has blocks of one layer."""

    def __init__(self, prefix: str, announce: Callable[[Stored], None]) -> None:
        """Store nothing yet.

        Args:
            prefix: First part of the objects' URIs, which no other attempt has.
            announce: Is told of each block when it is stored and can be read.
        """
        self._prefix, self._announce, self._number = prefix, announce, 0
        self._buffers: dict[str, _Buffer] = {}

    def add(self, place: Place, body: bytes) -> None:
        """Take a block.

        Raises:
            PublishError: It cannot be stored.
        """
        buffer = self._buffers.setdefault(place.layer, _Buffer())
        buffer.blocks.append((place, len(buffer.body), len(body)))
        buffer.body += body
        if len(buffer.body) >= _OBJECT_BYTES:
            self._store(self._buffers.pop(place.layer))

    def flush(self) -> None:
        """Store all that has come so far, so that it can be read.

        Raises:
            PublishError: It cannot be stored.
        """
        while self._buffers:
            self._store(self._buffers.popitem()[1])

    def _store(self, buffer: _Buffer) -> None:
        objects.put(_object(self._prefix, self._number), bytes(buffer.body))
        for place, offset, length in buffer.blocks:
            self._announce(Stored(place, self._number, offset, length))
        self._number += 1


@contextmanager
def indexed_blocks(prefix: str) -> Iterator[BlockWriter]:
    """Store blocks, and at the end an index of them that `Blocks.add_all` reads.

    Args:
        prefix: First part of the objects' URIs, which no other attempt has.

    Raises:
        PublishError: They cannot be stored.
    """
    stored: list[Stored] = []
    writer = BlockWriter(prefix, stored.append)
    yield writer
    writer.flush()
    rows = [(*block.place, *block[1:]) for block in stored]
    columns = list(zip(*rows, strict=True)) or [()] * len(_INDEX)
    table = pa.table(columns, schema=_INDEX)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _INDEX) as stream:
        stream.write_table(table)
    objects.put(_index(prefix), with_checksum(memoryview(sink.getvalue())))


@dataclass(frozen=True)
class _Run:
    """Blocks that lie side by side in one object."""

    uri: str
    offset: int
    lengths: Sequence[int]

    def read(self) -> list[bytes]:
        """The bytes of each block."""
        body = objects.get_range(self.uri, self.offset, sum(self.lengths))
        ends = list(accumulate(self.lengths))
        return [body[end - length : end] for end, length in zip(ends, self.lengths, strict=True)]


class Blocks:
    """Where the blocks of a raster are stored, in objects of any number of writers."""

    def __init__(self, width: int, height: int) -> None:
        """Start without a block.

        Args:
            width: Pixels of the raster.
            height: Pixels of the raster.
        """
        self._shapes = [level_shape(size) for size in level_sizes(width, height)]
        self._uris: list[str] = []
        self._numbers: dict[str, int] = {}
        self._stored: dict[tuple[str, int], NDArray[Any]] = {}

    def writer(self, prefix: str) -> BlockWriter:
        """A writer whose blocks belong to these as soon as they are stored.

        Args:
            prefix: First part of the objects' URIs, which no other attempt has.
        """

        def announce(block: Stored) -> None:
            uri = _object(prefix, block.object)
            stored = self._level(block.place.layer, block.place.level)
            stored[block.place.row, block.place.column] = (
                self._number(uri), block.offset, block.length,
            )  # fmt: skip

        return BlockWriter(prefix, announce)

    def add_all(self, prefix: str) -> None:
        """Take note of all blocks of `indexed_blocks`.

        Raises:
            PublishError: Their index cannot be read.
        """
        uri = _index(prefix)
        try:
            index = without_checksum(objects.get(uri))
        except ValueError as error:
            raise PublishError(
                f"Cannot read {uri}, the index of stored blocks: {error}. Send the request again."
            ) from error
        table = pa.ipc.open_stream(pa.BufferReader(index)).read_all()
        layers = np.array(table["layer"].to_pylist(), dtype=object)
        columns = {name: table[name].to_numpy() for name in table.column_names[1:]}
        numbers = [
            self._number(_object(prefix, each))
            for each in range(int(columns["object"].max(initial=-1)) + 1)
        ]
        for layer in dict.fromkeys(layers):
            for level in np.unique(columns["level"][layers == layer]):
                mine = (layers == layer) & (columns["level"] == level)
                place = columns["row"][mine], columns["column"][mine]
                stored = self._level(layer, int(level))
                stored["object"][place] = np.array(numbers)[columns["object"][mine]]
                stored["offset"][place] = columns["offset"][mine]
                stored["length"][place] = columns["length"][mine]

    def missing(self, layer: str) -> NDArray[np.int64]:
        """(n, 2) row and column of each block of the raster itself that is not stored."""
        return np.argwhere(self._level(layer, 0)["object"] == 0)

    def lengths(self, layer: str, level: int) -> NDArray[np.int32]:
        """(rows, columns) bytes of each block of a level."""
        lengths: NDArray[np.int32] = self._level(layer, level)["length"]
        return lengths

    def read(self, places: Iterable[Place]) -> Iterator[bytes]:
        """The bytes of blocks, in the order given, read ahead.

        Those that lie side by side are read at once.

        Raises:
            PublishError: A block cannot be read.
        """
        runs = self._runs(places)
        weight: Callable[[_Run], int] = lambda run: sum(run.lengths)
        for bodies in in_order(_Run.read, runs, threads=_READS, weight=weight, most=_AHEAD):
            yield from bodies

    def _runs(self, places: Iterable[Place]) -> Iterator[_Run]:
        number, first, end = 0, 0, 0
        lengths: list[int] = []
        for layer, level, row, column in places:
            its_object, offset, length = self._level(layer, level)[row, column].item()
            if lengths and ((its_object, offset) != (number, end) or end - first >= _LONGEST_READ):
                yield _Run(self._uris[number - 1], first, lengths)
                lengths = []
            if not lengths:
                number, first = its_object, offset
            lengths.append(length)
            end = offset + length
        if lengths:
            yield _Run(self._uris[number - 1], first, lengths)

    def _level(self, layer: str, level: int) -> NDArray[Any]:
        if (layer, level) not in self._stored:
            self._stored[layer, level] = np.zeros(self._shapes[level], _STORED)
        return self._stored[layer, level]

    def _number(self, uri: str) -> int:
        if uri not in self._numbers:
            self._uris.append(uri)
            self._numbers[uri] = len(self._uris)
        return self._numbers[uri]


def _index(prefix: str) -> str:
    return f"{prefix}.blocks.arrow"


def _object(prefix: str, number: int) -> str:
    return f"{prefix}.{number:05}.blocks"
