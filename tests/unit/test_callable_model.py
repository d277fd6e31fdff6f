"""Models that are Python functions: the forms of their answers, their errors, and their end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError, PermanentError, RequestError, TransientError
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels
from tasks.inference.answer import read_answer
from tasks.inference.callable import CallableModel
from tasks.inference.callable.model import CallableEndpoint, Function
from tasks.request import Request
from tasks.results.coverage import TileState
from tests.infer_tiles import infer_tiles

BOX = [8.0, 4.0, 24.0, 12.0]
REQUEST = Request.model_validate(
    {
        "jobId": "function",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "function", "type": "BUILTIN"},
    }
)


class Tensor:
    """As much of a tensor on a GPU as is needed to read it: it is no array before `cpu()`."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values, np.float32)

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> NDArray[Any]:
        return self._values


def opened(function: Function, **options: Any) -> CallableEndpoint:
    return CallableModel(function, **options).open(REQUEST, None)  # type: ignore[arg-type]


def tiles(count: int, size: int = 32) -> list[TilePixels]:
    return [
        TilePixels(
            Tile(number, Window(number * size, 0, size, size)),
            np.full((3, size, size), number, np.uint8),
            None,
        )
        for number in range(count)
    ]


def found(answer: Any, **options: Any) -> list[dict[str, Any]]:
    """The detections of one tile at 100, 200 that is answered so."""
    with closing(opened(lambda _: [answer], **options)) as endpoint:
        (read,) = endpoint.ask([np.zeros((3, 32, 32), np.uint8)])
    table = read_answer(read, Tile(0, Window(100, 200, 32, 32))).detections
    rows: list[dict[str, Any]] = [] if table is None else table.to_pylist()
    return rows


def summaries(rows: list[dict[str, Any]]) -> list[tuple[list[float], float, str]]:
    sides = ("x_min", "y_min", "x_max", "y_max")
    return [([row[side] for side in sides], row["score"], row["class_name"]) for row in rows]


PLACED = [108.0, 204.0, 124.0, 212.0]
COLLECTION = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": None,
            "properties": {
                "imageBBox": np.array(BOX),
                "featureClasses": [{"iri": "ship", "score": np.float64(0.5)}],
            },
        }
    ],
}
TEXT = json.dumps(COLLECTION, default=np.ndarray.tolist)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (np.array([BOX]), (PLACED, 1.0, "object")),
        ([BOX], (PLACED, 1.0, "object")),
        ([[*BOX, 0.5]], (PLACED, 0.5, "object")),
        (Tensor([[*BOX, 0.5, 3]]), (PLACED, 0.5, "3")),
        ({"boxes": [BOX]}, (PLACED, 1.0, "object")),
        ({"boxes": Tensor([BOX]), "scores": Tensor([0.5]), "labels": [3]}, (PLACED, 0.5, "3")),
        ({"boxes": [BOX], "scores": [0.5], "classes": ["ship"]}, (PLACED, 0.5, "ship")),
        ([shapely.box(*BOX)], (PLACED, 1.0, "object")),
        (shapely.box(*np.array([BOX]).T), (PLACED, 1.0, "object")),
        (
            {"polygons": [shapely.box(*BOX)], "scores": [0.5], "classes": ["ship"]},
            (PLACED, 0.5, "ship"),
        ),
        (COLLECTION, (PLACED, 0.5, "ship")),
        (TEXT, (PLACED, 0.5, "ship")),
        (TEXT.encode(), (PLACED, 0.5, "ship")),
    ],
)
def test_an_answer_may_have_these_forms(
    answer: Any, expected: tuple[list[float], float, str]
) -> None:
    assert summaries(found(answer)) == [expected]


@pytest.mark.parametrize(
    "answer",
    [
        [],
        np.empty((0, 6)),
        np.empty((0, 4), np.float32),
        {"boxes": [], "scores": [], "classes": []},
        {"polygons": [], "scores": []},
        {"boxes": np.empty((0, 4)), "labels": Tensor([])},
        {"type": "FeatureCollection", "features": []},
    ],
)
def test_a_tile_may_be_without_a_detection(answer: Any) -> None:
    assert found(answer) == []


def test_polygons_keep_their_outline() -> None:
    triangle = shapely.Polygon([(2, 2), (20, 2), (2, 20)])
    (row,) = found([triangle])
    moved = shapely.from_wkb(row["geometry"])
    assert moved.equals(shapely.transform(triangle, lambda points: points + np.array([100, 200])))


@pytest.mark.parametrize("names", [["ship", "barge"], {0: "ship", 1: "barge"}, ("ship", "barge")])
def test_numbers_of_classes_have_names(names: Any) -> None:
    answer = [[*BOX, 0.5, 1], [*BOX, 0.25, 0]]
    assert [name for _, _, name in summaries(found(answer, class_names=names))] == ["barge", "ship"]
    assert [name for _, _, name in summaries(found([BOX], class_names=names))] == ["ship"]


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 1)), max_size=8))
def test_each_row_keeps_its_class_and_score(rows: list[tuple[int, float]]) -> None:
    names = [f"class {number}" for number in range(6)]
    answer = np.array([[*BOX, score, number] for number, score in rows]).reshape(-1, 6)
    read = [(name, score) for _, score, name in summaries(found(answer, class_names=names))]
    assert read == [(names[number], score) for number, score in rows]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, r"of type NoneType and shape \(\)"),
        (np.zeros((2, 3)), r"ndarray and shape \(2, 3\); return a list"),
        (np.zeros(6), r"shape \(6,\)"),
        ("not JSON", "not JSON"),
        ([[*BOX, 0.5, 0.5]], "whole numbers or names"),
        ([[*BOX, 0.5, np.nan]], "whole numbers or names"),
        ({"boxes": [BOX], "masks": []}, "'masks'.*give boxes or polygons"),
        ({"scores": [1]}, "give boxes or polygons"),
        ({"boxes": [BOX], "scores": [0.5, 0.5]}, r"1 detections and scores of shape \(2,\)"),
        ({"boxes": [BOX], "classes": [1, 2]}, r"1 detections and classes of shape \(2,\)"),
        ({"boxes": [BOX], "scores": ["high"]}, "scores of its answer for a tile are no numbers"),
        ({"type": "FeatureCollection", "features": [object()]}, "no JSON"),
    ],
)
def test_an_answer_in_another_form_fails_its_tile(answer: Any, reason: str) -> None:
    with pytest.raises(AnswerError, match=reason):
        found(answer)


def test_a_class_without_a_name_fails_its_tile() -> None:
    with pytest.raises(AnswerError, match="class 7, which class_names does not name"):
        found([[*BOX, 0.5, 7]], class_names=["ship"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.zeros((1, 6)), r"1 answers for a batch of 2 tiles; return a list with one answer"),
        ({"boxes": []}, "one dict for a batch of 2 tiles"),
        (None, "one NoneType for a batch of 2 tiles"),
    ],
)
def test_a_batch_needs_an_answer_for_each_tile(answer: Any, reason: str) -> None:
    with (
        closing(opened(lambda _: answer)) as endpoint,
        pytest.raises(AnswerError, match=reason),
    ):
        endpoint.ask([np.zeros((3, 32, 32))] * 2)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 2.5},
        {"batch_size": True},
        {"class_names": "ship"},
        {"class_names": [1]},
        {"class_names": 1},
        {"class_names": {"0": "ship"}},
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(options))):
        CallableModel(lambda _: [], **options)


def test_batches_are_full_but_the_last_and_in_the_pixel_type_of_the_image() -> None:
    shapes: list[tuple[int, ...]] = []

    def model(batch: NDArray[Any]) -> list[Any]:
        assert batch.dtype == np.uint8
        assert batch.flags.c_contiguous
        assert batch.flags.writeable
        shapes.append(batch.shape)
        return [[] for _ in batch]

    results = infer_tiles(tiles(7), opened(model, batch_size=3))
    assert sorted(shapes) == [(1, 3, 32, 32), (3, 3, 32, 32), (3, 3, 32, 32)]
    assert set(results.ledger["state"].to_pylist()) == {TileState.INFERRED}


def test_a_function_is_called_by_one_thread_at_a_time() -> None:
    inside = threading.Semaphore(1)
    threads = set()

    def model(batch: NDArray[Any]) -> list[Any]:
        assert inside.acquire(blocking=False)
        threads.add(threading.get_ident())
        inside.release()
        return [[] for _ in batch]

    results = infer_tiles(tiles(20), opened(model, batch_size=2))
    assert set(results.ledger["state"].to_pylist()) == {TileState.INFERRED}
    assert len(threads) == 1


def test_an_error_fails_the_tile_that_it_is_about_and_is_kept() -> None:
    def model(batch: NDArray[Any]) -> list[Any]:
        if (batch == 2).all(axis=(1, 2, 3)).any():
            raise ZeroDivisionError("a dark tile")
        return [[BOX] for _ in batch]

    chosen = CallableModel(model, batch_size=4)
    results = infer_tiles(tiles(6), chosen.open(REQUEST, None))  # type: ignore[arg-type]
    rows = results.ledger.to_pylist()
    assert [row["tile"] for row in rows if row["state"] == TileState.FAILED] == [2]
    assert rows[2]["reason"] == "model: ZeroDivisionError: a dark tile"
    assert len(results.detections) == 5
    assert isinstance(chosen.error, ZeroDivisionError)


def _raising(batch: NDArray[Any]) -> Iterator[list[Any]]:
    yield []
    raise ZeroDivisionError("a dark tile")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (_raising, "_raising: ZeroDivisionError: a dark tile"),
        (lambda batch: [{"polygons": 3} for _ in batch], "<lambda>: TypeError: 'int' object"),
    ],
)
def test_an_error_while_the_answer_is_read_is_that_of_the_function(
    model: Function, reason: str
) -> None:
    chosen = CallableModel(model)
    rows = infer_tiles(tiles(1), chosen.open(REQUEST, None)).ledger.to_pylist()  # type: ignore[arg-type]
    assert rows[0]["reason"].startswith(reason)
    assert type(chosen.error).__name__ in reason


def test_an_error_is_not_retried() -> None:
    calls = []

    def model(batch: NDArray[Any]) -> list[Any]:
        calls.append(len(batch))
        raise ValueError("always")

    with closing(opened(model)) as endpoint, pytest.raises(PermanentError, match="ValueError"):
        endpoint.ask([np.zeros((1, 2, 2))])
    infer_tiles(tiles(1), opened(model))
    assert calls == [1, 1]


def test_closing_does_not_wait_for_a_function_that_runs() -> None:
    began, end = threading.Event(), threading.Event()

    def model(batch: NDArray[Any]) -> list[Any]:
        began.set()
        end.wait(60)
        return [[] for _ in batch]

    endpoint = opened(model)
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(endpoint.ask, [np.zeros((1, 2, 2))])
        assert began.wait(60)
        endpoint.close()
        endpoint.close()
        with pytest.raises(TransientError, match="closed"):
            call.result(60)
    end.set()
    with pytest.raises(TransientError, match="closed"):
        endpoint.ask([np.zeros((1, 2, 2))])


def test_a_model_has_the_name_of_its_function() -> None:
    class Detector:
        def __call__(self, batch: NDArray[Any]) -> list[Any]:
            return [[] for _ in batch]

    assert CallableModel(found).name == "found"
    assert CallableModel(Detector()).name == "Detector"
