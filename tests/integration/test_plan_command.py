"""The command `swath plan`, run as a program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from tests.onnx_models import answering, of_ultralytics

SWATH = Path(sys.executable).with_name("swath")


def plan(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SWATH, "plan", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    profile = {"width": 600, "height": 400, "count": 1, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(
        tmp_path / "scene.tif",
        "w",
        driver="GTiff",
        transform=from_origin(500_000, 5_400_000, 1, 1),
        **profile,
    ) as sink:
        sink.write(np.full((1, 400, 600), 50, np.uint16))
    return tmp_path / "scene.tif"


def test_the_plan_estimates_tiles_calls_and_regions(scene: Path) -> None:
    done = plan(scene, "--tile-size", 256, "--overlap", 64, "--tile-format", "GTIFF")
    assert done.returncode == 0, done.stderr
    lines = {line[:14].strip(): line[14:] for line in done.stdout.splitlines() if line[0] != " "}
    assert lines["size"] == "600 × 400 pixels, 1 × uint16"
    assert lines["georeference"] == "affine in EPSG:32633"
    assert lines["tiles"] == "6 of 256 × 256 pixels, overlap at least 64"
    assert lines["model calls"] == "6, 786 kB of pixels as GTIFF/NONE"
    assert "6 to the model" in done.stdout
    assert lines["regions"] == "1, up to 600 × 400 pixels"
    assert "for 0.1 s per tile" in done.stdout


def test_the_plan_is_printed_as_json(scene: Path) -> None:
    done = plan(scene, "--tile-size", 256, "--overlap", 64, "--tile-format", "GTIFF", "--json")
    figures = json.loads(done.stdout)
    assert figures["tiles"] == {"inferred": 6, "blank": 0, "outside": 0}
    assert (figures["width"], figures["height"]) == (600, 400)
    assert figures["memory_bytes"] < 1 << 30


def test_region_size_sets_the_height_of_regions(scene: Path) -> None:
    options = ["--tile-size", 128, "--overlap", 0, "--tile-format", "GTIFF", "--json"]
    given = json.loads(plan(scene, *options, "--region-size", 200).stdout)
    assert (given["regions"], given["tile_seconds"]) == (2, None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tile-format", "JPEG"], "uint16"),
        (["--roi", "POLYGON((0 0, 1 0, 1 1, 0 0))"], "do not meet"),
        (["--roi", "POLYGON((0 0, 1 0"], "--roi"),
        (["--nodata", "-1"], "--nodata"),
        (["--region-size", "0"], "--region-size"),
        (["--type", "ONNX"], "--type: is of a model; give --model too"),
        (["--parameter", "a=b"], "--parameter: is of a model"),
        (["--model", "none.onnx"], "none.onnx: there is no such file"),
        (["--model", "best.pt"], "yolo export model=best.pt"),
    ],
)
def test_an_invalid_option_is_refused_in_one_line(
    scene: Path, options: list[str], reason: str
) -> None:
    done = plan(scene, *options)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_tiles_of_a_plan_have_the_size_of_the_model(scene: Path) -> None:
    model = scene.with_name("best.onnx")
    answering(model, {"output0": np.zeros((1, 6, 84), np.float32)}, metadata=of_ultralytics())
    done = plan(scene, "--model", model, "--overlap", 16)
    assert done.returncode == 0, done.stderr
    assert "of 64 × 64 pixels" in done.stdout
    assert "of 128 × 128 pixels" in plan(scene, "--model", model, "--tile-size", 128).stdout
