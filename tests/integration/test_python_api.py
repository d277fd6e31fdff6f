"""`swath.run` and `swath.plan`: real images, real models, Python functions, threads and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import geopandas
import matplotlib as mpl
import numpy as np
import onnxruntime
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from PIL import Image as Picture

import swath
from tasks.inference.builtin.endpoint import create_model
from tasks.reporting.status import JobStatus
from tests.job_scene import corner, paint
from tests.onnx_models import (
    PLANE_BOXES,
    PLANES,
    YOLOX,
    bright_box,
    describe,
    write_json,
    yolox_nano,
)

SWATH = Path(sys.executable).with_name("swath")
TILES: dict[str, Any] = {"tile_size": 256, "overlap": 64, "progress": False}
BOX = ["image_x_min", "image_y_min", "image_x_max", "image_y_max"]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files of this process and of those that it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return paint(tmp_path / "scene.tif")


def bright(tiles: NDArray[Any]) -> list[dict[str, Any]]:
    """`bright-targets` as a Python function: GeoJSON for each tile."""
    model = create_model("bright-targets")
    return [model(tile) for tile in tiles]


def bright_boxes(tiles: NDArray[Any]) -> list[list[list[float]]]:
    """The same as arrays of boxes."""
    return [
        [
            [*each["imageBBox"], each["featureClasses"][0]["score"]]
            for each in (feature["properties"] for feature in found["features"])
        ]
        for found in bright(tiles)
    ]


def table(result: swath.Result, *columns: str) -> list[tuple[Any, ...]]:
    """Rows of the features, the identifiers of the job left out."""
    rows = result.features[[*BOX, *(columns or ("score", "class"))]]
    return [tuple(row) for row in rows.itertuples(index=False)]


def test_the_result_has_tables_a_plot_a_picture_and_files(
    scene: Path, temporary: Path, tmp_path: Path
) -> None:
    mpl.use("agg")
    result = swath.run(scene, model="bright-targets", **TILES)
    assert (result.summary.status, result.summary.features) == (JobStatus.SUCCESS, 24)
    assert repr(result).startswith("<swath.Result SUCCESS: 24 features; 100 % of the area covered")

    saved = result.save(tmp_path / "new" / "folder")
    assert {path.name for path in saved.values()} == {
        *("scene.tif.geojson", "scene.tif.parquet", "scene.tif.coverage.parquet")
    }
    published = geopandas.read_parquet(saved["parquet"])
    assert result.features.crs == "EPSG:4326"
    assert result.features.geometry.to_wkb().tolist() == published.geometry.to_wkb().tolist()
    assert result.features["id"].tolist() == published["id"].tolist()
    result.features.to_file(tmp_path / "features.gpkg")
    result.features.to_parquet(tmp_path / "features.parquet")
    assert geopandas.read_file(tmp_path / "features.gpkg")["score"].min() > 0
    in_pixels = result.features_in_pixels
    assert in_pixels.crs is None
    assert in_pixels.geometry.bounds.values.tolist() == in_pixels[BOX].values.tolist()
    assert len(json.loads(saved["geojson"].read_text())["features"]) == 24

    assert result.ledger["state"].value_counts().to_dict() == {"inferred": 19, "blank": 1}
    assert result.ledger.crs == "EPSG:4326"
    assert result.ledger["area_px"].sum() == 900 * 700

    axes = result.plot(linewidth=2)
    assert axes.get_xlim() == (0, 900)
    assert axes.get_ylim() == (700, 0)
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["bright-target 24"]
    assert Picture.open(BytesIO(result.preview(300))).width >= 300

    tables = result.features, result.ledger
    del result, axes
    gc.collect()
    assert list(temporary.iterdir()) == []
    assert all(len(each) for each in tables)


def test_the_words_are_those_of_the_command_line(scene: Path, tmp_path: Path) -> None:
    area = corner(scene)
    result = swath.run(
        str(scene), model="bright-targets", parameters={"smallest": 20}, roi=area, job_id="one",
        nodata=0, conf=0.1, classes=["bright-target"], merge="NMM", iou=0.5, region_size=300,
        out=tmp_path / "python", **TILES,
    )  # fmt: skip
    command: list[Any] = [
        SWATH, "run", scene, "--model", "bright-targets", "--parameter", "smallest=20",
        "--roi", area, "--job-id", "one", "--nodata", "0", "--conf", "0.1", "--classes",
        "bright-target", "--merge", "NMM", "--iou", "0.5", "--region-size", "300", "--tile-size",
        "256", "--overlap", "64", "--out", tmp_path / "command",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    assert 0 < len(result.features) < 24
    assert result.files["geojson"].parent == tmp_path / "python"

    def published(folder: str) -> str:
        text = (tmp_path / folder / "scene.tif.geojson").read_text()
        features = json.loads(text)["features"]
        for feature in features:
            feature["properties"].pop("inferenceMetadata")
        return json.dumps(features)

    assert published("python") == published("command")


@pytest.mark.parametrize("batch_size", [1, 8])
def test_a_function_finds_what_the_same_model_finds_over_http_and_built_in(
    scene: Path, models: str, batch_size: int
) -> None:
    built_in = swath.run(scene, model="bright-targets", **TILES)
    over_http = swath.run(
        scene,
        model=f"{models}/bright-targets/invocations",
        type="HTTP_ENDPOINT",
        tile_format="GTIFF",
        **TILES,
    )
    geojson = swath.run(scene, model=bright, batch_size=batch_size, **TILES)
    boxes = swath.run(
        scene,
        model=bright_boxes,
        class_names=["bright-target"],
        batch_size=batch_size,
        **TILES,
    )
    columns = ("score", "class", "properties", "geometry")
    assert len(built_in.features) == 24
    assert table(geojson, *columns) == table(built_in, *columns)
    assert table(over_http, *columns) == table(built_in, *columns)
    assert table(boxes) == table(built_in)


def test_a_function_finds_what_the_same_model_finds_as_onnx(scene: Path, tmp_path: Path) -> None:
    shape = ("batch", 3, 256, 256)
    file = bright_box(tmp_path / "bright.onnx", shape=shape)
    description = describe({"type": "torchvision"}, first_class=1, shape=(-1, 3, 256, 256))
    write_json(file.with_suffix(".json"), description)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def function(tiles: NDArray[Any]) -> list[dict[str, Any]]:
        outputs = session.run(None, {"images": tiles.astype(np.float32)})
        return [
            {"boxes": boxes[kept], "labels": labels[kept], "scores": scores[kept]}
            for boxes, labels, scores in zip(*outputs, strict=True)
            for kept in [labels == 1]  # 0 is the background
        ]

    as_onnx = swath.run(scene, model=file, region_size=300, **TILES)
    as_function = swath.run(scene, model=function, class_names={1: "ship"}, **TILES)
    assert len(as_onnx.features) > 5
    assert table(as_function) == table(as_onnx)


@pytest.mark.skipif(not YOLOX.exists(), reason="needs shared/models/yolox_nano.onnx")
def test_a_real_model_finds_the_aircraft_of_a_real_image(tmp_path: Path) -> None:
    model = tmp_path / "yolox.onnx"
    model.symlink_to(YOLOX)
    write_json(model.with_suffix(".json"), yolox_nano())
    result = swath.run(
        PLANES, model=model, tile_size=416, overlap=64, classes="airplane", progress=False
    )
    assert set(result.features["class"]) == {"airplane"}
    assert np.allclose(sorted(result.features[BOX].values.tolist()), sorted(PLANE_BOXES), atol=6)


def test_an_array_gives_what_the_file_gives(scene: Path) -> None:
    with rasterio.open(scene) as source:
        pixels, transform, crs = source.read(), source.transform, source.crs
    of_file = swath.run(scene, model="bright-targets", **TILES)
    placed = swath.run(
        pixels, model="bright-targets", transform=transform, crs=crs, nodata=0, **TILES
    )
    columns = ("score", "class", "geometry")
    assert table(placed, *columns) == table(of_file, *columns)
    assert placed.ledger["state"].tolist() == of_file.ledger["state"].tolist()

    alone = swath.run(pixels[0], model="bright-targets", **TILES)
    assert alone.features.crs is None
    assert alone.features.geometry.bounds.values.tolist() == alone.features[BOX].values.tolist()
    assert alone.ledger.crs is None
    assert alone.ledger.total_bounds.tolist() == [0, 0, 900, 700]
    assert alone.plot() is not None


def test_polygons_have_their_place_on_the_earth() -> None:
    triangle = shapely.Polygon([(10, 10), (50, 10), (10, 50)])
    result = swath.run(
        np.zeros((1, 64, 64), np.float32),
        model=lambda _: [{"polygons": [triangle], "scores": [0.5], "classes": ["roof"]}],
        transform=rasterio.transform.from_origin(4, 52, 0.001, 0.001),
        crs="EPSG:4326",
        progress=False,
    )
    (feature,) = result.features.itertuples()
    assert feature.geometry.bounds == pytest.approx((4.01, 51.95, 4.05, 51.99))
    assert result.features_in_pixels.geometry[0].equals(triangle)
    assert result.features["class"].tolist() == ["roof"]


def test_a_job_that_fails_raises_what_the_function_raised(scene: Path, temporary: Path) -> None:
    def broken(tiles: NDArray[Any]) -> list[Any]:
        raise KeyError("weights")

    with pytest.raises(swath.SwathError, match="broken: KeyError: 'weights'") as caught:
        swath.run(scene, model=broken, **TILES)
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # process pools
    assert caught.value.summary.status is JobStatus.FAILED  # type: ignore[attr-defined]
    del caught
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_result_of_another_process_says_what_it_needs(scene: Path, temporary: Path) -> None:
    found = []
    for out in (None, temporary / "out"):
        result = swath.run(scene, model="bright-targets", out=out, **TILES)
        found.append(pickle.loads(pickle.dumps(result)))
        del result
        gc.collect()
    with pytest.raises(swath.SwathError, match=r"is gone\. .* give out, or use the tables"):
        _ = found[0].features
    assert len(found[1].features)


def test_a_job_that_is_partial_warns_and_has_the_rest(scene: Path) -> None:
    def half(tiles: NDArray[Any]) -> list[Any]:
        if not (tiles[0] == 0).any():
            raise ValueError("too bright")
        return [[[1, 1, tiles.shape[-1] - 1, 9]] for _ in tiles]

    with pytest.warns(UserWarning, match="PARTIAL: .*half: ValueError: too bright") as caught:
        result = swath.run(scene, model=half, batch_size=1, **TILES)
    assert caught[0].filename == __file__
    assert {"inferred", "failed"} <= set(result.ledger["state"])
    assert len(result.features)
    assert len(result.plot().patches) == (result.ledger["state"] == "failed").sum()


def test_threads_run_jobs_beside_each_other(scene: Path, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=60)

    def waiting(tiles: NDArray[Any]) -> list[Any]:
        together.wait()  # only if both are running
        return bright_boxes(tiles)

    def run(number: int) -> list[tuple[Any, ...]]:
        out = tmp_path / str(number)
        return table(swath.run(scene, model=waiting, batch_size=19, out=out, **TILES))

    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(run, range(2))
    assert one == other
    assert len(one) == 24


def test_it_runs_inside_an_event_loop(scene: Path) -> None:
    async def cell() -> swath.Result:
        return swath.run(scene, model="bright-targets", **TILES)

    assert asyncio.run(cell()).summary.features == 24


def test_a_function_may_run_another_job(scene: Path) -> None:
    def nested(tiles: NDArray[Any]) -> list[Any]:
        return [
            {"polygons": swath.run(tile, model=bright_boxes, progress=False).features.geometry}
            for tile in tiles
        ]

    result = swath.run(scene, model=nested, **TILES)
    assert len(result.features) == 24


def test_the_plan_counts_tiles(scene: Path) -> None:
    estimate = swath.plan(scene, tile_size=256, overlap=64)
    assert sum(estimate.tiles.values()) == 20
    assert swath.plan(np.zeros((4, 300, 300)), tile_size=200, overlap=50).tiles["inferred"] == 4


def test_without_geopandas_the_error_says_what_to_install(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = swath.run(scene, model="bright-targets", **TILES)
    for name in ("geopandas", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    for read in (lambda: result.features, lambda: result.ledger, result.plot):
        with pytest.raises(swath.SwathError, match=r"pip install 'swath\[python\]'"):
            read()
    assert result.save(tmp_path / "saved")["parquet"].is_file()
    assert result.preview().startswith(b"\x89PNG")


INTERRUPTED = """
import sys, time, swath

def slow(tiles):
    print("called", flush=True)
    time.sleep(float(sys.argv[2]))
    return [[] for _ in tiles]

try:
    swath.run(sys.argv[1], model=slow, tile_size=16, overlap=0, batch_size=1, region_size=100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("seconds", ["0.2", "600"])
def test_an_interrupted_run_stops_and_leaves_nothing(
    scene: Path, temporary: Path, seconds: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, scene, seconds], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "called\n"
        process.send_signal(signal.SIGINT)
        try:
            printed, _ = process.communicate(timeout=120)
        finally:
            process.kill()
    assert printed.endswith("interrupted\n")
    assert process.returncode == 0
    assert list(temporary.iterdir()) == []


PROGRESS = """
import sys, swath
result = swath.run(sys.argv[1], model="bright-targets", tile_size=256, progress=sys.argv[2] == "1")
"""


@pytest.mark.parametrize("shown", ["0", "1"])
def test_progress_is_shown_unless_silenced_and_the_end_leaves_nothing(
    scene: Path, temporary: Path, shown: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS, scene, shown], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert ("tiles" in done.stderr) == (shown == "1")
    assert list(temporary.iterdir()) == []
