"""The documentation of models is correct: examples run, tables match the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from prefect import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import State
from pydantic.fields import FieldInfo
from rasterio.transform import from_origin
from rasterio.windows import Window

from flows.endpoint_limit import limit_name
from flows.image import image
from tasks.aws.clients import client
from tasks.grid.tiles import Tile
from tasks.inference.answer import parse, read_answer
from tasks.inference.answer.whole_tile import WholeTile
from tasks.inference.builtin import create_model
from tasks.inference.description import load_description
from tasks.inference.description.detectors.detector import Detector
from tasks.inference.description.detectors.detr import Detr
from tasks.inference.description.detectors.instances import MaskRcnn, YoloV8Masks
from tasks.inference.description.detectors.postprocessed import Torchvision
from tasks.inference.description.detectors.yolov8 import YoloV8, YoloV8Obb
from tasks.inference.description.detectors.yolox import Yolox
from tasks.inference.http import headers
from tasks.inference.sagemaker import parameters as sagemaker
from tasks.request import EndpointType, Request, TileOutput
from tasks.settings import Settings, settings
from tests.onnx_models import COCO, PLANE_BOXES, PLANES, YOLOX, answering, of_ultralytics
from tests.pages import PAGES, ROOT, blocks, read, rows
from tests.sagemaker_runtime import Hosted
from tests.sagemaker_runtime import sagemaker as sagemaker_server

MODELS = read("models")
HOW = read("how-it-works")

DETECTORS: dict[str, type[Detector]] = {
    "yolox": Yolox,
    "yolov8": YoloV8,
    "yolov8-obb": YoloV8Obb,
    "yolov8-seg": YoloV8Masks,
    "detr": Detr,
    "torchvision": Torchvision,
    "mask-rcnn": MaskRcnn,
}
SHIPS = [[60, 40, 80, 48], [212, 100, 232, 108], [330, 300, 350, 308]]
"""Boxes in pixels of the scene; the second one is whole in two tiles."""


def json_with(name: str) -> list[dict[str, Any]]:
    """The JSON objects of the page that have a field."""
    return [found for block in blocks(MODELS, "json") if name in (found := json.loads(block))]


def _type(fields: dict[str, Any]) -> str:
    return str(fields["imageProcessor"].get("type", EndpointType.SM_ENDPOINT))


def request(**fields: Any) -> Request:
    """A request with the part that a page shows."""
    message = {
        "jobId": "page",
        "imageUrls": ["s3://images/scene.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "page"}],
    }
    return Request.parse(json.dumps(message | fields))


def paint(path: Path) -> Path:
    pixels = np.full((3, 448, 448), 30, np.uint8)
    for x_min, y_min, x_max, y_max in SHIPS:
        pixels[:, y_min:y_max, x_min:x_max] = 240
    profile = {"driver": "GTiff", "width": 448, "height": 448, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_400_000, 0.5, 0.5)}
    with rasterio.open(path, "w", **profile, **place) as sink:
        sink.write(pixels)
    return path


def run(scene: Path, out: Path, **fields: Any) -> State[Any]:
    """The final state of an image's run."""
    places = {"imageUrls": [str(scene)], "outputs": [{"type": "File", "path": str(out)}]}
    return image(request(**places, **fields), return_state=True)


def properties(out: Path) -> list[dict[str, Any]]:
    """The properties of the published features."""
    (published,) = out.glob("*.geojson")
    return [each["properties"] for each in json.loads(published.read_text())["features"]]


def boxes(out: Path) -> list[list[float]]:
    """The published boxes in pixels of the image, from top to bottom."""
    found = (each["imageBBox"] for each in properties(out))
    return sorted(found, key=lambda box: box[1])


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the page's model, served by the page's command in a separate process."""
    (code,) = [block for block in blocks(MODELS, "python") if "FastAPI(" in block]
    (command,) = [block for block in blocks(MODELS, "sh") if block.startswith("uvicorn ")]
    (folder / "model.py").write_text(code)
    words = shlex.split(command.replace("--port 8080", "--port 0"))
    with subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        slow = Timer(60, process.kill)
        slow.start()
        try:
            running = (re.search(r"running on (http://[\d.:]+)", line) for line in process.stderr)
            found = next(filter(None, running), None)
            slow.cancel()
            assert found, "the model of the page does not start"
            yield found[1]
        finally:
            slow.cancel()
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.usefixtures("prefect_api")
def test_the_model_of_the_page_finds_the_bright_objects(allowed: Path) -> None:
    with served(allowed) as address:
        end = run(
            paint(allowed / "scene.tif"),
            allowed / "out",
            imageProcessor={"name": f"{address}/invocations", "type": "HTTP_ENDPOINT"},
            imageProcessorTileSize=256,
            imageProcessorTileOverlap=64,
            imageProcessorTileFormat="GTIFF",
        )
    assert end.name == "Completed", end.message
    assert boxes(allowed / "out") == SHIPS
    ground = geopandas.read_parquet(allowed / "out" / "scene.tif.parquet").to_crs("EPSG:32633")
    x_min, y_min, _, _ = SHIPS[0]
    west, _, _, north = ground.geometry.iloc[0].bounds
    assert (west, north) == pytest.approx((500_000 + x_min / 2, 5_400_000 - y_min / 2), abs=1e-3)


def pasted(heading: str, folder: Path, **changed: str) -> list[subprocess.CompletedProcess[str]]:
    """Run the `swath` commands of a section of the page in a folder, as a reader pastes them.

    Args:
        heading: The heading of the section.
        folder: The working directory.
        changed: What else to write in a command, in place of what the page says.
    """
    section = MODELS.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for block in blocks(section, "sh") for line in block.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if line.startswith("swath ")]
    assert found
    return [
        subprocess.run(
            [sys.executable, "-m", "deployments.cli", *(changed.get(w, w) for w in words[1:])],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        for words in found
    ]


def test_a_yolo_runs_as_it_is_exported(tmp_path: Path) -> None:
    """A model of the form that Ultralytics exports; another, whose classes are named."""
    paint(tmp_path / "scene.tif")
    output = np.zeros((1, 6, 84), np.float32)
    output[0, :, 0] = [32, 32, 20, 10, 0.1, 0.9]
    answering(tmp_path / "best.onnx", {"output0": output}, metadata=of_ultralytics())
    answering(tmp_path / "ships.onnx", {"output": output})
    (tmp_path / "names.txt").write_text("ship\nbarge\n")
    described, best, written, drafted, ships = pasted("I have a YOLO", tmp_path)
    assert "No description is needed" in described.stderr
    assert best.returncode == 0, best.stderr
    found = properties(tmp_path / "results")
    assert {each["featureClasses"][0]["iri"] for each in found} == {"barge"}
    # 448 pixels in tiles of 64, as exported, with the default overlap of 50: 29 in each direction
    assert len(found) == 29 * 29
    assert "best.json is written" in written.stderr
    assert "Nothing is left to fill in" in drafted.stderr
    assert ships.returncode == 0, ships.stderr


def test_a_sagemaker_endpoint_runs_by_its_name(
    aws: str, models: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="images")
    s3.upload_file(str(paint(tmp_path / "harbour.tif")), "images", "harbour.tif")
    with sagemaker_server(os.environ["AWS_SECRET_ACCESS_KEY"]) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        variant = {"VariantName": "only", "CurrentWeight": 1.0, "CurrentInstanceCount": 1}
        told = {"ProductionVariants": [variant]}
        server.endpoints["ships"] = Hosted(f"{models}/centerpoint", told)
        (done,) = pasted("I have SageMaker", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(boxes(tmp_path / "results")) == 1


def test_a_server_runs_by_its_url(allowed: Path) -> None:
    paint(allowed / "scene.tif")
    with served(allowed) as address:
        url = "http://127.0.0.1:8080/invocations"
        run_there, _ = pasted("I have a server", allowed, **{url: f"{address}/invocations"})
    assert run_there.returncode == 0, run_there.stderr
    assert boxes(allowed / "results") == SHIPS


@pytest.mark.usefixtures("prefect_api")
def test_the_ledger_has_the_failed_calls_that_the_page_prints(
    allowed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWATH_ENDPOINT_PATIENCE", "0.1")
    settings.cache_clear()
    end = run(
        paint(allowed / "scene.tif"),
        allowed / "out",
        imageProcessor={"name": "http://127.0.0.1:9/nobody", "type": "HTTP_ENDPOINT"},
    )
    assert end.is_failed()
    (code,) = [block for block in blocks(MODELS, "python") if "coverage.parquet" in block]
    monkeypatch.chdir(allowed / "out")
    capsys.readouterr()
    exec(code, {})
    (line,) = capsys.readouterr().out.splitlines()
    found = re.match(r"0 failed (\d+) \['", line)
    assert found
    assert int(found[1]) > 1
    assert line.count("http://127.0.0.1:9/nobody: ") == int(found[1]) + 1  # calls, and the reason


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.skipif(not YOLOX.exists(), reason=f"there is no {YOLOX}")
def test_the_description_of_the_page_makes_yolox_nano_find_both_aircraft(allowed: Path) -> None:
    (described,) = json_with("swath:detector")
    (fields,) = [found for found in json_with("imageProcessor") if _type(found) == "ONNX"]
    (allowed / "yolox_nano.onnx").write_bytes(YOLOX.read_bytes())
    (allowed / "yolox_nano.json").write_text(json.dumps(described))
    model = {"name": str(allowed / "yolox_nano.onnx"), "type": "ONNX"}
    fields = fields | {"imageProcessor": model, "imageProcessorParameters": {}}
    end = run(PLANES, allowed / "out", **fields)
    assert end.name == "Completed", end.message
    best = np.array(boxes(allowed / "out"))
    for plane in PLANE_BOXES:
        assert np.abs(best - plane).max(axis=1).min() < 15
    classes = [each["featureClasses"][0]["iri"] for each in properties(allowed / "out")]
    assert set(classes) == {"airplane"}


def test_the_commands_of_the_page_change_an_endpoints_limit(prefect_api: str) -> None:
    def call(words: list[str]) -> None:
        subprocess.run(
            [sys.executable, "-m", *words],
            check=True,
            env=os.environ | {"PREFECT_API_URL": prefect_api},
            stdout=subprocess.PIPE,
        )

    name = limit_name(request(imageProcessor={"name": "ships"}))
    (commands,) = [block for block in blocks(MODELS, "sh") if "prefect gcl" in block]
    shown, update = [shlex.split(line) for line in commands.splitlines()]
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(
            GlobalConcurrencyLimitCreate(name=name, limit=64, slot_decay_per_second=0.0)
        )
        try:
            call(shown)
            call(update)
            assert client.read_global_concurrency_limit_by_name(name).limit == 8
            call([*update[:-1], "0"])
            assert client.read_global_concurrency_limit_by_name(name).limit == 0
        finally:
            client.delete_global_concurrency_limit_by_name(name)


@pytest.mark.parametrize("fields", json_with("imageProcessor"), ids=_type)
def test_each_request_of_the_page_is_valid_with_its_parameters(fields: dict[str, Any]) -> None:
    parsed = request(**fields)
    given = parsed.image_processor_parameters
    assert given
    match parsed.image_processor.type:
        case EndpointType.SM_ENDPOINT:
            slow = parsed.image_processor.name.startswith("slow")
            operation = sagemaker.ASYNCHRONOUS if slow else sagemaker.REAL_TIME
            assert sagemaker.arguments(operation, given).keys() == given.keys()
        case EndpointType.HTTP_ENDPOINT:
            assert len(headers(given)) == len(given)
        case EndpointType.BUILTIN:
            create_model(parsed.image_processor.name, given)
        case EndpointType.ONNX | EndpointType.OIP_ENDPOINT:
            assert "description" in given


def test_the_page_has_a_request_and_a_row_for_every_kind_of_endpoint() -> None:
    shown = [_type(found) for found in json_with("imageProcessor")]
    listed = [cells[0].split("`")[1] for cells in rows(MODELS, "`type`")]
    assert set(shown) == set(listed) == set(EndpointType)


def test_every_parameter_of_sagemaker_is_named() -> None:
    for operation in (sagemaker.REAL_TIME, sagemaker.ASYNCHRONOUS):
        for name in sagemaker.parameters_of(operation):
            assert f"`{name}`" in MODELS


def test_no_feature_of_the_page_s_answer_is_rejected() -> None:
    shown, whole = json_with("features")
    tile = Tile(3, Window(1000, 2000, 1024, 1024))
    answer = read_answer(parse(json.dumps(shown).encode()), tile)
    assert (answer.rejected, answer.first_rejected) == (0, "")
    assert answer.detections is not None
    (row,) = answer.detections.to_pylist()
    (feature,) = shown["features"]
    x_min, y_min, _, _ = feature["properties"]["imageBBox"]
    assert (row["x_min"], row["y_min"]) == (1000 + x_min, 2000 + y_min)
    assert (row["class_name"], row["score"]) == ("ship", 0.91)
    assert json.loads(row["properties"])["heading"] == feature["properties"]["heading"]
    answer = read_answer(WholeTile(whole, TileOutput()), tile)
    assert (answer.rejected, answer.first_rejected) == (0, "")


def test_the_description_of_the_page_is_read_with_all_classes(tmp_path: Path) -> None:
    (described,) = json_with("swath:detector")
    path = tmp_path / "model.json"
    path.write_text(json.dumps(described))
    description = load_description(str(path), [tmp_path], None)
    assert [one.name for one in description.properties.classes] == COCO
    assert description.outputs == ("output",)


def test_the_table_of_the_detector_names_every_field_with_its_families_and_default() -> None:
    table = {cells[0].strip("`"): cells[1:3] for cells in rows(MODELS, "`swath:detector`")}
    fields = {
        family: {field.alias or name: field for name, field in kind.model_fields.items()}
        for family, kind in DETECTORS.items()
    }
    assert table.keys() == set().union(*fields.values())
    for name, (families, default) in table.items():
        having = [family for family in fields if name in fields[family]]
        listed = [*DETECTORS] if families == "all" else re.findall(r"`([\w-]+)`", families)
        assert having == listed, name
        assert default.strip("`").startswith(_shown(fields[having[0]][name])), name


def test_the_table_of_settings_is_that_of_the_settings() -> None:
    table = {name.strip("`"): (default, told) for name, default, told in rows(HOW, "variable")}
    fields = {f"SWATH_{name.upper()}": field for name, field in Settings.model_fields.items()}
    assert list(table) == list(fields)
    for name, (default, told) in table.items():
        assert told == fields[name].description
        if fields[name].default_factory is None:
            value = fields[name].default
            assert default == ("–" if value is None else str(value)), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_links_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`SWATH_(\w+)`", text))
    assert named <= {name.upper() for name in Settings.model_fields}
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", text):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in _anchors(target.read_text(encoding="utf-8")), anchor


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _shown(field: FieldInfo) -> str:
    """How a table shows a field's default."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value)
