"""COCO JSON and the CSV of centres have each feature in pixels, for the tools that read them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
import shapely
from sahi.utils.coco import Coco

from tests.gis_features import NAMES, odd, outline, results_of, row, write
from tests.publications import DEGREES


def coco(path: Path, rows: list[dict[str, Any]], georeferenced: bool = True) -> dict[str, Any]:
    results = results_of(rows, DEGREES if georeferenced else None)
    read: dict[str, Any] = json.loads(write(path, "coco", results).read_text())
    return read


@pytest.mark.parametrize("georeferenced", [True, False])
def test_an_annotation_has_its_outline_box_and_area_in_pixels(
    tmp_path: Path, georeferenced: bool
) -> None:
    hole = shapely.box(20, 10, 40, 50).difference(shapely.box(25, 20, 30, 30))
    parts = shapely.union_all([shapely.box(0, 0, 2, 2), shapely.box(5, 5, 9, 9)])
    rows = [row(0), row(1, **outline(hole)), row(2, **outline(parts))]
    found = coco(tmp_path / "x", rows, georeferenced)
    assert found["images"] == [
        {
            "id": 1, "file_name": "x.tif", "width": 200, "height": 100,
            "date_captured": "2026-01-01T00:00:00Z",
        }
    ]  # fmt: skip
    box, ring, two = found["annotations"]
    assert [box["bbox"], ring["bbox"], two["bbox"]] == [
        [0, 0, 10, 10], [20, 10, 20, 40], [0, 0, 9, 9]
    ]  # fmt: skip
    assert [each["area"] for each in (box, ring, two)] == [100, 800 - 50, 4 + 16]
    assert [len(each["segmentation"]) for each in (box, ring, two)] == [1, 1, 2]
    for each, area in ((box, 100), (ring, 800), (two, 20)):
        polygons = [np.reshape(flat, (-1, 2)) for flat in each["segmentation"]]
        assert sum(shapely.Polygon(points).area for points in polygons) == area
        assert {len(points) for points in polygons} == {4}
    assert [each["id"] for each in found["annotations"]] == [1, 2, 3]
    assert {each["iscrowd"] for each in found["annotations"]} == {0}


def test_sahi_reads_it(tmp_path: Path) -> None:
    rows = [*odd(), row(9, **outline(shapely.Point(3, 4)))]
    path = write(tmp_path / "x.coco.json", "coco", results_of(rows))
    read = Coco.from_coco_dict_or_path(str(path))
    (image,) = read.images
    assert (image.width, image.height, len(image.annotations)) == (200, 100, 7)
    assert [each.category_name for each in image.annotations[:6]] == NAMES
    assert image.annotations[0].bbox == [0, 0, 10, 10]


def test_without_features_it_has_an_image_and_no_annotation(tmp_path: Path) -> None:
    found = coco(tmp_path / "x", [])
    assert (len(found["images"]), found["annotations"], found["categories"]) == (1, [], [])


@pytest.mark.parametrize("georeferenced", [True, False])
def test_a_line_has_the_centre_of_a_feature(tmp_path: Path, georeferenced: bool) -> None:
    results = results_of(odd(), DEGREES if georeferenced else None)
    path = write(tmp_path / "x.csv", "csv", results)
    frame = pd.read_csv(path, keep_default_na=False, na_values={"longitude": "", "latitude": ""})
    assert list(frame.columns) == [
        "id", "class", "score", "longitude", "latitude", "x", "y",
        "x_min", "y_min", "x_max", "y_max",
    ]  # fmt: skip
    assert frame["class"].tolist() == NAMES
    np.testing.assert_array_equal(frame["score"], np.arange(1, 7) / 7)
    assert frame.loc[1, ["x", "y", "x_min", "y_min", "x_max", "y_max"]].tolist() == [
        17, 5, 12, 0, 22, 10
    ]  # fmt: skip
    if georeferenced:
        assert frame.loc[1, ["longitude", "latitude"]].tolist() == [0.017, 0.005]
    else:
        assert frame[["longitude", "latitude"]].isna().all(axis=None)


def test_a_spreadsheet_takes_no_class_for_a_formula(tmp_path: Path) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]
    rows = [row(number, class_name=name) for number, name in enumerate([*formulas, "a=1"])]
    path = write(tmp_path / "x.csv", "csv", results_of(rows))
    with path.open(encoding="utf-8", newline="") as file:
        found = [line["class"] for line in csv.DictReader(file)]
    assert found == [*(f"'{name}" for name in formulas), "a=1"]


def test_without_features_a_csv_has_its_heading(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "csv", results_of([]))
    assert path.read_text().count("\n") == 1
