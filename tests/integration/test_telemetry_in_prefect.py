"""A job of `swath up`: its trace from the message to the batches, its metrics, its log lines."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
from prometheus_client.parser import text_string_to_metric_families
from rasterio.windows import Window

from tests.emf import points, search
from tests.job_scene import paint
from tests.otlp_collector import Collector, collecting
from tests.polling import until
from tests.swath_up import SwathUp, swath_up

TILES, FAILED = 30, 4
REGIONS = ["region 1 of 2, rows 0-316", "region 2 of 2, rows 283-599"]


@dataclass
class Job:
    """A job of two regions on the work pool, each in a process of its own.

    Attributes:
        up: The stack that worked it.
        model: URL of its model, which fails some tiles.
        port: Of the metrics.
        collector: Which received its spans.
    """

    up: SwathUp
    model: str
    port: int
    collector: Collector

    @property
    def log(self) -> str:
        """What the runs have printed."""
        return (self.up.state / "stack" / "logs" / "worker.log").read_text()

    @property
    def run_logs(self) -> list[dict[str, Any]]:
        """What Prefect shows of the runs."""
        url = f"{self.up.record.api_url}/logs/filter"
        answer = httpx.post(url, json={"limit": 200}, timeout=60, trust_env=False)
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found


def _sorted_values(labels: dict[str, str]) -> list[str]:
    return [value for _, value in sorted(labels.items())]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder, port = tmp_path_factory.mktemp("up"), _free_port()
    scene = paint(folder / "scene.tif", 500, 600, blank=False)
    with rasterio.open(scene, "r+") as image:  # a colour that makes the model answer nonsense
        cyan = np.zeros((3, 256, 256), np.uint8)
        cyan[1:] = 255
        image.write(cyan, window=Window(0, 0, 256, 256))
    with (
        collecting() as collector,
        swath_up(
            folder,
            SWATH_METRICS_PORT=str(port),
            SWATH_METRICS_EMF="true",
            SWATH_LOG_FORMAT="json",
            SWATH_REGION_SIZE="300",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        ) as up,
    ):
        up.start()
        (models,) = re.findall(r"Models on (http://[\d.:]+)/", up.console)
        model = f"{models}/failure/invocations"
        up.submit("job-1", model, scene)
        up.await_state("job-1", "Partial")
        yield Job(up, model, port, collector)


def _json_lines(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"timestamp"')]


def test_the_trace_leads_from_the_message_to_the_batches(job: Job) -> None:
    until(lambda: job.collector.named("message") and job.collector.named("image"))
    spans = {span.id: span for span in job.collector.spans}
    (message,) = job.collector.named("message")
    assert message.parent == b""
    assert {span.trace for span in spans.values()} == {message.trace}
    batches = job.collector.named("batch")
    assert {batch.attributes["swath.region"] for batch in batches} == set(REGIONS)
    for batch in batches:
        region = spans[batch.parent]
        region_run = spans[region.parent]
        image = spans[region_run.parent]
        assert [span.name for span in (region, region_run, image)] == [
            *("region", "region run", "image")
        ]
        assert image.parent == message.id
        runs = {span.attributes["swath.run"] for span in (message, image, region_run)}
        assert len(runs) == 3
        assert {span.attributes["swath.job"] for span in (batch, region, image)} == {"job-1"}


def test_the_processes_of_the_worker_are_one_page_for_prometheus(job: Job) -> None:
    def samples() -> dict[str, float]:
        answer = httpx.get(f"http://127.0.0.1:{job.port}/metrics", trust_env=False)
        return {
            " ".join(
                [sample.name, *filter(None, dict(sorted(sample.labels.items())).values())]
            ): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    ended = f"swath_images_total {job.model} PARTIAL"
    until(lambda: ended in samples() and "swath_images_waiting" in samples(), samples)
    found = samples()
    assert found[ended] == 1
    assert found[f"swath_tiles_total {job.model} failed"] == FAILED
    assert found[f"swath_tiles_total {job.model} inferred"] == TILES - FAILED
    assert found[f"swath_failed_calls_total {job.model} answer"] >= FAILED
    assert found[f"osml_invocations_total GTIFF {job.model} RegionProcessing"] == 2
    assert found["swath_startup_duration_seconds_count region first_tile"] == 2
    until(lambda: samples()["swath_images_running"] == 0)


def test_every_process_writes_lines_for_cloudwatch(job: Job) -> None:
    expression = (
        "SEARCH('{OSML/ModelRunner, ModelName, Operation} TileProcessing Invocations', 'Sum')"
    )
    until(lambda: search(points(job.log), expression) == {(job.model, "TileProcessing"): TILES})
    errors = expression.replace("Invocations", "Errors")
    assert search(points(job.log), errors) == {(job.model, "TileProcessing"): FAILED}
    images = "SEARCH('{Swath, ModelName, Status} Images', 'Sum')"
    until(lambda: search(points(job.log), images) == {(job.model, "PARTIAL"): 1})


def test_lines_about_failed_calls_say_whose_they_are(job: Job) -> None:
    lines = [each for each in _json_lines(job.log) if "A call for tile" in each["message"]]
    assert len(lines) >= FAILED
    for line in lines:
        assert re.search(
            r"tile \d+ \(128 × 128 px at \d+, \d+\) failed: AnswerError", line["message"]
        )
        assert (line["job"], line["attempt"]) == ("job-1", "1")
        assert line["image"].endswith("scene.tif")
        assert line["region"] in REGIONS
    runs = {line["run"] for line in lines}
    until(lambda: any("A call for tile" in each["message"] for each in job.run_logs))
    shown = [each for each in job.run_logs if "A call for tile" in each["message"]]
    assert {each["flow_run_id"] for each in shown} <= runs
