"""Answers of a model are kept part by part, and found again whatever the regions are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import PublishError
from tasks.grid.tiles import Grid, Region, Tile
from tasks.results import coverage, detections
from tasks.results.answer_keeper import AnswerKeeper
from tasks.results.answers import kept_answers
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome, TileResults, results_of
from tasks.storage import objects
from tests.examples import examples
from tests.polling import until

GRID = Grid(100, 100, 20, 0)
(WHOLE,) = GRID.regions(100)
TILES = list(GRID.tiles(WHOLE))


def answer(tile: Tile, *scores: float, note: str = "") -> Outcome:
    """The outcome of a tile with a detection of each score; its note says whose answer it is."""
    rows = [
        {
            "tile": tile.index,
            "ordinal": ordinal,
            **dict.fromkeys(detections.BOX_COLUMNS, 1.5),
            "score": score,
            "class_name": "ship",
            "geometry": b"\x01",
            "properties": f'{{"note":"{note}"}}',
        }
        for ordinal, score in enumerate(scores)
    ]
    table = pa.Table.from_pylist(rows, detections.SCHEMA) if rows else None
    return Outcome(TileRecord(tile, TileState.INFERRED, attempts=1), table)


def failure(tile: Tile, reason: str) -> Outcome:
    return Outcome(TileRecord(tile, TileState.FAILED, reason, attempts=3))


def keep(folder: Path, region: Region, outcomes: Iterable[Outcome], least: float = 0) -> None:
    with AnswerKeeper(str(folder), region, least) as keeper:
        keeper.add(list(outcomes))


def found(folder: Path, tiles: Sequence[Tile] = TILES, least: float = 0) -> TileResults:
    return kept_answers(str(folder), WHOLE, tiles, least).answered


def test_what_is_kept_is_found_bit_for_bit(tmp_path: Path) -> None:
    outcomes = [answer(TILES[3], 0.1 + 0.2, 1e-300), answer(TILES[1]), answer(TILES[2], 1.0)]
    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        for outcome in outcomes:
            keeper.add([outcome])
    kept, own, expected = found(tmp_path), keeper.results(), results_of(outcomes)
    for results in (kept, own):
        assert results.detections.equals(expected.detections)
        assert results.ledger.equals(expected.ledger)


def test_nothing_is_found_where_nothing_is_kept(tmp_path: Path) -> None:
    kept = kept_answers(str(tmp_path / "missing"), WHOLE, TILES, 0)
    assert len(kept.answered.ledger) == len(kept.failed) == 0
    assert kept.answered.detections.schema == detections.SCHEMA


@examples(0.3)
@given(st.data(), st.sampled_from([20, 40, 60, 100]), st.sampled_from([20, 40, 60, 100]))
def test_answers_are_found_by_any_division_of_the_image(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, before: int, now: int
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    told = data.draw(st.sets(st.sampled_from(range(len(TILES)))))
    for region in GRID.regions(before):
        own = [tile for tile in GRID.tiles(region) if tile.index in told]
        keep(folder, region, [answer(tile, 0.5) for tile in own])
    seen: list[int] = []
    for region in GRID.regions(now):
        kept = kept_answers(str(folder), region, list(GRID.tiles(region)), 0).answered
        assert kept.ledger["tile"].to_pylist() == kept.detections["tile"].to_pylist()
        seen += kept.ledger["tile"].to_pylist()
    assert sorted(seen) == sorted(told)


def test_of_two_answers_to_a_tile_one_is_taken_whole(tmp_path: Path) -> None:
    for note, count in (("first", 2), ("second", 3)):
        keep(tmp_path, WHOLE, [answer(tile, *[0.5] * count, note=note) for tile in TILES])
    kept = found(tmp_path)
    assert len(kept.ledger) == len(TILES)
    for tile in TILES:
        own = kept.detections.filter(pc.equal(kept.detections["tile"], tile.index))
        (note,) = set(own["properties"].to_pylist())
        assert len(own) == {'{"note":"first"}': 2, '{"note":"second"}': 3}[note]


def test_a_tile_that_failed_once_and_was_answered_later_is_answered(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE, [failure(TILES[0], "busy"), failure(TILES[1], "busy")])
    keep(tmp_path, WHOLE, [answer(TILES[1], 0.5)])
    kept = kept_answers(str(tmp_path), WHOLE, TILES, 0)
    assert kept.answered.ledger["tile"].to_pylist() == [1]
    assert coverage.reasons(kept.failed) == [("busy", 1)]
    assert kept.failed["tile"].to_pylist() == [0]


def test_only_the_tiles_that_are_wanted_are_found(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE, [answer(tile, 0.5) for tile in TILES])
    kept = found(tmp_path, TILES[5:7])
    assert kept.ledger["tile"].to_pylist() == kept.detections["tile"].to_pylist() == [5, 6]


def test_answers_without_the_lower_scores_do_not_serve_a_request_for_them(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE, [answer(TILES[0], 0.3, 0.9)], least=0.25)
    assert len(found(tmp_path, least=0.1).ledger) == 0
    assert found(tmp_path, least=0.25).detections["score"].to_pylist() == [0.3, 0.9]


def test_answers_with_lower_scores_serve_a_request_for_higher_ones(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE, [answer(TILES[0], 0.3, 0.9), answer(TILES[1], 0.3)], least=0.1)
    kept = found(tmp_path, least=0.5)
    assert kept.detections["score"].to_pylist() == [0.9]
    assert kept.ledger["detections"].to_pylist() == [1, 0]


def test_an_answer_is_stored_before_the_last_one_comes(tmp_path: Path) -> None:
    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        for number, tile in enumerate(TILES[:3], start=1):
            keeper.add([answer(tile, 0.5)])
            until(lambda number=number: len(found(tmp_path).ledger) == number)  # type: ignore[misc]


def test_small_parts_are_written_anew_and_large_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.results.answer_keeper._PART_TILES", 2)
    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        for number, tile in enumerate(TILES[:7], start=1):
            keeper.add([answer(tile, 0.5)])
            until(lambda number=number: len(found(tmp_path).ledger) == number)  # type: ignore[misc]
    assert len(objects.list_names(str(tmp_path))) == 3  # of three tiles, three, and one
    assert keeper.results().ledger.equals(found(tmp_path).ledger)


def test_answers_are_held_until_the_store_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, refused, answers = objects.put, Event(), Event()

    def put_late(uri: str, body: bytes) -> None:
        if not answers.is_set():
            refused.set()
            raise PublishError("the store does not answer")
        put(uri, body)

    with AnswerKeeper(str(tmp_path), WHOLE, 0) as keeper:
        monkeypatch.setattr(objects, "put", put_late)
        keeper.add([answer(TILES[0], 0.5)])
        until(refused.is_set)
        answers.set()
        until(lambda: len(found(tmp_path).ledger) == 1)


def break_store(folder: Path) -> None:
    """Put a file in place of a folder, so that nothing can be stored in it."""
    folder.rename(folder.with_name("aside"))
    folder.touch()


def test_a_store_that_takes_nothing_is_found_before_the_first_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(PublishError, match="Not a directory"),
        AnswerKeeper(str(tmp_path / "file" / "below"), WHOLE, 0),
    ):
        pytest.fail("an answer would be lost")


def keep_in_broken_store(folder: Path, error: type[Exception] | None = None) -> None:
    """Keep an answer in a store that breaks before it is stored, and raise an error after that."""
    with AnswerKeeper(str(folder), WHOLE, 0) as keeper:
        break_store(folder)
        keeper.add([answer(TILES[0], 0.5)])
        if error:
            raise error


def test_answers_that_cannot_be_stored_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="Cannot write"):
        keep_in_broken_store(tmp_path / "answers")


def test_an_error_of_the_work_is_not_hidden_by_one_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        keep_in_broken_store(tmp_path / "answers", KeyError)


@pytest.mark.parametrize("damage", [b"", b"ARROW1", None])
def test_the_tiles_of_a_damaged_part_are_asked_for_again(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    keep(tmp_path, WHOLE, [answer(TILES[0], 0.5)])
    keep(tmp_path, WHOLE, [answer(TILES[1], 0.5)])
    part = min(tmp_path.iterdir())
    part.write_bytes(part.read_bytes()[:-200] if damage is None else damage)
    assert len(found(tmp_path).ledger) == 1
    assert part.name in caplog.text


def test_an_attempt_without_an_outcome_leaves_nothing(tmp_path: Path) -> None:
    keep(tmp_path, WHOLE, [])
    assert list(tmp_path.iterdir()) == []


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".swath").mkdir()
    keep(tmp_path, WHOLE, [answer(TILES[0], 0.5)])
    assert len(found(tmp_path).ledger) == 1
