"""What the model answered earlier, for whoever asks the same question next."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import Region, Tile
from tasks.results import coverage, detections
from tasks.results.answer_parts import NOT_A_PART, PartName, decode, maps_of, part_names
from tasks.results.tile_results import TileResults
from tasks.storage import objects

logger = logging.getLogger(__name__)

_READERS = 16  # parts that are read at a time


@dataclass(frozen=True)
class KeptAnswers:
    """What is kept of a region's tiles.

    Attributes:
        answered: The results of the tiles that need not be asked for again: inferred or blank.
        failed: The ledger of tiles that were asked for, and never answered.
    """

    answered: TileResults
    failed: pa.Table


def kept_answers(
    folder: str, region: Region, tiles: Sequence[Tile], least_score: float, *, maps: bool = False
) -> KeptAnswers:
    """The answers that are kept for tiles, in whichever division of the image they were asked for.

    If two attempts were answered for the same tile, one of them is taken as a whole.

    Args:
        folder: Folder or s3:// prefix of the kept answers to a question.
        region: The region that the tiles are of.
        tiles: The tiles.
        least_score: The score from which on the model's detections have to be complete.
        maps: Whether the model answers with pixels: tiles without their maps are not answered.

    Raises:
        PublishError: The store does not answer.
    """
    wanted = np.array([tile.index for tile in tiles], np.int64)
    parts = [
        _of_tiles(_above(part, name, least_score), wanted)
        for name, part in _parts(folder, region, least_score, maps=maps)
    ]
    ledger = pa.concat_tables([coverage.SCHEMA.empty_table(), *(part.ledger for part in parts)])
    numbers = np.repeat(np.arange(len(parts)), [len(part.ledger) for part in parts])
    indices, failed = ledger["tile"].to_numpy(), coverage.failed(ledger)
    # the first row of each tile in this order: one that was answered, of the earliest part
    order = np.lexsort([numbers, failed, indices])
    chosen = order[np.unique(indices[order], return_index=True)[1]]
    answered = chosen[~failed[chosen]]
    found = [
        _in(part.detections, indices[answered[numbers[answered] == number]])
        for number, part in enumerate(parts)
    ]
    return KeptAnswers(
        TileResults(detections.concatenate(found), ledger.take(answered)),
        ledger.take(chosen[failed[chosen]]),
    )


def least_score_kept(folder: str) -> float:
    """The score from which on all kept answers are complete; 0 if none are kept.

    Raises:
        PublishError: The store does not answer.
    """
    names = part_names(objects.list_names(folder))
    return max((name.least_score for name in names), default=0.0)


def maps_by_tile(folder: str, region: Region) -> dict[int, str]:
    """The name of the part with the map of each tile of a region: the earliest, as for detections.

    Args:
        folder: Folder or s3:// prefix of the kept answers to a question.
        region: The region.

    Raises:
        PublishError: The store does not answer.
    """
    parts: dict[int, str] = {}
    for name, part in _parts(folder, region, least_score=0.0, maps=True):
        for tile in coverage.inferred_tiles(part.ledger):
            parts.setdefault(tile, name.text)
    return parts


def _parts(
    folder: str, region: Region, least_score: float, *, maps: bool
) -> Iterator[tuple[PartName, TileResults]]:
    """The results in each part that may have some of a region, and has its maps if it needs any."""
    there = set(objects.list_names(folder))
    names = [
        name for name in part_names(there) if name.least_score <= least_score and name.meets(region)
    ]

    def read(name: PartName) -> TileResults | None:
        body = objects.get(objects.join(folder, name.text))
        try:
            part = decode(body)
            if maps and coverage.inferred_tiles(part.ledger) and maps_of(name.text) not in there:
                raise FileNotFoundError(f"{maps_of(name.text)} is gone")
        except NOT_A_PART as error:
            logger.warning("The tiles of %s/%s are asked for again: %r", folder, name.text, error)
            return None
        return part

    with ThreadPoolExecutor(_READERS, thread_name_prefix="kept") as threads:
        for name, part in zip(names, threads.map(read, names), strict=True):
            if part is not None:
                yield name, part


def _above(part: TileResults, name: PartName, least_score: float) -> TileResults:
    """Results as if the model had been asked for detections from a higher score on."""
    if name.least_score == least_score:
        return part
    table = part.detections.filter(pa.array(part.detections["score"].to_numpy() >= least_score))
    return TileResults(table, coverage.with_detections(part.ledger, table["tile"].to_numpy()))


def _of_tiles(results: TileResults, tiles: NDArray[np.int64]) -> TileResults:
    return TileResults(_in(results.detections, tiles), _in(results.ledger, tiles))


def _in(table: pa.Table, tiles: NDArray[np.int64]) -> pa.Table:
    inside = np.isin(table["tile"].to_numpy(), tiles)
    return table if inside.all() else table.filter(pa.array(inside))
