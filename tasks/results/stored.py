"""What regions came to, stored for the merge: Parquet files, and one small object that names them.

Each attempt at a region writes files of its own. The object that names them is written last, and
only if no other attempt that began with the same knowledge has ended before: so the files of two
attempts are never mixed, even if one of the two was thought dead.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from sys import intern
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.errors import DamagedStoreError, PublishError
from tasks.grid.tiles import Grid, Region
from tasks.results import coverage, detections
from tasks.results.coverage import TileState
from tasks.storage import conditional, objects

logger = logging.getLogger(__name__)

_NAME = re.compile(r"(\d+-\d+x\d+-\d+)\.(\d+)\.json")
_PARTS = ("decided", "deferred", "ledger")
_MAPS = "maps"  # of a painted region: the part of the kept answers that has the map of each tile


class StoredRegion(BaseModel):
    """What a region came to in one attempt.

    Attributes:
        parts: First part of the names of its files.
        number: 1 for the first attempt that ended, 2 for the next that began after that, and so on.
        tiles: Number of tiles in each state.
        decided: Number of detections that are final.
        painted: Whether it is of a raster: blocks are stored with it, and where its maps are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: str
    number: int
    tiles: dict[str, int]
    decided: int
    painted: bool = False

    @property
    def complete(self) -> bool:
        """Whether no tile failed."""
        return self.tiles[TileState.FAILED] == 0

    @property
    def block(self) -> str:
        """Tile rows and columns of the region, as in the names of its files."""
        return self.parts.partition(".")[0]

    @property
    def text(self) -> bytes:
        """It as JSON, as it is stored."""
        return self.model_dump_json().encode()

    def file(self, part: str) -> str:
        """The name of one of its files."""
        return f"{self.parts}.{part}.parquet"

    @property
    def files(self) -> Sequence[str]:
        """The names of all its files but those of blocks, which can be painted again."""
        return [self.file(part) for part in (*_PARTS, *[_MAPS] * self.painted)]


@dataclass(frozen=True)
class RegionStore:
    """The store of what the regions of an image came to, for one way of merging.

    The methods raise `PublishError` if the store does not answer.

    Attributes:
        folder: Folder or s3:// prefix.
    """

    folder: str

    def latest(self, regions: Sequence[Region]) -> dict[int, StoredRegion]:
        """What each region came to last, by its index; regions that came to nothing are left out.

        What cannot be read, or lacks a file, counts as nothing, and is removed.

        Args:
            regions: Any regions of the image.
        """
        names = set(objects.list_names(self.folder))
        numbers: dict[str, list[int]] = defaultdict(list)
        for name in names:
            if found := _NAME.fullmatch(name):
                numbers[found[1]].append(int(found[2]))
        latest = {
            region.index: self._last_whole(region.block, numbers[region.block], names)
            for region in regions
            if region.block in numbers
        }
        return {index: stored for index, stored in latest.items() if stored}

    def save(
        self,
        region: Region,
        number: int,
        decided: Iterable[pa.Table],
        deferred: pa.Table,
        ledger: pa.Table,
        *,
        paint: Callable[[str], Mapping[int, str]] | None = None,
    ) -> StoredRegion:
        """Store what a region came to, unless another attempt with the same number has ended.

        Args:
            region: The region.
            number: One more than that of `latest` when this attempt began; 1 if there was none.
            decided: Tables of `detections.SCHEMA`, by tile and ordinal: detections that are final.
            deferred: Table of `detections.SCHEMA`: detections that the merge decides.
            ledger: Table of `coverage.SCHEMA`, of the whole region.
            paint: Stores the blocks of its raster, in objects whose URIs begin as given; returns
                what `maps` gives. None for a model that answers with features.

        Returns:
            What counts: this attempt's, or that of the other.
        """
        sink, count = pa.BufferOutputStream(), 0
        with pq.ParquetWriter(sink, detections.SCHEMA, compression="zstd") as writer:
            for table in decided:
                writer.write_table(table)
                count += len(table)
        tiles = coverage.count(ledger)
        parts = f"{region.block}.{uuid4().hex}"
        painted = paint is not None
        mine = StoredRegion(parts=parts, number=number, tiles=tiles, decided=count, painted=painted)
        if paint:
            maps = paint(self.blocks(mine))
            columns = {
                "tile": pa.array(maps, pa.int64()),
                "part": pa.array(maps.values(), pa.string()),
            }
            objects.put(self._uri(mine, _MAPS), _parquet(pa.table(columns)))
        objects.put(self._uri(mine, "decided"), bytes(sink.getvalue()))
        objects.put(self._uri(mine, "deferred"), _parquet(deferred))
        objects.put(self._uri(mine, "ledger"), _parquet(ledger))
        if conditional.put_new(self._name(mine), mine.text):
            return mine
        counted = self._read(region.block, number)
        if counted != mine:  # it is equal if only the answer of the store was lost
            for name in objects.list_names(self.folder):
                if name.startswith(f"{mine.parts}."):
                    objects.remove_object(objects.join(self.folder, name))
        if counted is None:
            raise PublishError(f"{self._name(mine)} is not stored: it changed meanwhile.")
        return counted

    def blocks(self, stored: StoredRegion) -> str:
        """First part of the URIs of a region's blocks."""
        return objects.join(self.folder, stored.parts)

    def ledger(self, stored: StoredRegion) -> pa.Table:
        """The ledger of a region, `coverage.SCHEMA`."""
        return coverage.completed(self.load(stored, "ledger"))

    def maps(self, stored: StoredRegion) -> dict[int, str]:
        """The name of the part of the kept answers that has the map of each tile, by its index."""
        table = self.load(stored, _MAPS)
        parts = map(intern, table["part"].to_pylist())  # one text for the many tiles of a part
        return dict(zip(table["tile"].to_pylist(), parts, strict=True))

    def withdraw(self, stored: StoredRegion) -> None:
        """Have a region count as one that came to nothing."""
        self._withdraw(self._name(stored), stored.text)

    def load(self, stored: StoredRegion, part: str) -> pa.Table:
        """A file of a region: `decided`, `deferred`, `ledger` or `maps`."""
        uri = self._uri(stored, part)
        found = conditional.read(uri)
        try:
            if found is None:
                raise FileNotFoundError("it is gone")
            return pq.read_table(pa.BufferReader(found[0]))
        except (OSError, pa.ArrowException) as error:
            self.withdraw(stored)
            raise DamagedStoreError(
                f"Cannot read {uri}, the stored results of a region: {error}. Send the request "
                "again: they are made anew of the answers that are kept."
            ) from error

    def _last_whole(
        self, block: str, numbers: Sequence[int], names: Collection[str]
    ) -> StoredRegion | None:
        """What a region came to in the last attempt all of whose files are there."""
        for number in sorted(numbers, reverse=True):
            if stored := self._read(block, number):
                unlisted = [
                    objects.join(self.folder, each) for each in stored.files if each not in names
                ]
                # a listing may lack what was written while it was made
                if all(map(conditional.version_of, unlisted)):
                    return stored
                self.withdraw(stored)
        return None

    def _read(self, block: str, number: int) -> StoredRegion | None:
        """What an attempt came to; None if that cannot be read, or is gone."""
        name = objects.join(self.folder, _name(block, number))
        found = conditional.read(name)
        if found is None:
            return None
        try:
            return StoredRegion.model_validate_json(found[0])
        except ValidationError:
            self._withdraw(name, found[0])
            return None

    def _withdraw(self, name: str, text: bytes) -> None:
        """Remove what names the files of an attempt, as it is of no use, if it is still this."""
        found = conditional.read(name)
        if found and found[0] == text and conditional.remove_if(name, found[1]):
            logger.warning("%s is removed, as it, or a file that it names, is not whole", name)

    def _name(self, stored: StoredRegion) -> str:
        return objects.join(self.folder, _name(stored.block, stored.number))

    def _uri(self, stored: StoredRegion, part: str) -> str:
        return objects.join(self.folder, stored.file(part))


@dataclass(frozen=True)
class StoredResults:
    """The stored results of an image's regions, read a part at a time to save memory.

    Attributes:
        store: Where they are stored.
        regions: The regions that stored results, by index.
        stored: What each of them came to, by its index.
        grid: All tiles of the image.
    """

    store: RegionStore
    regions: Sequence[Region]
    stored: Mapping[int, StoredRegion]
    grid: Grid

    def deferred(self) -> pa.Table:
        """All deferred detections, for the merge."""
        return detections.concatenate([self._load(region, "deferred") for region in self.regions])

    @property
    def decided(self) -> int:
        """The number of decided detections."""
        return sum(self.stored[region.index].decided for region in self.regions)

    def all_detections(self, merged: pa.Table) -> Iterator[pa.Table]:
        """The detections of the image by tile and ordinal: one table for each row of regions.

        Args:
            merged: The deferred detections that remain after the merge.
        """
        tiles, across = merged["tile"].to_numpy(), len(self.grid.columns)
        start = 0
        for row_stop, side_by_side in groupby(self.regions, lambda region: region.row_stop):
            stop = int(np.searchsorted(tiles, row_stop * across))
            decided = [self._load(region, "decided") for region in side_by_side]
            yield detections.concatenate([merged.slice(start, stop - start), *decided])
            start = stop

    def _load(self, region: Region, part: str) -> pa.Table:
        return self.store.load(self.stored[region.index], part)


def _name(block: str, number: int) -> str:
    return f"{block}.{number:05}.json"


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())
