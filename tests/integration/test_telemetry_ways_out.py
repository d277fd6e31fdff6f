"""A job's metrics, spans and log lines as they leave its process: CloudWatch, OTLP, Prometheus."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.metrics import MetricsServer
from tests.emf import points, search
from tests.job_scene import paint
from tests.otlp_collector import Collector, collecting
from tests.polling import until

IMAGES = "{OSML/ModelRunner, InputFormat, ModelName, Operation} ImageProcessing"
DASHBOARD = {
    f"SUM(SEARCH('{IMAGES} Invocations', 'Sum'))": 1,
    "SUM(SEARCH('{OSML/ModelRunner, ModelName, Operation} TileProcessing Invocations', 'Sum'))": 19,
    "SEARCH('{OSML/ModelRunner, InputFormat, Operation}  TileGeneration Invocations', 'Sum')": 19,
    "SEARCH('{OSML/ModelRunner, ModelName, Operation} ModelInvocation Invocations', 'Sum', 60)": 19,
}  # fmt: skip
"""The searches of the dashboard in OSML's documentation that count, and what they find here."""

TIMES = [
    f"SEARCH('{IMAGES} Duration', 'Average')",
    "SEARCH('{OSML/ModelRunner, ModelName, Operation} ModelInvocation Duration', 'Average', 60)",
]  # fmt: skip
FAILURES = "SEARCH('{OSML/ModelRunner, ModelName, Operation} ModelInvocation Errors', 'Sum', 60)"


class Job:
    """One job of `swath run` with all ways out, of 20 tiles, one of them blank."""

    def __init__(self, folder: Path, collector: Collector) -> None:
        self.metrics, self.collector = folder / "metrics", collector
        scene = paint(folder / "scene.tif", 1000, 800)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "deployments.cli", "run", scene, "--out", folder / "out"),
                *("--model", "bright-targets", "--tile-size", "256", "--overlap", "32"),
                *("--job-id", "job-1"),
            ],
            env=os.environ
            | {
                "SWATH_METRICS_EMF": "true",
                "SWATH_METRICS_FOLDER": str(self.metrics),
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            },
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        self.log = done.stdout


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    with collecting() as collector:
        yield Job(tmp_path_factory.mktemp("job"), collector)


@pytest.mark.parametrize(("expression", "total"), DASHBOARD.items())
def test_searches_of_osmls_dashboard_count(job: Job, expression: str, total: int) -> None:
    assert sum(search(points(job.log), expression).values()) == total


@pytest.mark.parametrize("expression", TIMES)
def test_searches_of_osmls_dashboard_time(job: Job, expression: str) -> None:
    (seconds,) = search(points(job.log), expression).values()
    assert seconds > 0


def test_nothing_is_counted_as_failed(job: Job) -> None:
    assert search(points(job.log), FAILURES) == {}


def test_swaths_own_metrics_are_in_the_log(job: Job) -> None:
    tiles = search(points(job.log), "SEARCH('{Swath, ModelName, State} Tiles', 'Sum')")
    assert tiles == {("bright-targets", "inferred"): 19, ("bright-targets", "blank"): 1}
    area = search(points(job.log), "SEARCH('{Swath, ModelName} AreaCovered', 'Sum')")
    assert sum(area.values()) == pytest.approx(1000 * 800 * 0.25 / 1e6, rel=2e-3)
    images = search(points(job.log), "SEARCH('{Swath, ModelName, Status} Images', 'Sum')")
    assert images == {("bright-targets", "SUCCESS"): 1}


def test_spans_lead_from_the_image_to_its_batches(job: Job) -> None:
    (image,) = job.collector.named("image")
    (region,) = job.collector.named("region")
    batches = job.collector.named("batch")
    assert sum(batch.attributes["swath.tiles"] for batch in batches) == 20
    assert {batch.parent for batch in batches} == {region.id}
    assert {span.trace for span in job.collector.spans} == {image.trace}
    assert image.parent == b""
    for name in ("plan", "merge", "publish"):
        assert [span.parent for span in job.collector.named(name)] == [image.id]
    for span in job.collector.spans:
        assert span.attributes["swath.job"] == "job-1"
        assert span.attributes["swath.image"].endswith("scene.tif")
    assert {batch.attributes["swath.region"] for batch in batches} == {"region 1 of 1, rows 0-799"}


def test_metrics_go_to_a_collector(job: Job) -> None:
    values = job.collector.values
    of = ("model_name", "bright-targets")
    assert values["swath.tiles"][of, ("state", "inferred")] == 19
    assert values["osml.duration"][of, ("operation", "ModelInvocation")] == 19
    assert values["swath.features"][(of,)] > 0


@contextmanager
def served(folder: Path) -> Iterator[int]:
    with MetricsServer(("127.0.0.1", 0), folder) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_server_gives_what_an_ended_process_counted(job: Job) -> None:
    with served(job.metrics) as port:
        for _ in range(2):
            answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
            families = {each.name: each for each in text_string_to_metric_families(answer.text)}
            tiles = {s.labels["state"]: s.value for s in families["swath_tiles"].samples}
            assert tiles == {"inferred": 19, "blank": 1}
        assert httpx.get(f"http://127.0.0.1:{port}/x", trust_env=False).status_code == 404


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Debian's Prometheus is absent")
def test_prometheus_scrapes_it(job: Job, tmp_path: Path) -> None:
    with served(job.metrics) as port, served(job.metrics) as free:
        config = tmp_path / "prometheus.yml"
        target = {"targets": [f"127.0.0.1:{port}"]}
        scrape = {"job_name": "swath", "scrape_interval": "1s", "static_configs": [target]}
        config.write_text(json.dumps({"scrape_configs": [scrape]}))
    listen = f"127.0.0.1:{free}"
    command = [
        *("prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}"),
        f"--web.listen-address={listen}",
    ]
    with (
        MetricsServer(("127.0.0.1", port), job.metrics) as server,
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as prometheus,
    ):
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            query = (
                'histogram_quantile(0.5, osml_duration_seconds_bucket{operation="ModelInvocation"})'
            )
            until(lambda: _query(listen, 'swath_tiles_total{state="inferred"}') == [19])
            (median,) = _query(listen, query)
            assert 0 < median < 60
        finally:
            prometheus.terminate()
            server.shutdown()


def _query(listen: str, expression: str) -> list[float]:
    try:
        answer = httpx.get(
            f"http://{listen}/api/v1/query", params={"query": expression}, trust_env=False
        ).json()
    except (httpx.HTTPError, ValueError):
        return []
    return [float(each["value"][1]) for each in answer.get("data", {}).get("result", [])]
