"""From a message on the queue to the first tile at the model: what is Swath's, what is Prefect's.

A stage of Prefect's lies between a run's creation and its start: the worker's poll, a new process
and its imports. Every other second is Swath's own.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from uuid import UUID

import numpy as np
import pytest
import rasterio
from affine import Affine
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun
from rich.console import Console

from deployments.up import Running, running
from deployments.watch import image_run
from tasks import store
from tasks.queue import send

NOTHING = json.dumps({"type": "FeatureCollection", "features": []}).encode()
JOBS = 5


class Model(ThreadingHTTPServer):
    """A model that finds nothing, and knows when it was first asked."""

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
def here(tmp_path: Path) -> Iterator[Running]:
    before = dict(os.environ)
    os.environ["SWATH_STATE_DIR"] = str(tmp_path / "state")
    with running(tmp_path, Console(stderr=True)) as up:
        yield up
    os.environ.clear()
    os.environ.update(before)


def image(path: Path) -> Path:
    pixels = np.full((3, 512, 512), 50, np.uint8)
    profile = {"width": 512, "height": 512, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as sink:
        sink.write(pixels)
    return path


def one_job(here: Running, model: Model, url: str, number: int) -> dict[str, float]:
    """Seconds from the message to the first tile, Swath's and Prefect's."""
    record = here.stack.record
    job_id = f"latency-{number}"
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
    sent = time.time()
    send(record.queue_url, json.dumps(request))
    with SyncPrefectClient(record.api_url) as client:
        while (
            (run := image_run(client, job_id)) is None or not run.state or not run.state.is_final()
        ):
            here.stack.watch(0.2)
        of_image = FlowRunFilter(
            parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[UUID(str(run.id))])
        )
        (region,) = client.read_flow_runs(flow_run_filter=of_image)
    whole = model.asked[0] - sent
    prefect = start_up(run) + start_up(region)
    return {"seconds": whole, "swath": whole - prefect, "prefect": prefect}


def start_up(run: FlowRun) -> float:
    """Seconds from a run's creation to its start."""
    assert run.created is not None
    assert run.start_time is not None
    return (run.start_time - run.created).total_seconds()


def test_queue_to_first_tile(here: Running, model: Model, tmp_path: Path) -> None:
    url = f"s3://{here.stack.record.image_bucket}/small.tif"
    store.put(url, image(tmp_path / "small.tif"))
    jobs = [one_job(here, model, url, number) for number in range(JOBS)]
    figures = {name: round(median(job[name] for job in jobs), 2) for name in jobs[0]}
    print(json.dumps({"benchmark": "queue to first tile", "jobs": JOBS} | figures))
    assert figures["swath"] < figures["seconds"]
