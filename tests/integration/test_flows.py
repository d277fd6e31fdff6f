"""The image flow with its regions in this process, on a real Prefect server and real files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import rasterio.warp
from prefect import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort
from rasterio.transform import from_origin

from flows.image import image
from flows.region import region
from tasks.planning.plan import make_plan
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import settings

pytestmark = pytest.mark.usefixtures("prefect_api")


def paint(path: Path, width: int = 900, height: int = 700) -> Path:
    """A dark scene with bright ships, some on seams, and a nodata corner."""
    random = np.random.default_rng(3)
    pixels = random.integers(20, 40, (3, height, width), dtype=np.uint8)
    for x, y in random.integers(60, (width - 30, height - 30), (25, 2)):
        pixels[:, y : y + 8, x : x + 20] = 230
    pixels[:, :300, :300] = 0
    profile = {"width": width, "height": height, "count": 3, "dtype": "uint8", "nodata": 0}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=from_origin(500_000, 5_400_000, 0.5, 0.5),
        **profile,
    ) as sink:
        sink.write(pixels)
    return path


def request(path: Path, out: Path, **fields: Any) -> Request:
    message = {
        "jobId": "job-1",
        "imageUrls": [str(path)],
        "outputs": [{"type": "File", "path": str(out)}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "imageProcessorTileSize": 256,
        "imageProcessorTileOverlap": 64,
    }
    return Request.parse(json.dumps(message | fields))


def run(request: Request, region_size: int | None = None) -> State[Any]:
    return image(request, region_size=region_size, return_state=True)


def features(out: Path, name: str) -> list[dict[str, Any]]:
    """What was published, without the moment that it was."""
    found: list[dict[str, Any]] = json.loads((out / f"{name}.geojson").read_text())["features"]
    for feature in found:
        feature["properties"].pop("inferenceMetadata")
    return found


def ledger(out: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(out / "scene.tif.coverage.parquet")


def lines(out: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = pq.read_table(out / "scene.tif.coverage.parquet").to_pylist()
    return read


def test_the_result_depends_on_neither_region_nor_batch(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = paint(allowed / "scene.tif")
    results = []
    for number, (region_size, batch) in enumerate([(4096, 16), (300, 1), (450, 3)]):
        monkeypatch.setenv("SWATH_BATCH_SIZE", str(batch))
        settings.cache_clear()
        out = allowed / str(number)
        end = run(request(scene, out), region_size)
        assert end.name == "Completed"
        results.append((features(out, "scene.tif"), lines(out)))
    assert len(results[0][0]) > 10
    assert results[1] == results[0]
    assert results[2] == results[0]


def test_both_files_hold_the_same_features(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    run(request(scene, allowed / "out"))
    published = features(allowed / "out", "scene.tif")
    table = geopandas.read_parquet(allowed / "out" / "scene.tif.parquet")
    assert [feature["id"] for feature in published] == table["id"].tolist()
    assert table.crs == "OGC:CRS84"


def test_a_summary_and_a_table_of_regions_are_left_on_the_run(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", jobId="job-artifacts"), 450)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
        (mine,) = [run for run in runs if run.id == end.state_details.flow_run_id]
        shown = {a.type: a for a in client.read_artifacts() if a.flow_run_id == mine.id}
    assert mine.name == "scene.tif · job-artifacts"
    assert "SUCCESS" in str(shown["markdown"].data)
    rows = json.loads(str(shown["table"].data))
    page = str(shown["markdown"].data)
    assert "**100 % of the area covered**" in page
    assert f"- coverage: [{allowed / 'out' / 'scene.tif.coverage.parquet'}]" in page
    assert rows[0]["region"] == "region 1/2 · 0,0 900×404"
    assert [float(row["first tile"]) > 0 for row in rows] == [True, True]
    assert [row["queued"] for row in rows] == ["–", "–"]  # nothing had to start here
    assert re.search(r"^\| this run \| – \| – \| – \| \d+\.\d\d \|$", page, re.MULTILINE)
    assert re.search(r"^\| median of 2 regions \| – \| – \| – \| \d+\.\d\d \|$", page, re.MULTILINE)
    assert shown["progress"].data == 100
    assert shown["progress"].description == "20 of 20 tiles"


def test_a_collection_has_the_bbox_of_its_features(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    run(request(scene, allowed / "out"))
    published = json.loads((allowed / "out" / "scene.tif.geojson").read_text())
    boxes = np.array([feature["bbox"] for feature in published["features"]])
    assert published["bbox"] == [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)]


def test_a_model_whose_every_feature_is_broken_is_no_success(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plain(_: object) -> dict[str, Any]:
        return {"type": "FeatureCollection", "features": [{"properties": {"score": 1}}]}

    monkeypatch.setattr("tasks.inference.builtin.endpoint.model", lambda *_: plain)
    end = run(request(paint(allowed / "scene.tif"), allowed / "out"))
    assert end.name == "Partial"
    assert "most often because: feature 0: it has neither imageBBox" in str(end.message)


def test_blank_tiles_are_not_sent_and_are_counted(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    summary = run(request(scene, allowed / "out")).result()
    assert summary.tiles == {"inferred": 19, "blank": 1, "outside": 0, "failed": 0}
    assert summary.covered == 1
    table = ledger(allowed / "out")
    assert table["state"].tolist() == ["blank"] + ["inferred"] * 19
    assert table["attempts"].tolist() == [0] + [1] * 19
    assert table["area_px"].sum() == 900 * 700
    with rasterio.open(scene) as source:
        ground = rasterio.warp.transform_bounds(source.crs, "EPSG:4326", *source.bounds)
    assert table.total_bounds.tolist() == pytest.approx(ground, abs=1e-6)


def corner(scene: Path) -> str:
    """WKT of a triangle of the scene: 300 × 200 pixels, halved."""
    with rasterio.open(scene) as source:
        x, y = source.transform * np.array([(500, 600), (800, 600), (800, 400), (500, 600)]).T
        ring = zip(*rasterio.warp.transform(source.crs, "EPSG:4326", x, y), strict=True)
    return "POLYGON((" + ", ".join(f"{x} {y}" for x, y in ring) + "))"


def test_a_region_of_interest_is_all_that_is_looked_at(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    summary = run(request(scene, allowed / "out", regionOfInterest=corner(scene))).result()
    assert summary.status is JobStatus.SUCCESS
    assert summary.tiles["outside"] > summary.tiles["inferred"] > 0
    table = ledger(allowed / "out")
    assert table["area_px"].sum() == pytest.approx(300 * 200 / 2, rel=1e-3)
    assert table["area_px"][table["state"] == "outside"].sum() == 0
    for feature in features(allowed / "out", "scene.tif"):
        x_min, y_min, x_max, y_max = feature["properties"]["imageBBox"]
        assert (x_min + x_max) / 2 > 499
        assert (y_min + y_max) / 2 > 399


def test_of_a_lost_region_only_what_was_asked_for_failed(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = paint(allowed / "scene.tif")
    (allowed / "file").write_text("where regions cannot leave their findings")
    monkeypatch.setenv("SWATH_WORK_URI", str(allowed / "file" / "work"))
    settings.cache_clear()
    end = run(request(scene, allowed / "out", regionOfInterest=corner(scene)))
    failed: Any = end.result(raise_on_failure=False)
    summary = failed.summary
    assert summary.status is JobStatus.FAILED
    assert summary.tiles["outside"] > summary.tiles["failed"] > 0
    assert summary.tiles["inferred"] == summary.tiles["blank"] == 0
    assert summary.covered == 0


def test_failed_tiles_make_a_partial_result_with_the_reason(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    with rasterio.open(scene, "r+") as sink:
        red = np.zeros((3, 256, 256), np.uint8)
        red[0] = 255  # the colour that the failure model answers with a 500
        sink.write(red, window=rasterio.windows.Window(644, 444, 256, 256))
    failing = request(scene, allowed / "out", imageProcessor={"name": "failure", "type": "BUILTIN"})
    end = run(failing)
    summary = end.result()
    assert (end.name, summary.status) == ("Partial", JobStatus.PARTIAL)
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
    assert told in str(end.message)


def test_a_model_that_never_answers_publishes_the_ledger_alone(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    dead = {"name": "http://127.0.0.1:9/invocations", "type": "HTTP_ENDPOINT"}
    end = run(request(scene, allowed / "out", imageProcessor=dead, imageProcessorTileSize=1024))
    assert end.is_failed()
    failed: Any = end.result(raise_on_failure=False)
    summary = failed.summary
    assert summary.status is JobStatus.FAILED
    assert "127.0.0.1:9" in summary.reasons[0][0]
    assert "; 0 % of the area covered; 100 % failed in 1 tile, most often" in str(end.message)
    (published,) = (allowed / "out").glob("*")
    assert summary.outputs == {"coverage": str(published)}
    (line,) = ledger(allowed / "out").to_dict("records")
    assert (line["state"], line["area_px"]) == ("failed", 900 * 700)
    assert "127.0.0.1:9" in line["reason"]


def test_an_output_that_fails_hides_no_reason_of_a_failed_job(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"

    def refuse(_: object) -> dict[str, Any]:
        out.rmdir()
        out.write_text("no folder")  # the output, gone while the work is done
        raise ValueError("the model is broken")

    out.mkdir()
    monkeypatch.setattr("tasks.inference.builtin.endpoint.model", lambda *_: refuse)
    end = run(request(scene, out, imageProcessorTileSize=1024))
    failed: Any = end.result(raise_on_failure=False)
    summary = failed.summary
    assert end.is_failed()
    assert "the model is broken" in str(end.message)
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
def test_what_cannot_be_done_is_refused_before_any_work(
    allowed: Path, fields: dict[str, Any], told: str
) -> None:
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", **fields))
    assert end.is_failed()
    assert told in str(end.message)
    assert "exception" not in str(end.message)


def test_every_image_of_a_request_is_worked(allowed: Path) -> None:
    (allowed / "a").mkdir()
    (allowed / "b").mkdir()
    both = [paint(allowed / "a" / "scene.tif"), paint(allowed / "b" / "scene.tif", 800, 600)]
    end = run(request(both[0], allowed / "out", imageUrls=[str(path) for path in both]))
    assert end.name == "Completed"
    names = sorted(path.name for path in (allowed / "out").iterdir())
    assert names == [
        "scene-2.tif.coverage.parquet",
        "scene-2.tif.geojson",
        "scene-2.tif.parquet",
        "scene.tif.coverage.parquet",
        "scene.tif.geojson",
        "scene.tif.parquet",
    ]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A deployment that regions run on; nobody works it."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(region), "elsewhere")
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/elsewhere")
    settings.cache_clear()
    return deployment


def runs_elsewhere(deployment: UUID) -> int:
    """Runs of a deployment that there ever were."""
    with get_client(sync_client=True) as client:
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        return len(client.read_flow_runs(deployment_filter=mine))


def regions_of(end: State[Any]) -> list[FlowRun]:
    """The runs of an image's regions, the first first."""
    parent = FlowRunFilterParentFlowRunId(any_=[end.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=parent),
            sort=FlowRunSort.START_TIME_ASC,
        )


def states_of(end: State[Any]) -> list[str | None]:
    return [run.state.name if run.state else None for run in regions_of(end)]


def test_an_image_of_one_region_is_worked_in_its_own_run(allowed: Path, elsewhere: UUID) -> None:
    end = run(request(paint(allowed / "scene.tif"), allowed / "out"))
    assert end.name == "Completed"
    (only,) = regions_of(end)
    assert only.deployment_id is None
    assert set(only.tags) == {"job:job-1", "model:bright-targets"}
    # by which later images are cut
    assert (only.labels["swath.tiles"], only.labels["swath.tile_pixels"]) == (19, 256 * 256)
    assert float(str(only.labels["swath.work_seconds"])) > 0
    assert runs_elsewhere(elsewhere) == 0


def test_a_single_region_that_is_lost_is_tried_again(
    allowed: Path, elsewhere: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, calls = allowed / "work", []

    def find(_: object) -> dict[str, Any]:
        """Have no folder to store findings in, at the first attempt."""
        calls.append(1)
        work.unlink() if len(calls) == 2 else work.write_text("no folder")
        return {"type": "FeatureCollection", "features": []}

    monkeypatch.setattr("tasks.inference.builtin.endpoint.model", lambda *_: find)
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", imageProcessorTileSize=1024))
    assert states_of(end) == ["Failed", "Completed"]
    assert end.name == "Completed"
    assert runs_elsewhere(elsewhere) == 0


def test_a_single_region_is_lost_after_as_many_attempts_as_any(
    allowed: Path, elsewhere: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    (allowed / "file").write_text("where regions cannot leave their findings")
    monkeypatch.setenv("SWATH_WORK_URI", str(allowed / "file" / "work"))
    monkeypatch.setenv("SWATH_REGION_ATTEMPTS", "2")
    settings.cache_clear()
    end = run(request(paint(allowed / "scene.tif"), allowed / "out", imageProcessorTileSize=1024))
    assert end.is_failed()
    assert states_of(end) == ["Failed", "Failed"]
    assert runs_elsewhere(elsewhere) == 0


def test_a_single_region_whose_endpoint_was_given_up_is_not_tried_again(
    allowed: Path, elsewhere: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_ENDPOINT_PATIENCE", "1")
    settings.cache_clear()
    nobody = {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"}
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", imageProcessor=nobody))
    assert "given up after" in str(end.message)
    assert states_of(end) == ["Endpoint down"]
    assert runs_elsewhere(elsewhere) == 0


def test_regions_that_nobody_sized_are_sized_by_their_work(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, cut = paint(allowed / "scene.tif"), {"imageProcessorTileSize": 512}
    assert len(regions_of(run(request(scene, allowed / "one", **cut)))) == 1
    monkeypatch.setenv("SWATH_REGION_SECONDS", "0.001")  # less than any tile takes
    settings.cache_clear()
    assert len(regions_of(run(request(scene, allowed / "four", **cut)))) == 4
    assert features(allowed / "one", "scene.tif") == features(allowed / "four", "scene.tif")


def test_an_endpoint_that_is_down_ends_the_job_and_no_further_region_is_begun(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_ENDPOINT_PATIENCE", "1")
    settings.cache_clear()
    scene = paint(allowed / "scene.tif")
    nobody = {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"}
    asked = request(scene, allowed / "out", imageProcessor=nobody, imageProcessorTileFormat="GTIFF")
    end = run(asked, region_size=300)
    assert end.name == "Failed"
    assert "given up after" in str(end.message)
    assert states_of(end) == ["Endpoint down"]
    failed = [line for line in lines(allowed / "out") if line["state"] == "failed"]
    assert len(failed) > 15
    assert all("127.0.0.1:9" in line["reason"] for line in failed)
    assert any(line["failed_calls"] for line in failed)


def test_regions_of_an_image_that_was_replaced_are_tried_once(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = paint(allowed / "scene.tif")

    def plan_and_replace(*asked: Any) -> Any:
        plan = make_plan(*asked)
        with rasterio.open(scene, "r+") as sink:
            sink.write(np.full((3, 9, 9), 7, np.uint8), window=rasterio.windows.Window(0, 0, 9, 9))
        return plan

    monkeypatch.setattr("flows.image.plan_step", plan_and_replace)
    end = run(request(scene, allowed / "out"), region_size=300)
    assert states_of(end) == ["Image replaced"]
    assert end.is_failed()
    assert "was replaced since the work began" in str(end.message)
