"""Requests and responses of the Open Inference Protocol: tensors in binary and JSON, checks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from tasks.errors import AnswerError, PermanentError, ThrottledError
from tasks.inference.oip.messages import check_response, is_binary, read_outputs, write_request
from tasks.inference.oip.tensors import DATATYPES
from tasks.inference.transport import Response
from tests import oip_server

LENGTH = "inference-header-content-length"
CODES = [dtype.str for dtype in DATATYPES.values()]
ANY = st.sampled_from(CODES).flatmap(
    lambda code: arrays(code, array_shapes(min_dims=1, max_dims=5, min_side=0, max_side=4))
)
FINITE = ANY.filter(lambda tensor: tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all()))


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def response(outputs: list[dict[str, Any]], tail: bytes | None = None, **headers: str) -> Response:
    head = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    length = {} if tail is None else {LENGTH: str(len(head))}
    return Response(200, length | headers, head + (tail or b""))


def output(shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "a", "datatype": datatype, "shape": shape} | more


def binary_data(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


@given(tensor=ANY)
def test_any_tensor_is_sent_unchanged_in_binary(tensor: NDArray[Any]) -> None:
    headers, body = write_request({"images": tensor}, [], binary=True)
    small = {name.lower(): value for name, value in headers.items()}
    name, arrived, document = oip_server.read(bytes(body), small)
    assert name == "images"
    assert same(arrived, tensor)
    assert document["parameters"]["binary_data_output"] is True
    assert small["content-type"] == "application/octet-stream"


@given(tensors=st.lists(ANY, min_size=1, max_size=3))
def test_any_tensors_are_read_unchanged_from_binary(tensors: list[NDArray[Any]]) -> None:
    named = [(str(place), tensor) for place, tensor in enumerate(tensors)]
    document, blobs = oip_server.write(named, binary=True)
    answer = response(document["outputs"], b"".join(blobs))
    arrived = read_outputs(answer, [])
    assert is_binary(answer)
    assert list(arrived) == [name for name, _ in named]
    assert all(same(arrived[name], tensor) for name, tensor in named)
    assert all(one.flags.aligned for one in arrived.values())


@given(tensor=FINITE.filter(lambda tensor: tensor.dtype != np.float16))
def test_any_finite_tensor_is_sent_and_read_unchanged_in_json(tensor: NDArray[Any]) -> None:
    headers, body = write_request({"images": tensor}, [], binary=False)
    assert headers == {"Content-Type": "application/json"}
    name, arrived, _ = oip_server.read(bytes(body), headers, binary=False)
    document, blobs = oip_server.write([(name, arrived)], binary=False)
    assert blobs == []
    back = read_outputs(response(document["outputs"]), [])["images"]
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert np.array_equal(back, tensor)


@given(tensor=FINITE)
def test_a_view_is_sent_in_the_order_of_its_elements(tensor: NDArray[Any]) -> None:
    turned = tensor.T[..., ::-1]
    for binary in (True, False):
        headers, body = write_request({"images": turned}, [], binary=binary)
        if binary or turned.dtype != np.float16:
            small = {name.lower(): value for name, value in headers.items()}
            _, arrived, _ = oip_server.read(bytes(body), small)
            assert np.array_equal(arrived, turned)


def test_only_the_outputs_to_decode_are_requested() -> None:
    tensor = np.zeros(1, np.uint8)
    for binary in (True, False):
        headers, body = write_request({"images": tensor}, ["boxes", "scores"], binary=binary)
        head = body[: int(headers.get("Inference-Header-Content-Length", len(body)))]
        asked = json.loads(head)["outputs"]
        assert [one["name"] for one in asked] == ["boxes", "scores"]
        assert all(one["parameters"] == {"binary_data": True} for one in asked)
    _, body = write_request({"images": tensor}, [], binary=False)
    assert "outputs" not in json.loads(body)


def test_several_inputs_follow_each_other_in_the_body() -> None:
    first, second = np.arange(3, dtype=np.uint8), np.array([[7.5]], np.float32)
    headers, body = write_request({"image": first, "size": second}, [], binary=True)
    split = int(headers["Inference-Header-Content-Length"])
    inputs = json.loads(body[:split])["inputs"]
    assert [one["parameters"]["binary_data_size"] for one in inputs] == [3, 4]
    assert [one["shape"] for one in inputs] == [[3], [1, 1]]
    assert body[split:] == first.tobytes() + second.tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_sent_only_in_binary(odd: float) -> None:
    tensor = np.array([[1, odd]], np.float32)
    with pytest.raises(ValueError, match="images holds NaN or infinity"):
        write_request({"images": tensor}, [], binary=False)
    _, body = write_request({"images": tensor}, [], binary=True)
    assert body.endswith(tensor.tobytes())


def test_json_may_be_nested_and_null_is_nan() -> None:
    nested = read_outputs(response([output([2, 2], data=[[1, 2.5], [None, 4]])]), [])["a"]
    assert np.array_equal(nested, np.array([[1, 2.5], [np.nan, 4]], np.float32), equal_nan=True)


def test_large_integers_keep_their_last_digit() -> None:
    data = [2**64 - 1, 2**63, 1]
    assert read_outputs(response([output([3], "UINT64", data=data)]), [])["a"].tolist() == data


def test_a_response_may_have_outputs_in_binary_and_in_json() -> None:
    both = response(
        [output([2], **binary_data(8)), output([1], "INT8", data=[5]) | {"name": "b"}],
        np.array([1, 2], "<f4").tobytes(),
    )
    assert {name: array.tolist() for name, array in read_outputs(both, []).items()} == {
        "a": [1, 2],
        "b": [5],
    }


def test_unwanted_outputs_are_skipped_and_missing_ones_are_refused() -> None:
    unread = {"name": "text", "datatype": "BYTES", "shape": [1]} | binary_data(9)
    answer = response([unread, output([1], **binary_data(4))], bytes(9) + np.float32(2.5).tobytes())
    assert read_outputs(answer, ["a"])["a"].tolist() == [2.5]
    with pytest.raises(AnswerError, match="lacks the output 'b'"):
        read_outputs(answer, ["a", "b"])


@pytest.mark.parametrize(
    ("outputs", "tail", "reason"),
    [
        ([output([2], **binary_data(4))], bytes(4), "it has 4 bytes, not 8"),
        ([output([2], **binary_data(8))], bytes(7), "only 7 of its 8 bytes were received"),
        ([output([2], **binary_data(8))], bytes(9), "1 bytes more than its outputs"),
        ([output([1 << 40] * 2, **binary_data(8))], bytes(8), f"not {4 << 80}"),
        ([output([0, 1 << 62, 1 << 62], **binary_data(0))], b"", "cannot be read"),
        ([output([-2, -1], **binary_data(8))], bytes(8), "outputs.0.shape.0"),
        ([output([1] * 17, **binary_data(4))], bytes(4), "outputs.0.shape"),
        ([output([1], **binary_data(-4))], b"", "binary_data_size"),
        ([output([1], **binary_data(4))] * 2, bytes(8), "the output 'a' twice"),
        ([output([1], "BYTES", **binary_data(4))], bytes(4), "'a' is BYTES"),
        ([output([1], "BF16", **binary_data(2))], bytes(2), "'a' is BF16"),
        ([output([1], "FP32", **binary_data(4)) | {"name": 7}], bytes(4), "outputs.0.name"),
        ([], b"", "outputs: List should have at least 1"),
        ([output([2], data=[1])], None, "it has 1 elements, not 2"),
        ([output([2], data=[[1], [2, 3]])], None, "cannot be read"),
        ([output([1], data=["1"])], None, "its data are not numbers"),
        ([output([1], data=[{}])], None, "cannot be read"),
        ([output([1], data=5)], None, "data are not a list"),
        ([output([1])], None, "data are not a list"),
        ([output([1], "INT32", data=[1.5])], None, "not all int"),
        ([output([1], "INT32", data=[True])], None, "not all int"),
        ([output([1], "UINT8", data=[256])], None, "cannot be read"),
        ([output([1], "INT32", data=[None])], None, "not all int"),
        ([output([1], "BOOL", data=[1])], None, "not all bool"),
    ],
)
def test_outputs_that_do_not_match_their_declaration_are_refused(
    outputs: list[dict[str, Any]], tail: bytes | None, reason: str
) -> None:
    with pytest.raises(AnswerError) as caught:
        read_outputs(response(outputs, tail), [])
    assert reason in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("length", ["-1", "", "1e3", "99999", "9" * 5000, "٣", "+3", "0x10"])
def test_a_wrong_length_of_the_json_is_refused(length: str) -> None:
    answer = response([output([1], **binary_data(4))], bytes(4), **{LENGTH: length})
    with pytest.raises(AnswerError, match=r"Inference-Header-Content-Length|not JSON"):
        read_outputs(answer, [])


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1,2,3]", b"{}", b'{"error":"oh"}', b"[" * 9999]
)
def test_a_body_of_another_format_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerError) as caught:
        read_outputs(Response(200, {}, body), [])
    assert len(str(caught.value)) < 400


@given(
    body=st.binary(max_size=60),
    length=st.none() | st.integers(0, 70).map(str) | st.text(max_size=5),
    start=st.sampled_from([b"", b'{"outputs":[{"name":"a","datatype":"FP32","shape":[1],']),
)
def test_no_response_raises_another_error(body: bytes, length: str | None, start: bytes) -> None:
    headers = {} if length is None else {LENGTH: length}
    with pytest.raises(AnswerError):
        read_outputs(Response(200, headers, start + body), [])


def test_an_error_carries_the_server_s_message() -> None:
    with pytest.raises(PermanentError, match=r"^http://h/x answered HTTP 400: no such input$"):
        check_response("http://h/x", Response(400, {}, b'{"error": "no such input"}'))
    with pytest.raises(ThrottledError, match="HTTP 503: plain") as caught:
        check_response("http://h/x", Response(503, {"retry-after": "7"}, b"plain"))
    assert caught.value.retry_after == 7
    for body in (b"[1]", b'{"error": 5}', b"\xff", b""):
        with pytest.raises(PermanentError, match="HTTP 404"):
            check_response("http://h/x", Response(404, {}, body))
