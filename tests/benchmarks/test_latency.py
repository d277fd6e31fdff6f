"""From a message on the queue to the first tile at the model: the shares of Swath and of Prefect.

A stage of Prefect's lies between a run's creation and its start: the worker's poll, a new process
and its imports. Every other second is Swath's own. CPU seconds are those of the whole stack from
the message to the end of the job, so that a busy machine can be told from a slow start. An image of
one region is worked in its own run; of one that is cut into two, each has a run of its own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from uuid import UUID

import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from rich.console import Console

from deployments.up import StackWithModels, stack_with_models
from deployments.watch import image_run
from flows.startup import startup_of
from tasks.queue.sqs import send
from tasks.storage import objects

NOTHING = json.dumps({"type": "FeatureCollection", "features": []}).encode()
JOBS = 5


class Model(ThreadingHTTPServer):
    """A model without detections that records when it was first called."""

    asked: list[float]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        self.server.asked.append(time.time())
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(NOTHING)))
        self.end_headers()
        self.wfile.write(NOTHING)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def model() -> Iterator[Model]:
    with Model(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[StackWithModels]:
    before = dict(os.environ)
    os.environ["SWATH_STATE_DIR"] = str(tmp_path / "state")
    os.environ["SWATH_REGION_SIZE"] = "512"
    with stack_with_models(tmp_path, Console(stderr=True)) as up:
        yield up
    os.environ.clear()
    os.environ.update(before)


def image(path: Path, height: int) -> Path:
    pixels = np.full((3, height, 512), 50, np.uint8)
    profile = {"width": 512, "height": height, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as sink:
        sink.write(pixels)
    return path


def one_job(here: StackWithModels, model: Model, url: str, job_id: str) -> dict[str, float]:
    """Seconds from the message to the first tile, Swath's and Prefect's, and by stage."""
    record = here.stack.record
    request = {
        "jobId": job_id,
        "imageUrls": [url],
        "outputs": [{"type": "S3", "bucket": record.result_bucket, "prefix": job_id}],
        "imageProcessor": {
            "name": f"http://127.0.0.1:{model.server_port}/",
            "type": "HTTP_ENDPOINT",
        },
        "imageProcessorTileSize": 512,
        "imageProcessorTileFormat": "GTIFF",
    }
    model.asked.clear()
    cpu, sent = cpu_seconds(), time.time()
    send(record.queue_url, json.dumps(request))
    with SyncPrefectClient(record.api_url) as client:
        while (
            (run := image_run(client, job_id)) is None or not run.state or not run.state.is_final()
        ):
            here.stack.watch(0.2)
        of_image = FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(run.id))])
        )
        regions = client.read_flow_runs(flow_run_filter=of_image)
    whole = model.asked[0] - sent
    first = min(regions, key=lambda region: region.start_time or datetime.max.replace(tzinfo=UTC))
    prefect = start_up(run) + (start_up(first) if first.deployment_id else 0.0)
    return {
        "seconds": whole,
        "swath": whole - prefect,
        "prefect": prefect,
        "CPU of the job": cpu_seconds() - cpu,
        **{f"image: {stage}": seconds for stage, seconds in startup_of(run).stages.items()},
        **{f"region: {stage}": seconds for stage, seconds in startup_of(first).stages.items()},
    }


def cpu_seconds() -> float:
    """CPU seconds of the processes of the stack so far, with those that have ended."""
    seconds = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def start_up(run: FlowRun) -> float:
    """Seconds from a run's creation to its start."""
    assert run.created is not None
    assert run.start_time is not None
    seconds: float = (run.start_time - run.created).total_seconds()
    return seconds


@pytest.mark.parametrize("regions", [1, 2])
def test_queue_to_first_tile(
    here: StackWithModels, model: Model, tmp_path: Path, regions: int
) -> None:
    url = f"s3://{here.stack.record.image_bucket}/{regions}.tif"
    objects.put(url, image(tmp_path / "small.tif", 512 * regions))
    jobs = [one_job(here, model, url, f"latency-{regions}-{number}") for number in range(JOBS)]
    figures = {name: round(median(job[name] for job in jobs), 2) for name in jobs[0]}
    told = {"benchmark": "queue to first tile", "regions": regions, "jobs": JOBS} | figures
    print(json.dumps(told))
    assert figures["swath"] < figures["seconds"]
