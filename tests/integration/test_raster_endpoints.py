"""Models behind HTTP and SageMaker that answer with pixels: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any
from uuid import uuid4

import boto3
import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.aws import clients
from tasks.errors import AnswerError
from tasks.imagery import Image
from tasks.inference import open_endpoint
from tasks.inference.raster_endpoint import RasterEndpoint
from tasks.inference.sagemaker import open_sagemaker
from tasks.raster.tile_maps import ONE
from tests.infer_tiles import infer_tiles
from tests.raster_calls import SIDE, OpenRaster, answer, request_for, tile
from tests.raster_server import NPY, PNG, TIFF, RasterServer, encoded
from tests.sagemaker_runtime import Hosted, sagemaker

LARGE = 1024
TWO = [{"value": 3, "name": "water"}, {"value": 300, "name": "forest"}]
SEVERAL = {"values": "probabilities", "classes": TWO, "activation": "sigmoid"}
RANDOM = np.random.default_rng(7)
SHARES = RANDOM.uniform(0, 1, (1, SIDE, SIDE))
SHARES = np.concatenate([SHARES, 1 - SHARES]).astype(np.float32)
LOGITS = RANDOM.normal(0, 40, (2, SIDE, SIDE)).astype(np.float32)
NUMBERS = RANDOM.choice([3, 300], (1, SIDE, SIDE)).astype(np.uint16)
FEATURES = b'{"type":"FeatureCollection","features":[]}'
HEIGHTS = RANDOM.normal(0, 9, (2, SIDE, SIDE)).astype(np.float32)
HOLES = np.where(HEIGHTS > 9, np.float32(np.nan), HEIGHTS)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    odds = np.exp(logits - logits.max(axis=0))
    shares: NDArray[Any] = odds / odds.sum(axis=0)
    return shares


READ: dict[str, tuple[dict[str, Any], NDArray[Any], NDArray[Any], Sequence[str]]] = {
    # name: rasterOutput, what the model answers, what it means, in which types
    "uint8 classes": (
        {"values": "classes"}, NUMBERS.astype(np.uint8), NUMBERS.astype(np.uint8), (TIFF, PNG, NPY),
    ),
    "uint16 classes": ({"values": "classes", "classes": TWO}, NUMBERS, NUMBERS, (TIFF, PNG, NPY)),
    "int64 classes, as of an argmax": (
        {"values": "classes", "classes": TWO}, NUMBERS.astype(np.int64), NUMBERS, (TIFF, NPY),
    ),
    "classes as real numbers": (
        {"values": "classes", "classes": TWO}, NUMBERS.astype(np.float32), NUMBERS, (TIFF, NPY),
    ),
    "float32 probabilities": (SEVERAL, SHARES, SHARES, (TIFF, NPY)),
    "float16 probabilities": (SEVERAL, SHARES.astype(np.float16), SHARES, (NPY,)),
    "big-endian probabilities": (SEVERAL, SHARES.astype(">f8"), SHARES, (NPY,)),
    "probabilities by columns": (SEVERAL, np.asfortranarray(SHARES), SHARES, (NPY,)),
    "uint8 probabilities": (
        SEVERAL, np.rint(SHARES * 255).astype(np.uint8), np.rint(SHARES * 255) / 255, (TIFF, PNG),
    ),
    "uint16 probabilities": (
        SEVERAL, np.rint(SHARES * 65535).astype(np.uint16), SHARES, (TIFF, PNG, NPY),
    ),
    "bool probabilities": (SEVERAL, SHARES > 0.5, SHARES > 0.5, (NPY,)),
    "softmax": ({"values": "logits", "classes": TWO}, LOGITS, softmax(LOGITS), (TIFF, NPY)),
    "sigmoid": (
        SEVERAL | {"values": "logits"}, LOGITS, 1 / (1 + np.exp(-LOGITS.astype(float))),
        (TIFF, NPY),
    ),
    "values": ({"values": "values", "bands": ["height", "age"]}, HEIGHTS, HEIGHTS, (TIFF, NPY)),
    "values with NaN": ({"values": "values", "bands": ["a", "b"]}, HOLES, HOLES, (TIFF, NPY)),
    "values with nodata": (
        {"values": "values", "nodata": -9999.1, "bands": ["a", "b"]},
        np.nan_to_num(HOLES, nan=-9999.1), HOLES, (TIFF, NPY),
    ),
    "whole values": (
        {"values": "values", "nodata": 0}, (NUMBERS == 3) * NUMBERS,
        np.where(NUMBERS == 3, 3.0, np.nan), (TIFF, PNG, NPY),
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "media_type"), [(name, each) for name, case in READ.items() for each in case[3]]
)
def test_each_kind_of_raster_is_read(
    raster_model: RasterServer, open_raster: OpenRaster, name: str, media_type: str
) -> None:
    output, given, meant, _ = READ[name]
    raster_model.replies(media_type, encoded(given, media_type))
    tolerance = 5e-4 if "float16" in name else 1e-5
    np.testing.assert_allclose(answer(open_raster(output), output), meant, atol=tolerance)


@pytest.mark.parametrize("media_type", ["application/octet-stream", "", "image/tiff; a=b"])
def test_a_raster_is_known_by_its_first_bytes(
    raster_model: RasterServer, open_raster: OpenRaster, media_type: str
) -> None:
    raster_model.replies(media_type, encoded(SHARES, NPY))
    np.testing.assert_allclose(answer(open_raster(SEVERAL), SEVERAL), SHARES, atol=1e-5)


def objects() -> bytes:
    """An array of objects in NPY, which only unpickling could read."""
    return encoded(np.full((2, SIDE, SIDE), {}, dtype=object), NPY)


def header(shape: tuple[int, ...]) -> bytes:
    """An NPY file that declares a shape, without a pixel."""
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + text.encode()


def bomb(side: int, **options: object) -> bytes:
    """A small TIFF of many zeros."""
    return encoded(np.zeros((2, side, side), np.uint8), TIFF, compress="deflate", **options)


CLASSES = {"values": "classes", "classes": TWO}
LOOSE = {"values": "values"}
WHOLE_PNG = encoded(RANDOM.integers(0, 255, (2, SIDE, SIDE), np.uint8), PNG)
DAMAGED_PNG = WHOLE_PNG[:400] + bytes([WHOLE_PNG[400] ^ 1]) + WHOLE_PNG[401:]


@pytest.mark.parametrize(
    "case",
    [
        (SEVERAL, NPY, encoded(SHARES[:, :9], NPY), "2 bands of 32 × 9 pixels"),
        (SEVERAL, NPY, encoded(SHARES[:1], NPY), "has 1 band of 32 × 32 pixels of float32"),
        (SEVERAL, NPY, encoded(SHARES.transpose(1, 2, 0), NPY), "Put the bands first"),
        (SEVERAL, NPY, encoded(SHARES[None], NPY), "is not (bands, height, width)"),
        (SEVERAL, NPY, encoded(SHARES.astype(np.complex64), NPY), "of complex64, where raster"),
        (SEVERAL, NPY, encoded(SHARES.astype("U4"), NPY), "of <U4 is not (bands"),
        (SEVERAL, NPY, objects(), "of object is not (bands"),
        (SEVERAL, TIFF, encoded(SHARES.astype(np.complex64), TIFF), "of complex64"),
        (SEVERAL, NPY, encoded(SHARES * np.float32(np.nan), NPY), "NaN or infinite"),
        (SEVERAL, NPY, encoded(SHARES / np.float32(0.25), NPY), "no probabilities: scale them"),
        (SEVERAL, NPY, encoded(SHARES - 1, NPY), "no probabilities: scale them to 0 to 1"),
        (SEVERAL, NPY, encoded((SHARES * 99).astype(np.int32), NPY), "no probabilities"),
        (
            {"values": "probabilities", "classes": TWO},
            PNG, encoded((SHARES > 0.5).astype(np.uint8), PNG), "255 stands for a probability of 1",
        ),
        (SEVERAL | {"values": "logits"}, NPY, encoded(LOGITS + np.inf, NPY), "that are NaN"),
        (LOOSE, NPY, encoded(np.full((1, SIDE, SIDE), np.inf), NPY), "infinite values: give"),
        (LOOSE, NPY, encoded(np.full((1, SIDE, SIDE), 1e300), NPY), "infinite values: give"),
        (CLASSES, NPY, encoded(NUMBERS + 1, NPY), "the class 4, which rasterOutput.classes does"),
        (CLASSES, NPY, encoded(NUMBERS + 0.5, NPY), "no whole number that uint16 holds"),
        (CLASSES, NPY, encoded(NUMBERS * np.nan, NPY), "class nan, which is no whole number"),
        ({"values": "classes"}, NPY, encoded(NUMBERS, NPY), "list those above 254 in rasterOutput"),
        (SEVERAL, NPY, encoded(SHARES, NPY)[:-9], "cannot be decoded as NPY"),
        (SEVERAL, NPY, encoded(SHARES, NPY)[:20], "cannot be decoded as NPY"),
        (SEVERAL, TIFF, encoded(SHARES, TIFF)[:-9], "cannot be decoded as GTiff"),
        (SEVERAL, TIFF, encoded(SHARES, TIFF)[:60], "cannot be decoded as GTiff"),
        (SEVERAL, PNG, WHOLE_PNG[:-9], "cannot be decoded as PNG: it is cut short"),
        (SEVERAL, PNG, WHOLE_PNG[:400], "cannot be decoded as PNG: it is cut short"),
        (SEVERAL, PNG, DAMAGED_PNG, "is damaged"),
        (SEVERAL, NPY, header((2, 10**9, 10**9)), "2 bands of 1000000000 × 1000000000"),
        (SEVERAL, NPY, header((2, SIDE, SIDE)), "cannot be decoded as NPY"),
        (SEVERAL, TIFF, bomb(9000, sparse_ok=True), "of 9000 × 9000 pixels"),
        (SEVERAL, TIFF, bomb(SIDE, tiled=True, blockxsize=8192, blockysize=8192), "has blocks of"),
        (SEVERAL, "application/geo+json", FEATURES, "is JSON, as for features, where rasterOutput"),
        (SEVERAL, "image/png", FEATURES, "is declared as image/png and begins with"),
        (SEVERAL, "text/html", b"<html>busy</html>", "begins with 'busy', where"),
        (SEVERAL, "image/jpeg", b"\xff\xd8\xff", "neither JSON nor a raster (image/tiff"),
        (SEVERAL, NPY, b"", "begins with b''"),
    ],
)  # fmt: skip
def test_a_bad_answer_fails_its_tile_with_the_reason(
    raster_model: RasterServer,
    open_raster: OpenRaster,
    case: tuple[dict[str, Any], str, bytes, str],
) -> None:
    output, media_type, body, told = case
    raster_model.replies(media_type, body)
    (row,) = infer_tiles([tile()], open_raster(output)).ledger.to_pylist()
    assert (row["state"], row["attempts"], len(raster_model.tiles)) == ("failed", 1, 1)
    assert told in row["reason"]
    assert row["reason"].startswith(raster_model.url)


@pytest.mark.parametrize("media_type", [NPY, "application/octet-stream"])
def test_a_raster_in_place_of_features_names_the_remedy(
    raster_model: RasterServer, raster_image: Image, media_type: str
) -> None:
    raster_model.replies(media_type, encoded(SHARES, NPY))
    request = request_for(raster_model.url, SEVERAL).model_copy(update={"raster_output": None})
    with closing(open_endpoint(request, raster_image, 30.0)) as endpoint:
        (row,) = infer_tiles([tile()], endpoint).ledger.to_pylist()
    assert "say in rasterOutput what the raster holds" in row["reason"]


def test_the_raster_of_a_large_tile_may_be_as_large_as_its_numbers(
    raster_model: RasterServer, open_raster: OpenRaster
) -> None:
    classes = [{"value": value, "name": str(value)} for value in range(6)]
    output = {"values": "probabilities", "classes": classes}
    probabilities = np.full((6, LARGE, LARGE), 1 / 6, np.float32)  # 25 MB
    endpoint = open_raster(output, imageProcessorTileSize=LARGE)
    raster_model.replies(NPY, encoded(probabilities, NPY))
    assert (answer(endpoint, output, tile(LARGE, LARGE)) == np.rint(ONE / 6) / ONE).all()
    raster_model.replies(NPY, encoded(probabilities, NPY) + b" " * (2 << 20))
    with pytest.raises(AnswerError, match=r"more than 26214400 bytes"):
        answer(endpoint, output, tile(LARGE, LARGE))


# --- SageMaker


@pytest.fixture
def hosted(
    raster_model: RasterServer, aws: str, raster_image: Image, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], RasterEndpoint]]:
    """Opens the server's model behind a SageMaker endpoint, `real-time` or `asynchronous`."""
    s3, bucket, opened = boto3.client("s3"), f"raster-{uuid4().hex[:8]}", list[RasterEndpoint]()
    s3.create_bucket(Bucket=bucket)
    variants = {"ProductionVariants": [{"VariantName": "only", "CurrentInstanceCount": 1}]}
    output = {"S3OutputPath": f"s3://{bucket}/out", "S3FailurePath": f"s3://{bucket}/failed"}
    config = {"AsyncInferenceConfig": {"OutputConfig": output}}
    with sagemaker("swath") as runtime:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", runtime.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", runtime.url)
        clients.renew_credentials()
        runtime.endpoints["real-time"] = Hosted(raster_model.url, variants)
        runtime.endpoints["asynchronous"] = Hosted(raster_model.url, variants | config)

        def open_hosted(name: str) -> RasterEndpoint:
            request = request_for(name, SEVERAL, "SM_ENDPOINT")
            assert request.raster_output is not None
            endpoint = open_sagemaker(request, raster_image, 30.0, async_uri=f"s3://{bucket}/in")
            opened.append(RasterEndpoint(endpoint, request.raster_output, SIDE))
            return opened[-1]

        yield open_hosted
        for endpoint in opened:
            endpoint.close()
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.close()
    clients.renew_credentials()


@pytest.mark.parametrize("name", ["real-time", "asynchronous"])
def test_sagemaker_answers_with_rasters(
    raster_model: RasterServer, hosted: Callable[[str], RasterEndpoint], name: str
) -> None:
    endpoint = hosted(name)
    for media_type in (TIFF, NPY):
        raster_model.replies(media_type, encoded(SHARES, media_type))
        np.testing.assert_allclose(answer(endpoint, SEVERAL), SHARES, atol=1e-5)
    raster_model.replies(PNG, WHOLE_PNG[:-9])
    (row,) = infer_tiles([tile()], endpoint).ledger.to_pylist()
    assert row["state"] == "failed"
    assert "cut short" in row["reason"]
    assert row["reason"].startswith(f"SageMaker endpoint {name}: ")
