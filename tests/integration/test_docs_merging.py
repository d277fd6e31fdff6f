"""What the page says of merging holds: its examples parse, its tables are the code's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
import shapely
from pydantic.fields import FieldInfo

from tasks.grid.tiles import Grid
from tasks.merge import Settled, settle
from tasks.merge.cut_objects import edges, largest_view
from tasks.merge.shapes import BUFFER
from tasks.request import Algorithm, AlgorithmType, Request
from tasks.results.detections import SCHEMA
from tests.pages import ROOT, blocks, read, rows

PAGE = read("merging")
PROSE = " ".join(PAGE.split())
ONE = Grid(400, 400, 400, 0)
TWO = Grid(180, 100, 100, 20)
"""Tile 0 covers x from 0 to 100, tile 1 from 80 to 180."""


def examples(name: str) -> list[dict[str, Any]]:
    """The JSON objects of the page that have a field."""
    return [found for block in blocks(PAGE, "json") if name in (found := json.loads(block))]


FIELDS = {row[0].strip("`"): row for row in rows(PAGE, "field of `algorithm`")}


def parse(fields: dict[str, Any]) -> Request:
    """A request with the part that the page shows."""
    message = {
        "jobId": "page",
        "imageUrls": ["s3://images/scene.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "page"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
    }
    return Request.parse(json.dumps(message | fields))


def algorithm(**fields: Any) -> Algorithm:
    return parse({"postProcessing": [{"algorithm": fields}]}).algorithm


def text(value: object) -> str:
    """A field's value as the page writes it."""
    return f"`{value}`" if isinstance(value, str) else f"{json.dumps(value)}".removesuffix(".0")


def seen(*views: tuple[int, shapely.Geometry, float], names: tuple[str, ...] = ("ship",)) -> Any:
    """Detections: tile, surface, score."""
    classes = [{"iri": name, "score": 0.35} for name in names[1:]]
    found = [
        dict(zip(("x_min", "y_min", "x_max", "y_max"), shape.bounds, strict=True))
        | {"tile": tile, "ordinal": ordinal, "score": score, "class_name": names[0]}
        | {"geometry": shapely.to_wkb(shape)}
        | {
            "properties": json.dumps(
                {"featureClasses": [{"iri": names[0], "score": score}, *classes]}
            )
        }
        for ordinal, (tile, shape, score) in enumerate(views)
    ]
    return pa.Table.from_pylist(found, schema=SCHEMA)


def merged(table: pa.Table, grid: Grid, **fields: Any) -> Settled:
    return settle(table, algorithm(**fields), grid, np.ones(len(grid), np.int8))


def test_every_request_of_the_page_is_one() -> None:
    requests = [parse(fields).algorithm for fields in examples("postProcessing")]
    assert [(each.algorithm_type, each.iou_threshold) for each in requests] == [
        ("NMS", 0.5),
        ("DISSOLVE", 0.2),
    ]


def test_the_table_of_fields_has_all_that_there_are() -> None:
    assert FIELDS.keys() == {field.alias for field in Algorithm.model_fields.values()}
    chosen = {row[1].strip("`").partition("` ")[0] for row in rows(PAGE, "your model finds")}
    assert chosen == set(AlgorithmType)


@pytest.mark.parametrize(("name", "field"), Algorithm.model_fields.items())
def test_the_table_of_fields_gives_their_defaults(name: str, field: FieldInfo) -> None:
    first, _, others = FIELDS[str(field.alias)][1].partition("; ")
    exceptions: dict[str, str] = {}
    for other in filter(None, others.split("; ")):
        value, _, kind = other.partition(" for ")
        exceptions[kind] = value
    for each in AlgorithmType:
        expected = exceptions.get(f"`{each}`", first)
        fields = {} if name == "algorithm_type" else {"algorithmType": each}
        assert text(getattr(algorithm(**fields), name)) == expected


@pytest.mark.parametrize("alias", FIELDS)
def test_the_examples_of_the_table_are_accepted_and_no_defaults(alias: str) -> None:
    example = FIELDS[alias][2]
    value = example.strip("`") if example.startswith("`") else json.loads(example)
    assert algorithm(**{alias: value}) != algorithm()


def test_the_edge_rule_and_the_buffer_have_the_figures_of_the_page() -> None:
    assert f"(within {edges.TOLERANCE:g} px)" in PROSE
    assert edges.SLACK == 1 / 8
    assert f"less {edges.MARGIN:g} px and an eighth of it" in PROSE
    assert f"has an IoU above {largest_view.SHARED_IOU:g} with it within that area" in PROSE
    square = f"a point becomes a square of {2 * BUFFER:g} px"
    assert f"buffered by {BUFFER:g} px to each side; {square}" in PROSE


def test_a_view_that_an_edge_cuts_gives_way_whatever_its_score() -> None:
    whole, part = shapely.box(85, 40, 110, 50), shapely.box(92, 40, 100, 50)
    table = seen((0, part, 0.9), (1, whole, 0.5))
    assert merged(table, TWO).decided["score"].to_pylist() == [0.5]
    assert merged(table, TWO, edgeRule=False).decided["score"].to_pylist() == [0.9, 0.5]
    alone = settle(table.slice(0, 1), algorithm(), TWO, np.array([1, 0], np.int8))
    assert alone.decided["score"].to_pylist() == [0.9]


@pytest.mark.parametrize("kind", ["SOFT_NMS", "WBF"])
def test_a_new_score_stands_beside_the_models_as_the_page_shows(kind: str) -> None:
    ((better, other),) = [each["featureClasses"] for each in examples("featureClasses")]
    views = (shapely.box(0, 0, 40, 40), shapely.box(0, 0, 40, 28))
    table = seen((0, views[0], 0.95), (0, views[1], 0.9), names=(better["iri"], other["iri"]))
    found = merged(table, ONE, algorithmType=kind, iouThreshold=0.5, sigma=1).decided
    for score, properties in zip(
        *(found[c].to_pylist() for c in ("score", "properties")), strict=True
    ):
        first, second = orjson.loads(properties)["featureClasses"]
        assert first.keys() == better.keys()
        assert (first["score"], second) == (score, other)
        assert first["rawScore"] in {0.95, 0.9}


def test_what_edges_cut_of_a_surface_is_joined() -> None:
    table = seen((0, shapely.box(30, 20, 100, 60), 0.5), (1, shapely.box(80, 20, 170, 60), 0.4))
    (found,) = merged(table, TWO, algorithmType="DISSOLVE").decided.to_pylist()
    assert shapely.equals(shapely.from_wkb(found["geometry"]), shapely.box(30, 20, 170, 60))
    assert found["score"] == 0.4  # of the larger part


def test_the_commands_of_the_page_run() -> None:
    for command in "".join(blocks(PAGE, "sh")).splitlines():
        words = [str(Path(sys.executable).parent / "swath"), *shlex.split(command)[1:]]
        assert command.startswith("swath ")
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        assert all(f'"{field}"' in done.stdout for field in FIELDS)


def test_the_picture_of_the_page_is_small() -> None:
    (name,) = re.findall(r"!\[.*\]\((.*)\)", PAGE)
    assert (ROOT / "docs" / name).stat().st_size < 150_000
