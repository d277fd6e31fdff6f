"""Tensors on the wire: what is sent arrives, and what arrives is believed only where it fits."""

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
from tasks.inference.oip.messages import check_reply, is_binary, read_outputs, write_request
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


def reply(outputs: list[dict[str, Any]], tail: bytes | None = None, **headers: str) -> Response:
    head = json.dumps({"model_name": "m", "outputs": outputs}).encode()
    told = {} if tail is None else {LENGTH: str(len(head))}
    return Response(200, told | headers, head + (tail or b""))


def output(shape: list[int], datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    return {"name": "a", "datatype": datatype, "shape": shape} | more


def in_bytes(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


@given(tensor=ANY)
def test_any_tensor_survives_the_way_there_in_bytes(tensor: NDArray[Any]) -> None:
    headers, body = write_request({"images": tensor}, [], binary=True)
    small = {name.lower(): value for name, value in headers.items()}
    name, arrived, document = oip_server.read(bytes(body), small)
    assert name == "images"
    assert same(arrived, tensor)
    assert document["parameters"]["binary_data_output"] is True
    assert small["content-type"] == "application/octet-stream"


@given(tensors=st.lists(ANY, min_size=1, max_size=3))
def test_any_tensors_survive_the_way_back_in_bytes(tensors: list[NDArray[Any]]) -> None:
    named = [(str(place), tensor) for place, tensor in enumerate(tensors)]
    document, blobs = oip_server.write(named, binary=True)
    answer = reply(document["outputs"], b"".join(blobs))
    arrived = read_outputs(answer, [])
    assert is_binary(answer)
    assert list(arrived) == [name for name, _ in named]
    assert all(same(arrived[name], tensor) for name, tensor in named)
    assert all(one.flags.aligned for one in arrived.values())


@given(tensor=FINITE.filter(lambda tensor: tensor.dtype != np.float16))
def test_any_finite_tensor_survives_both_ways_in_json(tensor: NDArray[Any]) -> None:
    headers, body = write_request({"images": tensor}, [], binary=False)
    assert headers == {"Content-Type": "application/json"}
    name, arrived, _ = oip_server.read(bytes(body), headers, binary=False)
    document, blobs = oip_server.write([(name, arrived)], binary=False)
    assert blobs == []
    back = read_outputs(reply(document["outputs"]), [])["images"]
    assert back.dtype == tensor.dtype
    assert back.shape == tensor.shape
    assert np.array_equal(back, tensor)


@given(tensor=FINITE)
def test_a_tensor_that_is_a_view_goes_as_its_elements_stand(tensor: NDArray[Any]) -> None:
    turned = tensor.T[..., ::-1]
    for binary in (True, False):
        headers, body = write_request({"images": turned}, [], binary=binary)
        if binary or turned.dtype != np.float16:
            small = {name.lower(): value for name, value in headers.items()}
            _, arrived, _ = oip_server.read(bytes(body), small)
            assert np.array_equal(arrived, turned)


def test_only_what_is_decoded_is_asked_for() -> None:
    tensor = np.zeros(1, np.uint8)
    for binary in (True, False):
        headers, body = write_request({"images": tensor}, ["boxes", "scores"], binary=binary)
        head = body[: int(headers.get("Inference-Header-Content-Length", len(body)))]
        asked = json.loads(head)["outputs"]
        assert [one["name"] for one in asked] == ["boxes", "scores"]
        assert all(one["parameters"] == {"binary_data": True} for one in asked)
    _, body = write_request({"images": tensor}, [], binary=False)
    assert "outputs" not in json.loads(body)


def test_several_inputs_stand_one_behind_the_other() -> None:
    first, second = np.arange(3, dtype=np.uint8), np.array([[7.5]], np.float32)
    headers, body = write_request({"image": first, "size": second}, [], binary=True)
    split = int(headers["Inference-Header-Content-Length"])
    told = json.loads(body[:split])["inputs"]
    assert [one["parameters"]["binary_data_size"] for one in told] == [3, 4]
    assert [one["shape"] for one in told] == [[3], [1, 1]]
    assert body[split:] == first.tobytes() + second.tobytes()


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_what_json_cannot_hold_goes_in_bytes_alone(odd: float) -> None:
    tensor = np.array([[1, odd]], np.float32)
    with pytest.raises(ValueError, match="images holds NaN or infinity"):
        write_request({"images": tensor}, [], binary=False)
    _, body = write_request({"images": tensor}, [], binary=True)
    assert body.endswith(tensor.tobytes())


def test_json_may_be_nested_and_null_is_no_number() -> None:
    nested = read_outputs(reply([output([2, 2], data=[[1, 2.5], [None, 4]])]), [])["a"]
    assert np.array_equal(nested, np.array([[1, 2.5], [np.nan, 4]], np.float32), equal_nan=True)


def test_large_integers_keep_their_last_digit() -> None:
    data = [2**64 - 1, 2**63, 1]
    assert read_outputs(reply([output([3], "UINT64", data=data)]), [])["a"].tolist() == data


def test_outputs_in_bytes_and_in_json_may_stand_together() -> None:
    both = reply(
        [output([2], **in_bytes(8)), output([1], "INT8", data=[5]) | {"name": "b"}],
        np.array([1, 2], "<f4").tobytes(),
    )
    assert {name: array.tolist() for name, array in read_outputs(both, []).items()} == {
        "a": [1, 2],
        "b": [5],
    }


def test_what_nobody_wants_is_passed_over_and_what_is_wanted_has_to_be_there() -> None:
    unread = {"name": "text", "datatype": "BYTES", "shape": [1]} | in_bytes(9)
    answer = reply([unread, output([1], **in_bytes(4))], bytes(9) + np.float32(2.5).tobytes())
    assert read_outputs(answer, ["a"])["a"].tolist() == [2.5]
    with pytest.raises(AnswerError, match="lacks the output 'b'"):
        read_outputs(answer, ["a", "b"])


@pytest.mark.parametrize(
    ("outputs", "tail", "why"),
    [
        ([output([2], **in_bytes(4))], bytes(4), "it has 4 bytes, not 8"),
        ([output([2], **in_bytes(8))], bytes(7), "only 7 of its 8 bytes were received"),
        ([output([2], **in_bytes(8))], bytes(9), "1 bytes more than its outputs"),
        ([output([1 << 40] * 2, **in_bytes(8))], bytes(8), f"not {4 << 80}"),
        ([output([0, 1 << 62, 1 << 62], **in_bytes(0))], b"", "cannot be read"),
        ([output([-2, -1], **in_bytes(8))], bytes(8), "outputs.0.shape.0"),
        ([output([1] * 17, **in_bytes(4))], bytes(4), "outputs.0.shape"),
        ([output([1], **in_bytes(-4))], b"", "binary_data_size"),
        ([output([1], **in_bytes(4))] * 2, bytes(8), "the output 'a' twice"),
        ([output([1], "BYTES", **in_bytes(4))], bytes(4), "'a' is BYTES"),
        ([output([1], "BF16", **in_bytes(2))], bytes(2), "'a' is BF16"),
        ([output([1], "FP32", **in_bytes(4)) | {"name": 7}], bytes(4), "outputs.0.name"),
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
def test_what_does_not_fit_is_not_believed(
    outputs: list[dict[str, Any]], tail: bytes | None, why: str
) -> None:
    with pytest.raises(AnswerError) as caught:
        read_outputs(reply(outputs, tail), [])
    assert why in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("told", ["-1", "", "1e3", "99999", "9" * 5000, "٣", "+3", "0x10"])
def test_the_length_of_the_json_is_not_believed_either(told: str) -> None:
    answer = reply([output([1], **in_bytes(4))], bytes(4), **{LENGTH: told})
    with pytest.raises(AnswerError, match=r"Inference-Header-Content-Length|not JSON"):
        read_outputs(answer, [])


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[1,2,3]", b"{}", b'{"error":"oh"}', b"[" * 9999]
)
def test_what_is_no_reply_of_the_protocol_is_told(body: bytes) -> None:
    with pytest.raises(AnswerError) as caught:
        read_outputs(Response(200, {}, body), [])
    assert len(str(caught.value)) < 400


@given(
    body=st.binary(max_size=60),
    told=st.none() | st.integers(0, 70).map(str) | st.text(max_size=5),
    start=st.sampled_from([b"", b'{"outputs":[{"name":"a","datatype":"FP32","shape":[1],']),
)
def test_no_reply_whatever_raises_anything_else(
    body: bytes, told: str | None, start: bytes
) -> None:
    headers = {} if told is None else {LENGTH: told}
    with pytest.raises(AnswerError):
        read_outputs(Response(200, headers, start + body), [])


def test_an_error_is_told_in_the_server_s_words() -> None:
    with pytest.raises(PermanentError, match=r"^http://h/x answered HTTP 400: no such input$"):
        check_reply("http://h/x", Response(400, {}, b'{"error": "no such input"}'))
    with pytest.raises(ThrottledError, match="HTTP 503: plain") as caught:
        check_reply("http://h/x", Response(503, {"retry-after": "7"}, b"plain"))
    assert caught.value.retry_after == 7
    for body in (b"[1]", b'{"error": 5}', b"\xff", b""):
        with pytest.raises(PermanentError, match="HTTP 404"):
            check_reply("http://h/x", Response(404, {}, body))
