"""Answers in pixels are kept as all others are: none is paid for twice, and damage is made good."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.warp import transform_bounds

import tasks.publish
from tasks.job import check_plan, finish_image, work_image
from tasks.job.image import not_asked
from tasks.job.kept import kept_without_asking
from tasks.records.folders import forget_image
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.results.answer_parts import decode
from tasks.settings import settings
from tasks.storage.checksum import without_checksum
from tests.counting_model import CountingModel, CountingModels
from tests.job_scene import paint, request
from tests.polling import until

TILES = 39
ROWS = 900  # pixels of a region, of which the scene has three
CLASSES = [{"value": 1, "name": "dark"}, {"value": 2, "name": "bright"}]
MOMENT = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with the scene, that requests may name images and outputs in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
        patch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
        patch.setenv("SWATH_TILE_ATTEMPTS", "1")
        settings.cache_clear()
        paint(tmp_path / "scene.tif", 520, 2400, blank=False)
        yield tmp_path
    settings.cache_clear()


@pytest.fixture
def model(models: CountingModels) -> CountingModel:
    model = models.model()
    model.answer_with_pixels()
    return model


def asked(folder: Path, model: CountingModel, **raster: Any) -> Request:
    return request(
        folder / "scene.tif",
        folder / "out",
        imageProcessor={"name": model.url, "type": "HTTP_ENDPOINT"},
        imageProcessorTileFormat="NPY",
        rasterOutput={"values": "probabilities", "classes": CLASSES, "scores": "uint8", **raster},
    )


@pytest.fixture
def given(folder: Path, model: CountingModel) -> Request:
    return asked(folder, model)


def run(given: Request, rows: int = ROWS) -> Summary:
    return work_image(given, given.image_urls[0], region_rows=rows)


def published(folder: Path) -> list[bytes]:
    """The bytes of the published rasters, without the time of their run."""
    files = [folder / "out" / f"scene.tif.{ending}" for ending in ("tif", "scores.tif")]
    return [MOMENT.sub(b"", file.read_bytes()) for file in files]


@pytest.fixture
def whole(folder: Path, given: Request) -> list[bytes]:
    """What is published before anything is damaged."""
    assert run(given).status is JobStatus.SUCCESS
    return published(folder)


def kept(folder: Path, pattern: str) -> Path:
    """A file that is kept of the question."""
    (question,) = folder.glob("work/jobs/*/*/*/question.json")
    return max(question.parent.glob(pattern), key=lambda path: path.stat().st_size)


def removed(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def changed(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 0xFF
    path.write_bytes(body)


def answered(maps: Path) -> int:
    """The number of tiles whose maps are in a file."""
    return len(decode(maps.with_suffix(".arrow").read_bytes()).ledger)


@pytest.mark.parametrize("damage", [removed, cut, changed])
def test_tiles_whose_maps_are_damaged_are_asked_again(
    folder: Path,
    given: Request,
    model: CountingModel,
    whole: list[bytes],
    damage: Callable[[Path], None],
) -> None:
    for outcome in folder.glob("work/jobs/*/*/*/*/*-*x*-*.json"):
        outcome.unlink()
    maps = kept(folder, "answers/*.maps")
    lost = answered(maps)
    damage(maps)

    assert run(given).status is JobStatus.SUCCESS
    assert published(folder) == whole
    assert model.figures().extra == lost > 0


@pytest.mark.parametrize("damage", [removed, changed])
def test_tiles_whose_maps_are_damaged_at_the_seams_are_asked_again(
    folder: Path,
    given: Request,
    model: CountingModel,
    whole: list[bytes],
    damage: Callable[[Path], None],
) -> None:
    maps = kept(folder, "answers/*.maps")
    lost = answered(maps)
    damage(maps)

    assert run(given).status is JobStatus.SUCCESS
    assert published(folder) == whole
    assert model.figures().extra == lost > 0


@pytest.mark.parametrize("pattern", ["*/*.blocks", "*/*.blocks.arrow"])
@pytest.mark.parametrize("damage", [removed, changed])
def test_damaged_blocks_of_a_region_are_painted_again(
    folder: Path,
    given: Request,
    model: CountingModel,
    whole: list[bytes],
    *,
    pattern: str,
    damage: Callable[[Path], None],
) -> None:
    damage(kept(folder, pattern))

    assert run(given).status is JobStatus.SUCCESS
    assert published(folder) == whole
    assert model.figures().extra == 0


def blocks_of_layer(folder: Path, layer: str) -> Path:
    """A file with the blocks that a region has of a layer."""
    index = kept(folder, "*/*.blocks.arrow")
    stream = pa.ipc.open_stream(without_checksum(index.read_bytes()))
    number = next(row["object"] for row in stream.read_all().to_pylist() if row["layer"] == layer)
    return index.with_name(index.name.replace(".blocks.arrow", f".{number:05}.blocks"))


@pytest.mark.parametrize("damage", [removed, changed])
def test_blocks_that_only_polygons_need_are_painted_again(
    folder: Path, model: CountingModel, damage: Callable[[Path], None]
) -> None:
    given = asked(folder, model, scores="none", polygons={})
    run(given)
    polygons = MOMENT.sub(b"", (folder / "out" / "scene.tif.geojson").read_bytes())
    damage(blocks_of_layer(folder, "confidence"))

    assert run(given).status is JobStatus.SUCCESS
    assert MOMENT.sub(b"", (folder / "out" / "scene.tif.geojson").read_bytes()) == polygons
    assert model.figures().extra == 0


def test_a_region_that_has_lost_where_its_maps_are_is_made_of_the_kept_answers(
    folder: Path, given: Request, model: CountingModel, whole: list[bytes]
) -> None:
    kept(folder, "*/*.maps.parquet").unlink()

    assert run(given).status is JobStatus.SUCCESS
    assert published(folder) == whole
    assert model.figures().extra == 0


def test_a_run_after_a_failed_tile_asks_for_that_alone(
    folder: Path, given: Request, model: CountingModel
) -> None:
    model.fail(status=500, tiles=1)
    partly = run(given)
    assert (partly.status, partly.tiles["failed"]) == (JobStatus.PARTIAL, 1)
    ledger = pq.read_table(folder / "out" / "scene.tif.coverage.parquet")
    assert sum(ledger["missing_px"].to_pylist()) > 0
    model.work()
    before = model.figures().total

    assert run(given, 1200).status is JobStatus.SUCCESS
    assert model.figures().total == before + 1
    mended = published(folder)
    ledger = pq.read_table(folder / "out" / "scene.tif.coverage.parquet")
    assert sum(ledger["missing_px"].to_pylist()) == 0
    assert mended == anew(folder, given)


def anew(folder: Path, given: Request) -> list[bytes]:
    """What the request publishes with nothing kept."""
    with settings.override(work_uri=str(folder / "elsewhere")):
        run(given)
    return published(folder)


def without_asking(given: Request) -> Summary:
    """The outcome of a run that uses only what is kept."""
    plan = check_plan(given, given.image_urls[0], ask=False)
    store = kept_without_asking(plan)
    regions = plan.regions(ROWS)
    lost = not_asked(store.unfinished(given, regions))
    return finish_image(plan, regions, lost, store, datetime.now(UTC)).summary


@pytest.mark.parametrize("damage", [removed, changed])
def test_only_tiles_whose_maps_are_damaged_fail_where_the_model_is_not_to_be_asked(
    folder: Path,
    model: CountingModel,
    whole: list[bytes],
    damage: Callable[[Path], None],
) -> None:
    assert whole
    maps = kept(folder, "answers/*.maps")
    lost = answered(maps)
    damage(maps)
    given = asked(folder, model, blend="max")

    summary = without_asking(given)
    assert (summary.status, summary.tiles["failed"]) == (JobStatus.PARTIAL, lost)
    ((reason, tiles),) = summary.reasons
    assert "`swath redrive`" in reason
    assert tiles == lost
    assert model.figures().extra == 0
    assert run(given).status is JobStatus.SUCCESS
    assert model.figures().extra == lost
    found = published(folder)
    assert found == anew(folder, given)


@pytest.mark.parametrize("change", [{"blend": "max"}, {"polygons": {"minimumArea": 4}}])
def test_another_raster_of_the_same_answers_asks_nothing(
    folder: Path, model: CountingModel, whole: list[bytes], change: dict[str, Any]
) -> None:
    assert whole
    given = asked(folder, model, **change)

    assert without_asking(given).status is JobStatus.SUCCESS
    assert model.figures().total == TILES
    found = published(folder)
    assert found == anew(folder, given)


def test_maps_of_tiles_outside_the_region_of_interest_are_not_used(
    folder: Path, model: CountingModel, whole: list[bytes]
) -> None:
    assert whole
    with rasterio.open(folder / "scene.tif") as scene:
        left, bottom, right, top = transform_bounds(scene.crs, "EPSG:4326", *scene.bounds)
    middle = (bottom + top) / 2
    ring = f"{left} {middle}, {right} {middle}, {right} {top}, {left} {top}, {left} {middle}"
    fields = asked(folder, model).model_dump(mode="json", exclude_unset=True)
    given = Request.model_validate(fields | {"regionOfInterest": f"POLYGON(({ring}))"})

    assert run(given).status is JobStatus.SUCCESS
    assert model.figures().total == TILES
    found = published(folder)
    assert found == anew(folder, given)


def in_a_process(given: Request, work: Path, publish: Callable[..., Any] | None) -> BaseProcess:
    process = get_context("spawn").Process(target=_work, args=(given, str(work), publish))
    process.start()
    return process


def _work(given: Request, work: str, publish: Callable[..., Any] | None) -> None:
    os.environ["SWATH_WORK_URI"] = work
    settings.cache_clear()
    if publish:
        tasks.publish.publish_image = publish
    run(given)


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stored(folder: Path) -> int:
    """The number of tiles whose maps are kept."""
    found = 0
    for part in folder.glob("work/jobs/*/*/*/answers/*.arrow"):
        found += pa.ipc.open_stream(part.read_bytes()).read_all().num_rows
    return found


def test_after_a_kill_only_what_was_not_stored_is_asked_for_again(
    folder: Path, given: Request, model: CountingModel
) -> None:
    model.answer_only(20)
    process = in_a_process(given, folder / "work", None)
    until(lambda: stored(folder) == 20 and model.figures().in_flight, model.figures)
    process.kill()
    process.join()
    until(lambda: model.figures().in_flight == 0)
    lost = model.figures().total - 20
    model.answer_all()

    assert run(given, 10_000).status is JobStatus.SUCCESS
    assert model.figures().total == TILES + lost
    found = published(folder)
    assert found == anew(folder, given)


def test_what_a_run_leaves_that_is_killed_when_it_publishes_is_removed_by_the_next(
    folder: Path, given: Request, model: CountingModel
) -> None:
    process = in_a_process(given, folder / "work", die)
    process.join()
    assert list(folder.glob("work/jobs/*/*/*/*/raster.*"))

    assert run(given).status is JobStatus.SUCCESS
    assert not list(folder.glob("work/jobs/*/*/*/*/raster.*"))
    assert model.figures().extra == 0
    found = published(folder)
    forget_image(given.job_id, given.image_urls[0])
    assert not [path for path in (folder / "work").rglob("*") if path.is_file()]
    assert found == anew(folder, given)
