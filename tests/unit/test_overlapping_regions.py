"""Regions of an image that overlap in time: one is read while the last one ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event, Lock
from typing import Any

import pytest

from tasks.errors import PublishError, UnreachableError
from tasks.grid.tiles import Region
from tasks.imagery import TilePixels
from tasks.inference.client import InferenceClient, Keep
from tasks.inference.limiter import Limiter
from tasks.job import work_image
from tasks.job.observer import SilentObserver
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.results.stored import RegionStore, StoredRegion
from tasks.settings import settings
from tests.job_scene import features, lines, paint, request

LONG = 30.0  # seconds: a wait that only a failing test waits for
ROWS = 300  # pixels of a region's height, so that the scene has two


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        patch.setenv("SWATH_ENDPOINT_PATIENCE", "1")  # seconds until a dead endpoint is given up
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()


class Order(SilentObserver):
    """The order in which regions begin and end.

    Attributes:
        events: "began" or "ended", with the index of the region.
        second_began: Set when the region of index 1 begins.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.second_began = Event()

    def region_began(self, region: Region) -> None:
        self.events.append(("began", region.index))
        if region.index == 1:
            self.second_began.set()

    def region_ended(self, region: Region, lost: str) -> None:  # noqa: ARG002
        self.events.append(("ended", region.index))


@pytest.fixture
def saved_late(monkeypatch: pytest.MonkeyPatch) -> Callable[[Order], list[int]]:
    """Makes the first region store its results only when the second has begun."""

    def wait_for(order: Order) -> list[int]:
        regions: list[int] = []

        def save_late(store: RegionStore, region: Region, *args: Any, **words: Any) -> StoredRegion:
            if region.index == 0 and not regions:
                assert order.second_began.wait(LONG)
            regions.append(region.index)
            return save(store, region, *args, **words)

        save = RegionStore.save
        monkeypatch.setattr(RegionStore, "save", save_late)
        return regions

    return wait_for


def test_the_result_does_not_depend_on_the_overlap(
    allowed: Path,
    monkeypatch: pytest.MonkeyPatch,
    saved_late: Callable[[Order], list[int]],
) -> None:
    scene, order, results = paint(allowed / "scene.tif"), Order(), []
    regions = saved_late(order)
    for number, most_held in enumerate((1 << 30, -1)):
        monkeypatch.setattr("tasks.job.asking._MOST_HELD", most_held)
        out = allowed / str(number)
        asked = request(scene, out)
        with settings.override(work_uri=str(allowed / "work" / str(number))):
            assert work_image(asked, asked.image_urls[0], order, region_rows=ROWS).covered == 1
        results.append((features(out, "scene.tif"), lines(out)))
    assert sorted(regions) == [0, 0, 1, 1]
    assert order.events.index(("began", 1)) < order.events.index(("ended", 0))
    assert len(results[0][0]) > 10
    assert results[0] == results[1]


def test_a_region_that_holds_many_detections_is_stored_before_the_next_begins(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.job.asking._MOST_HELD", -1)
    asked, order = request(paint(allowed / "scene.tif"), allowed / "out"), Order()
    work_image(asked, asked.image_urls[0], order, region_rows=ROWS)
    assert order.events == [("began", 0), ("ended", 0), ("began", 1), ("ended", 1)]


def test_a_region_that_fails_while_the_next_is_read_is_tried_again(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, order = request(paint(allowed / "scene.tif"), allowed / "out"), Order()
    failed, save = list[int](), RegionStore.save

    def save_late(store: RegionStore, region: Region, *args: Any, **words: Any) -> StoredRegion:
        if region.index == 0 and not failed:
            assert order.second_began.wait(LONG)
            failed.append(region.index)
            raise PublishError("the store does not answer")
        return save(store, region, *args, **words)

    monkeypatch.setattr(RegionStore, "save", save_late)
    summary = work_image(asked, asked.image_urls[0], order, region_rows=ROWS)
    assert failed == [0]
    assert summary.status is JobStatus.SUCCESS
    began = [index for event, index in order.events if event == "began"]
    assert began == [0, 1, 0]


class Mortal:
    """A model that answers a number of tiles, and then no more.

    Attributes:
        opened: How often it was opened.
    """

    tiles_per_call = 1
    capacity: int | None = 2
    local = False

    def __init__(self, answers: int) -> None:
        self.opened, self._left, self._lock = 0, answers, Lock()

    def open(self, *_: object) -> Mortal:
        self.opened += 1
        return self

    def prepare(self, tile: TilePixels) -> Any:
        return tile

    def ask(self, prepared: Sequence[Any]) -> Sequence[object]:
        with self._lock:
            self._left -= len(prepared)
        if self._left < 0:
            raise UnreachableError("the connection is refused")
        return [{"type": "FeatureCollection", "features": []}]

    def close(self) -> None:
        pass


def work(asked: Request, model: Mortal, order: Order, rows: int = ROWS) -> Any:
    return work_image(asked, asked.image_urls[0], order, region_rows=rows, open_endpoint=model.open)


def test_an_endpoint_that_is_given_up_ends_the_region_that_is_read_too(allowed: Path) -> None:
    asked = request(
        paint(allowed / "scene.tif", height=1500), allowed / "out", imageProcessorTileSize=128
    )
    order, model = Order(), Mortal(answers=60)
    summary = work(asked, model, order)
    assert summary.status is JobStatus.PARTIAL
    assert summary.tiles["inferred"] == 60
    assert "given up after" in summary.message
    began = [index for event, index in order.events if event == "began"]
    assert len(began) < 5  # of as many regions; at most two were at work
    assert sum(summary.tiles.values()) == len(lines(allowed / "out"))


def test_the_endpoint_is_opened_once_for_all_regions(allowed: Path) -> None:
    asked, model = request(paint(allowed / "scene.tif"), allowed / "out"), Mortal(answers=1000)
    summary = work(asked, model, Order())
    assert summary.status is JobStatus.SUCCESS
    assert model.opened == 2  # for the check of the plan, and for the work


def test_what_was_learned_about_the_endpoint_is_kept_for_the_next_region(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiters: list[Limiter] = []
    for_region = InferenceClient.for_region

    def note(client: InferenceClient, tiles: int, keep: Keep) -> InferenceClient:
        limiters.append(client.limiter)
        return for_region(client, tiles, keep)

    monkeypatch.setattr(InferenceClient, "for_region", note)
    asked = request(paint(allowed / "scene.tif"), allowed / "out")
    work(asked, Mortal(answers=1000), Order())
    assert len(limiters) == 2
    assert limiters[0] is limiters[1]
