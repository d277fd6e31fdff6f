"""What becomes of the results when publishing fails, or when there are very many or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from numpy.typing import NDArray

import swath
from tasks.aws.clients import client
from tests.chain import Chain, kill
from tests.chain_jobs import places
from tests.counting_model import CountingModels
from tests.faults.conftest import IMAGE, TILES
from tests.faulty_proxy import Call
from tests.job_scene import paint, request
from tests.polling import until


def after_the_first(matches: Callable[[Call], bool]) -> Callable[[Call], bool]:
    """All calls that match but the first."""
    numbers = count()
    return lambda call: matches(call) and next(numbers) > 0


@pytest.mark.slow_fault
def test_29_killed_between_the_upload_of_two_files(
    chain: Chain, job: str, expected: list[dict[str, Any]]
) -> None:
    model = chain.models.model()
    with chain.sensor():
        with chain.aws.holding(after_the_first(chain.writes_results(job))) as held:
            chain.send(job, model, IMAGE)
            until(lambda: held.calls)
            kill(chain.await_processes(job))
        assert chain.await_end(job) == "SUCCESS"
    assert chain.features(job, IMAGE) == expected
    assert {f"{IMAGE}.{end}" for end in ("geojson", "parquet", "coverage.parquet")} <= {
        *chain.published(job)
    }
    assert model.figures().total == TILES


@pytest.mark.slow_fault
def test_29_the_bucket_is_missing(chain: Chain, job: str, expected: list[dict[str, Any]]) -> None:
    """One of two outputs fails; sent again, it is published too, without a call of the model."""
    model, s3 = chain.models.model(), client("s3")
    s3.create_bucket(Bucket=job)
    outputs = [
        {"type": "S3", "bucket": "swath-results", "prefix": job},
        {"type": "S3", "bucket": job, "prefix": "results"},
    ]
    model.answer_only(10)
    with chain.sensor():
        body = chain.send(job, model, IMAGE, outputs=outputs)
        until(lambda: model.figures().answered == 10)
        s3.delete_bucket(Bucket=job)
        model.answer_all()
        assert chain.await_end(job) == "PARTIAL"
        assert "outputs[1] is not published" in chain.reason(job)
        assert "NoSuchBucket" in chain.reason(job)
        s3.create_bucket(Bucket=job)
        chain.resend(body)
        assert chain.await_end(job, times=2) == "SUCCESS"
    assert model.figures().total == TILES
    assert chain.features(job, IMAGE) == expected
    other = s3.get_object(Bucket=job, Key=f"results/{IMAGE}.geojson")["Body"].read()
    assert places(json.loads(other)) == expected


WORK = """
import sys
from tasks.job import work_image
from tasks.request import Request
asked = Request.parse(sys.argv[1])
print(work_image(asked, asked.image_urls[0]).status)
"""


def test_29_the_disk_of_the_output_is_full(tmp_path: Path, models: CountingModels) -> None:
    model, out = models.model(), tmp_path / "out"
    out.mkdir()
    processor = {"name": model.url, "type": "HTTP_ENDPOINT"}
    asked = request(paint(tmp_path / "scene.tif"), out, imageProcessor=processor)
    work = [sys.executable, "-c", WORK, asked.model_dump_json(exclude_unset=True)]
    on_a_small_disk = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    on_a_small_disk += [f'mount -t tmpfs -o size=16k tmpfs {out} && exec "$@"', "sh"]
    tried = subprocess.run([*on_a_small_disk, "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip(f"this machine allows no small disk: {tried.stderr.decode()}")
    environment = os.environ | {
        "SWATH_LOCAL_ROOTS": json.dumps([str(tmp_path)]),
        "SWATH_WORK_URI": str(tmp_path / "work"),
        "SWATH_STORAGE_PATIENCE": "1",
    }
    full = subprocess.run(
        [*on_a_small_disk, *work], env=environment, check=False, capture_output=True, text=True
    )
    assert full.returncode
    assert "No space left on device" in full.stderr
    calls = model.figures().total
    again = subprocess.run(work, env=environment, check=True, capture_output=True, text=True)
    assert again.stdout.strip() == "SUCCESS"
    assert model.figures().total == calls > 0


@pytest.mark.slow_fault
def test_30_a_million_detections_on_seams() -> None:
    """Every object lies where tiles overlap, so that two or four of them see it."""
    tile, step, pitch, side = 256, 192, 4, 5184 + 64
    along = np.arange(0, side, pitch)
    on_a_seam = (along >= step) & (along % step < tile - step - pitch)
    rows, columns = np.nonzero(on_a_seam[:, None] | on_a_seam)
    pixels = np.full((1, side, side), 9, np.uint8)
    pixels[0, along[rows], along[columns]] = 255  # the upper left corner of each object
    seen = []

    def detect(tiles: NDArray[Any]) -> list[NDArray[Any]]:
        answers = []
        for each in tiles:
            y, x = np.nonzero(each[0] == 255)
            whole = (x <= tile - 3) & (y <= tile - 3)
            answers.append(np.column_stack([x, y, x + 3, y + 3])[whole])
            seen.append(len(answers[-1]))
        return answers

    result = swath.run(pixels, model=detect, tile_size=tile, overlap=tile - step, progress=False)
    assert sum(seen) > 1_000_000
    assert result.summary.status == "SUCCESS"
    assert len(result.features) == len(rows)


def test_30_no_detection_at_all(tmp_path: Path, models: CountingModels) -> None:
    model = models.model()
    model.fail("nothing")
    scene = paint(tmp_path / "scene.tif")
    result = swath.run(scene, model=model.url, tile_size=128, overlap=32, out=tmp_path / "out")
    assert result.summary.status == "SUCCESS"
    assert model.figures().total == TILES
    assert json.loads((tmp_path / "out" / "scene.tif.geojson").read_text())["features"] == []
    assert geopandas.read_parquet(tmp_path / "out" / "scene.tif.parquet").empty
