"""Every kind of answer, and every content of tiles, in flows: as without Prefect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import State
from rasterio.enums import ColorInterp

from flows.image import image
from flows.run_records import children_of
from tasks.job import work_image
from tasks.request import Request
from tasks.settings import settings
from tests import job_scene, oriented_scene
from tests.onnx_models import (
    bright_prototypes,
    of_ultralytics,
    oriented_box,
    pooled,
    write_json,
)

pytestmark = pytest.mark.usefixtures("prefect_api")


def embeddings(scene: Path) -> dict[str, Any]:
    job_scene.paint(scene, 400, 500)
    model = pooled(scene.parent / "pooled.onnx", np.eye(3).tolist(), shape=("n", 3, 96, 96))
    shape = {"shape": [-1, 3, 96, 96], "dim_order": ["batch", "bands", "height", "width"]}
    document = {
        "mlm:name": "pooled",
        "mlm:tasks": ["similarity-search"],
        "mlm:input": [{"name": "images", "input": shape | {"data_type": "float32"}}],
        "mlm:output": [{"name": "numbers"}],
        "swath:tile": {"size": 3},
    }
    write_json(scene.parent / "pooled.json", document)
    return {"imageProcessor": {"name": str(model), "type": "ONNX"}}


def masks(scene: Path) -> dict[str, Any]:
    job_scene.paint(scene, 200, 300, blank=False)
    metadata = of_ultralytics(task="segment", names={0: "ship"})
    model = bright_prototypes(scene.parent / "best.onnx", metadata=metadata)
    return {
        "imageProcessor": {"name": str(model), "type": "ONNX"},
        "imageProcessorTileOverlap": 24,
    }


def oriented_boxes(scene: Path) -> dict[str, Any]:
    oriented_scene.scene(scene.parent, oriented_scene.TRUTH[1])
    metadata = of_ultralytics(task="obb", names={0: "ship"}, imgsz=[96, 96])
    model = oriented_box(scene.parent / "best.onnx", side=96, metadata=metadata)
    return {
        "imageProcessor": {"name": str(model), "type": "ONNX"},
        "imageProcessorTileOverlap": 40,
    }


def prepared_tiles(scene: Path) -> dict[str, Any]:
    """Of an image with a band that is declared alpha, and is none."""
    job_scene.paint(scene, 400, 500)
    with rasterio.open(scene) as source:
        pixels, profile = source.read(), source.profile
    profile.update(count=4, photometric="RGB", alpha="YES")
    with rasterio.open(scene, "w", **profile) as sink:
        sink.write(np.concatenate([pixels, pixels[:1] // 2]))
        assert sink.colorinterp[3] is ColorInterp.alpha
    return {
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "imageProcessorTileSize": 64,
        "imageAlpha": "ignore",
        "imageBands": ["blue", 2, 4],
        "imageScaling": {"type": "percentile", "lower": 1, "upper": 99.5},
        "imageResolution": 0.8,
        "imageFill": 9,
    }


def prepared_raster(scene: Path) -> dict[str, Any]:
    job_scene.paint(scene, 400, 500)
    return {
        "imageProcessor": {"name": "brightness-classes", "type": "BUILTIN"},
        "imageProcessorTileSize": 64,
        "imageProcessorTileOverlap": 16,
        "rasterOutput": {"polygons": {"minimumArea": 9}},
        "imageScaling": {"type": "linear", "minimum": 0, "maximum": 240},
        "imageResolution": 1.0,
    }


def asked(scene: Path, out: str, fields: dict[str, Any]) -> Request:
    message = {
        "jobId": "job-1",
        "imageUrls": [str(scene)],
        "outputs": [{"type": "File", "path": str(scene.parent / out)}],
        "imageProcessorTileOverlap": 0,
    }
    return Request.model_validate(message | fields)


def merged_anew(fields: dict[str, Any]) -> dict[str, Any]:
    """Other settings that ask the model for nothing."""
    if "rasterOutput" in fields:
        return fields | {"rasterOutput": {"polygons": {"minimumArea": 2}}}
    return fields | {"postProcessing": [{"algorithm": {"skipBoxThreshold": 0.6}}]}


def published(scene: Path, out: str) -> tuple[Any, ...]:
    """The features as GeoJSON and GeoParquet, the ledger, and the raster if there is one."""
    folder = scene.parent / out
    table = pq.read_table(folder / "scene.tif.parquet").drop_columns("inference_dt")
    raster = [_pixels(each) for each in folder.glob("scene.tif.tif")]
    return job_scene.features(folder, "scene.tif"), table, job_scene.lines(folder), raster


def _pixels(file: Path) -> list[Any]:
    with rasterio.open(file) as dataset:
        pixels: list[Any] = dataset.read().tolist()
    return pixels


def page_of(end: State[Any]) -> list[str]:
    """The lines of the summary on the page of an image's run."""
    mine = ArtifactFilterFlowRunId(any_=[end.state_details.flow_run_id])
    its = ArtifactFilter(flow_run_id=mine, key=ArtifactFilterKey(any_=["summary"]))
    with get_client(sync_client=True) as client:
        (page,) = client.read_artifacts(artifact_filter=its)
    return str(page.data).splitlines()


def regions_of(end: State[Any]) -> int:
    run = end.state_details.flow_run_id
    assert run is not None
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs(flow_run_filter=children_of(run)))


@pytest.mark.parametrize(
    "kind",
    [embeddings, masks, oriented_boxes, prepared_tiles, prepared_raster],
    ids=lambda kind: kind.__name__,
)
def test_flows_publish_what_the_plain_job_does_and_merge_anew_without_asking(
    allowed: Path, kind: Callable[[Path], dict[str, Any]]
) -> None:
    scene = allowed / "scene.tif"
    fields = kind(scene)
    with rasterio.open(scene) as dataset:
        rows = dataset.height // 2
    end = image(asked(scene, "flow", fields), region_size=rows, return_state=True)
    assert (end.name, regions_of(end) > 1) == ("Completed", True)
    again = asked(scene, "again", merged_anew(fields))
    anew = image(again, region_size=rows, ask=False, return_state=True)
    assert anew.name == "Completed"

    with settings.override(work_uri=str(allowed / "of its own")):
        plain = work_image(asked(scene, "plain", fields), str(scene))
        work_image(asked(scene, "plain-again", merged_anew(fields)), str(scene))
    assert published(scene, "flow") == published(scene, "plain")
    assert published(scene, "again") == published(scene, "plain-again")
    assert plain.features > 0
    told = {"outputs", "seconds", "usage"}  # a second region reads a few blocks again
    assert end.result().model_dump(exclude=told) == plain.model_dump(exclude=told)
    assert plain.usage.calls == plain.calls
    page = page_of(end)
    assert [line for line in page if line.startswith("| sent |")] == (
        [f"| sent | {plain.prepared} |"] if plain.prepared else []
    )
