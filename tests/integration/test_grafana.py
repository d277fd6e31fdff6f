"""Every panel of Grafana's dashboard and every alert is evaluated by a real Prometheus.

It scrapes `swath up`, under which jobs end with SUCCESS, PARTIAL and FAILED, the last as its model
does not answer. Grafana itself is not part of the tests: the expressions are evaluated as it would,
with its variables replaced.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from deployments.local.loopback import free_port
from tests.job_scene import paint
from tests.model_server import model_server
from tests.polling import until
from tests.swath_up import swath_up

FOLDER = Path(__file__).parents[2] / "deployments" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "swath.json").read_text())
TARGETS = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
}
LONGER_THAN_TOTALS_ARE_KEPT = 12  # seconds; a process writes its gauges every 10 s
WITHOUT_VALUES = {  # no price is set, no call is throttled, and no message is refused
    "Cost, the last day A",
    "Throttling A",
    "Messages that were refused, an hour A",
}


@contextmanager
def prometheus(folder: Path, scraped_port: int) -> Iterator[str]:
    """The URL of a Prometheus that scrapes a port each second, and evaluates the alerts."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed")
    port = free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FOLDER / "alerts.yaml")],
        "scrape_configs": [
            {
                "job_name": "swath",
                "static_configs": [{"targets": [f"127.0.0.1:{scraped_port}"]}],
            }
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus that has seen jobs of each status."""
    folder, port = tmp_path_factory.mktemp("grafana"), free_port()
    paint(folder / "harbour.tif", 600, 400)
    half_coloured(folder / "red.tif", (255, 0, 0))
    half_coloured(folder / "blue.tif", (0, 0, 255))
    with (
        model_server() as model,
        swath_up(
            folder,
            SWATH_METRICS_PORT=str(port),
            SWATH_ENDPOINT_PATIENCE="2",
            SWATH_TILE_ATTEMPTS="2",
        ) as up,
        prometheus(folder, port) as prometheus_url,
    ):
        up.start()
        up.submit("good", f"{model}/bright-targets/invocations", folder / "harbour.tif")
        up.await_state("good", "Completed")
        up.submit("red", f"{model}/failure/invocations", folder / "red.tif")
        up.await_state("red", "Partial")
        up.submit(
            "slow",
            f"{model}/failure/invocations",
            folder / "blue.tif",
            imageProcessorParameters={"seconds": LONGER_THAN_TOTALS_ARE_KEPT},
        )
        up.await_state("slow", "Completed")
        nobody = f"http://127.0.0.1:{free_port()}/nobody/invocations"
        up.submit("gone", nobody, folder / "harbour.tif")
        up.await_state("gone", "Failed")
        until(lambda: "PARTIAL" in values(prometheus_url, "swath_images_total", "status"))
        yield prometheus_url


def half_coloured(path: Path, colour: tuple[int, int, int]) -> None:
    """Write an image whose lower half makes the model `failure` fail (red) or wait (blue)."""
    pixels = np.full((3, 400, 400), 120, np.uint8)
    pixels[:, 256:] = np.array(colour, np.uint8)[:, None, None]
    profile = {"width": 400, "height": 400, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    place = from_origin(500_000, 5_400_000, 0.5, 0.5)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **profile) as sink:
        sink.write(pixels)


def query(url: str, expression: str, minutes: float = 10) -> list[dict[str, Any]]:
    """The series of an expression over the last minutes."""
    now = time.time()
    asked: dict[str, str | float] = {
        "query": expression,
        "start": now - 60 * minutes,
        "end": now,
        "step": 1,
    }
    answer = httpx.get(
        f"{url}/api/v1/query_range", params=asked, trust_env=False, timeout=30
    ).json()
    assert answer["status"] == "success", (expression, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def values(url: str, expression: str, label: str) -> set[str]:
    return {each["metric"].get(label, "") for each in query(url, expression)}


def as_grafana_asks(expression: str) -> str:
    """An expression with the values that Grafana would give to its variables."""
    return expression.replace("$model", ".*").replace("$__rate_interval", "1h")


@pytest.mark.parametrize("about", TARGETS)
def test_every_panel_has_values(url: str, about: str) -> None:
    expression = as_grafana_asks(TARGETS[about])
    assert "$" not in expression
    if about in WITHOUT_VALUES:
        assert query(url, expression) == []
    else:
        until(lambda: query(url, expression), lambda: expression)


def test_the_variable_of_models_lists_them(url: str) -> None:
    (variable,) = [each for each in DASHBOARD["templating"]["list"] if each["name"] == "model"]
    assert variable["query"]["query"] == "label_values(swath_tiles_total, model_name)"
    models = values(url, "swath_tiles_total", "model_name")
    assert {model.split("/")[-2] for model in models} >= {"bright-targets", "failure"}


def test_the_alerts_are_loaded_and_say_that_jobs_end_partial(url: str) -> None:
    (group,) = httpx.get(f"{url}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    assert {rule["name"] for rule in group["rules"]} == {
        "JobsIncomplete",
        "JobsOld",
        "ModelGivenUp",
        "RequestsRefused",
    }
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
