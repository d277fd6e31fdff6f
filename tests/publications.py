"""Publications without a run: by a function of this process, or by a process of its own.

As a process: `python -m tests.publications OUTPUT FEATURES JOB`, with the output as JSON; it prints
the URIs as JSON, or the error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from affine import Affine
from pydantic import TypeAdapter

from tasks.errors import SwathError
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.request import Output
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tasks.settings import ForeignResults
from tasks.storage import objects
from tests.provenance import provenance

STEM = "x.tif"
DEGREES = AffineGeoreference(Affine(1e-3, 0, 0, 0, 1e-3, 0), "EPSG:4326", (200, 100))


def detections(count: int, **properties: Any) -> pa.Table:
    """Ships side by side.

    Args:
        count: Number of ships.
        properties: Further properties of each, as the model gave them.
    """
    own = {"featureClasses": [{"iri": "ship", "score": 0.5}]} | properties
    columns = {
        "tile": np.arange(count),
        "ordinal": pa.array(np.zeros(count), pa.int32()),
        "x_min": np.arange(count, dtype=float),
        "y_min": np.zeros(count),
        "x_max": np.arange(count) + 10.0,
        "y_max": np.full(count, 10.0),
        "score": np.full(count, 0.5),
        "class_name": ["ship"] * count,
        "geometry": pa.nulls(count, pa.binary()),
        "properties": [json.dumps(own)] * count,
    }
    return pa.table(columns, schema=SCHEMA)


def results(features: int | None, job: str = "job-1", **fields: Any) -> ImageResults:
    """Results with a number of features; None if every tile failed."""
    grid = Grid(200, 100, 100, 0)
    state = TileState.FAILED if features is None else TileState.INFERRED
    found = [TileRecord(grid.tile(0, column), state) for column in (0, 1)]
    ledger = measure(coverage.ledger(found), Cells.of(grid, None))
    told = {"status": "FAILED", "covered": 0.0} if features is None else {}
    metadata = FeatureMetadata(provenance(**({"job": job} | told | fields)))
    read = None if features is None else lambda: [detections(features)]
    return ImageResults(read, metadata, ledger, DEGREES)


def published(
    output: Mapping[str, Any],
    features: int | None,
    job: str = "job-1",
    foreign: ForeignResults = ForeignResults.VERSION,
    **fields: Any,
) -> dict[str, str]:
    """Publish results to one output; returns the URIs."""
    outputs: list[Output] = TypeAdapter(list[Output]).validate_python([output])
    roots = [Path("/")]
    return publish(outputs, results(features, job, **fields), STEM, roots, foreign=foreign).uris


def output_to(uri: str) -> dict[str, str]:
    """The output whose files lie directly in a folder or under a prefix."""
    if not objects.is_s3(uri):
        return {"type": "File", "path": uri}
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return {"type": "S3", "bucket": bucket, "prefix": prefix}


def manifest(uri: str, stem: str = STEM) -> dict[str, Any]:
    """The manifest of an image's files in a folder or under a prefix."""
    read: dict[str, Any] = json.loads(objects.get(f"{uri}/{stem}.swath.json"))
    return read


def assert_whole(uri: str, stem: str = STEM) -> dict[str, Any]:
    """Every file is the one that the complete manifest names, of its job; returns the manifest."""
    told = manifest(uri, stem)
    assert told["state"] == "complete"
    for file in told["files"]:
        body = objects.get(f"{uri}/{file['name']}")
        assert (file["bytes"], file["sha256"]) == (len(body), sha256(body).hexdigest())
    return told


@contextmanager
def publishing(
    output: Mapping[str, Any],
    features: int,
    job: str = "job-1",
    before: Sequence[str] = (),
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """A process that publishes to one output.

    Args:
        output: The output.
        features: Number of features.
        job: Job of the results.
        before: What runs the command, such as `unshare`.
        environment: Variables.
    """
    words = [sys.executable, "-m", "tests.publications", json.dumps(output), str(features), job]
    process = subprocess.Popen(
        [*before, *words],
        env=os.environ | {"SWATH_STORAGE_PATIENCE": "1"} | environment,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    try:
        print(json.dumps(published(json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
    except SwathError as error:
        print(f"{type(error).__name__}: {error}")
