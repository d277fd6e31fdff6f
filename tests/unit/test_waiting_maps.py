"""Maps wait to be stored together, but not without bound, and not while the store refuses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import pytest

from tasks.errors import PublishError
from tasks.grid.tiles import Grid
from tasks.results import answer_keeper
from tasks.results.answer_keeper import AnswerKeeper
from tasks.results.answers import kept_answers, maps_by_tile
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome
from tasks.storage import objects
from tests.polling import until

GRID = Grid(100, 100, 20, 0)
(WHOLE,) = GRID.regions(100)
TILES = list(GRID.tiles(WHOLE))


def answer(number: int, size: int) -> Outcome:
    """The outcome of a tile with a map of so many bytes."""
    return Outcome(TileRecord(TILES[number], TileState.INFERRED, attempts=1), map=bytes(size))


def stored(folder: Path) -> int:
    """The number of tiles that are answered."""
    return len(kept_answers(str(folder), WHOLE, TILES, 0, maps=True).answered.ledger)


@contextmanager
def asking(keeper: AnswerKeeper) -> Iterator[list[int]]:
    """While it is open, one tile is about to be asked for; yields the tiles that may be."""
    passed: list[int] = []
    thread = Thread(target=lambda: passed.extend(keeper.before_asking([7])))
    thread.start()
    yield passed
    thread.join()


def replace_put(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None]) -> None:
    put = objects.put

    def changed(uri: str, body: bytes) -> None:
        before()
        put(uri, body)

    monkeypatch.setattr(objects, "put", changed)


def test_few_maps_are_stored_together(tmp_path: Path) -> None:
    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        for number in range(9):
            keeper.add([answer(number, 100)])
    assert stored(tmp_path) == 9
    assert len(list(tmp_path.glob("*.maps"))) == 1
    assert len(set(maps_by_tile(str(tmp_path), WHOLE).values())) == 1


def test_tiles_without_their_maps_are_not_answered(tmp_path: Path) -> None:
    for number in range(2):
        with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
            keeper.add([answer(number, 100)])
    min(tmp_path.glob("*.maps")).unlink()
    assert stored(tmp_path) == len(maps_by_tile(str(tmp_path), WHOLE)) == 1


def test_no_tile_is_asked_for_while_too_many_maps_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_keeper, "_MOST_MAPS", 1000)
    monkeypatch.setattr(answer_keeper, "_MAP_BYTES", 100)
    writing, written = Event(), Event()

    def hold() -> None:
        writing.set()
        written.wait()

    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        replace_put(monkeypatch, hold)
        keeper.add([answer(0, 600)])
        until(writing.is_set)
        keeper.add([answer(1, 600)])
        with asking(keeper) as passed:
            assert passed == []
            written.set()
            until(lambda: passed == [7])
            assert stored(tmp_path) >= 1
    assert stored(tmp_path) == 2


def test_no_tile_is_asked_for_while_maps_are_refused_though_more_of_them_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_keeper, "_MAP_BYTES", 100)
    refusals, taken = list[int](), Event()

    def refuse() -> None:
        if not taken.is_set():
            refusals.append(1)
            raise PublishError("the store does not answer")

    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        replace_put(monkeypatch, refuse)
        keeper.add([answer(0, 600)])
        until(lambda: refusals)
        keeper.add([answer(1, 10)])
        seen = len(refusals)
        until(lambda: len(refusals) > seen + 1)
        with asking(keeper) as passed:
            assert passed == []
            taken.set()
            until(lambda: passed == [7])
    assert stored(tmp_path) == 2
