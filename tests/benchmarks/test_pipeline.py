"""A region from file to stored detections, beside a plain loop over windows with the same model.

The model finds nothing, over loopback HTTP, in a process of its own; CPU time is of all threads of
the region's process, and the Prefect server's beside it. The plain loop is what people write: a
window read for each tile, encoded, posted with `requests`, by two threads.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
import requests
from prefect.client.schemas.objects import State
from prefect.testing.utilities import prefect_test_harness
from rasterio.io import MemoryFile
from rasterio.windows import Window

from deployments.demo.harbour.scene import generate
from flows.region import region as region_flow
from tasks.grid.tiles import Grid, Region
from tasks.imagery import Image, open_image
from tasks.request import Request
from tasks.settings import settings
from tasks.storage import objects
from tests.limited_server import Figures, LimitedServer, limited_server
from tests.null_model import null_model

SIZE = 8192  # of the scene, which the image holds four times
TILE, OVERLAP = 512, 50
ROUNDS = 3
GDAL_NAMES: dict[str, dict[str, Any]] = {
    "GTIFF": {"driver": "GTiff"},
    "PNG": {"driver": "PNG", "zlevel": 1},
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("pipeline")
    generate(folder / "scene.tif", size=SIZE)
    with rasterio.open(folder / "scene.tif") as scene:
        profile = scene.profile | {"width": 2 * SIZE, "height": 2 * SIZE, "nodata": None}
        profile |= {"driver": "GTiff", "compress": "deflate", "predictor": 2, "num_threads": 2}
        with rasterio.open(folder / "image.tif", "w", **profile) as sink:
            for top in range(0, SIZE, 512):
                rows = scene.read(window=Window(0, top, SIZE, 512))
                for left in (0, SIZE):
                    for down in (0, SIZE):
                        sink.write(rows, window=Window(left, top + down, SIZE, 512))
    return open_image(str(folder / "image.tif"), roots=[folder])


@pytest.fixture(scope="module")
def server(image: Image) -> Iterator[psutil.Process]:
    """The process of a Prefect server."""
    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(Path(image.path).parent)]))
        settings.cache_clear()
        children = psutil.Process().children(recursive=True)
        yield next(child for child in children if "server" in " ".join(child.cmdline()))
    settings.cache_clear()


def ask(image: Image, kind: str, name: str, form: str = "GTIFF") -> Request:
    message = {
        "jobId": "job",
        "imageUrls": [image.url],
        "outputs": [{"type": "File", "path": "/nowhere"}],
        "imageProcessor": {"name": name, "type": kind},
        "imageProcessorTileSize": TILE,
        "imageProcessorTileOverlap": OVERLAP,
        "imageProcessorTileFormat": form,
    }
    return Request.parse(json.dumps(message))


def whole(image: Image) -> tuple[Grid, Region]:
    grid = Grid(*image.size, TILE, OVERLAP)
    (region,) = grid.regions(image.height)
    return grid, region


def swath(request: Request, image: Image, folder: Path) -> None:
    _, region = whole(image)
    end: State[Any] = region_flow(
        request, image.url, image.etag, region, str(folder), return_state=True
    )
    assert end.result()["inferred"] == len(region)
    objects.remove(str(folder))


def plain_loop(url: str, image: Image, form: str) -> None:
    grid, region = whole(image)
    mine = threading.local()

    def ask(window: Window) -> None:
        if not hasattr(mine, "dataset"):
            mine.dataset, mine.session = rasterio.open(image.path), requests.Session()
        pixels = mine.dataset.read(window=window)
        bands, height, width = pixels.shape
        shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype}
        with MemoryFile() as memory:
            with memory.open(**GDAL_NAMES[form], **shape) as sink:
                sink.write(pixels)
            answer = mine.session.post(url, data=bytes(memory.getbuffer()))
        assert answer.json()["features"] == []

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(ask, [tile.window for tile in grid.tiles(region)]))


def seconds(work: Callable[[], None], server: psutil.Process) -> list[float]:
    """CPU time of this process, wall time, and the Prefect server's CPU time."""
    times = server.cpu_times()
    cpu, wall, prefect = time.process_time(), time.perf_counter(), times.user + times.system
    work()
    times = server.cpu_times()
    return [
        time.process_time() - cpu,
        time.perf_counter() - wall,
        times.user + times.system - prefect,
    ]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("form", ["GTIFF", "PNG"])
def test_over_http(image: Image, server: psutil.Process, tmp_path: Path, form: str) -> None:
    tiles = len(whole(image)[1])
    with null_model() as url:
        request = ask(image, "HTTP_ENDPOINT", url, form)
        rounds = []
        for _ in range(ROUNDS):
            ours = seconds(lambda: swath(request, image, tmp_path / "work"), server)
            theirs = seconds(lambda: plain_loop(url, image, form), server)
            rounds.append([*ours, *theirs])
    cpu, wall, prefect, plain_cpu, plain_wall, _ = np.median(rounds, axis=0)
    figures = {
        "benchmark": "pipeline over HTTP",
        "format": form,
        "tiles": tiles,
        "cores": os.cpu_count(),
        "cpu_ms_per_tile": round(1000 * cpu / tiles, 2),
        "prefect_server_cpu_ms_per_tile": round(1000 * prefect / tiles, 2),
        "tiles_per_s": round(tiles / wall),
        "plain_cpu_ms_per_tile": round(1000 * plain_cpu / tiles, 2),
        "plain_tiles_per_s": round(tiles / plain_wall),
        "peak_rss_mb": round(psutil.Process().memory_info().rss / 1e6),
    }
    print(json.dumps(figures))
    assert median(row[0] / row[3] for row in rounds) < 1
    assert median(row[1] / row[4] for row in rounds) < 1


def test_in_process(image: Image, server: psutil.Process, tmp_path: Path) -> None:
    tiles = len(whole(image)[1])
    request = ask(image, "BUILTIN", "centerpoint")
    rounds = [
        seconds(lambda: swath(request, image, tmp_path / "work"), server) for _ in range(ROUNDS)
    ]
    cpu, wall, prefect = np.median(rounds, axis=0)
    figures = {
        "benchmark": "pipeline in process",
        "tiles": tiles,
        "cpu_ms_per_tile": round(1000 * cpu / tiles, 2),
        "prefect_server_cpu_ms_per_tile": round(1000 * prefect / tiles, 2),
        "tiles_per_s": round(tiles / wall),
    }
    print(json.dumps(figures))


def watched(endpoint: LimitedServer, work: Callable[[], None]) -> Figures:
    """What an endpoint counted while it was at work, its first 3 s and its last tiles apart."""
    seen: list[tuple[float, Figures]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            seen.append((time.monotonic(), endpoint.figures()))

    watcher = threading.Thread(target=look)
    watcher.start()
    work()
    done.set()
    watcher.join()
    began = next(when for when, figures in seen if figures.answered)
    total = seen[-1][1].answered
    settled = next(figures for when, figures in seen if when > began + 3)
    last = [figures for _, figures in seen if figures.answered < 0.97 * total][-1]
    return last.since(settled)


@pytest.mark.parametrize("queues", [False, True], ids=["throttles", "queues"])
def test_a_slow_endpoint_is_kept_busy(
    image: Image, server: psutil.Process, tmp_path: Path, queues: bool
) -> None:
    with limited_server(4, queues=queues) as endpoint:
        request = ask(image, "HTTP_ENDPOINT", endpoint.url)
        figures = watched(endpoint, lambda: swath(request, image, tmp_path / "work"))
    print(
        json.dumps(
            {
                "benchmark": "slow endpoint",
                "queues": queues,
                "calls": figures.answered,
                "busy": round(figures.used, 3),
                "throttled": round(figures.refused, 4),
            }
        )
    )
    assert figures.used > 0.85
