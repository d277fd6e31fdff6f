"""What metrics cost: the CPU of a tile with them, and of all that is recorded for it."""

from __future__ import annotations

import time

from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.inference.call_metrics import CallMetrics
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome
from tasks.telemetry import emf
from tasks.telemetry.source import SOURCE
from tasks.telemetry.totals import Totals

TILES = 20_000
MOST = 0.02  # CPU milliseconds a tile


def test_recording_and_exporting_a_tile_costs_little() -> None:
    metrics = CallMetrics("ships", "GTIFF")
    outcome = Outcome(TileRecord(Tile(1, Window(0, 0, 512, 512)), TileState.INFERRED))
    totals, written = Totals(), 0
    SOURCE.drain()
    SOURCE.on = True
    try:
        began = time.process_time()
        for number in range(TILES):
            start = time.perf_counter()
            metrics.generated(start, 1, [])
            metrics.answered(0.01)
            metrics.settled(1, given_up=False)
            metrics.refined(start)
            metrics.processed(start, 1, [outcome])
            if number % 5_000 == 0:  # several seconds at 1,000 tiles a second
                series = SOURCE.drain()
                totals.add(series)
                written += sum(map(len, emf.lines(series, 0)))
        series = SOURCE.drain()
        totals.add(series)
        written += sum(map(len, emf.lines(series, 0)))
        milliseconds = 1000 * (time.process_time() - began) / TILES
    finally:
        SOURCE.on = False
    print(f"{milliseconds:.4f} CPU ms and {written / TILES:.0f} bytes of log a tile")
    assert milliseconds < MOST
