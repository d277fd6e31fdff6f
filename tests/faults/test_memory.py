"""A region's run stays under 1 GiB, however wide the image and however it is stored.

Nor does what keeping answers and publishing takes grow with what was found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.windows import Window

from tasks.grid.cells import Cells
from tasks.grid.tiles import Tile
from tasks.results.tile_results import Outcome
from tests.null_model import null_model
from tests.polling import until
from tests.provenance import provenance

GIBIBYTE = 1 << 30
PLACE = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}

LAYOUTS: dict[str, dict[str, Any]] = {
    "tiled": {
        "width": 120_000,
        "height": 1700,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
    },
    "tall blocks": {
        "width": 60_000,
        "height": 4096,
        "tiled": True,
        "blockxsize": 4096,
        "blockysize": 4096,
    },
    "strips": {"width": 120_000, "height": 1700, "blockysize": 16},
    "bands apart": {
        "width": 40_000,
        "height": 1700,
        "count": 8,
        "interleave": "band",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
    },
}


def write(file: Path, layout: dict[str, Any]) -> None:
    shape = {"count": 3, "dtype": "uint8", "interleave": "pixel", "nodata": 0, **layout}
    with rasterio.open(
        file, "w", driver="GTiff", compress="lzw", **shape, **PLACE, BIGTIFF="YES"
    ) as dataset:
        for row in range(0, shape["height"], 512):
            rows = min(512, shape["height"] - row)
            pixels = np.full((shape["count"], rows, shape["width"]), 7, np.uint8)
            dataset.write(pixels, window=Window(0, row, shape["width"], rows))


def peak_of_a_region(file: Path, most_tiles: int, url: str) -> tuple[int, int]:
    """Peak memory of this process after tiles of a region were read, and their number."""
    import os

    os.environ["SWATH_LOCAL_ROOTS"] = f'["{file.parent}"]'
    import flows.region  # noqa: F401 - a region's run has loaded it
    from tasks.inference import open_endpoint
    from tasks.inference.batch import Batch, infer, max_calls
    from tasks.inference.client import InferenceClient
    from tasks.inference.limiter import Limiter
    from tasks.planning.plan import make_plan
    from tasks.request import Request
    from tasks.results import coverage
    from tasks.results.tile_results import results_of

    request = Request.model_validate(
        {
            "jobId": "memory",
            "imageUrls": [str(file)],
            "outputs": [{"type": "File", "path": str(file.parent)}],
            "imageProcessor": {"name": url, "type": "HTTP_ENDPOINT"},
            "imageProcessorTileFormat": "GTIFF",
            "imageProcessorTileSize": 512,
            "imageProcessorTileOverlap": 128,
        }
    )
    plan = make_plan(request, str(file))
    region = plan.regions(4096)[0]
    most = max_calls(plan.tile_bytes)
    endpoint = open_endpoint(request, plan.image, 60)
    outcomes: list[Outcome] = []
    calls = InferenceClient(
        endpoint,
        Limiter(most),
        tiles=most_tiles,
        max_calls=most,
        attempts=1,
        retry_seconds=9,
        keep=outcomes.extend,
    )
    batch, tiles = Batch(), plan.read(plan.tiles_in_roi(region))
    with closing(batch):
        batch.fill(islice(tiles, most_tiles), calls)
    infer(batch)
    asked = coverage.count(results_of(outcomes).ledger)["inferred"]
    calls.close()
    return high_water(), asked


def high_water() -> int:
    """Peak memory of this process so far."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])


def measured(file: Path, most_tiles: int = 10**6) -> tuple[int, int]:
    slow = null_model(0.25)  # so that the maximum number of calls is in flight
    with slow as url, ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(peak_of_a_region, file, most_tiles, url).result()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_region_takes_less_than_a_gibibyte(tmp_path: Path, layout: str) -> None:
    write(tmp_path / "wide.tif", LAYOUTS[layout])
    peak, tiles = measured(tmp_path / "wide.tif")
    print(layout, peak / 2**20)
    assert tiles > 0
    assert peak < GIBIBYTE


def test_a_file_of_strips_of_40_gb_is_read_in_place(tmp_path: Path) -> None:
    side = 115_500
    shape = {"width": side, "height": side, "count": 3, "dtype": "uint8", "interleave": "pixel"}
    with (
        rasterio.Env(CHECK_DISK_FREE_SPACE=False),
        rasterio.open(
            tmp_path / "strips.tif", "w", driver="GTiff", **shape, **PLACE, BIGTIFF="YES"
        ),
    ):
        pass  # uncompressed and never written: as long as it says, without taking room on the disk
    assert (tmp_path / "strips.tif").stat().st_size > 40e9
    peak, tiles = measured(tmp_path / "strips.tif", 1000)
    print("40G", peak / 2**20)
    assert tiles >= 1000
    assert peak < GIBIBYTE


def peak_of_many_detections(folder: Path, side: int, per_tile: int) -> tuple[int, int]:
    """Peak memory of this process after a region's detections were stored, and their number."""
    import flows.region  # noqa: F401 - a region's run has loaded it
    from tasks.grid.tiles import Grid
    from tasks.imagery import TilePixels
    from tasks.inference import BuiltinEndpoint
    from tasks.inference.batch import Batch, infer
    from tasks.inference.client import InferenceClient
    from tasks.inference.limiter import Limiter
    from tasks.merge import settle
    from tasks.request import Algorithm
    from tasks.results import coverage
    from tasks.results.answer_keeper import AnswerKeeper
    from tasks.results.stored import RegionStore

    grid = Grid(side * 64, side * 64, 64, 0)
    (region,) = grid.regions(side * 64)
    tiles = len(region)
    pixels = np.full((1, 64, 64), 9, np.uint8)
    read = (TilePixels(tile, pixels, None) for tile in grid.tiles(region))
    flood = BuiltinEndpoint("flood", {"count": per_tile})
    with AnswerKeeper(str(folder / "answers"), region, 0) as keeper:
        calls = InferenceClient(
            flood,
            Limiter(8),
            tiles=tiles,
            max_calls=8,
            attempts=1,
            retry_seconds=9,
            keep=keeper.add,
        )
        for _ in range(32):
            batch = Batch()
            with closing(batch):
                batch.fill(islice(read, -(-tiles // 32)), calls)
            infer(batch)
        calls.close()
    found = keeper.results()
    algorithm = Algorithm.model_validate({"algorithmType": "NMS"})
    settled = settle(found.detections, algorithm, grid, coverage.inferred(found.ledger, grid))
    store = RegionStore(str(folder / "regions"))
    store.save(region, 1, settled.batches(), settled.deferred, found.ledger)
    return high_water(), len(found.detections)


def test_a_million_detections_in_a_region_take_less_than_a_gibibyte(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, found = process.submit(peak_of_many_detections, tmp_path, 20, 2500).result()
    print("million", peak / 2**20)
    assert found == 1_000_000
    assert peak < GIBIBYTE


def rise_of_keeping(folder: Path, answers: int, rows: int) -> tuple[int, int]:
    """The rise of this process's peak memory while answers come in, and their bytes in all."""
    import pyarrow as pa

    from tasks.grid.tiles import Grid
    from tasks.results.answer_keeper import AnswerKeeper
    from tasks.results.coverage import TileRecord, TileState
    from tasks.results.detections import BOX_COLUMNS, SCHEMA

    grid = Grid(64 * answers, 64, 64, 0)
    (region,) = grid.regions(64, grid.width)
    random = np.random.default_rng(0)

    def answer_of(tile: Tile) -> Outcome:
        columns = {
            "tile": np.full(rows, tile.index),
            "ordinal": pa.array(np.arange(rows), pa.int32()),
            **{name: random.random(rows) for name in BOX_COLUMNS},
            "score": random.random(rows),
            "class_name": ["ship"] * rows,
            "geometry": pa.nulls(rows, pa.binary()),
            "properties": ["{}"] * rows,
        }
        table = pa.table(columns, schema=SCHEMA)
        return Outcome(TileRecord(tile, TileState.INFERRED, attempts=1), table)

    def stored() -> int:
        return sum(path.stat().st_size for path in folder.glob("*.arrow"))

    start = high_water()
    with AnswerKeeper(str(folder), region, 0) as keeper:
        for tile in grid.tiles(region):
            before = stored()
            keeper.add([answer_of(tile)])
            until(lambda before=before: stored() > before)  # type: ignore[misc]
        return high_water() - start, keeper.bytes


def test_answers_that_are_stored_are_not_held(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        rise, added = process.submit(rise_of_keeping, tmp_path, 90, 50_000).result()
    print("keeping", rise / 2**20, added / 2**20)
    assert added > 290 << 20
    assert rise < added / 2


def peak_of_publishing(folder: Path, tables: int, rows: int) -> tuple[int, int]:
    """The rise of this process's peak memory in publishing, and the number of features."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import shapely

    from tasks.grid.tiles import Grid
    from tasks.imagery.georeference.affine import AffineGeoreference
    from tasks.publish import FeatureMetadata, ImageResults, publish
    from tasks.request.outputs import FileOutput
    from tasks.results import coverage
    from tasks.results.coverage import TileRecord, TileState
    from tasks.results.coverage_proof import measure
    from tasks.results.detections import SCHEMA

    def all_detections() -> Iterator[pa.Table]:
        random = np.random.default_rng(0)
        for tile in range(tables):
            (x, y), scores = random.uniform(0, 9e4, (2, rows)), random.random(rows)
            outlines = shapely.buffer(shapely.points(x, y), 20, quad_segs=4)
            columns = {
                "tile": np.full(rows, tile),
                "ordinal": pa.array(np.arange(rows), pa.int32()),
                "x_min": x,
                "y_min": y,
                "x_max": x + 20,
                "y_max": y + 20,
                "score": scores,
                "class_name": ["ship"] * rows,
                "geometry": shapely.to_wkb(outlines),
                "properties": [f'{{"heading":{360 * score}}}' for score in scores.tolist()],
            }
            del outlines
            yield pa.table(columns, schema=SCHEMA)

    grid = Grid(100_000, 100_000, 100_000, 0)
    record = TileRecord(grid.tile(0, 0), TileState.INFERRED)
    ledger = measure(coverage.ledger([record]), Cells.of(grid, None))
    place = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (100_000,) * 2)
    metadata = FeatureMetadata(provenance())
    results = ImageResults(all_detections, metadata, ledger, place)
    start = high_water()
    publish([FileOutput(type="File", path=str(folder))], results, "x", [folder])
    return high_water() - start, pq.read_metadata(folder / "x.parquet").num_rows


def test_publishing_400_000_features_takes_less_than_300_mib(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        rise, features = process.submit(peak_of_publishing, tmp_path, 20, 20_000).result()
    print("publishing", rise / 2**20)
    assert features == 400_000
    assert rise < 300 << 20


def peak_of_a_merge(folder: Path) -> tuple[int, int, int, int]:
    """Peak memory of this process after 40 regions were settled, stored, merged and loaded.

    Objects of 20 px stand 32 px apart, so that every tile edge cuts some in half. Each tile sees
    them up to a pixel off.

    Returns:
        Peak, bytes; detections; objects; and how many of these came out exactly once.
    """
    import pyarrow as pa

    import flows.image  # noqa: F401 - an image's run has loaded it
    from tasks.grid.tiles import Grid, Region
    from tasks.merge import merge, settle
    from tasks.request import Algorithm
    from tasks.results import coverage
    from tasks.results.coverage import TileRecord, TileState
    from tasks.results.detections import SCHEMA, boxes
    from tasks.results.stored import RegionStore, StoredResults

    pitch, half = 32, 10
    grid = Grid(90 * 384 + 128, 400 * 384 + 128, 512, 128)
    regions = grid.regions(3840, grid.width)
    algorithm = Algorithm.model_validate({"algorithmType": "NMS", "iouThreshold": 0.5})
    rows, columns = (grid.height // pitch - 1, grid.width // pitch - 1)
    in_a_tile = np.stack(np.meshgrid(*[np.arange(0, 513, pitch)] * 2), axis=-1).reshape(-1, 2)

    def seen(region: Region) -> pa.Table:
        random = np.random.default_rng(region.index)
        tiles = list(grid.tiles(region))
        first = np.array([(tile.window.col_off, tile.window.row_off) for tile in tiles])
        centres = (first[:, None] + in_a_tile).reshape(-1, 2)
        there = ((centres > 0) & (centres < (grid.width, grid.height))).all(axis=1)
        centres, first = centres[there], np.repeat(first, len(in_a_tile), axis=0)[there]
        off = random.uniform(-1, 1, (len(centres), 4))
        sides = np.hstack([centres - half, centres + half]) + off
        sides = sides.clip(np.tile(first, 2), np.tile(first + 512, 2))
        count = len(sides)
        ordinals = np.tile(np.arange(len(in_a_tile), dtype=np.int32), len(tiles))
        table = {
            "tile": np.repeat([tile.index for tile in tiles], len(in_a_tile))[there],
            "ordinal": ordinals[there],
            **dict(zip(("x_min", "y_min", "x_max", "y_max"), sides.T, strict=True)),
            "score": random.random(count),
            "class_name": pa.repeat("ship", count),
            "geometry": pa.nulls(count, pa.binary()),
            "properties": pa.repeat('{"heading":90}', count),
        }
        return pa.table(table, schema=SCHEMA)

    detections, store = 0, RegionStore(str(folder))
    for region in regions:
        records = [TileRecord(tile, TileState.INFERRED) for tile in grid.tiles(region)]
        ledger, found = coverage.ledger(records), seen(region)
        detections += len(found)
        looked = coverage.inferred(ledger, grid)
        settled = settle(found, algorithm, grid, looked, grid.interior(region))
        store.save(region, 1, settled.batches(), settled.deferred, ledger)
        del found, settled

    stored = store.latest(regions)
    kept = StoredResults(store, regions, stored, grid)
    ledger = coverage.concatenate([store.ledger(stored[region.index]) for region in regions])
    merged = merge(kept.deferred(), algorithm, grid, ledger)
    times = np.zeros((rows, columns), np.int16)
    for band in kept.all_detections(merged):
        corners = boxes(band)
        places = ((corners[:, :2] + corners[:, 2:]) / 2 / pitch).round().astype(np.int64) - 1
        np.add.at(times, (places[:, 1], places[:, 0]), 1)
    return high_water(), detections, times.size, int((times == 1).sum())


def test_ten_million_detections_are_merged_in_less_than_two_gibibytes(tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        peak, found, objects, once = process.submit(peak_of_a_merge, tmp_path).result()
    print("ten million", peak / 2**20)
    assert found >= 10_000_000
    assert once == objects
    assert peak < 2 * GIBIBYTE
