"""Answers are stored as they come; while they cannot be, the model is asked for no more."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.settings import settings
from tests.job_scene import paint, request
from tests.polling import until

IN_MEMORY = 4  # calls of a region


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        patch.setattr("tasks.inference.batch.MAX_CALLS", IN_MEMORY)
        settings.cache_clear()
        yield tmp_path
    settings.cache_clear()


def test_no_tile_is_asked_for_while_answers_cannot_be_stored(
    allowed: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[Path] = []

    def find(_: object) -> dict[str, Any]:
        (answers,) = (allowed / "work").rglob("answers")
        calls.append(answers)
        if len(calls) == 20:  # a file in place of the folder: nothing can be written into it
            answers.rename(allowed / "aside")
            answers.write_text("")
        time.sleep(0.01)
        return {"type": "FeatureCollection", "features": []}

    monkeypatch.setattr("tasks.inference.builtin.endpoint.create_model", lambda *_: find)
    tiles = {"imageProcessorTileSize": 32, "imageProcessorTileOverlap": 0}
    asked = request(paint(allowed / "scene.tif"), allowed / "out", **tiles)
    with ThreadPoolExecutor(1) as thread:
        end = thread.submit(work_image, asked, asked.image_urls[0])
        until(lambda: "until answers can be stored" in caplog.text or end.done())
        at_first = len(calls)
        until(lambda: caplog.text.count("until answers can be stored") > 3 or end.done())
        assert len(calls) <= at_first + IN_MEMORY
        calls[0].unlink()
        (allowed / "aside").rename(calls[0])
        summary = end.result()
    assert summary.status is JobStatus.SUCCESS
    assert len(calls) == summary.tiles["inferred"] > 500
