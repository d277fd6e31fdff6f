"""docs/prefect.md, followed from the top to the first results: real server, worker and queue."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import rasterio
from affine import Affine

from deployments.local.loopback import free_port
from deployments.local.prefect_server import SERVER_SETTINGS
from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.local.resources import create_resources
from tasks.aws.clients import client
from tests.pages import ROOT, blocks, read

PAGE = read("prefect")
ACTIVATE = blocks(PAGE, "sh")[0]
TIMEOUT = 600.0  # seconds for each step, on a machine that is busy with others


def section(title: str) -> list[str]:
    """The shell blocks below a heading of the page."""
    return blocks(PAGE.split(f"\n## {title}\n")[1].partition("\n## ")[0], "sh")


def variables(text: str) -> dict[str, str]:
    """The variables of `server.env` or `worker.env`, as the page writes them."""
    return dict(re.findall(r"^([A-Z]\w+)=(.*)$", text, re.MULTILINE))


@dataclass
class Reader:
    """Who follows the page, on ports and a queue that are free here.

    Attributes:
        folder: The clone.
        processes: What runs in the other terminals.
        environment: That of a new terminal.
        replaced: What differs here from the page.
    """

    folder: Path
    processes: Processes
    environment: dict[str, str]
    replaced: dict[str, str]

    @property
    def password(self) -> str:
        """What the page's first block made up."""
        server = (self.folder / "server.env").read_text()
        return variables(server)["PREFECT_SERVER_API_AUTH_STRING"]

    def runs(self, block: str) -> str:
        """Run a block in a new terminal to its end; its output."""
        done = subprocess.run(
            ["bash", "-ec", self._pasted(block)],
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout

    def starts(self, title: str, name: str) -> Process:
        """Start the one block below a heading, whose last command runs until Ctrl-C."""
        (block,) = section(title)
        return self.processes.start(
            name,
            ["bash", "-ec", self._pasted(block)],
            env=self.environment,
            log=self.folder / f"{name}.log",
            cwd=self.folder,
        )

    def result(self, folder: str) -> list[Any]:
        """The geometries of the features in a folder of results, when they are published."""
        path = self.folder / folder / "scene.tif.geojson"
        deadline = time.monotonic() + TIMEOUT
        while not path.exists():
            assert time.monotonic() < deadline, folder
            time.sleep(0.5)
        return [feature["geometry"] for feature in json.loads(path.read_text())["features"]]

    def _pasted(self, block: str) -> str:
        for shown, here in self.replaced.items():
            block = block.replace(shown, here)
        return ACTIVATE + block


@pytest.fixture
def reader(tmp_path: Path, aws: str) -> Iterator[Reader]:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    pixels = np.full((3, 1200, 600), 50, np.uint8)
    pixels[:, 300:306, 300:306] = 250
    transform = Affine(1, 0, 500_000, 0, -1, 5_400_000)
    profile = {"width": 600, "height": 1200, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(
        tmp_path / "scene.tif", "w", driver="GTiff", transform=transform, **profile
    ) as sink:
        sink.write(pixels)
    queue = create_resources(lambda service: nullcontext(client(service))).queue_url
    shown = variables(section("With a queue")[0])["SWATH_QUEUE_URL"]
    here = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "DO_NOT_TRACK": "1"}
    with Processes() as processes:
        yield Reader(
            tmp_path,
            processes,
            inherited_environment() | here | home,
            {"4200": str(free_port()), shown: queue},
        )


def test_the_page_leads_to_a_first_result_without_and_with_a_queue(reader: Reader) -> None:
    """One after the other, as the second stands on the first."""
    for block in section("1. The settings"):
        reader.runs(block)
    server = reader.starts("2. The server", "server")
    port = int(reader.replaced["4200"])
    server.wait_until(partial(server.answers, port, "/api/health"), TIMEOUT)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
        assert browser.get("/ui-settings").json()["api_url"] == "/api"
        asked = browser.post("/api/deployments/count", json={})
        assert asked.status_code == httpx.codes.UNAUTHORIZED
        user, _, password = reader.password.partition(":")
        known = browser.post("/api/deployments/count", json={}, auth=(user, password))
        assert known.json() == 0

    for block in section("3. Work pool and deployments"):
        reader.runs(block)
    worker = reader.starts("4. The worker", "worker")
    for block in section("5. The first job"):
        assert "Completed" in reader.runs(block)
    assert len(reader.result("results")) == 1
    assert {path.name for path in (reader.folder / "results").iterdir()} == {
        f"scene.tif.{ending}" for ending in ("geojson", "parquet", "coverage.parquet", "swath.json")
    }

    settings, first_sensor = section("With a queue")
    reader.runs(settings)
    worker.stop()
    reader.starts("4. The worker", "second-worker")
    request = reader.folder / "request.json"
    request.write_text(request.read_text().replace("/results", "/from-queue"))
    reader.runs(first_sensor)
    assert reader.result("from-queue") == reader.result("results")


def test_the_settings_of_the_page_are_those_of_every_server() -> None:
    server = variables(section("1. The settings")[0])
    assert SERVER_SETTINGS.items() <= server.items()
