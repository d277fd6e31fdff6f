"""The image flow with its regions in this process, on a real Prefect server and real files."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
import rasterio
import rasterio.warp
from PIL import Image as Picture
from prefect import get_client, tags
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    DeploymentFilter,
    DeploymentFilterId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from deployments.local.prefect_server import client_environment
from flows.announce import status_of
from flows.image import image
from flows.region import region
from tasks.cost.usage import Usage
from tasks.errors import PublishError
from tasks.job import work_image
from tasks.planning.plan import make_plan
from tasks.reporting.summary import IncompleteJobError
from tasks.request import Request
from tasks.results.stored import RegionStore, StoredRegion
from tasks.settings import settings
from tests.job_scene import corner, features, lines, paint, request
from tests.polling import until
from tests.publications import assert_whole
from tests.streams import make_stream, records

pytestmark = pytest.mark.usefixtures("prefect_api")


def run(request: Request, region_size: int | None = None) -> State[Any]:
    return image(request, region_size=region_size, return_state=True)


@pytest.mark.parametrize("region_rows", [4096, 300])
def test_the_flow_publishes_what_the_plain_job_publishes(allowed: Path, region_rows: int) -> None:
    scene = paint(allowed / "scene.tif")
    by_flow = request(scene, allowed / "flow", regionOfInterest=corner(scene))
    plain = request(scene, allowed / "plain", regionOfInterest=corner(scene))
    end = run(by_flow, region_rows)
    summary = work_image(plain, plain.image_urls[0], region_rows=region_rows)
    assert end.name == "Completed"
    assert summary.features == end.result().features > 0
    assert features(allowed / "flow", "scene.tif") == features(allowed / "plain", "scene.tif")
    assert lines(allowed / "flow") == lines(allowed / "plain")


def test_a_message_sent_again_after_success_is_told_where_the_results_are(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(paint(allowed / "scene.tif"), allowed / "out")
    first = run(asked)
    before = {path: path.read_bytes() for path in (allowed / "out").iterdir()}
    monkeypatch.setenv("SWATH_WORK_URI", str(allowed / "no answers are kept here"))
    settings.cache_clear()
    again = run(asked)
    assert again.name == "Completed"
    assert again.result().outputs == first.result().outputs
    assert (again.message or "").startswith("published already by an earlier run")
    assert f"{allowed}/out/scene.tif.geojson" in (again.message or "")
    assert {path: path.read_bytes() for path in (allowed / "out").iterdir()} == before
    paint(allowed / "scene.tif", height=701)
    assert run(asked).message != again.message  # the image was replaced


@pytest.mark.parametrize("with_files", [False, True])
def test_a_message_sent_again_after_success_puts_no_record_on_a_stream_again(
    allowed: Path, aws: str, with_files: bool
) -> None:
    name = make_stream()
    outputs: list[dict[str, str]] = [{"type": "Kinesis", "stream": name}]
    if with_files:
        outputs.append({"type": "File", "path": str(allowed / "out")})
    scene = paint(allowed / "scene.tif")
    asked = request(scene, allowed, jobId=f"job-{name}", outputs=outputs)
    first = run(asked)
    before = records(name)
    assert len(before) == first.result().features > 0
    again = run(asked)
    assert again.name == "Completed"
    assert again.result() == first.result().model_copy(update={"seconds": None, "usage": Usage()})
    assert (again.message or "").startswith("published already by an earlier run")
    assert records(name) == before
    if with_files:
        (allowed / "out" / "scene.tif.geojson").unlink()
        assert run(asked).message != again.message
    paint(scene, height=701)
    assert run(asked).message != again.message  # the image was replaced
    assert len(records(name)) > len(before)


def test_an_output_that_failed_is_published_to_alone_without_asking(
    allowed: Path, aws: str
) -> None:
    name, blocked = make_stream(), allowed / "out" / "scene.tif.geojson"
    (blocked / "x").mkdir(parents=True)  # a folder is not replaced by a file
    outputs = [
        {"type": "Kinesis", "stream": name},
        {"type": "File", "path": str(allowed / "out")},
        {"type": "File", "path": str(allowed / "other")},
    ]
    asked = request(paint(allowed / "scene.tif"), allowed, jobId=f"job-{name}", outputs=outputs)
    partly = run(asked)
    assert (partly.name, partly.is_failed()) == ("Partial", True)
    assert f"outputs[1] is not published: Cannot write {blocked}" in (partly.message or "")
    sent, other = (
        records(name),
        {path: path.stat().st_mtime_ns for path in (allowed / "other").iterdir()},
    )
    (blocked / "x").rmdir()
    blocked.rmdir()
    end: State[Any] = image(asked, ask=False, return_state=True)
    assert end.name == "Completed"
    assert len(end.result().outputs) == 7
    assert records(name) == sent
    assert {path: path.stat().st_mtime_ns for path in (allowed / "other").iterdir()} == other
    assert assert_whole(str(allowed / "out"), "scene.tif")["features"] == len(sent) > 0


def _without_artifacts(send: Any) -> Any:
    """A client of Prefect whose server cannot store artifacts."""

    def answer(self: Any, request: httpx.Request, *args: Any, **kwargs: Any) -> Any:
        if "/artifacts" in request.url.path:
            return httpx.Response(500, text="the disk is full", request=request)
        return send(self, request, *args, **kwargs)

    return answer


def test_a_prefect_that_stores_no_artifacts_fails_no_job(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for client in (httpx.Client, httpx.AsyncClient):
        monkeypatch.setattr(client, "send", _without_artifacts(client.send))
    end = run(request(paint(allowed / "scene.tif"), allowed / "out"), 450)
    assert (end.name, states_of(end)) == ("Completed", ["Completed", "Completed"])
    assert len(features(allowed / "out", "scene.tif")) == end.result().features > 0


def test_the_run_has_a_summary_and_a_table_of_regions(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", jobId="job-artifacts"), 450)
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs()
        (mine,) = [run for run in runs if run.id == end.state_details.flow_run_id]
        its = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[mine.id]))
        shown = {a.key: a for a in client.read_artifacts(artifact_filter=its)}
    assert mine.name == "scene.tif - job-artifacts"
    assert shown.keys() == {"progress", "summary", "regions"}
    page = str(shown["summary"].data).splitlines()
    assert "# SUCCESS: scene.tif, job-artifacts" in page
    assert "| area covered | 100 % |" in page
    assert f"| features | {end.result().features}: bright-target {end.result().features} |" in page
    assert f"| coverage | `{allowed / 'out' / 'scene.tif.coverage.parquet'}` |" in page
    start = r"Start-up: first tile \d+\.\d\d s; median of 2 regions: first tile \d+\.\d\d s"
    assert re.fullmatch(start, page[-1])  # no process had to start
    picture = re.fullmatch(r"!\[.*\]\(data:image/jpeg;base64,(.*)\)", page[0])
    assert picture is not None
    with Picture.open(io.BytesIO(b64decode(picture[1]))) as drawn:
        assert drawn.size[0] == 640
    table = str(shown["regions"].data).splitlines()
    assert [line.split(" | ")[0] for line in table[6:]] == [
        f"| [{number}](../../runs/flow-run/{run.id})"
        for number, run in enumerate(sorted(regions_of(end), key=lambda run: run.name), 1)
    ]
    assert shown["progress"].data == 100
    assert shown["progress"].description == "20 of 20 tiles"


def test_the_table_says_which_regions_an_earlier_run_has_completed(allowed: Path) -> None:
    scene = paint(allowed / "scene.tif")
    first, second = (
        run(request(scene, allowed / out, jobId="job-again"), 450) for out in ("first", "second")
    )
    assert (len(regions_of(first)), len(regions_of(second))) == (2, 0)
    its = ArtifactFilter(
        flow_run_id=ArtifactFilterFlowRunId(any_=[second.state_details.flow_run_id]),
        key=ArtifactFilterKey(any_=["regions"]),
    )
    with get_client(sync_client=True) as client:
        (table,) = client.read_artifacts(artifact_filter=its)
    rows = [line.split(" | ")[:2] for line in str(table.data).splitlines()[6:]]
    assert rows == [["| 1", "earlier run"], ["| 2", "earlier run"]]


def test_a_picture_that_cannot_be_drawn_fails_no_job(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("tasks.publish.preview.draw", fail)
    end = run(request(paint(allowed / "scene.tif"), allowed / "out"), 450)
    with get_client(sync_client=True) as client:
        shown = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["summary"]))
        )
    assert end.name == "Completed"
    own = [a for a in shown if a.flow_run_id == end.state_details.flow_run_id]
    assert str(own[0].data).startswith("# SUCCESS: ")


def failing(allowed: Path, name: str = "red.tif", **fields: Any) -> Request:
    """A request for an image whose last tile fails: the failure model refuses what is red."""
    scene = paint(allowed / name)
    with rasterio.open(scene, "r+") as sink:
        red = np.array([255, 0, 0], np.uint8)[:, None, None] * np.ones((1, 256, 256), np.uint8)
        sink.write(red, window=rasterio.windows.Window(644, 444, 256, 256))
    model = {"imageProcessor": {"name": "failure", "type": "BUILTIN"}}
    return request(scene, allowed / "out", **(model | fields))


def found_by(flow: str, *types: StateType) -> list[UUID]:
    """Runs that a query of docs/operate.md finds: by the flow's name and types of states."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=[flow])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))
            ),
        )
    return [run.id for run in runs]


def test_a_partial_job_ends_in_a_state_of_its_own_that_is_no_success(allowed: Path) -> None:
    end = run(failing(allowed))
    assert (end.name, end.type) == ("Partial", StateType.FAILED)
    assert status_of(end) == "PARTIAL"
    error = end.result(raise_on_failure=False)
    assert isinstance(error, IncompleteJobError)
    summary = error.summary
    assert (summary.status, summary.tiles["failed"]) == ("PARTIAL", 1)
    assert end.message == summary.message
    assert len(features(allowed / "out", "red.tif")) == summary.features > 0
    mine = end.state_details.flow_run_id
    assert mine in found_by("image", StateType.FAILED, StateType.CRASHED)
    assert mine not in found_by("image", StateType.COMPLETED)


def test_a_region_with_failed_tiles_says_so_in_its_state(allowed: Path) -> None:
    end = run(failing(allowed), 300)
    whole, failed = regions_of(end)
    assert (whole.state_name, whole.state and whole.state.message) == ("Completed", None)
    assert failed.state_name == "Completed"  # its results are stored
    assert failed.state is not None
    assert str(failed.state.message).startswith("1 of 10 tiles failed, most often because: ")


def test_a_stored_result_of_a_partial_job_can_be_read(
    allowed: Path,
) -> None:
    stored = image.with_options(persist_result=True)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: allowed / "stored"}):
        end: State[Any] = stored(failing(allowed), return_state=True)
    with get_client(sync_client=True) as client:
        read = client.read_flow_run(UUID(str(end.state_details.flow_run_id))).state
    assert read is not None
    error = read.result(raise_on_failure=False)
    assert isinstance(error, IncompleteJobError)
    assert error.summary.features == len(features(allowed / "out", "red.tif"))
    with pytest.raises(IncompleteJobError, match="failed in 1 tile"):
        read.result()


def test_of_several_images_the_worst_state_is_that_of_the_request(allowed: Path) -> None:
    good = paint(allowed / "scene.tif")
    asked = failing(allowed, imageUrls=[str(good), str(allowed / "red.tif")])
    end = run(asked)
    assert (end.name, end.type) == ("Partial", StateType.FAILED)
    assert "failed in 1 tile" in str(end.message)
    gone = failing(allowed, imageUrls=[str(allowed / "red.tif"), str(allowed / "gone.tif")])
    end = run(gone)
    assert (end.name, end.type) == ("Failed", StateType.FAILED)
    assert "gone.tif" in str(end.message)


def test_a_run_has_the_tags_of_its_job_whoever_started_it(allowed: Path) -> None:
    with tags("mine"):
        end = run(request(paint(allowed / "scene.tif"), allowed / "out", jobId="job-tags"))
    with get_client(sync_client=True) as client:
        mine = client.read_flow_run(UUID(str(end.state_details.flow_run_id)))
    assert set(mine.tags) == {"mine", "image", "job:job-tags", "model:bright-targets"}


def test_every_image_of_a_request_is_published(allowed: Path) -> None:
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
        "scene-2.tif.swath.json",
        "scene.tif.coverage.parquet",
        "scene.tif.geojson",
        "scene.tif.parquet",
        "scene.tif.swath.json",
    ]


_LOGS = """
import logging
from prefect import flow

@flow(name="logs")
def logs() -> None:
    logging.getLogger("tasks.job.image").warning("the folder cannot be removed")

logs()
"""


def test_what_tasks_log_is_in_the_log_of_the_run(prefect_api: str, tmp_path: Path) -> None:
    port = int(prefect_api.split(":")[2].split("/", maxsplit=1)[0])
    environment = os.environ | client_environment(tmp_path, port)
    subprocess.run([sys.executable, "-c", _LOGS], env=environment, check=True, timeout=300)
    named = FlowFilter(name=FlowFilterName(any_=["logs"]))
    with get_client(sync_client=True) as client:
        (logged,) = client.read_flow_runs(flow_filter=named)
        its = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[logged.id]))

        def messages() -> list[str]:
            return [log.message for log in client.read_logs(log_filter=its)]

        until(lambda: "the folder cannot be removed" in messages(), messages)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> UUID:
    """A deployment for regions, without a worker."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(region), "elsewhere")
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/elsewhere")
    settings.cache_clear()
    return deployment


def runs_elsewhere(deployment: UUID) -> int:
    """Number of runs of a deployment, whatever their state."""
    with get_client(sync_client=True) as client:
        mine = DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        return len(client.read_flow_runs(deployment_filter=mine))


def regions_of(end: State[Any]) -> list[FlowRun]:
    """The runs of an image's regions, by start time."""
    parent = FlowRunFilterParentFlowRunId(any_=[end.state_details.flow_run_id])
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=parent),
            sort=FlowRunSort.START_TIME_ASC,
        )


def states_of(end: State[Any]) -> list[str | None]:
    return [run.state.name if run.state else None for run in regions_of(end)]


def test_an_image_of_one_region_is_processed_in_its_own_run(allowed: Path, elsewhere: UUID) -> None:
    end = run(request(paint(allowed / "scene.tif"), allowed / "out"))
    assert end.name == "Completed"
    (only,) = regions_of(end)
    assert only.deployment_id is None
    assert set(only.tags) == {"region", "job:job-1", "model:bright-targets"}
    # the timing by which later images are divided
    assert (only.labels["swath.tiles"], only.labels["swath.tile_pixels"]) == (19, 256 * 256)
    assert float(str(only.labels["swath.work_seconds"])) > 0
    assert runs_elsewhere(elsewhere) == 0


def test_a_single_region_that_is_lost_is_tried_again(
    allowed: Path, elsewhere: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, failed = RegionStore.save, list[bool]()

    def save_late(*args: Any, **words: Any) -> StoredRegion:
        if not failed:
            failed.append(True)
            raise PublishError("the store does not answer")
        return save(*args, **words)

    monkeypatch.setattr(RegionStore, "save", save_late)
    scene = paint(allowed / "scene.tif")
    end = run(request(scene, allowed / "out", imageProcessorTileSize=1024))
    assert states_of(end) == ["Failed", "Completed"]
    assert end.name == "Completed"
    assert runs_elsewhere(elsewhere) == 0


def test_a_single_region_has_as_many_attempts_as_any(
    allowed: Path, elsewhere: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> StoredRegion:
        raise PublishError("the store does not answer")

    monkeypatch.setattr(RegionStore, "save", never)
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


def test_regions_without_a_set_size_are_sized_by_throughput(
    allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, cut = paint(allowed / "scene.tif"), {"imageProcessorTileSize": 512}
    assert len(regions_of(run(request(scene, allowed / "one", **cut)))) == 1
    monkeypatch.setenv("SWATH_REGION_SECONDS", "0.001")  # less than any tile takes
    monkeypatch.setenv("SWATH_WORK_URI", str(allowed / "without the answers of the first"))
    settings.cache_clear()
    assert len(regions_of(run(request(scene, allowed / "four", **cut)))) == 4
    assert features(allowed / "one", "scene.tif") == features(allowed / "four", "scene.tif")


def test_no_region_begins_once_the_endpoint_was_given_up(
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

    def plan_and_replace(*asked: Any, ask: bool) -> Any:
        assert ask
        plan = make_plan(*asked)
        with rasterio.open(scene, "r+") as sink:
            sink.write(np.full((3, 9, 9), 7, np.uint8), window=rasterio.windows.Window(0, 0, 9, 9))
        return plan

    monkeypatch.setattr("flows.image.plan_step", plan_and_replace)
    end = run(request(scene, allowed / "out"), region_size=300)
    assert states_of(end) == ["Image replaced"]
    assert end.is_failed()
    assert "was replaced since the work began" in str(end.message)
