"""Integers of any size stay what a model answered, from its answer to the published files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer import Answer, read_answer
from tasks.inference.callable.answers import read_batch
from tasks.inference.endpoint import JsonText
from tasks.merge.algorithms.tables import apply_algorithm
from tasks.merge.shapes import Shapes
from tasks.publish import publish
from tasks.request import FileOutput
from tasks.results import exact_json
from tasks.results.detections import boxes
from tests.examples import examples
from tests.publications import results

TILE = Tile(1, Window(0, 0, 64, 64))
LONG = 2**64 + 1
HUGE = 10**400 + 1  # that no float holds

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
integers = st.integers() | st.integers(-(2**70), 2**70) | st.sampled_from([-(2**63) - 1, HUGE])
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def body(**properties: Any) -> bytes:
    """The text of an answer with one feature."""
    own = {"imageBBox": [1, 2, 30, 40], "featureClasses": [{"iri": "ship", "score": 0.5}]}
    feature = {"type": "Feature", "geometry": None, "properties": own | properties}
    return json.dumps({"type": "FeatureCollection", "features": [feature]}).encode()


def answer(text: bytes) -> Answer:
    return read_answer(JsonText("http://model", text), TILE)


def published(folder: Path, table: pa.Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """The properties of the one feature in GeoJSON, and in GeoParquet."""
    found = replace(results(0), read_detections=lambda: [table])
    uris = publish([FileOutput(type="File", path=str(folder))], found, "x", roots=[folder]).uris
    (feature,) = json.loads(Path(uris["geojson"]).read_text())["features"]
    (text,) = pq.read_table(uris["parquet"], columns=["properties"])["properties"].to_pylist()
    return feature["properties"], json.loads(text)


@examples(0.5)
@given(st.dictionaries(names.map("_{}".format), values, max_size=4))
@example({"_": LONG, "_deep": [{"a": [HUGE, -(2**63) - 1]}], "_float": 1e300})
def test_properties_are_published_as_the_model_answered_them(own: dict[str, Any]) -> None:
    detections = answer(body(**own)).detections
    with TemporaryDirectory() as folder:
        geojson, parquet = published(Path(folder), detections)
    # texts, as 1 equals 1.0
    assert repr({name: geojson[name] for name in own}) == repr(own)
    assert repr(parquet) == repr(own)


@given(st.lists(values))
def test_json_of_any_integers_is_read_and_written(value: list[Any]) -> None:
    text = exact_json.dumps(value)
    assert repr(json.loads(text)) == repr(value)
    assert repr(exact_json.loads(text)) == repr(value)
    assert repr(exact_json.loads(json.dumps(value))) == repr(value)


@given(st.lists(st.floats() | st.integers(-(2**63), 2**64 - 1) | names))
def test_json_without_long_integers_is_that_of_orjson(value: list[Any]) -> None:
    text = orjson.dumps(value)
    assert exact_json.dumps(value) == text
    assert repr(exact_json.loads(text)) == repr(orjson.loads(text))


def test_members_of_a_class_are_exact() -> None:
    classes = [{"iri": "ship", "score": 0.5, "track": LONG}]
    detections = answer(body(featureClasses=classes)).detections
    shapes, labels = Shapes.boxes(boxes(detections)), np.zeros(1, np.int64)
    softened = apply_algorithm(detections, shapes, labels, "SOFT_NMS", iou_threshold=0.5)
    with TemporaryDirectory() as folder:
        geojson, _ = published(Path(folder), softened)
    assert geojson["featureClasses"] == [classes[0] | {"rawScore": 0.5}]


def test_a_function_may_return_long_integers() -> None:
    collection = json.loads(body(track=LONG, tracks=(LONG, 1e20)))
    (given_back,) = read_batch([collection], 1, None)
    detections = read_answer(given_back, TILE).detections
    assert detections is not None
    (text,) = detections["properties"].to_pylist()
    assert json.loads(text)["track"] == LONG
    assert repr(json.loads(text)["tracks"]) == repr([LONG, 1e20])


@pytest.mark.parametrize(
    "value", [10**4301, {LONG: LONG}, [LONG, object()]], ids=["digits", "name", "object"]
)
def test_a_function_that_returns_no_json_is_told_so(value: object) -> None:
    collection = json.loads(body())
    collection["features"][0]["properties"]["track"] = value
    with pytest.raises(AnswerError, match="its answer for a tile is no JSON: "):
        read_batch([collection], 1, None)


def test_a_function_that_returns_a_circle_is_told_so() -> None:
    circle: list[object] = [LONG]
    circle.append(circle)
    with pytest.raises(AnswerError, match="its answer for a tile is no JSON: "):
        read_batch([json.loads(body()) | {"track": circle}], 1, None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ('["a": 12345678901234567890}', "Expecting"),
        (f"[{LONG}, {'[' * 10_000}{']' * 10_000}]", "nested too deep"),
        (f"[{LONG}, 1{'0' * 4300}]", "4300 digits"),
    ],
    ids=["malformed", "deep", "digits"],
)
def test_an_answer_that_cannot_be_read_exactly_fails_its_tile(value: str, reason: str) -> None:
    text = body(track=0).replace(b'"track": 0', f'"track": {value}'.encode())
    with pytest.raises(AnswerError, match=rf"http://model: The answer is not JSON \(.*{reason}"):
        answer(text)


@pytest.mark.parametrize("broken", ["NaN", '"\\ud800"', "[" * 40 + "]" * 40])
def test_a_feature_that_cannot_be_published_is_rejected_beside_a_long_integer(broken: str) -> None:
    text = body(track=LONG, broken=0).replace(b'"broken": 0', f'"broken": {broken}'.encode())
    found = answer(text)
    assert (found.rejected, found.detections) == (1, None)
