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
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

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
from flows.image import image as image_flow
from flows.region import region as region_flow
from tasks.grid.tiles import Grid, Region
from tasks.imagery import Image, TilePixels, encoder, open_image, read_tiles
from tasks.inference.answer import read_answer
from tasks.inference.endpoint import JsonText
from tasks.inference.transport import Transport
from tasks.job import work_image
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.settings import settings
from tasks.storage import objects
from tests.benchmarks.repeated_blocks import repeat_blocks
from tests.limited_server import Figures, LimitedServer, limited_server
from tests.null_model import null_model

SCENE = 6144  # of the scene that all images repeat
SIZE = 16_384  # of the image of one region
WHOLE = 60_000  # of the image of several regions
TILE, OVERLAP = 512, 64
ROUNDS = 3
T = TypeVar("T")
GDAL_NAMES: dict[str, dict[str, Any]] = {
    "GTIFF": {"driver": "GTiff"},
    "PNG": {"driver": "PNG", "zlevel": 1},
}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    folder = tmp_path_factory.mktemp("pipeline")
    generate(folder / "scene.tif", size=SCENE)
    repeat_blocks(folder / "scene.tif", folder / "image.tif", SIZE, "deflate")
    repeat_blocks(folder / "scene.tif", folder / "whole.tif", WHOLE, "deflate")
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
        "outputs": [{"type": "File", "path": str(Path(image.path).parent / "out")}],
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


@dataclass
class Watch:
    """What the processes of a job and its model used while it was at work, four times a second.

    Attributes:
        processes: This one, the Prefect server's and the model's.
        samples: Time, CPU seconds of all processes, CPU seconds of the model, and resident bytes
            of this process.
    """

    processes: list[psutil.Process]
    samples: list[tuple[float, float, float, int]] = field(default_factory=list)

    def while_at(self, work: Callable[[], object]) -> None:
        done = threading.Event()

        def look() -> None:
            while not done.wait(0.25):
                cpu = [sum(each.cpu_times()[:2]) for each in self.processes]
                resident = self.processes[0].memory_info().rss
                self.samples.append((time.perf_counter(), sum(cpu), cpu[-1], resident))

        watcher = threading.Thread(target=look)
        watcher.start()
        work()
        done.set()
        watcher.join()

    def busy(self) -> float:
        """Processors at work, from the first call of the model to the last."""
        calls = [
            now
            for now, before in zip(self.samples[1:], self.samples, strict=False)
            if now[2] > before[2]
        ]
        first, last = calls[0], calls[-1]
        return (last[1] - first[1]) / (last[0] - first[0])

    def peak(self) -> int:
        return max(sample[3] for sample in self.samples)


def blocks(image: Image) -> None:
    with rasterio.open(image.path) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(window=window)


@pytest.mark.parametrize("way", ["job", "flows"])
def test_a_whole_image(image: Image, server: psutil.Process, way: str) -> None:
    folder = Path(image.path).parent
    whole = open_image(str(folder / "whole.tif"), roots=[folder])
    tiles = len(Grid(*whole.size, TILE, OVERLAP))
    with null_model() as url:
        request = ask(whole, "HTTP_ENDPOINT", url)
        children = psutil.Process().children(recursive=True)
        model = next(child for child in children if "tests.null_model" in child.cmdline())
        watch = Watch([psutil.Process(), server, model])
        works: dict[str, Callable[[], object]] = {
            "job": lambda: work_image(request, whole.url, region_rows=WHOLE // 5),
            "flows": lambda: image_flow(request, region_size=WHOLE // 5, return_state=True),
        }
        ours = seconds(lambda: watch.while_at(works[way]), server)
        once = seconds(lambda: blocks(whole), server)
        theirs = seconds(lambda: plain_loop(url, whole, "GTIFF"), server)
    cpu = ours[0] + (ours[2] if way == "flows" else 0)
    figures = {
        "benchmark": "whole image over HTTP",
        "way": way,
        "tiles": tiles,
        "cpu_ms_per_tile": round(1000 * cpu / tiles, 2),
        "prefect_server_share": round(ours[2] / cpu, 3),
        "cpu_ratio_blocks": round(cpu / once[0], 2),
        "cpu_ratio_plain": round(cpu / theirs[0], 2),
        "wall_ratio_plain": round(ours[1] / theirs[1], 2),
        "processors_busy": round(watch.busy(), 2),
        "peak_rss_mib": watch.peak() >> 20,
    }
    print(json.dumps(figures))


def test_where_the_time_of_a_tile_goes(image: Image) -> None:
    grid = Grid(*image.size, TILE, OVERLAP)
    (region,) = grid.regions(image.height)
    few = list(grid.tiles(region))[: 4 * len(grid.columns)]
    spent: dict[str, float] = {}

    def timed(stage: str, work: Callable[[], T]) -> T:
        began = time.process_time()
        result = work()
        spent[stage] = time.process_time() - began
        return result

    encode = encoder(image, "GTIFF", "NONE")
    records = [TileRecord(tile, TileState.INFERRED, attempts=1) for tile in few]
    coverage.ledger(records[:1])  # what it imports
    with rasterio.open(image.path) as dataset:
        rows = range(0, few[-1].window.row_off + TILE, 512)
        windows = [Window(x, y, 512, 512) for y in rows for x in range(0, SIZE, 512)]
        timed("decode", lambda: [dataset.read(window=window) for window in windows])
    tiles = timed("read", lambda: list(read_tiles(image, few)))
    bodies = timed("encode", lambda: [encode(t) for t in tiles if isinstance(t, TilePixels)])
    with null_model() as url, closing(Transport(30)) as transport:
        sent = timed("send", lambda: [transport.post(url, {}, body) for body in bodies])
    answers = [JsonText(url, response.body) for response in sent]
    timed("answer", lambda: list(map(read_answer, answers, few)))
    timed("ledger", lambda: coverage.ledger(records))
    figures = {f"{stage}_ms": round(1000 * spent[stage] / len(few), 3) for stage in spent}
    print(json.dumps({"benchmark": "stages of a tile", "tiles": len(few)} | figures))


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
