"""What Prefect's server takes of the CPU in `swath up`: idle, and while an image is at work.

The image has 100,000 tiles of 512 px, which a model over loopback HTTP finds nothing in. The share
is the CPU of the server, with that of PostgreSQL where it has its database there, by that of
server, worker, sensor and runs together; the model and the emulated AWS do not count. So a job that
does more with a tile gives the server a smaller share.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import psutil
import pytest

from deployments.demo.harbour.scene import generate
from tests.benchmarks.repeated_blocks import repeat_blocks
from tests.null_model import null_model
from tests.postgres import postgres
from tests.swath_up import SwathUp, swath_up

SCENE = 6144  # of the scene that the image repeats
SIZE = int(os.environ.get("BENCH_SIZE", "142000"))  # of the image
IDLE = 60.0  # seconds
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
TABLES = ["flow_run", "task_run", "log", "events", "event_resources", "artifact"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def up(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SwathUp]:
    folder = tmp_path_factory.mktemp("share")
    generate(folder / "scene.tif", size=SCENE)
    repeat_blocks(folder / "scene.tif", folder / "image.tif", SIZE, "deflate")
    with ExitStack() as exits:
        database = {}
        if request.param == "postgresql":
            database["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = exits.enter_context(postgres())
        up = exits.enter_context(swath_up(folder, **database))
        up.start()
        yield up


def own(process: psutil.Process) -> float:
    return float(sum(process.cpu_times()[:2]))


def tree(process: psutil.Process) -> float:
    """CPU seconds of a process and all below it, those that have ended among them."""
    seconds = 0.0
    for each in [process, *process.children(recursive=True)]:
        try:
            seconds += sum(each.cpu_times()[:4])
        except psutil.NoSuchProcess:  # its parent has its time by now
            continue
    return seconds


def used(up: SwathUp) -> dict[str, float]:
    """CPU seconds of the parts of a stack so far; runs are forked, or the worker's children."""
    worker = up.part("worker")
    return {
        "server": tree(up.part("prefect")) + database(up),
        "worker": own(worker),
        "runs": tree(worker) - own(worker) + tree(up.part("forks")),
    }


def database(up: SwathUp) -> float:
    """CPU seconds of PostgreSQL so far; 0 with SQLite, which is in the server."""
    if not up.variables:
        return 0.0
    servers = [each for each in psutil.process_iter(["name"]) if each.name() == "postgres"]
    return sum(tree(each) for each in servers if each.ppid() == 1)


def rows(up: SwathUp) -> dict[str, int]:
    database = up.state / "stack" / "prefect" / "prefect.db"
    if not database.exists():
        return {}
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        return {
            table: connection.execute(f"select count(*) from {table}").fetchone()[0]
            for table in TABLES
        }


def since(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    return {part: round(after[part] - before[part], 2) for part in after}


def stack_of(up: SwathUp) -> str:
    return f"swath up with {'PostgreSQL' if up.variables else 'SQLite'}"


def test_idle(up: SwathUp) -> None:
    time.sleep(IDLE)  # the sensor that `swath up` starts takes over from that of the schedule
    before, began = used(up), time.monotonic()
    time.sleep(IDLE)
    minutes = (time.monotonic() - began) / 60
    seconds = {part: spent / minutes for part, spent in since(before, used(up)).items()}
    print(json.dumps({"benchmark": f"{stack_of(up)}, idle: CPU s a minute"} | seconds))


def test_an_image(up: SwathUp) -> None:
    before, began, rows_before = used(up), time.monotonic(), rows(up)
    with null_model() as url:
        tiles = {"imageProcessorTileSize": 512, "imageProcessorTileOverlap": 64}
        up.submit("share", url, up.folder / "image.tif", **tiles)
        while not [run for run in up.runs("share") if run["state"]["type"] in ENDED]:
            time.sleep(5)  # each look costs the server CPU
    spent, after = since(before, used(up)), rows(up)
    (run,) = up.runs("share")
    assert run["state"]["name"] == "Completed", run["state"]
    figures = {
        "benchmark": f"{stack_of(up)}, an image: CPU s",
        "seconds": round(time.monotonic() - began),
        "share": round(spent["server"] / sum(spent.values()), 4),
        "rows": {table: after[table] - rows_before[table] for table in after},
    }
    print(json.dumps(figures | spent))
