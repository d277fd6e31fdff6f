"""No tile is paid for twice: what a model answered is found by whoever works on the image next."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from tasks.errors import RequestError
from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.job import check_plan, finish_image, work_image
from tasks.job.image import not_asked
from tasks.job.kept import kept_of, kept_without_asking
from tasks.records.folders import forget_image
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.results.answers import kept_answers
from tasks.settings import settings
from tests.counting_model import CountingModel, CountingModels, counting_models
from tests.job_scene import corner, features, lines, paint, request
from tests.onnx_models import answering, of_ultralytics
from tests.polling import until

TILES = 19  # of the scene's 20, one is blank
TIGHT = {"algorithmType": "NMS", "iouThreshold": 0.01}
NO_FEATURE = {"skipBoxThreshold": 1.0}


@pytest.fixture(scope="module")
def server() -> Iterator[CountingModels]:
    with counting_models() as running:
        yield running


@pytest.fixture
def model(server: CountingModels) -> CountingModel:
    return server.model()


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        patch.setenv("SWATH_TILE_ATTEMPTS", "1")
        patch.setenv("SWATH_ENDPOINT_PATIENCE", "1")
        settings.cache_clear()
        paint(tmp_path / "scene.tif")
        yield tmp_path
    settings.cache_clear()


def asked(allowed: Path, model: CountingModel, **fields: Any) -> Request:
    named = {"imageProcessor": {"name": model.url, "type": "HTTP_ENDPOINT"}}
    message = {"imageProcessorTileFormat": "GTIFF", **named, **fields}
    return request(allowed / "scene.tif", allowed / "out", **message)


def merging(**algorithm: Any) -> dict[str, Any]:
    return {"postProcessing": [{"algorithm": algorithm}]}


def run(given: Request, rows: int | None = None) -> Summary:
    return work_image(given, given.image_urls[0], region_rows=rows)


def published(allowed: Path) -> tuple[Any, Any]:
    return features(allowed / "out", "scene.tif"), lines(allowed / "out")


def anew(allowed: Path, given: Request) -> tuple[Any, Any]:
    """What the request publishes with nothing kept."""
    with settings.override(work_uri=str(allowed / "elsewhere")):
        run(given)
    forget_image(given.job_id, given.image_urls[0])
    return published(allowed)


@pytest.mark.parametrize("rows", [None, 300])
def test_a_job_that_is_sent_again_asks_nothing(
    allowed: Path, model: CountingModel, rows: int | None
) -> None:
    given = asked(allowed, model)
    assert run(given).status is JobStatus.SUCCESS
    first = published(allowed)
    assert model.figures().total == TILES
    assert run(given, rows).status is JobStatus.SUCCESS
    assert published(allowed) == first
    assert model.figures().total == TILES


def test_only_the_tile_that_failed_is_asked_for_again(allowed: Path, model: CountingModel) -> None:
    given = asked(allowed, model)
    model.fail(status=500, tiles=1)
    partial = run(given, 300)
    assert (partial.status, partial.tiles["failed"]) == (JobStatus.PARTIAL, 1)
    model.work()
    before = model.figures().total
    assert run(given, 450).status is JobStatus.SUCCESS
    assert model.figures().total == before + 1
    whole, ledger = published(allowed)
    expected, _ = anew(allowed, given)
    assert whole == expected
    assert {line["state"] for line in ledger} == {"blank", "inferred"}


@pytest.mark.parametrize(
    "change",
    [
        merging(**TIGHT),
        merging(algorithmType="NONE"),
        merging(**NO_FEATURE),
        {"featureProperties": [{"campaign": "june"}]},
    ],
)
def test_what_comes_after_the_answers_asks_nothing(
    allowed: Path, model: CountingModel, change: dict[str, Any]
) -> None:
    run(asked(allowed, model), 300)
    run(asked(allowed, model, **change), 300)
    assert model.figures().total == TILES
    found = published(allowed)
    assert found == anew(allowed, asked(allowed, model, **change))


def test_a_wider_region_of_interest_asks_for_what_it_adds(
    allowed: Path, model: CountingModel
) -> None:
    run(asked(allowed, model, regionOfInterest=corner(allowed / "scene.tif")))
    part = model.figures().total
    assert 0 < part < TILES
    run(asked(allowed, model))
    assert model.figures().total == TILES
    assert published(allowed) == anew(allowed, asked(allowed, model))


@pytest.mark.parametrize(
    "change",
    [
        {"jobId": "job-2"},
        {"imageProcessorTileOverlap": 60},
        {"imageProcessorTileCompression": "LZW"},
        {"imageProcessorParameters": {"X-Threshold": "0.5"}},
        {"imageNodata": 1},
    ],
)
def test_another_question_is_asked(
    allowed: Path, model: CountingModel, change: dict[str, Any]
) -> None:
    run(asked(allowed, model))
    run(asked(allowed, model, **change))
    assert model.figures().total >= 2 * TILES


def test_another_version_of_the_image_is_asked_for(allowed: Path, model: CountingModel) -> None:
    run(asked(allowed, model))
    with rasterio.open(allowed / "scene.tif", "r+") as image:
        image.update_tags(version="2")
    run(asked(allowed, model))
    assert model.figures().total == 2 * TILES


def test_where_answers_of_all_jobs_are_kept_together_another_job_asks_nothing(
    allowed: Path, model: CountingModel
) -> None:
    with settings.override(keep_by_job=False):
        run(asked(allowed, model))
        run(asked(allowed, model, jobId="job-2"))
    assert model.figures().total == TILES


def without_asking(given: Request) -> Summary:
    plan = check_plan(given, given.image_urls[0], ask=False)
    kept = kept_without_asking(plan)
    regions = plan.regions(300)
    lost = not_asked(kept.unfinished(given, regions))
    return finish_image(plan, regions, lost, kept, datetime.now(UTC)).summary


def test_a_merge_of_kept_answers_needs_no_model(allowed: Path, model: CountingModel) -> None:
    model.fail(status=500, tiles=1)
    run(asked(allowed, model))
    before = model.figures().total
    summary = without_asking(asked(allowed, model, **merging(**TIGHT)))
    assert (summary.status, summary.tiles["failed"]) == (JobStatus.PARTIAL, 1)
    assert "500" in summary.message
    assert model.figures().total == before


def test_without_kept_answers_a_merge_is_refused(allowed: Path, model: CountingModel) -> None:
    with pytest.raises(RequestError, match="No answers are kept"):
        without_asking(asked(allowed, model))
    assert model.figures().total == 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tiles in each call of an ONNX model, its trial on a blank tile included."""
    counted, ask = list[int](), OnnxEndpoint.ask

    def count(endpoint: OnnxEndpoint, prepared: Sequence[Any]) -> Sequence[object]:
        counted.append(len(prepared))
        return ask(endpoint, prepared)

    monkeypatch.setattr(OnnxEndpoint, "ask", count)
    return counted


def of_onnx(allowed: Path, **algorithm: float) -> Request:
    """A request for a model that finds two boxes in each tile, with scores of 0.15 and 0.9."""
    found = np.zeros((1, 6, 2), np.float32)
    found[0, :, 0], found[0, :, 1] = (10, 10, 8, 8, 0.15, 0), (40, 40, 8, 8, 0, 0.9)
    file = allowed / "two.onnx"
    if not file.exists():
        answering(file, {"output0": found}, metadata=of_ultralytics())
    step = {"algorithmType": "NONE"} | algorithm
    return request(
        allowed / "scene.tif",
        allowed / "out",
        imageProcessor={"name": str(file), "type": "ONNX"},
        imageProcessorTileSize=64,
        imageProcessorTileOverlap=0,
        postProcessing=[{"algorithm": step}],
    )


def test_a_lower_score_is_asked_for_and_a_higher_one_is_not(
    allowed: Path, calls: list[int]
) -> None:
    usual = run(of_onnx(allowed))
    once = sum(calls)
    low = run(of_onnx(allowed, skipBoxThreshold=0.1))
    assert sum(calls) == 2 * once
    assert low.features == 2 * usual.features
    del calls[:]
    high = run(of_onnx(allowed, skipBoxThreshold=0.5))
    again = run(of_onnx(allowed))
    assert sum(calls) == 2  # the trials on a blank tile alone
    assert high.features == again.features == usual.features


def test_a_merge_with_scores_that_no_answer_has_is_refused(allowed: Path, calls: list[int]) -> None:
    run(of_onnx(allowed, skipBoxThreshold=0.2))
    del calls[:]
    with pytest.raises(RequestError, match=r"0\.1 is below the lowest score .* 0\.2"):
        without_asking(of_onnx(allowed, skipBoxThreshold=0.1))
    assert without_asking(of_onnx(allowed, skipBoxThreshold=0.3)).status is JobStatus.SUCCESS
    assert calls == []


def test_an_onnx_file_that_was_replaced_is_asked(allowed: Path, calls: list[int]) -> None:
    run(of_onnx(allowed))
    once = sum(calls)
    (allowed / "two.onnx").unlink()
    run(of_onnx(allowed))
    assert sum(calls) == 2 * once


def in_a_process(given: Request, work: Path, rows: int) -> BaseProcess:
    process = get_context("spawn").Process(target=_work, args=(given, str(work), rows))
    process.start()
    return process


def _work(given: Request, work: str, rows: int) -> None:
    os.environ["SWATH_WORK_URI"] = work
    settings.cache_clear()
    run(given, rows)


def stored(given: Request) -> int:
    """The number of tiles whose answers are kept."""
    plan = check_plan(given, given.image_urls[0], ask=False)
    (whole,) = plan.regions(4096)
    tiles = list(plan.grid.tiles(whole))
    found = kept_answers(kept_of(plan).answers, whole, tiles, 0).answered.ledger
    return sum(state == "inferred" for state in found["state"].to_pylist())


@pytest.mark.parametrize("answered", [0, 1, 12])
def test_after_a_kill_only_what_was_in_flight_is_asked_for_again(
    allowed: Path, model: CountingModel, answered: int
) -> None:
    given = asked(allowed, model)
    model.answer_only(answered)
    process = in_a_process(given, allowed / "work", 4096)
    until(lambda: stored(given) == answered and model.figures().in_flight, model.figures)
    process.kill()
    process.join()
    until(lambda: model.figures().in_flight == 0)
    lost = model.figures().total - answered
    model.answer_all()
    assert run(given, 300).status is JobStatus.SUCCESS
    assert model.figures().total == TILES + lost
    assert published(allowed) == anew(allowed, given)


def test_a_process_thought_dead_cannot_mix_its_region_with_anothers(
    allowed: Path, model: CountingModel
) -> None:
    given = asked(allowed, model)
    model.answer_only(5)
    first = in_a_process(given, allowed / "work", 4096)
    until(lambda: stored(given) == 5 and model.figures().in_flight)
    assert first.pid is not None
    os.kill(first.pid, signal.SIGSTOP)
    in_flight = model.figures().in_flight
    model.answer_all()
    second = in_a_process(given, allowed / "work", 4096)
    second.join()
    assert second.exitcode == 0
    assert model.figures().total == TILES + in_flight
    whole = published(allowed)
    os.kill(first.pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0
    # the first did not look again, and asked for what it had not sent
    assert model.figures().extra <= in_flight + TILES - 5
    assert published(allowed) == whole == anew(allowed, given)
