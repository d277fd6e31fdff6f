"""A batch of tiles and a model: every tile ends in one state, whatever happens to the others."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.windows import Window

from tasks.errors import (
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels, UnreadTile
from tasks.inference import BuiltinEndpoint, Endpoint
from tasks.inference.batch import (
    MAX_BATCHES,
    MAX_CALLS,
    MAX_PIXEL_BYTES,
    MAX_RASTER_BYTES,
    batch_size,
    growing,
    max_calls,
)
from tasks.results import coverage, detections
from tests.infer_tiles import infer_tiles

COLOURS = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "grey": (90, 90, 90),
}
FATE = {
    "red": ("failed", 3, "red"),
    "magenta": ("failed", 1, "cut in half"),
    "cyan": ("failed", 1, "[1,2,3]"),
    "blue": ("inferred", 1, ""),
    "grey": ("inferred", 1, ""),
    "blank": ("blank", 0, ""),
    "unread": ("failed", 0, "block 7 is damaged"),
}
SIDE = 20
FAILURE = BuiltinEndpoint("failure", {"seconds": 0, "patience": 0})


def place(index: int) -> Tile:
    return Tile(index, Window(index * SIDE, 0, SIDE, SIDE))


def tile(index: int, kind: str = "grey") -> TilePixels | UnreadTile:
    if kind == "unread":
        return UnreadTile(place(index), "block 7 is damaged")
    colour = np.array(COLOURS.get(kind, (0, 0, 0)), np.uint8)
    pixels = np.broadcast_to(colour[:, None, None], (3, SIDE, SIDE))
    return TilePixels(place(index), pixels, np.full((SIDE, SIDE), kind != "blank"))


class Scripted:
    """Answers as it is told, one call after the other."""

    capacity: int | None = None
    local = False

    def __init__(self, *answers: object, tiles_per_call: int = 1) -> None:
        self._answers = iter(answers)
        self.tiles_per_call = tiles_per_call

    def prepare(self, tile: TilePixels) -> int:
        return tile.tile.index

    def ask(self, prepared: Sequence[int]) -> Sequence[object]:  # noqa: ARG002 - the endpoint's
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, tuple) else [answer]

    def close(self) -> None:
        pass


def collection(*boxes: list[float]) -> dict[str, Any]:
    classes = [{"iri": "ship", "score": 0.5}]
    features = [{"properties": {"imageBBox": box, "featureClasses": classes}} for box in boxes]
    return {"type": "FeatureCollection", "features": features}


@pytest.fixture(autouse=True, scope="module")
def hurry() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.inference.retry._FIRST_DELAY", 0.0)
        yield


@given(st.integers(0, 10**7), st.integers(1, 500), st.integers(1, 64))
def test_batches_are_few_and_of_whole_calls(tiles: int, least: int, together: int) -> None:
    size = batch_size(tiles, least, together)
    assert size >= least
    assert size * MAX_BATCHES >= tiles
    assert size % together == 0
    assert batch_size(100, 16, 1) == 16


def test_batches_grow_while_they_are_fast_and_not_once_they_take_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("tasks.inference.batch.time.monotonic", lambda: now[0])
    sizes, taken = growing(16), []
    for _ in range(9):
        taken.append(next(sizes))
        now[0] += taken[-1] / 100  # 100 tiles a second
    assert taken == [16, 32, 64, 128, 256, 512, 512, 512, 512]


@given(st.integers(1, 2**31))
def test_calls_fit_in_memory(call_bytes: int) -> None:
    most = max_calls(call_bytes)
    assert 2 <= most <= MAX_CALLS
    assert most == 2 or most * call_bytes <= MAX_PIXEL_BYTES


@given(st.integers(1, 2**26), st.integers(1, 2**28))
def test_calls_fit_in_memory_with_answers_in_pixels(call_bytes: int, answer_bytes: int) -> None:
    most = max_calls(call_bytes, answer_bytes)
    assert 2 <= most <= max_calls(call_bytes)
    assert most == 2 or most * answer_bytes <= MAX_RASTER_BYTES


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(FATE)), max_size=12))
def test_every_tile_has_its_own_state(kinds: list[str]) -> None:
    batch = [tile(index, kind) for index, kind in enumerate(kinds)]
    found = infer_tiles(batch, FAILURE)
    lines = found.ledger.to_pylist()
    assert [line["tile"] for line in lines] == list(range(len(kinds)))
    for kind, line in zip(kinds, lines, strict=True):
        state, attempts, why = FATE[kind]
        assert (line["state"], line["attempts"]) == (state, attempts)
        assert why in line["reason"]
        assert bool(line["reason"]) == (state == "failed")
    inferred = [index for index, kind in enumerate(kinds) if FATE[kind][0] == "inferred"]
    assert found.detections["tile"].to_pylist() == inferred
    assert found.detections.schema == detections.SCHEMA


def test_a_tile_that_fails_while_others_are_answered_has_three_attempts() -> None:
    endpoint: Endpoint = Scripted(collection(), *[TransientError("a")] * 9)
    found = infer_tiles([tile(0), tile(1)], endpoint, attempts=3, max_calls=1)
    assert found.ledger["attempts"].to_pylist() == [1, 3]
    assert found.ledger["state"].to_pylist() == ["inferred", "failed"]


def test_detections_are_where_the_tile_is() -> None:
    found = infer_tiles([tile(3)], BuiltinEndpoint("centerpoint", {}), attempts=1)
    assert detections.boxes(found.detections).tolist() == [[68, 8, 72, 12]]


@pytest.mark.parametrize("name", ["bright-targets", "centerpoint", "failure", "flood"])
def test_every_builtin_model_answers_by_the_contract(name: str) -> None:
    random = np.random.default_rng(5)
    batch = [
        TilePixels(place(index), random.integers(0, 255, (bands, SIDE, SIDE)).astype(dtype), None)
        for index, (bands, dtype) in enumerate([(3, "uint8"), (1, "uint16"), (4, "float32")])
    ]
    found = infer_tiles(batch, BuiltinEndpoint(name, {}), attempts=1)
    assert coverage.count(found.ledger)["inferred"] == 3
    assert coverage.rejected(found.ledger) == 0


@pytest.mark.parametrize(
    ("answers", "state", "attempts"),
    [
        ([collection([0, 0, 2, 2])], "inferred", 1),
        ([TransientError("a"), collection()], "inferred", 2),
        ([TransientError("a"), ThrottledError("b"), collection()], "inferred", 3),
        ([TransientError("a"), [1, 2, 3]], "failed", 2),
        ([ThrottledError("a"), PermanentError("gone")], "failed", 2),
        ([*[TransientError("a")] * 5, collection()], "inferred", 6),
        ([*[ThrottledError("a")] * 9, collection()], "inferred", 10),
        ([KeyError("a fault"), collection()], "failed", 1),
    ],
)
def test_every_call_is_counted(answers: list[object], state: str, attempts: int) -> None:
    endpoint: Endpoint = Scripted(*answers)
    (line,) = infer_tiles([tile(0)], endpoint, attempts=3).ledger.to_pylist()
    assert (line["state"], line["attempts"]) == (state, attempts)
    told = line["failed_calls"]
    for call, error in zip(told, answers, strict=False):
        if isinstance(error, EndpointError):
            assert call == f"{type(error).__name__} after 0.0 s: {error}"
    failed = (
        attempts if state == "failed" and not isinstance(answers[0], KeyError) else attempts - 1
    )
    assert len(told) == failed


def test_malformed_features_are_rejected_alone_and_counted() -> None:
    answer = collection([0, 0, 2, 2], [9, 9, 1, 1], [50, 0, 60, 9], [4, 4, 6, 6])
    found = infer_tiles([tile(0)], Scripted(answer), attempts=1)
    assert found.detections["ordinal"].to_pylist() == [0, 3]
    assert coverage.rejected(found.ledger) == 2


def test_a_feature_with_properties_nested_too_deep_is_rejected_alone() -> None:
    answer = collection([0, 0, 2, 2], [4, 4, 6, 6])
    nested: list[Any] = []
    for _ in range(2000):
        nested = [nested]
    answer["features"][0]["properties"]["notes"] = nested
    found = infer_tiles([tile(0)], Scripted(answer), attempts=1)
    assert found.detections["ordinal"].to_pylist() == [1]
    assert coverage.rejected(found.ledger) == 1


def test_tiles_share_a_call_and_have_calls_of_their_own_if_it_fails() -> None:
    good = collection([0, 0, 2, 2])
    together = Scripted((good,) * 2, (good,), tiles_per_call=2)
    found = infer_tiles([tile(index) for index in range(3)], together, max_calls=1)
    assert found.ledger["attempts"].to_pylist() == [1, 1, 1]
    assert found.detections["tile"].to_pylist() == [0, 1, 2]
    alone = Scripted(
        EndpointTimeoutError("too slow"), good, PermanentError("poison"), tiles_per_call=2
    )
    found = infer_tiles([tile(index) for index in range(2)], alone, max_calls=1)
    assert found.ledger["state"].to_pylist() == ["inferred", "failed"]
    assert found.ledger["attempts"].to_pylist() == [2, 2]
    assert found.ledger["reason"].to_pylist() == ["", "poison"]


def test_a_transient_failure_does_not_split_a_shared_call() -> None:
    good = collection([0, 0, 2, 2])
    flaky = Scripted(TransientError("reset"), ThrottledError("busy"), (good,) * 2, tiles_per_call=2)
    found = infer_tiles([tile(index) for index in range(2)], flaky, max_calls=1)
    assert found.ledger["attempts"].to_pylist() == [3, 3]
    assert found.ledger["state"].to_pylist() == ["inferred"] * 2


def test_too_few_answers_fail_their_tiles() -> None:
    short = Scripted((collection(),), collection(), collection(), tiles_per_call=2)
    found = infer_tiles([tile(index) for index in range(2)], short, max_calls=1)
    assert found.ledger["state"].to_pylist() == ["inferred", "inferred"]
    short = Scripted((collection(),) * 3)
    assert (
        "3 answers were given for 1 tiles"
        in infer_tiles([tile(0)], short).ledger["reason"][0].as_py()
    )


def test_a_tile_that_is_always_throttled_fails_alone() -> None:
    found = infer_tiles([tile(0), tile(1, "yellow")], FAILURE, retry_seconds=0)
    assert found.ledger["state"].to_pylist() == ["inferred", "failed"]
    assert "asks to retry after" in found.ledger["reason"][1].as_py()
