"""The results are the same bytes whatever the order of tiles and the regions of an image."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from math import ceil
from pathlib import Path
from threading import Lock, Thread
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from hypothesis import HealthCheck, Phase, example, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray
from prefect.client.schemas.objects import State
from rasterio.transform import from_origin
from scipy import ndimage

from flows.image import image
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid, Region, Tile
from tasks.inference.answer import parse, read_answer
from tasks.inference.tile_decoding import decode_tile
from tasks.job.kept import kept_of
from tasks.merge import settle
from tasks.planning.plan import make_plan
from tasks.publish import Provenance, publish_image
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import IncompleteJobError, status_of
from tasks.request import Request
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import boxes
from tasks.settings import settings

pytestmark = pytest.mark.usefixtures("prefect_api")

WIDTH, HEIGHT, TILE, OVERLAP = 500, 420, 128, 32
GRID = Grid(WIDTH, HEIGHT, TILE, OVERLAP)
KINDS = ["NMS", "SOFT_NMS", "NMM", "WBF", "DISSOLVE", "NONE"]

MANY = 6  # regions: each takes a second
THREE = 140  # rows of a region, px: then the image has three
CROSSING = (440, 460)  # columns of the two ships that the edges of the middle region cut, px


def paint(path: Path) -> Path:
    """Ships, some of them touching, things larger than a tile, and a corner of nodata."""
    random = np.random.default_rng(5)
    pixels = random.integers(20, 40, (3, HEIGHT, WIDTH), dtype=np.uint8)
    for x, y in random.integers((0, 0), (CROSSING[0] - 40, HEIGHT - 20), (40, 2)):
        width, height = random.permutation([8, 20])
        pixels[:, y : y + height, x : x + width] = 230
    pixels[:, 180:188, 150:420] = 230
    pixels[:, 40:330, 330:340] = 230
    pixels[:, 280:390, 60:170] = 230
    for edge in middle_edges():
        pixels[:, edge - 10 : edge + 10, CROSSING[0] : CROSSING[1]] = 230
    pixels[:, :TILE, :TILE] = 0
    profile = {"count": 3, "dtype": "uint8", "nodata": 0, "crs": "EPSG:32633"}
    place = from_origin(500_000, 5_400_000, 0.5, 0.5)
    with rasterio.open(
        path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, transform=place, **profile
    ) as sink:
        sink.write(pixels)
    return path


def middle_edges() -> tuple[int, int]:
    """Where of three regions the first one's tiles end, and the last one's begin, px in y."""
    first, _, last = GRID.regions(THREE, WIDTH)
    return first.y + first.height, last.y


def answer(pixels: NDArray[Any]) -> bytes:
    """What the model says of a tile: a few overlapping detections for each bright object.

    They reach beyond the tile, tie in score, and are boxes or polygons of two classes; all of it
    follows from the pixels. What holds no data is taken for an object too, but for its border.
    """
    random = np.random.default_rng(crc32(pixels.tobytes()))
    bright, _ = ndimage.label(pixels[0] > 128, np.ones((3, 3)))
    empty, _ = ndimage.label(pixels[0] == 0)
    features = []
    for rows, columns in ndimage.find_objects(bright) + ndimage.find_objects(empty):
        drawn = bool(random.random() < 0.5)
        inwards = 0 if pixels[0, rows, columns].any() else 4
        for _ in range(random.integers(1, 4)):
            left, top, right, bottom = random.integers(0, 6, 4) / 4 - inwards
            box = (columns.start - left, rows.start - top, columns.stop + right, rows.stop + bottom)
            features.append(feature(*map(float, box), random=random, drawn=drawn))
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


def feature(
    left: float,
    top: float,
    right: float,
    bottom: float,
    *,
    random: np.random.Generator,
    drawn: bool,
) -> dict[str, Any]:
    lean = (right - left) / 8
    ring = [(left, top), (right - lean, top), (right, bottom), (left + lean, bottom), (left, top)]
    kind = str(random.choice(["ship", "ship", "ship", "crane"]))
    score = float(random.integers(3, 10)) / 10
    properties: dict[str, Any] = {
        "imageBBox": [left, top, right, bottom],
        "featureClasses": [{"iri": kind, "score": score}],
        "number": int(random.integers(1000)),
    }
    if drawn:
        properties["imageGeometry"] = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": None, "properties": properties}


class Server(ThreadingHTTPServer):
    """The model behind HTTP: each call takes a time of its own, drawn anew in every run."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, seed: int, slowest: float, busy_at: int | None, on_call: Callable[[], None]
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self._random, self._slowest = np.random.default_rng(seed), slowest
        self._busy_at, self._on_call = busy_at, on_call
        self._calls, self._lock = count(), Lock()

    def reply(self, body: bytes) -> tuple[int, bytes]:
        with self._lock:
            number, seconds = next(self._calls), self._random.uniform(0, self._slowest)
            self._on_call()
        time.sleep(seconds)
        if number == self._busy_at:
            return 503, b"busy for a moment"
        return 200, answer(decode_tile(body))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, said = self.server.reply(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@contextmanager
def model(
    seed: int = 0,
    slowest: float = 0.0,
    busy_at: int | None = None,
    on_call: Callable[[], None] = lambda: None,
) -> Iterator[str]:
    """The model's address.

    Args:
        seed: Of the times that calls take.
        slowest: Seconds that a call takes at most.
        busy_at: Which call is refused, for once.
        on_call: What happens at every call, one at a time.
    """
    with Server(seed, slowest, busy_at, on_call) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        # a path of its own, so that its concurrency limit is made anew
        yield f"http://127.0.0.1:{server.server_port}/{time.monotonic_ns()}"
        server.shutdown()
        thread.join()


def request(scene: Path, out: Path, kind: str, url: str, **fields: Any) -> Request:
    threshold = 0.2 if kind == "DISSOLVE" else 0.5
    algorithm = {"algorithmType": kind, "iouThreshold": threshold} | fields
    message = {
        "jobId": "job-order",
        "imageUrls": [str(scene)],
        "outputs": [{"type": "File", "path": str(out)}],
        "imageProcessor": {"name": url, "type": "HTTP_ENDPOINT"},
        "imageProcessorTileSize": TILE,
        "imageProcessorTileOverlap": OVERLAP,
        "imageProcessorTileFormat": "NPY",
        "postProcessing": [{"step": "FEATURE_DISTILLATION", "algorithm": algorithm}],
    }
    return Request.parse(json.dumps(message))


def publish_all_at_once(
    asked: Request, when: datetime, lost: Region | None = None, reason: str = ""
) -> None:
    """Publish what `settle` makes of all tiles together, without flows, regions or calls."""
    plan = make_plan(asked, asked.image_urls[0])
    never = [tile.index for tile in GRID.tiles(lost)] if lost else []
    records, tables = [], []
    with rasterio.open(asked.image_urls[0]) as source:
        for place in range(len(GRID)):
            tile = GRID.tile(*divmod(place, len(GRID.columns)))
            pixels = source.read(window=tile.window)
            if place in never:
                records.append(TileRecord(tile, TileState.FAILED, reason))
            elif not pixels.any():
                records.append(TileRecord(tile, TileState.BLANK, "nodata 0"))
            else:
                read = read_answer(parse(answer(pixels)), tile)
                assert read.rejected == 0
                of_tile = detections.concatenate([read.detections] if read.detections else [])
                with_data = [pixels[:, *pixels_of(box, tile)].any() for box in boxes(of_tile)]
                dropped = with_data.count(False)
                records.append(TileRecord(tile, TileState.INFERRED, without_data=dropped))
                tables.append(of_tile.filter(pa.array(with_data, pa.bool_())))
    found = detections.concatenate(tables)
    lines = coverage.with_detections(coverage.ledger(records), found["tile"].to_numpy())
    settled = settle(found, asked.algorithm, GRID, coverage.inferred(lines, GRID))
    assert len(settled.deferred) == 0
    bands = partial(iter, [settled.decided])
    ledger = measure(lines, Cells.of(GRID, None))
    status = status_of(coverage.count(ledger))
    origin = Provenance.of(asked, plan.image, ledger, status, when)
    publish_image(asked, plan.image, bands, ledger, origin)


def pixels_of(box: NDArray[np.float64], tile: Tile) -> tuple[slice, slice]:
    """The rows and columns of a tile that a box of the image covers."""
    x, y = tile.window.col_off, tile.window.row_off
    left, top, right, bottom = np.clip(box - [x, y, x, y], 0, TILE)
    return slice(int(top), ceil(bottom)), slice(int(left), ceil(right))


def features(out: Path) -> list[dict[str, Any]]:
    read: list[dict[str, Any]] = json.loads((out / "scene.tif.geojson").read_text())["features"]
    return [each["properties"] for each in read]


def moment(out: Path) -> datetime:
    """When a run says that its features were inferred; their one part that no tile decides."""
    (told,) = {each["inferenceMetadata"]["inferenceDT"] for each in features(out)}
    return datetime.fromisoformat(told)


def digest(out: Path) -> bytes:
    """The digest of the request, which names the folder and the address of the model."""
    text = (out / "scene.tif.swath.json").read_bytes()
    return str(json.loads(text)["request"]).encode()


def ledger(out: Path) -> pa.Table:
    return pq.read_table(out / "scene.tif.coverage.parquet")


def assert_same(out: Path, expected: Path) -> None:
    """The files of detections are the same bytes, and so is what the ledger says of every tile."""
    for name in ("scene.tif.geojson", "scene.tif.parquet"):
        files = [(each / name).read_bytes().replace(digest(each), b"") for each in (out, expected)]
        assert files[0] == files[1], name
    lines, others = (
        ledger(each).drop_columns(["attempts", "failed_calls"]) for each in (out, expected)
    )
    assert lines.equals(others, check_metadata=True)


@dataclass(frozen=True)
class Circumstances:
    """All that must not matter.

    Attributes:
        seed: Of the times that calls take.
        rows: Of a region, about, px.
        widest: Pixels in x that a region may have.
        batch: Tiles of a batch.
        concurrency: Calls that the endpoint gets at a time.
        busy_at: Which call is refused, for once; None where none is.
    """

    seed: int
    rows: int
    widest: int
    batch: int
    concurrency: int
    busy_at: int | None

    def run(self, kind: str, scene: Path, out: Path) -> tuple[Request, State[Any]]:
        """Work the scene so."""
        with (
            pytest.MonkeyPatch.context() as patch,
            model(self.seed, 0.06, self.busy_at) as url,
        ):
            patch.setenv("SWATH_BATCH_SIZE", str(self.batch))
            patch.setenv("SWATH_ENDPOINT_CONCURRENCY", str(self.concurrency))
            patch.setattr(
                "tasks.planning.plan.max_region_width", lambda *_: self.widest
            )  # as if memory were so small
            settings.cache_clear()
            asked = request(scene, out, kind, url)
            end: State[Any] = image(asked, region_size=self.rows, return_state=True)
        settings.cache_clear()
        return asked, end


CIRCUMSTANCES = st.builds(
    Circumstances,
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([10_000, 250, THREE, 90]),
    widest=st.sampled_from([10_000, 330, TILE]),
    batch=st.sampled_from([1, 3, 16]),
    concurrency=st.sampled_from([1, 2, 5, 16]),
    busy_at=st.none() | st.integers(0, 10),
).filter(lambda drawn: len(GRID.regions(drawn.rows, drawn.widest)) <= MANY)

IN_ONE_REGION = Circumstances(1, 10_000, 10_000, 16, 8, None)
IN_FOUR_AND_BUSY = Circumstances(2, 250, 330, 2, 5, 7)


@pytest.mark.parametrize("kind", KINDS)
@examples(
    max_examples=2,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # every try takes seconds
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(IN_ONE_REGION)
@example(IN_FOUR_AND_BUSY)
@given(CIRCUMSTANCES)
def test_the_result_is_the_same_bytes_in_whatever_order_tiles_finish(
    allowed: Path, kind: str, circumstances: Circumstances
) -> None:
    here = allowed / str(time.monotonic_ns())
    out, expected = here / "out", here / "expected"
    here.mkdir()
    scene = paint(here / "scene.tif")
    asked, end = circumstances.run(kind, scene, out)
    assert end.name == "Completed", end.message
    summary = end.result()
    assert summary.tiles["blank"] == 1
    assert summary.without_data > 0
    assert summary.features == len(features(out)) > 40
    refused = sum(map(len, ledger(out)["failed_calls"].to_pylist()))
    assert refused == (circumstances.busy_at is not None)
    again = request(scene, expected, kind, asked.image_processor.name)
    publish_all_at_once(again, moment(out))
    assert_same(out, expected)


def cut_off(out: Path) -> list[bool]:
    """Whether the ships at the middle region's edges are there as its neighbours see them."""
    first_ends, last_begins = middle_edges()
    boxes = [each["imageBBox"] for each in features(out) if each["imageBBox"][0] > CROSSING[0] - 5]
    return [
        any(box[3] == pytest.approx(first_ends) for box in boxes),
        any(box[1] == pytest.approx(last_begins) for box in boxes),
    ]


@pytest.mark.parametrize("kind", ["NMS", "WBF", "DISSOLVE"])
def test_beside_a_lost_region_views_stay_that_its_tiles_would_have_shown_whole(
    allowed: Path, kind: str
) -> None:
    scene, calls, refused = paint(allowed / "scene.tif"), count(1), list[Path]()
    first, lost, _ = GRID.regions(THREE, WIDTH)

    def refuse() -> None:
        """Have the disk not take what the middle region came to, when that has begun."""
        if next(calls) > len(first):
            refused[0].mkdir(parents=True, exist_ok=True)

    def asking_for(out: str) -> Request:
        return request(scene, allowed / out, kind, url, classAgnostic=True)

    with model(on_call=refuse) as url:
        asked = asking_for("out")
        kept = kept_of(make_plan(asked, asked.image_urls[0])).regions(asked)
        refused.append(Path(kept.folder) / f"{lost.block}.00001.json")
        end: State[Any] = image(asked, region_size=THREE, return_state=True)
    error = end.result(raise_on_failure=False)
    assert isinstance(error, IncompleteJobError)
    summary = error.summary
    assert (end.name, summary.status) == ("Partial", JobStatus.PARTIAL)
    assert summary.tiles["failed"] == len(lost)
    ((reason, tiles),) = summary.reasons
    assert tiles == len(lost)
    assert f"{lost.block}.00001.json" in reason

    when = moment(allowed / "out")
    publish_all_at_once(asking_for("expected"), when, lost, reason)
    assert_same(allowed / "out", allowed / "expected")
    publish_all_at_once(asking_for("whole"), when)
    assert cut_off(allowed / "out") == [True, True]
    assert cut_off(allowed / "whole") == [False, False]


def test_publishing_that_failed_is_done_again_without_a_call(allowed: Path) -> None:
    scene, out = paint(allowed / "scene.tif"), allowed / "out"
    calls: list[int] = []

    def count() -> None:
        calls.append(1)
        if out.is_dir():
            out.rmdir()
            out.write_text("no folder")  # the output, gone while the work is done

    out.mkdir()
    with model(on_call=count) as url:
        asked = request(scene, out, "NMS", url)
        end: State[Any] = image(asked, region_size=THREE, return_state=True)
        assert end.is_failed()
        assert str(out) in str(end.message)
        made = len(calls)
        out.unlink()
        assert image(asked, region_size=THREE, return_state=True).is_completed()
    assert len(calls) == made
    assert len(features(out)) > 40
