"""Programs that tests run in the container image and on this machine; each prints one JSON object.

confinement         user, capabilities, writable folders, network and installed software
merge               digests of merge results, and the functions that numba compiled for them
swath ARGUMENT …    exit status of the command, and the functions that numba compiled for it
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

INSTALLERS = ("apt-get", "dpkg", "pip", "pip3", "gcc", "cc", "make", "ld", "uv")


def confinement() -> dict[str, Any]:
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return {
        "user": [os.getuid(), os.getgid(), os.getgroups()],
        "capabilities": {name: int(status[name], 16) for name in status if name.startswith("Cap")},
        "writable": sorted(folder for folder in _folders() if os.access(folder, os.W_OK)),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "routes": len(Path("/proc/net/route").read_text().splitlines()) - 1,
        "commands": [name for name in INSTALLERS if shutil.which(name)],
        "modules": [
            name for name in ("ensurepip", "hatchling", "pip", "setuptools") if find_spec(name)
        ],
        "distributions": sorted([d.name, d.version] for d in metadata.distributions()),
    }


def _folders() -> Iterator[str]:
    excluded = {"/proc", "/sys"}
    for folder, below, _ in os.walk("/"):
        below[:] = [name for name in below if str(Path(folder, name)) not in excluded]
        yield folder


def merge() -> dict[str, Any]:
    with _compiled() as compiled:
        return {"answers": dict(_merge_digests()), "compiled": compiled}


def _merge_digests() -> Iterator[tuple[str, str]]:
    import numpy as np
    import pyarrow as pa

    from tasks.grid.tiles import Grid
    from tasks.merge import settle
    from tasks.request import Algorithm, AlgorithmType

    grid = Grid(1000, 1000, 256, 64)
    covered, interior = np.ones(len(grid), np.int8), np.array([100.0, 100, 700, 700])
    for outline, kind in ((one, two) for one in OUTLINES for two in AlgorithmType):
        algorithm = Algorithm.model_validate({"algorithmType": kind})
        digest = sha256()
        for count, chunks in ((0, 1), (1, 1), (30, 1), (30, 2), (200, 3)):
            table = _detections(grid, outline, count)
            parts = pa.Table.from_batches(
                table.to_batches(max_chunksize=len(table) // chunks + 1), table.schema
            )
            found = settle(parts, algorithm, grid, covered, interior)
            for rows in (found.decided, found.deferred):
                digest.update(json.dumps(rows.to_pylist(), default=bytes.hex).encode())
        yield f"{kind} {outline}", digest.hexdigest()
    many = settle(_detections(grid, "box", 4000), Algorithm(), grid, covered)
    yield "many", sha256(many.stay.tobytes()).hexdigest()


OUTLINES = ("box", "disc", "ring", "two", "line")


def _detections(grid: Any, outline: str, count: int) -> Any:
    """The detections of every tile for objects at random positions."""
    import numpy as np
    import pyarrow as pa
    import shapely

    from tasks.results.detections import SCHEMA

    random = np.random.default_rng(count)
    centres, radii = random.uniform(0, 1000, (count, 2)), random.uniform(1, 40, count)
    rows: list[dict[str, Any]] = []
    for (x, y), r in zip(centres, radii, strict=True):
        disc = shapely.Point(x, y).buffer(r, quad_segs=3)
        whole = {
            "box": shapely.box(x - r, y - r, x + r, y + r),
            "disc": disc,
            "ring": disc.difference(shapely.Point(x, y).buffer(r / 2, quad_segs=2)),
            "two": disc | shapely.Point(x + 3 * r, y).buffer(r, quad_segs=2),
            "line": shapely.LineString([(x - r, y), (x, y + r), (x + r, y)]),
        }[outline]
        label, windows = str(random.integers(3)), grid.windows(np.arange(len(grid)))
        for tile in np.flatnonzero(shapely.intersects(shapely.box(*windows.T), whole)):
            part = shapely.intersection(whole, shapely.box(*windows[tile]))
            sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), part.bounds, strict=True))
            rows.append(
                sides
                | {"geometry": None if outline == "box" else shapely.to_wkb(part)}
                | {"score": random.random(), "class_name": label, "properties": "{}"}
                | {"tile": tile, "ordinal": len(rows)}
            )
    rows.sort(key=lambda row: (row["tile"], row["ordinal"]))
    return pa.Table.from_pylist(rows, SCHEMA)


def swath(*arguments: str) -> dict[str, Any]:
    from deployments.cli import app

    with _compiled() as compiled:
        return {"status": app(arguments), "compiled": compiled}


@contextmanager
def _compiled() -> Iterator[list[str]]:
    """The functions that numba compiles while the block lasts."""
    from numba.core import event

    class Listener(event.Listener):
        def on_start(self, event: Any) -> None:
            names.append(f"{event.data['dispatcher']}{event.data['args']}")

        def on_end(self, event: Any) -> None:
            pass

    names: list[str] = []
    with event.install_listener("numba:compile", Listener()):
        yield names


if __name__ == "__main__":
    outcome = {"confinement": confinement, "merge": merge, "swath": swath}[sys.argv[1]](
        *sys.argv[2:]
    )
    print(json.dumps(outcome))
