"""A whole job in this process: pixels to published files, without an orchestrator."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.warp
from numpy.typing import NDArray

from tasks.errors import ImageChangedError, PublishError, SwathError, UnreachableError
from tasks.grid.tiles import Region, Tile
from tasks.imagery import ReadTile, TilePixels
from tasks.inference.batch import max_calls
from tasks.inference.builtin.endpoint import create_model
from tasks.inference.concurrency_estimator import CapacityEstimate
from tasks.job import work_image, work_region
from tasks.job.asking import Asking
from tasks.job.kept import Kept
from tasks.job.observer import SilentObserver
from tasks.job.shared_client import SharedClient
from tasks.planning.plan import Plan, make_plan
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.results.stored import RegionStore, StoredRegion
from tasks.settings import settings
from tasks.storage import conditional, objects
from tasks.storage.conditional import Version
from tests.job_scene import corner, features, ledger, lines, paint, request


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


def run(request: Request, region_rows: int | None = None) -> Summary:
    """The outcome of a request, with no answers kept from another one."""
    with settings.override(work_uri=objects.join(settings().work_uri, uuid4().hex)):
        return work_image(request, request.image_urls[0], region_rows=region_rows)


def test_the_result_does_not_depend_on_the_regions(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    results = []
    for number, region_size in enumerate([4096, 300, 450]):
        out = allowed / str(number)
        assert run(request(scene, out), region_size).status is JobStatus.SUCCESS
        results.append((features(out, "scene.tif"), lines(out)))
    assert len(results[0][0]) > 10
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_what_is_filtered_depends_on_neither_region_nor_merge(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_classes(pixels: NDArray[Any]) -> dict[str, Any]:
        answer: dict[str, Any] = flood(pixels)
        for number, feature in enumerate(answer["features"]):
            (named,) = feature["properties"]["featureClasses"]
            named["iri"] = "barge" if number % 3 else "ship"
        return answer

    flood = create_model("flood", {"count": 40})
    monkeypatch.setattr("tasks.inference.builtin.endpoint.create_model", lambda *_: two_classes)
    scene = paint(allowed / "scene.tif")
    wanted = {"classThresholds": {"ship": 0.6}, "skipBoxThreshold": 0.3, "iouThreshold": 0.1}
    published = []
    for number, region_size in enumerate([4096, 300, 450]):
        out = allowed / str(number)
        step = {"algorithm": wanted | {"classAgnostic": True}}
        summary = run(request(scene, out, postProcessing=[step]), region_size)
        assert (summary.status, summary.covered) == (JobStatus.SUCCESS, 1)
        tiles = ledger(out)
        assert summary.filtered == tiles["filtered"].sum() > 100
        assert f"{summary.filtered} detections filtered out by class or score" in summary.message
        assert (tiles["filtered"] <= tiles["detections"]).all()
        published.append((features(out, "scene.tif"), lines(out)))
    assert published[1] == published[0]
    assert published[2] == published[0]
    left = [feature["properties"]["featureClasses"][0] for feature in published[0][0]]
    assert min(named["score"] for named in left if named["iri"] == "ship") >= 0.6
    assert 0.3 <= min(named["score"] for named in left if named["iri"] == "barge") < 0.6
    step = {"algorithm": {"algorithmType": "NONE", "classes": ["ship"]}}
    ships = run(request(scene, allowed / "ships", postProcessing=[step]))
    assert ships.features + ships.filtered == ledger(allowed / "ships")["detections"].sum()
    found = features(allowed / "ships", "scene.tif")
    assert {feature["properties"]["featureClasses"][0]["iri"] for feature in found} == {"ship"}


def test_both_files_hold_the_same_features(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    run(request(scene, allowed / "out"))
    published = features(allowed / "out", "scene.tif")
    table = geopandas.read_parquet(allowed / "out" / "scene.tif.parquet")
    assert sorted(feature["id"] for feature in published) == sorted(table["id"])
    assert table.crs == "OGC:CRS84"


def test_a_collection_has_the_bbox_of_its_features(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    run(request(scene, allowed / "out"))
    published = json.loads((allowed / "out" / "scene.tif.geojson").read_text())
    boxes = np.array([feature["bbox"] for feature in published["features"]])
    assert published["bbox"] == [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]


def test_a_model_that_gives_only_broken_features_makes_a_job_partial(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(_: object) -> dict[str, Any]:
        return {"type": "FeatureCollection", "features": [{"properties": {"score": 1}}]}

    monkeypatch.setattr("tasks.inference.builtin.endpoint.create_model", lambda *_: plain)
    summary = run(request(paint(allowed / "scene.tif"), allowed / "out"))
    assert summary.status is JobStatus.PARTIAL
    assert "feature 0: it has neither imageBBox" in summary.message


def test_blank_tiles_are_not_sent_and_are_counted(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    summary = run(request(scene, allowed / "out"))
    assert summary.tiles == {"inferred": 19, "blank": 1, "outside": 0, "failed": 0}
    assert summary.covered == 1
    table = ledger(allowed / "out")
    assert table["state"].tolist() == ["blank"] + ["inferred"] * 19
    assert table["attempts"].tolist() == [0] + [1] * 19
    assert table["area_px"].sum() == 900 * 700
    with rasterio.open(scene) as source:
        ground = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    assert table.total_bounds.tolist() == pytest.approx(ground, abs=1e-6)


def test_only_the_region_of_interest_is_inferred(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    summary = run(request(scene, allowed / "out", regionOfInterest=corner(scene)))
    assert summary.status is JobStatus.SUCCESS
    assert summary.tiles["outside"] > summary.tiles["inferred"] > 0
    table = ledger(allowed / "out")
    assert table["area_px"].sum() == pytest.approx(300 * 200 / 2, rel=1e-3)
    assert table["area_px"][table["state"] == "outside"].sum() == 0
    for feature in features(allowed / "out", "scene.tif"):
        x_min, y_min, x_max, y_max = feature["properties"]["imageBBox"]
        assert (x_min + x_max) / 2 > 499
        assert (y_min + y_max) / 2 > 399


def test_only_the_tiles_in_the_roi_of_a_lost_region_failed(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = paint(allowed / "scene.tif")
    monkeypatch.setattr("tasks.job.image.make_plan", plan_and_replace)
    summary = run(request(scene, allowed / "out", regionOfInterest=corner(scene)))
    assert summary.status is JobStatus.FAILED
    assert summary.tiles["outside"] > summary.tiles["failed"] > 0
    assert summary.tiles["inferred"] == summary.tiles["blank"] == 0
    assert summary.covered == 0


def test_a_store_that_cannot_be_written_is_found_before_the_model_is_called(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (allowed / "file").write_text("where answers cannot be kept")
    monkeypatch.setenv("SWATH_WORK_URI", str(allowed / "file" / "work"))
    settings.cache_clear()
    monkeypatch.setattr("tasks.job.regions.work_region", pytest.fail)
    with pytest.raises(PublishError, match="Not a directory"):
        run(request(paint(allowed / "scene.tif"), allowed / "out"))


def test_failed_tiles_make_a_partial_result_with_the_reason(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    with rasterio.open(scene, "r+") as sink:
        red = np.zeros((3, 256, 256), np.uint8)
        red[0] = 255  # the colour that the failure model answers with a 500
        sink.write(red, window=rasterio.windows.Window(644, 444, 256, 256))
    failing = request(scene, allowed / "out", imageProcessor={"name": "failure", "type": "BUILTIN"})
    summary = run(failing)
    assert summary.status is JobStatus.PARTIAL
    assert summary.tiles["failed"] == 1
    assert summary.reasons[0][1] == 1
    assert len(features(allowed / "out", "scene.tif")) == summary.features > 0
    table = ledger(allowed / "out")
    (lost,) = table[table["state"] == "failed"].to_dict("records")
    assert [lost["x"], lost["y"], lost["width"], lost["height"]] == [644, 444, 256, 256]
    assert lost["reason"] == summary.reasons[0][0]
    assert lost["attempts"] > 0
    assert summary.shares["failed"] == pytest.approx(lost["area_px"] / (900 * 700))
    told = f"{100 * (1 - summary.shares['failed']):.1f} % of the area covered"
    assert told in summary.message


def test_if_the_model_never_answers_only_the_ledger_is_published(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    dead = {"name": "http://127.0.0.1:9/invocations", "type": "HTTP_ENDPOINT"}
    summary = run(request(scene, allowed / "out", imageProcessor=dead, imageProcessorTileSize=1024))
    assert summary.status is JobStatus.FAILED
    assert "127.0.0.1:9" in summary.reasons[0][0]
    assert "; 0 % of the area covered; 100 % failed in 1 tile, most often" in summary.message
    ledger_file, manifest = sorted((allowed / "out").iterdir())
    assert summary.outputs == {"coverage": str(ledger_file)}
    assert json.loads(manifest.read_text())["status"] == "FAILED"
    (line,) = ledger(allowed / "out").to_dict("records")
    assert (line["state"], line["area_px"]) == ("failed", 900 * 700)
    assert "127.0.0.1:9" in line["reason"]


def test_an_output_that_fails_does_not_hide_why_the_job_failed(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"

    def refuse(_: object) -> dict[str, Any]:
        out.rmdir()
        out.write_text("no folder")  # the output, gone while the work is done
        raise ValueError("the model is broken")

    out.mkdir()
    monkeypatch.setattr("tasks.inference.builtin.endpoint.create_model", lambda *_: refuse)
    summary = run(request(scene, out, imageProcessorTileSize=1024))
    assert summary.status is JobStatus.FAILED
    assert "the model is broken" in summary.message
    assert summary.outputs == {}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"imageUrls": ["/nowhere/x.tif"]}, "SWATH_LOCAL_ROOTS"),
        ({"imageProcessor": {"name": "no-such", "type": "BUILTIN"}}, "bright-targets"),
        ({"imageProcessor": {"name": "/x.onnx", "type": "ONNX"}}, "SWATH_LOCAL_ROOTS"),
        ({"outputs": [{"type": "File", "path": "/etc/out"}]}, "SWATH_LOCAL_ROOTS"),
        ({"regionOfInterest": "POLYGON((0 0, 1 0, 1 1, 0 0))"}, "do not meet"),
    ],
)
def test_a_request_that_cannot_be_fulfilled_is_refused_before_any_work(
    allowed: Path, fields: dict[str, Any], told: str
) -> None:
    scene = paint(allowed / "scene.tif")
    with pytest.raises(SwathError, match=told):
        run(request(scene, allowed / "out", **fields))
    assert not (allowed / "out").exists()


class Recorder(SilentObserver):
    """Writes down what an observer hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.reasons: list[str] = []

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:  # noqa: ARG002
        self.heard.append(("planned", len(regions)))

    def region_began(self, region: Region) -> None:
        self.heard.append(("began", region.index))

    def tiles_done(self, region: Region, tiles: int) -> None:  # noqa: ARG002
        self.heard.append(("tiles", tiles))

    def region_ended(self, region: Region, lost: str) -> None:
        self.heard.append(("ended", region.index))
        self.reasons.append(lost)


def test_an_observer_is_told_of_the_plan_of_regions_and_of_every_tile(allowed: Path) -> None:
    scene, recorder = paint(allowed / "scene.tif"), Recorder()
    asked = request(scene, allowed / "out", regionOfInterest=corner(scene))
    work_image(asked, asked.image_urls[0], recorder, region_rows=300)
    planned, *events = [event for event in recorder.heard if event[0] != "tiles"]
    assert planned == ("planned", 2)
    for event in ("began", "ended"):
        assert [index for heard, index in events if heard == event] == [0, 1]
    assert sum(tiles for event, tiles in recorder.heard if event == "tiles") == 20
    assert [event for event, _ in recorder.heard].count("tiles") > 4  # not only once a region
    assert recorder.reasons == ["", ""]


def test_a_lost_region_is_tried_again_without_a_call(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls, recorder = RegionStore.save, [], Recorder()

    def find(_: object) -> dict[str, Any]:
        calls.append(1)
        return {"type": "FeatureCollection", "features": []}

    def save_late(*args: Any, **options: Any) -> StoredRegion:
        if [event for event, _ in recorder.heard].count("began") < 2:
            raise PublishError("the store does not answer")
        return save(*args, **options)

    monkeypatch.setattr("tasks.inference.builtin.endpoint.create_model", lambda *_: find)
    monkeypatch.setattr(RegionStore, "save", save_late)
    asked = request(paint(allowed / "scene.tif"), allowed / "out")
    summary = work_image(asked, asked.image_urls[0], recorder)
    assert summary.status is JobStatus.SUCCESS
    assert [event for event, _ in recorder.heard].count("began") == 2
    assert recorder.reasons == [""]
    assert len(calls) == summary.tiles["inferred"]


def test_no_region_begins_once_the_endpoint_was_given_up(allowed: Path) -> None:
    nobody = {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"}
    asked = request(paint(allowed / "scene.tif"), allowed / "out", imageProcessor=nobody)
    recorder = Recorder()
    summary = work_image(asked, asked.image_urls[0], recorder, region_rows=300)
    assert summary.status is JobStatus.FAILED
    assert "given up after" in summary.message
    assert [event for event, _ in recorder.heard].count("began") == 1
    failed = [line for line in lines(allowed / "out") if line["state"] == "failed"]
    assert len(failed) == 19
    assert all("127.0.0.1:9" in line["reason"] for line in failed)


def plan_and_replace(request: Request, image_url: str) -> Plan:
    """Make a plan of an image, which is replaced by another version at once."""
    plan = make_plan(request, image_url)
    with rasterio.open(image_url, "r+") as sink:
        sink.write(np.full((3, 9, 9), 7, np.uint8), window=rasterio.windows.Window(0, 0, 9, 9))
    return plan


def test_no_region_begins_once_the_image_was_replaced(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, recorder = paint(allowed / "scene.tif"), Recorder()
    monkeypatch.setattr("tasks.job.image.make_plan", plan_and_replace)
    asked = request(scene, allowed / "out")
    summary = work_image(asked, asked.image_urls[0], recorder, region_rows=300)
    assert summary.status is JobStatus.FAILED
    assert "replaced" in summary.message
    assert [event for event, _ in recorder.heard].count("began") == 1


class Hanging:
    """A model that gives no answer until it is closed."""

    tiles_per_call, local = 1, False
    capacity: int | None = 4

    def __init__(self) -> None:
        self.called, self.left, self._closed = Event(), Event(), Event()
        self.ended: list[bool] = []

    def prepare(self, tile: TilePixels) -> TilePixels:
        return tile

    def ask(self, prepared: Sequence[TilePixels]) -> Sequence[object]:  # noqa: ARG002
        self.called.set()
        self.ended.append(self._closed.wait(5))
        self.left.set()
        raise UnreachableError("the connection is closed")

    def close(self) -> None:
        self._closed.set()


def test_an_error_while_tiles_are_read_ends_the_calls_in_flight(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, model = request(paint(allowed / "scene.tif"), allowed / "out"), Hanging()
    plan, read = make_plan(asked, asked.image_urls[0]), Plan.read

    def read_two(plan: Plan, tiles: Sequence[Tile], _: object) -> Iterator[ReadTile]:
        yield from islice(read(plan, tiles), 2)
        model.called.wait(5)
        raise ImageChangedError("the image was replaced")

    monkeypatch.setattr(Plan, "read", read_two)
    (region,), kept = plan.regions(4096), Kept(str(allowed / "work"))
    with (
        closing(SharedClient(open_endpoint=lambda *_: model)) as shared,
        pytest.raises(ImageChangedError),
    ):
        work_region(plan, region, kept, Asking(shared=shared))
    assert model.left.wait(5)
    assert model.ended == [True]


@pytest.mark.parametrize("concurrency", [7, 1e300])
def test_calls_begin_with_an_earlier_estimate_within_the_memory(
    allowed: Path, concurrency: float
) -> None:
    asked = request(paint(allowed / "scene.tif"), allowed / "out")
    plan = make_plan(asked, asked.image_urls[0])
    earlier = CapacityEstimate(concurrency, 0.05)
    with closing(SharedClient(open_endpoint=lambda *_: Hanging(), earlier=earlier)) as shared:
        limiter = shared.for_region(plan, plan.regions(4096)[0], lambda _: None).limiter
        assert limiter.demand == min(concurrency, max_calls(plan.tile_bytes))


def test_an_interrupted_publication_leaves_no_part_of_the_results(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, put = paint(allowed / "scene.tif"), conditional.put_if

    def put_features_only(uri: str, body: bytes | Path, version: Version | None) -> bool:
        if uri.endswith("coverage.parquet"):
            raise KeyboardInterrupt
        return put(uri, body, version)

    monkeypatch.setattr("tasks.publish.claim.conditional.put_if", put_features_only)
    with pytest.raises(KeyboardInterrupt):
        run(request(scene, allowed / "out"))
    assert list((allowed / "out").iterdir()) == []


def test_of_two_jobs_at_once_with_one_question_one_asks(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif", blank=False)
    asked = request(scene, allowed / "out")
    calls: list[int] = []

    class Counting:
        tiles_per_call, local = 1, True
        capacity: int | None = 2

        def prepare(self, tile: TilePixels) -> TilePixels:
            return tile

        def ask(self, prepared: Sequence[TilePixels]) -> list[object]:
            calls.extend(tile.tile.index for tile in prepared)
            return [{"type": "FeatureCollection", "features": []} for _ in prepared]

        def close(self) -> None:
            """Nothing is open."""

    def work() -> Summary:
        return work_image(asked, asked.image_urls[0], open_endpoint=lambda *_: Counting())

    with ThreadPoolExecutor(2) as threads:
        outcomes = [each.result() for each in [threads.submit(work) for _ in range(2)]]
    assert [each.status for each in outcomes] == [JobStatus.SUCCESS] * 2
    assert sorted(calls) == list(range(sum(outcomes[0].tiles.values())))
