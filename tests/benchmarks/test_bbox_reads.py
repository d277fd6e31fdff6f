"""How much of a GeoParquet with a million features is read for a hundredth of the image."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyarrow.parquet as pq

from tasks.grid.tiles import Grid
from tasks.publish.geoparquet import geoparquet_file
from tasks.publish.image_results import ImageResults
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tests.benchmarks.test_publishing import METADATA, MILLION, SIDE, UTM, boxes, tables
from tests.unit.test_publish_geoparquet import CountingFile, meets


def test_bbox_reads(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    grid = Grid(SIDE, SIDE, SIDE, 0)
    ledger = coverage.ledger([TileRecord(grid.tile(0, 0), TileState.INFERRED)])
    results = ImageResults(lambda: tables(boxes, MILLION), METADATA, ledger, UTM)
    with geoparquet_file(path, results) as write:
        for batch in results.batches():
            write(batch)
    file, whole = pq.read_metadata(path), path.stat().st_size
    west, south, east, north = geopandas.read_parquet(path, columns=["geometry"]).total_bounds
    side = np.array([east - west, north - south]) / 10
    shares: dict[str, list[float]] = {"pyarrow": [], "geopandas": []}
    for place in np.random.default_rng(1).uniform(0, 9, (20, 2)):
        low = np.array([west, south]) + place * side
        bbox = (*low.tolist(), *(low + side).tolist())
        with CountingFile(path) as counted:
            pq.read_table(counted, filters=meets(bbox))
            shares["pyarrow"].append(counted.count / whole)
        with CountingFile(path) as counted:
            geopandas.read_parquet(counted, bbox=bbox)
            shares["geopandas"].append(counted.count / whole)
    line = {"benchmark": "bbox reads", "features": MILLION, "MiB": whole // 2**20}
    line |= {"row_groups": file.num_row_groups, "footer": round(file.serialized_size / whole, 4)}
    means = {name: round(float(np.mean(found)), 4) for name, found in shares.items()}
    print(json.dumps(line | {f"share_{name}": mean for name, mean in means.items()}))
    assert means["pyarrow"] < 0.03
