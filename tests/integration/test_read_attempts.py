"""A region whose image could not be fetched is tried again, and asks only for what it lacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.grid.tiles import Region
from tasks.imagery import environment
from tasks.job import work_image
from tasks.job.observer import SilentObserver
from tasks.reporting.status import JobStatus
from tasks.settings import settings
from tests.job_scene import ledger, paint, request
from tests.range_server import Fault, RangeServer

KEY, URL = "/bucket/scene.tif", "s3://bucket/scene.tif"


class Attempts(SilentObserver):
    """Counts the attempts at regions and the tiles that were kept from earlier ones."""

    def __init__(self) -> None:
        self.began: list[int] = []
        self.kept = 0

    def region_began(self, region: Region) -> None:
        self.began.append(region.index)

    def tiles_kept(self, region: Region, tiles: int) -> None:  # noqa: ARG002
        self.kept += tiles


@pytest.fixture(autouse=True)
def scene(s3: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An image in S3 of three rows of tiles, and a reader without patience."""
    s3.objects[KEY] = paint(tmp_path / "scene.tif", 3000, 2000).read_bytes()
    monkeypatch.setitem(environment._OPTIONS, "GDAL_HTTP_RETRY_DELAY", 0.01)
    monkeypatch.setattr("tasks.imagery.reading.strips._PAUSE", 0.001)
    monkeypatch.setenv("SWATH_READ_PATIENCE", "0.2")
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", f'["{tmp_path}"]')
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_a_region_whose_image_was_away_is_tried_again_for_the_unread_tiles_alone(
    s3: RangeServer, tmp_path: Path
) -> None:
    observer = Attempts()
    half = len(s3.objects[KEY]) // 2

    def fault(_: int, last: int) -> Fault | None:
        return 503 if len(observer.began) == 1 and last > half else None

    s3.fault = fault
    summary = work_image(
        request(tmp_path / "scene.tif", tmp_path / "out", imageUrls=[URL]), URL, observer
    )
    assert summary.status is JobStatus.SUCCESS
    assert observer.began == [0, 0]
    assert 0 < observer.kept < len(ledger(tmp_path / "out"))


def test_an_image_that_is_gone_ends_the_job_after_the_attempts_at_one_region(
    s3: RangeServer, tmp_path: Path
) -> None:
    class Deleting(Attempts):
        def region_began(self, region: Region) -> None:
            super().region_began(region)
            s3.refusals[KEY] = 404, "NoSuchKey"

    observer = Deleting()
    message = request(tmp_path / "scene.tif", tmp_path / "out", imageUrls=[URL])
    summary = work_image(message, URL, observer, region_rows=256)
    assert summary.status is JobStatus.FAILED
    assert observer.began == [0] * settings().region_attempts
    reasons = set(ledger(tmp_path / "out").reason)
    assert all("no such object" in reason for reason in reasons)
