"""The built-in models and the decoding of tiles: what they find, refuse and raise."""

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from deployments.demo.harbour.truth import score
from tasks.errors import RequestError, ThrottledError, TransientError
from tasks.inference import builtin
from tasks.inference.builtin.failure import BadAnswerError
from tasks.inference.tile_decoding import decode_tile
from tests.examples import examples

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def boxes(answer: dict[str, Any]) -> NDArray[np.float64]:
    found = [feature["properties"]["imageBBox"] for feature in answer["features"]]
    return np.array(found, dtype=np.float64).reshape(-1, 4)


def sea(dtype: str = "uint8", bands: int = 3, side: int = 256, seed: int = 0) -> NDArray[Any]:
    level = np.random.default_rng(seed).gamma(80, 0.5, (bands, side, side)) + 5
    return (level * {"uint8": 1, "uint16": 30, "float32": 0.001}[dtype]).astype(dtype)


def flat(colour: tuple[int, ...], side: int = 32) -> NDArray[np.uint8]:
    return np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (len(colour), side, side))


@pytest.mark.parametrize("name", ["centrepoint", "", "bright_targets"])
def test_an_unknown_model_is_refused_with_the_known_names(name: str) -> None:
    known = "bright-targets, brightness-classes, brightness-scenes, centerpoint, failure, flood"
    with pytest.raises(RequestError, match=known):
        builtin.create_model(name)


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("flood", {"cuont": 3}, r"cuont.*count, seed"),
        ("flood", {"count": "many"}, r"count = 'many'"),
        ("flood", {"count": -1}, r"count = -1"),
        ("centerpoint", {"side": 1}, r"side.*none"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(
    name: str, parameters: dict[str, Any], told: str
) -> None:
    with pytest.raises(RequestError, match=told):
        builtin.create_model(name, parameters)


def test_centerpoint_marks_the_middle_fifth() -> None:
    answer = builtin.create_model("centerpoint")(np.zeros((1, 400, 500), np.uint16))
    (feature,) = answer["features"]
    assert answer["type"] == "FeatureCollection"
    assert feature["geometry"] is None
    assert feature["properties"] == {
        "imageBBox": [200, 160, 300, 240],
        "imageGeometry": {"type": "Point", "coordinates": [250, 200]},
        "featureClasses": [{"iri": "sample_object", "score": 1.0}],
        "modelMetadata": {
            "modelName": "centerpoint",
            "ontologyName": "centerpoint",
            "ontologyVersion": "1.0.0",
        },
    }


@given(
    count=st.integers(0, 40),
    seed=st.integers(0, 9),
    height=st.integers(1, 60),
    width=st.integers(1, 60),
)
def test_flood_stays_inside_and_depends_on_content_alone(
    count: int, seed: int, height: int, width: int
) -> None:
    pixels = np.arange(height * width, dtype=np.uint16).reshape(1, height, width)
    flood = builtin.create_model("flood", {"count": str(count), "seed": seed})
    first = flood(pixels)
    found = boxes(first)
    assert len(found) == count
    assert (found >= 0).all()
    assert (found <= [width, height, width, height]).all()
    assert (found[:, 2:] > found[:, :2]).all()
    builtin.create_model("flood")(pixels)
    assert flood(pixels.copy()) == first
    other = builtin.create_model("flood", {"count": count, "seed": seed})(pixels + np.uint16(1))
    assert count == 0 or other != first


def test_failure_fails_in_the_way_of_the_tiles_colour() -> None:
    failure = builtin.create_model("failure", {"seconds": 0, "patience": 7})
    with pytest.raises(TransientError):
        failure(flat((255, 0, 0)))
    with pytest.raises(ThrottledError) as throttled:
        failure(flat((255, 250, 3)))
    assert throttled.value.retry_after == 7
    with pytest.raises(BadAnswerError) as half:
        failure(flat((255, 0, 255)))
    assert half.value.body.startswith(b'{"type"')
    with pytest.raises(BadAnswerError) as wrong:
        failure(flat((0, 255, 255)))
    assert wrong.value.body == b"[1,2,3]"
    for ordinary in (flat((0, 0, 255)), flat((120, 40, 200)), flat((255,)), sea()):
        assert failure(ordinary) == builtin.create_model("centerpoint")(ordinary)


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("uint16", 1), ("float32", 4)])
def test_bright_targets_finds_objects_brighter_than_their_surroundings(
    dtype: str, bands: int
) -> None:
    pixels = sea(dtype, bands)
    known = [(30, 40, 70, 52), (90, 90, 102, 96), (200, 8, 212, 80), (200, 8 + 78, 212, 150)]
    for x, y, x_end, y_end in known:
        pixels[:, y:y_end, x:x_end] *= np.asarray(4, pixels.dtype)
    answer = builtin.create_model("bright-targets")(pixels)
    assert sorted(boxes(answer).tolist()) == sorted([float(v) for v in box] for box in known)
    for feature in answer["features"]:
        (ring,) = feature["properties"]["imageGeometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert len(ring) == 5
        assert 0.5 < feature["properties"]["featureClasses"][0]["score"] < 1


def test_a_turned_target_gets_a_turned_rectangle() -> None:
    pixels = sea(side=200)
    y, x = np.mgrid[:200, :200] + 0.5
    along, across = ((x - 100) + (y - 90)) / 2**0.5, ((y - 90) - (x - 100)) / 2**0.5
    pixels[:, (abs(along) < 30) & (abs(across) < 6)] = 200
    (feature,) = builtin.create_model("bright-targets")(pixels)["features"]
    ring = np.array(feature["properties"]["imageGeometry"]["coordinates"][0])
    sides = np.sort(np.linalg.norm(np.diff(ring, axis=0), axis=1))
    assert sides == pytest.approx([12, 12, 60, 60], abs=2)
    assert ring[:-1].mean(axis=0) == pytest.approx([100, 90], abs=1)


def test_neighbours_do_not_mask_one_another() -> None:
    pixels = sea()
    for column in range(20, 236, 12):
        pixels[:, 60:200, column : column + 8] = 200
    assert len(boxes(builtin.create_model("bright-targets", {"longest": 150})(pixels))) == 18


def test_the_score_rises_with_contrast() -> None:
    pixels = sea()
    for place, level in enumerate((110, 150, 250)):
        pixels[:, 40:52, 40 + 60 * place : 70 + 60 * place] = level
    features = builtin.create_model("bright-targets")(pixels)["features"]
    scores = [
        feature["properties"]["featureClasses"][0]["score"]
        for feature in sorted(features, key=lambda each: each["properties"]["imageBBox"][0])
    ]
    assert len(scores) == 3
    assert scores == sorted(scores)


@examples(0.25)
@given(seed=st.integers(0, 10**6), dtype=st.sampled_from(["uint8", "uint16", "float32"]))
def test_clutter_and_nodata_alone_give_no_target(seed: int, dtype: str) -> None:
    pixels = sea(dtype, seed=seed)
    random = np.random.default_rng(seed)
    tilt, offset = random.uniform(-1, 1), random.uniform(0, 256)
    y, x = np.mgrid[:256, :256]
    outside = y < tilt * x + offset
    pixels[:, outside] = np.nan if dtype == "float32" and seed % 2 else 0
    assert boxes(builtin.create_model("bright-targets")(pixels)).tolist() == []


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((3, 64, 64), np.uint8),
        np.full((1, 64, 64), np.nan, np.float32),
        np.full((1, 70, 33), 7, np.uint16),
        np.ones((3, 1, 1), np.uint8),
    ],
)
def test_tiles_without_anything_have_no_targets(pixels: NDArray[Any]) -> None:
    assert builtin.create_model("bright-targets")(pixels)["features"] == []


def test_land_is_no_target() -> None:
    pixels = sea()
    pixels[:, :, 150:] = np.random.default_rng(1).normal(140, 12, (3, 256, 106)).astype(np.uint8)
    pixels[:, 100:130, 137:146] = 210  # moored, four pixels off
    found = boxes(builtin.create_model("bright-targets")(pixels))
    assert found.tolist() == [[137, 100, 146, 130]]


def test_an_object_cut_by_the_edge_is_reported_as_far_as_it_is_seen() -> None:
    pixels = sea()
    pixels[:, 40:52, 236:] = 200
    found = boxes(builtin.create_model("bright-targets")(pixels))
    assert found.tolist() == [[236, 40, 256, 52]]


def test_a_model_serves_many_threads() -> None:
    pixels = sea()
    pixels[:, 40:52, 40:90] = 200
    model = builtin.create_model("bright-targets")
    expected, answers = model(pixels), []
    threads = [
        threading.Thread(target=lambda: answers.append(model(pixels.copy()))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [expected] * 8


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("driver", "dtype", "bands"),
    [
        ("GTiff", "uint16", 4),
        ("GTiff", "float32", 1),
        ("NITF", "uint8", 3),
        ("PNG", "uint16", 1),
        ("PNG", "uint8", 3),
    ],
)
def test_every_lossless_format_decodes_to_the_same_pixels(
    driver: str, dtype: str, bands: int
) -> None:
    pixels = sea(dtype, bands, side=48)
    with MemoryFile() as memory:
        shape = {"width": 48, "height": 48, "count": bands, "dtype": dtype}
        with memory.open(driver=driver, **shape) as dataset:
            dataset.write(pixels)
        decoded = decode_tile(memory.read(), "application/octet-stream")
    assert decoded.dtype == pixels.dtype
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("shape", [(3, 5, 7), (5, 7)])
def test_npy_decodes_with_bands_first(shape: tuple[int, ...]) -> None:
    pixels, buffer = np.arange(np.prod(shape), dtype=np.int32).reshape(shape), io.BytesIO()
    np.save(buffer, pixels)
    np.testing.assert_array_equal(decode_tile(buffer.getvalue()), pixels.reshape(-1, 5, 7))


def npy(value: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "0 bytes.*image/png.*not an image"),
        (b"{}", "not an image: send GTIFF"),
        (b"\x89PNG\r\n\x1a\nrubbish", "cannot be decoded as PNG"),
        (b"II*\x00" + b"\x00" * 90, "cannot be decoded as GTiff"),
        (npy(np.zeros((2, 9, 9)))[:-5], "cannot be decoded as NPY"),
        (npy(np.array([{}], dtype=object)), "cannot be decoded as NPY"),
        (npy(np.zeros(4)), r"shape \(4,\)"),
    ],
)
def test_bytes_that_are_not_a_tile_are_refused_with_the_reason(payload: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode_tile(payload, "image/png")


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bright_targets_finds_the_boat_at_the_pontoon_head_of_a_real_photograph() -> None:
    pixels = decode_tile((DATA / "boats.jpg").read_bytes())
    found = boxes(builtin.create_model("bright-targets")(pixels))
    assert score(found, np.array([[1241.0, 758.0, 1346.0, 807.0]])).matched == 1


@pytest.mark.parametrize(
    ("dtype", "white"), [("uint8", 255), ("uint16", 10_000), ("float32", 1.0), ("float64", 1.0)]
)
def test_brightness_classes_tells_dark_medium_and_bright(dtype: str, white: float) -> None:
    pixels = np.zeros((2, 30, 90), dtype)
    for column, level in enumerate((0.1, 0.45, 0.9)):
        pixels[:, :, 30 * column : 30 * (column + 1)] = level * white
    found = builtin.create_model("brightness-classes")(pixels)
    assert found.shape == (3, 30, 90)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(found.argmax(axis=0)[15, 15::30], [0, 1, 2])


def test_brightness_classes_of_numbers_that_are_not_finite_is_finite() -> None:
    pixels = np.array([[[np.nan, np.inf], [-np.inf, 0.5]]], np.float32)
    assert np.isfinite(builtin.create_model("brightness-classes")(pixels)).all()
