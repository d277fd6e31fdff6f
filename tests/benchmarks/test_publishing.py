"""A million features published as GeoJSON, GeoParquet and the ledger, beside geopandas.

geopandas begins with a frame that is in memory already, with what Swath's GeoParquet has; Swath
begins with detections in pixels. Each is measured in a process of its own.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from affine import Affine

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.request import FileOutput
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.provenance import provenance

MILLION = 1_000_000
SIDE = 100_000  # px
UTM = AffineGeoreference(Affine(0.5, 0, 5e5, 0, -0.5, 5.4e6), "EPSG:32633", (SIDE, SIDE))
METADATA = FeatureMetadata(provenance(), [{"sourceDT": "2026-01-01T00:00:00Z"}])
ROWS = 50_000  # of a table
CLASSES = np.array(["ship", "barge", "ferry", "buoy", "pier"])


def boxes(count: int, seed: int) -> pa.Table:
    """Detections of a model that answers with boxes, 10 to 60 px wide."""
    random = np.random.default_rng(seed)
    low, sides = random.uniform(0, SIDE - 60, (count, 2)), random.uniform(10, 60, (count, 2))
    scores, names = random.random(count), CLASSES[random.integers(0, len(CLASSES), count)]
    own = '{{"featureClasses": [{{"iri": "{}", "score": {!r}}}]}}'
    columns = {
        "tile": np.full(count, seed),
        "ordinal": pa.array(np.arange(count), pa.int32()),
        "x_min": low[:, 0],
        "y_min": low[:, 1],
        "x_max": low[:, 0] + sides[:, 0],
        "y_max": low[:, 1] + sides[:, 1],
        "score": scores,
        "class_name": names,
        "geometry": pa.nulls(count, pa.binary()),
        "properties": [own.format(*each) for each in zip(names, scores.tolist(), strict=True)],
    }
    return pa.table(columns, schema=SCHEMA)


def polygons(count: int, seed: int) -> pa.Table:
    """The same with outlines of 17 vertices."""
    table = boxes(count, seed)
    x_min, y_min, x_max, y_max = (table[name].to_numpy() for name in SCHEMA.names[2:6])
    middles = shapely.points((x_min + x_max) / 2, (y_min + y_max) / 2)
    outlines = shapely.buffer(middles, (x_max - x_min) / 2, quad_segs=4)
    at = table.schema.get_field_index("geometry")
    return table.set_column(at, SCHEMA.field(at), pa.array(shapely.to_wkb(outlines), pa.binary()))


Detections = Callable[[int, int], pa.Table]


def tables(detections: Detections, count: int) -> Iterator[pa.Table]:
    """Detections, in tables that are made one after the other."""
    return (detections(ROWS, number) for number in range(count // ROWS))


def measured(run: Callable[[], object]) -> dict[str, float]:
    """CPU seconds and seconds of a function, and the peak memory of its process in MiB."""
    started, used = time.perf_counter(), time.process_time()
    run()
    seconds = {"cpu_s": time.process_time() - used, "wall_s": time.perf_counter() - started}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {name: round(value, 1) for name, value in (seconds | {"peak_MiB": peak}).items()}


def by_swath(detections: Detections, count: int, folder: Path) -> dict[str, float]:
    grid = Grid(SIDE, SIDE, 1000, 100)
    ledger = coverage.ledger(
        TileRecord(tile, TileState.INFERRED) for tile in grid.tiles(grid.regions(SIDE)[0])
    )
    covered = measure(ledger, Cells.of(grid, None))
    results = ImageResults(lambda: tables(detections, count), METADATA, covered, UTM)
    output = FileOutput(type="File", path=str(folder))
    made = measured(lambda: [None for _ in tables(detections, count)])
    found = measured(lambda: publish([output], results, "x", roots=[folder]))
    return found | {"cpu_s": round(found["cpu_s"] - made["cpu_s"], 1)}


def by_geopandas(detections: Detections, count: int, folder: Path) -> dict[str, float]:
    import geopandas

    by_swath(detections, count, folder)
    frame = geopandas.read_parquet(folder / "x.parquet")
    classes = frame["feature_classes"].map(lambda each: json.dumps(each.tolist()))
    pixels = shapely.to_geojson(shapely.from_wkb(frame["image_geometry"].to_numpy()))
    frame = frame.assign(feature_classes=classes, image_geometry=pixels)  # text, for GeoJSON

    def write() -> None:
        frame.to_file(folder / "x.geojson", driver="GeoJSON")
        frame.to_parquet(folder / "x.parquet")

    return measured(write)


@pytest.mark.parametrize("detections", [boxes, polygons])
@pytest.mark.parametrize("write", [by_swath, by_geopandas])
def test_publishing(
    detections: Detections,
    write: Callable[[Detections, int, Path], dict[str, float]],
    tmp_path: Path,
) -> None:
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        found = process.submit(write, detections, MILLION, tmp_path).result()
    sizes = {path.name: path.stat().st_size // 2**20 for path in tmp_path.iterdir()}
    line = {"benchmark": "publishing", "features": MILLION, "of": detections.__name__}
    print(json.dumps(line | {"by": write.__name__.removeprefix("by_")} | found | {"MiB": sizes}))
    assert {path.suffix for path in tmp_path.iterdir()} >= {".geojson", ".parquet"}
