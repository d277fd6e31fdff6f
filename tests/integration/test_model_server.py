"""The model server over real HTTP: answers, failures, refusals, shutdown."""

import gzip
import io
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse

import numpy as np
import pytest

from tasks.inference import builtin
from tests.model_server import start

COLOURS = {
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "magenta": (255, 0, 255),
    "cyan": (0, 255, 255),
    "blue": (0, 0, 255),
    "grey": (90, 90, 90),
}


def tile(colour: str = "grey", side: int = 64) -> bytes:
    buffer = io.BytesIO()
    pixels = np.broadcast_to(np.array(COLOURS[colour], np.uint8)[:, None, None], (3, side, side))
    np.save(buffer, pixels)
    return buffer.getvalue()


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    process, port = start()
    yield port
    assert stop(process) == (0, "")


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    yield connection
    connection.close()


def post(
    connection: HTTPConnection,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[HTTPResponse, bytes]:
    connection.request("POST", path, tile() if body is None else body, headers or {})
    answer = connection.getresponse()
    return answer, answer.read()


def test_it_reports_when_it_is_ready(connection: HTTPConnection) -> None:
    connection.request("GET", "/ping")
    answer = connection.getresponse()
    assert answer.status == 200
    assert json.loads(answer.read())["models"] == sorted(builtin.MODELS)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/flood/invocations?count=5", {}),
        ("/flood/invocations", {"count": "5"}),
        ("/invocations?model=flood&count=5", {}),
        ("/invocations?count=5", {"X-Swath-Model": "flood"}),
    ],
)
def test_a_model_answers_as_in_process(
    connection: HTTPConnection, path: str, headers: dict[str, str]
) -> None:
    answer, body = post(connection, path, headers=headers)
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "application/geo+json"
    pixels = np.load(io.BytesIO(tile()))
    assert json.loads(body) == builtin.create_model("flood", {"count": 5})(pixels)


def test_a_connection_is_kept(connection: HTTPConnection) -> None:
    post(connection, "/centerpoint/invocations")
    kept = connection.sock
    for _ in range(50):
        answer, _ = post(connection, "/centerpoint/invocations")
        assert answer.status == 200
        assert connection.sock is kept


def test_headers_and_body_do_not_wait_for_an_acknowledgement(connection: HTTPConnection) -> None:
    post(connection, "/centerpoint/invocations")
    waits = []
    for _ in range(50):
        began = time.monotonic()
        post(connection, "/centerpoint/invocations")
        waits.append(time.monotonic() - began)
    # a delayed acknowledgement costs every call 40 ms; a busy machine only some
    assert min(waits) < 0.030


def test_answers_are_compressed_on_request(connection: HTTPConnection) -> None:
    path = "/flood/invocations?count=50"
    _, plain = post(connection, path)
    answer, packed = post(connection, path, headers={"Accept-Encoding": "gzip"})
    assert answer.getheader("Content-Encoding") == "gzip"
    assert len(packed) < len(plain)
    assert gzip.decompress(packed) == plain


def test_a_red_tile_gets_an_internal_error(connection: HTTPConnection) -> None:
    answer, body = post(connection, "/failure/invocations", tile("red"))
    assert answer.status == 500
    assert "red" in json.loads(body)["reason"]


def test_a_yellow_tile_gets_a_request_to_retry_later(connection: HTTPConnection) -> None:
    answer, body = post(connection, "/failure/invocations?patience=3", tile("yellow"))
    assert answer.status == 503
    assert answer.getheader("Retry-After") == "3"
    assert "retry after 3 s" in json.loads(body)["reason"]


def test_a_magenta_tile_gets_json_cut_in_half(connection: HTTPConnection) -> None:
    answer, body = post(connection, "/failure/invocations", tile("magenta"))
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


def test_a_cyan_tile_gets_json_that_is_not_a_feature_collection(connection: HTTPConnection) -> None:
    answer, body = post(connection, "/failure/invocations", tile("cyan"))
    assert (answer.status, body) == (200, b"[1,2,3]")


def test_a_slow_tile_does_not_block_others(port: int, connection: HTTPConnection) -> None:
    answered = threading.Event()
    statuses: list[int] = []

    def slow() -> None:
        own = HTTPConnection("127.0.0.1", port, timeout=30)
        answer, _ = post(own, "/failure/invocations?seconds=3", tile("blue"))
        statuses.append(answer.status)
        answered.set()
        own.close()

    thread = threading.Thread(target=slow)
    thread.start()
    for _ in range(3):
        answer, _ = post(connection, "/centerpoint/invocations")
        assert answer.status == 200
    assert not answered.is_set()
    thread.join()
    assert statuses == [200]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        (
            "/yolo/invocations",
            None,
            404,
            "bright-targets, brightness-classes, brightness-scenes, centerpoint",
        ),
        ("/invocations", None, 404, "give one of"),
        ("/nowhere", None, 404, "Not Found"),
        ("/flood/invocations?count=many", None, 400, "count = 'many'"),
        ("/flood/invocations?cuont=1", None, 400, "cuont"),
        ("/flood/invocations", b"not an image", 400, "not an image"),
        ("/flood/invocations", b"", 400, "0 bytes"),
        ("/ping", None, 405, "Method Not Allowed"),
    ],
)
def test_an_invalid_request_is_refused_with_the_reason(
    connection: HTTPConnection, path: str, body: bytes | None, status: int, told: str
) -> None:
    answer, reason = post(connection, path, body)
    assert answer.status == status
    assert told in json.loads(reason)["reason"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_shuts_down_cleanly(number: int) -> None:
    process, port = start()
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    post(connection, "/centerpoint/invocations")  # an idle connection does not delay the shutdown
    assert stop(process, number) == (0, "")
    connection.close()
