"""The rate of tiles and the time left, as text."""

import time

import pytest

from tasks.reporting.rate import TileRate


def test_progress_has_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 130.0, 135.0, 140.0, 150.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    rate = TileRate(tiles=400)
    told = [rate.text(done) for done in (0, 40, 40, 140, 400)]
    assert told == [
        "0 of 400 tiles",  # before the first are done, runs are only starting
        "40 of 400 tiles",
        "40 of 400 tiles",
        "140 of 400 tiles · 10 tiles/s · 26 s left",
        "400 of 400 tiles",
    ]


@pytest.mark.parametrize(
    ("seconds", "tiles", "text"),
    [
        (4.0, 1000, "0.5 tiles/s · 33 min left"),
        (1.0, 50_000, "2.0 tiles/s · 6 h 57 min left"),
    ],
)
def test_long_times_are_in_minutes_and_hours(
    monkeypatch: pytest.MonkeyPatch, seconds: float, tiles: int, text: str
) -> None:
    now = iter([0.0, seconds])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    rate = TileRate(tiles)
    rate.text(1)
    assert rate.text(3) == f"3 of {tiles} tiles · {text}"
