"""`swath run` and `swath plan` over several images, in this process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import geopandas
import pytest
from PIL import Image
from shapely import wkt

from deployments.cli import app
from tests.job_scene import corner, features, paint
from tests.pages import read

TILES = ["--tile-size", "256", "--overlap", "64"]


@pytest.fixture
def june(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two images, one of them damaged, and a text."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    folder = tmp_path / "june"
    folder.mkdir()
    paint(folder / "scene.tif")
    (folder / "damaged.tif").write_bytes(b"II*\0")
    (folder / "notes.txt").touch()
    return folder


def run(*words: object, out: Path, model: str = "bright-targets") -> int:
    code: int = app(["run", *map(str, words), "--model", model, *TILES, "--out", str(out)])
    return code


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_image_has_a_line_and_the_worst_sets_the_exit_status(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(june, june / "scene.tif", "--json", out=out) == 1
    printed = capsys.readouterr()
    outcomes = {Path(each["image"]).name: each for each in objects(printed.out)}
    assert outcomes["scene.tif"]["status"] == "SUCCESS"
    assert outcomes["scene.tif"]["features"] > 10
    assert outcomes["damaged.tif"]["status"] == "FAILED"
    assert outcomes["damaged.tif"]["message"].startswith(f"{june}/damaged.tif")
    assert outcomes["damaged.tif"].keys() == outcomes["scene.tif"].keys()
    assert all(f"`{key}`" in read("command-line") for key in outcomes["scene.tif"])
    assert len({each["job_id"] for each in outcomes.values()}) == 1
    assert f"1 file is skipped, not being an image by name: {june}/notes.txt" in printed.err
    assert f"swath: {june}/damaged.tif" in printed.err
    (june / "damaged.tif").unlink()
    assert run(june, out=out) == 0


def test_images_of_one_name_overwrite_neither_results_nor_previews(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "july").mkdir()
    shutil.copy(june / "scene.tif", tmp_path / "july" / "scene.tif")
    pictures, out = tmp_path / "pictures" / "p.png", tmp_path / "out"
    pattern = f"{tmp_path}/ju*/scene.tif"
    assert run(pattern, "--preview", pictures, out=out) == 0
    found = [features(out, name) for name in ("scene.tif", "scene-2.tif")]
    assert len(found[0]) == len(found[1]) > 10
    printed = capsys.readouterr().out.splitlines()
    for name in ("p-scene.tif.png", "p-scene-2.tif.png"):
        assert str(pictures.with_name(name)) in printed
        with Image.open(pictures.with_name(name)) as picture:
            assert picture.format == "PNG"
            assert picture.convert("RGB").getcolors(maxcolors=10) is None  # it has more


def test_a_preview_that_fails_does_not_fail_the_results(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.png").mkdir()
    assert run(june / "scene.tif", "--preview", tmp_path / "p.png", out=tmp_path / "out") == 0
    assert f"swath: --preview: {tmp_path}/p.png is not written: " in capsys.readouterr().err


def test_a_region_of_interest_in_a_file_is_that_in_wkt(june: Path, tmp_path: Path) -> None:
    scene, text = june / "scene.tif", corner(june / "scene.tif")
    frame = geopandas.GeoDataFrame(geometry=[wkt.loads(text)], crs="EPSG:4326")
    frame.to_crs("EPSG:32633").to_file(tmp_path / "roi.gpkg")
    frame.to_file(tmp_path / "roi.geojson")
    found = []
    for roi in (text, tmp_path / "roi.gpkg", tmp_path / "roi.geojson"):
        assert run(scene, "--roi", roi, out=tmp_path / "out") == 0
        found.append(
            [each["properties"]["imageBBox"] for each in features(tmp_path / "out", "scene.tif")]
        )
    assert 0 < len(found[0]) < 15
    assert found[1] == found[0]
    assert found[2] == found[0]


def test_detections_are_filtered_and_merged_as_the_options_say(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def count(*words: object) -> int:
        assert run(june / "scene.tif", *words, "--json", out=tmp_path, model="flood") == 0
        printed = capsys.readouterr()
        found: int = objects(printed.out)[-1]["features"]
        filtered = "--classes" in words or "--conf" in words[:3]
        assert ("detections filtered out by class or score" in printed.err) == filtered
        return found

    everything = count("--merge", "NONE")
    assert everything > 100
    assert 0 < count("--conf", "sample_object=0.5", "--merge", "NONE") < everything
    assert count("--merge", "NONE", "--iou", "0.5", "--conf", "0.5,sample_object=0") == everything
    assert count("--classes", "ship") == 0
    assert count("--iou", "0.01") < count("--iou", "0.9")


def test_an_error_of_the_run_names_the_option(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Exception, match="--model must be one of bright-targets") as caught:
        run(june / "scene.tif", "--json", out=tmp_path / "out", model="none")
    assert "imageProcessor" not in str(caught.value)
    assert objects(capsys.readouterr().out)[-1]["status"] == "FAILED"
    with pytest.raises(Exception, match=r"--roi: it spans 0\.000000"):
        run(june / "scene.tif", "--roi", "POLYGON ((0 0, 1 0, 1 1, 0 0))", out=tmp_path / "out")


@pytest.mark.parametrize("option", ["--tile-size", "--overlap", "--region-size"])
def test_a_fraction_of_pixels_is_not_rounded(
    option: str, june: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(["plan", str(june / "scene.tif"), option, "200.2"])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert option in printed.out + printed.err
    assert "'200.2' is not a whole number" in printed.out + printed.err


def test_a_plan_of_several_images_is_one_for_each(
    june: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(june / "scene.tif", june / "damaged.tif")
    roi = tmp_path / "roi.geojson"
    frame = geopandas.GeoDataFrame(geometry=[wkt.loads(corner(june / "scene.tif"))], crs=4326)
    frame.to_file(roi)
    assert app(["plan", str(june), *TILES, "--roi", str(roi), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(each["image"]).name for each in found] == ["damaged.tif", "scene.tif"]
    assert all(each["tiles"]["outside"] > 10 for each in found)
    assert app(["plan", str(june / "scene.tif"), *TILES]) == 0
    assert capsys.readouterr().out.startswith(f"image         {june}/scene.tif\n")
