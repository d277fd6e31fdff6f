"""Pages of results without a run, and a browser that cannot reach anything to look at them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize, sync_playwright

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import open_image
from tasks.publish import FeatureMetadata, ImageResults
from tasks.publish.formats import FORMATS
from tasks.publish.image_results import Origin
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.job_scene import paint
from tests.provenance import provenance

CHROMIUM = Path("/usr/bin/chromium")
NO_CHROMIUM = pytest.mark.skipif(
    not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}; install Debian's chromium"
)
WIDTH, HEIGHT, TILE = 900, 700, 100
DESK, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)
CLASSES = ("ship", "barge", "tug", "ferry")
HOSTILE = "</script><img src=x onerror=document.title='run'>"
FAILURE = "HTTP 500: <b>out of memory</b>"


def detections(count: int, classes: Sequence[str] = CLASSES) -> pa.Table:
    """Boxes, and outlines of every third, of scores from 0 to 1; the first classes are frequent."""
    random = np.random.default_rng(7)
    x, y = random.uniform(0, (WIDTH - 20, HEIGHT - 20), (count, 2)).T
    own = np.minimum(random.geometric(2 / (len(classes) + 1), count) - 1, len(classes) - 1)
    rounds = shapely.to_wkb(shapely.buffer(shapely.points(x + 6, y + 6), 6, quad_segs=3))
    outlined = np.arange(count) % 3 == 0
    columns = {
        "tile": np.arange(count) // 20,
        "ordinal": pa.array(np.arange(count) % 20, pa.int32()),
        "x_min": x,
        "y_min": y,
        "x_max": x + 12,
        "y_max": y + 12,
        "score": random.beta(4, 2, count),
        "class_name": [classes[number] for number in own],
        "geometry": pa.array(np.where(outlined, rounds, None), pa.binary()),
        "properties": ["{}"] * count,
    }
    return pa.table(columns, schema=SCHEMA)


def ledger(*, failed: bool = False) -> pa.Table:
    """Tiles of 100 px: a row is outside, a row blank, two failed; or all of them failed."""
    states = {0: TileState.OUTSIDE, 1: TileState.BLANK}
    grid = Grid(WIDTH, HEIGHT, TILE, 0)
    records = []
    for row in range(HEIGHT // TILE):
        for column in range(WIDTH // TILE):
            state = states.get(row, TileState.INFERRED)
            if failed or (row, column) in {(4, 4), (4, 5)}:
                state = TileState.FAILED
            reason = {TileState.FAILED: FAILURE, TileState.BLANK: "nodata 0"}.get(state, "")
            asked = int(state in {TileState.FAILED, TileState.INFERRED})
            records.append(TileRecord(grid.tile(row, column), state, reason, asked))
    return measure(coverage.ledger(records), Cells.of(grid, None))


def results(
    folder: Path, table: pa.Table | None, *, image: bool = True, job: str = "job-1"
) -> ImageResults:
    """Results with some detections; None if every tile failed.

    Args:
        folder: Where the image is, or is written to.
        table: The detections.
        image: Whether the image is there when the page is written.
        job: Name of the job.
    """
    path = folder / "scene.tif"
    if not path.exists():
        paint(path, WIDTH, HEIGHT)
    message = {
        "jobId": job, "imageUrls": [str(path)],
        "outputs": [{"type": "File", "path": str(folder), "formats": ["html"]}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "imageProcessorTileSize": TILE, "imageProcessorTileOverlap": 0,
    }  # fmt: skip
    request, opened = Request.parse(json.dumps(message)), open_image(str(path), roots=[folder])
    if not image:
        path.unlink()
    told = ledger(failed=table is None)
    status = "FAILED" if table is None else "PARTIAL"
    covered = 1 - coverage.shares(told)[TileState.FAILED]
    words = {"job": job, "image": str(path), "etag": opened.etag, "status": status}
    metadata = FeatureMetadata(provenance(**words, covered=covered, tiles=coverage.count(told)))
    read = None if table is None else lambda: [table]
    return ImageResults(read, metadata, told, opened.georeference, {}, Origin(request, opened))


def written(path: Path, content: ImageResults) -> Path:
    """Write the page of results."""
    with FORMATS["html"].open_writer(path, content) as write:
        for batch in content.batches():
            write(batch)
    return path


@dataclass
class Visit:
    """A page in a browser.

    Attributes:
        page: Playwright's page.
        requests: What it asked for, itself left out.
        errors: What went wrong in it: exceptions, and what its policy refused.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, url: str) -> None:
        """Open an address, and wait until the page shows its contents."""
        self.page.goto("about:blank")
        self.requests.clear()
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", timeout=120_000)


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium, which draws without a graphics card."""
    with sync_playwright() as playwright:
        options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def visit(
    chromium: Browser, url: str, size: ViewportSize = DESK, **options: Any
) -> Iterator[Visit]:
    """Open a page without a network.

    Args:
        chromium: The browser.
        url: Address of the page.
        size: Of the window.
        options: Of the browser's context.
    """
    context = chromium.new_context(viewport=size, offline=True, **options)
    visited = Visit(context.new_page())
    page = visited.page
    page.on("request", lambda request: visited.requests.append(request.url))
    page.on("pageerror", lambda error: visited.errors.append(str(error)))

    def hear(line: ConsoleMessage) -> None:
        if line.type == "error":
            visited.errors.append(line.text)

    page.on("console", hear)
    try:
        visited.go(url)
        yield visited
    finally:
        context.close()
