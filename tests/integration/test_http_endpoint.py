"""Models behind HTTP: the real model server, and a server that does all that servers do wrong."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, encoder, media_type, open_image
from tasks.inference import BuiltinEndpoint, Endpoint, open_endpoint
from tasks.inference.answer import decode
from tasks.inference.endpoint import JsonText
from tasks.inference.http import HttpEndpoint
from tasks.publish import publish
from tasks.request import FeatureFormat, FileOutput, Request
from tasks.results import coverage, detections
from tests.infer_tiles import infer_tiles
from tests.publications import results

SIDE = 64
EMPTY = b'{"type":"FeatureCollection","features":[]}'
PROPERTIES = {"track": 2**64 + 1, "deep": [{"a": [-(10**30), 1e20, {"b": None}]}]}


class Misbehaving(BaseHTTPRequestHandler):
    """Does what the path says."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections: set[Any]
    headers_seen: list[dict[str, str]]
    enough: Event

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.connections.add(self.client_address)
        self.headers_seen.append({name.lower(): value for name, value in self.headers.items()})
        getattr(self, "do_" + self.path.strip("/").replace("-", "_"))()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass

    def say(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_good(self) -> None:
        self.say(200, EMPTY)

    def do_packed(self) -> None:
        self.say(200, gzip.compress(EMPTY), Content_Encoding="gzip")

    def do_badly_packed(self) -> None:
        self.say(200, b"not gzip at all", Content_Encoding="gzip")

    def do_reset(self) -> None:
        self.say(200, EMPTY[:20], Content_Length="9999")
        self.close_connection = True

    def do_hang_up(self) -> None:
        self.close_connection = True

    def do_not_http(self) -> None:
        self.wfile.write(b"220 mail.example ESMTP\r\n\r\n")
        self.close_connection = True

    def do_404(self) -> None:
        self.say(404, b"no model\n  of that\tname")

    def do_413(self) -> None:
        self.say(413, b"")

    def do_429(self) -> None:
        self.say(429, b"slow down", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")

    def do_500(self) -> None:
        self.say(500, b"\xff\xfe out of memory " + b"x" * 10_000)

    def do_502(self) -> None:
        self.say(502, b"<html>bad gateway</html>")

    def do_503(self) -> None:
        self.say(503, b"warming up", Retry_After="7")

    def do_503_plain(self) -> None:
        self.say(503, b"warming up")

    def do_204(self) -> None:
        self.send_response(204)
        self.end_headers()

    def do_307(self) -> None:
        self.say(307, b"", Location="http://127.0.0.1:9/there")

    def do_empty(self) -> None:
        self.say(200, b"")

    def do_junk(self) -> None:
        self.say(200, EMPTY[:20])

    def do_html(self) -> None:
        self.say(200, b"<html>Welcome</html>")

    def do_picture(self) -> None:
        self.say(200, b"\xff\xd8\xff", Content_Type="image/jpeg")

    def do_called_html(self) -> None:
        self.say(200, b"\xef\xbb\xbf" + EMPTY, Content_Type="text/html; charset=utf-8")

    def do_not_a_number(self) -> None:
        self.say(200, EMPTY.replace(b"[]", b'[{"properties": {"score": NaN}}]'))

    def do_long_integer(self) -> None:
        own = {"imageBBox": [1, 1, 9, 9], "featureClasses": [{"iri": "ship", "score": 1}]}
        feature = json.dumps({"properties": own | PROPERTIES}).encode()
        self.say(200, EMPTY.replace(b"[]", b"[" + feature + b"]"))

    def do_drip(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(400):
            if self.enough.wait(0.05):
                break
            try:
                self.wfile.write(b"X-Filler-%d: 1\r\n" % number)
            except OSError:
                break
        self.close_connection = True

    def do_list(self) -> None:
        self.say(200, b"[1,2,3]")

    def do_slow(self) -> None:
        self.enough.wait(20)
        self.close_connection = True

    def do_trickle(self) -> None:
        self.say(200, b"{", Content_Length="99999")
        while not self.enough.wait(0.05):
            try:
                self.wfile.write(b" ")
            except OSError:
                break
        self.close_connection = True

    def do_flood(self) -> None:
        self.say(200, b"[" + b"1," * 100_000 + b"1]")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what these tests are about."""


@pytest.fixture
def server() -> Iterator[str]:
    Misbehaving.connections, Misbehaving.headers_seen = set(), []
    Misbehaving.enough = Event()
    with Server(("127.0.0.1", 0), Misbehaving) as listening:
        thread = Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        Misbehaving.enough.set()
        listening.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    file = tmp_path_factory.mktemp("image") / "a.tif"
    shape = {"width": 8 * SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 57e5, 1, 1)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.random.default_rng(0).integers(0, 99, (3, SIDE, 8 * SIDE), np.uint8))
    return open_image(str(file), roots=[file.parent])


def tile(index: int = 0, colour: tuple[int, int, int] = (90, 90, 90)) -> TilePixels:
    pixels = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, SIDE, SIDE))
    return TilePixels(Tile(index, Window(index * SIDE, 0, SIDE, SIDE)), pixels, None)


Open = Callable[..., HttpEndpoint]


@pytest.fixture
def opened(image: Image) -> Iterator[Open]:
    """Opens endpoints, and closes them in the end."""
    endpoints: list[HttpEndpoint] = []

    def opened(url: str, timeout: float = 10.0, **parameters: Any) -> HttpEndpoint:
        encode = encoder(image, "NPY", "NONE")
        endpoint = HttpEndpoint(url, encode, media_type("NPY"), parameters, timeout)
        endpoints.append(endpoint)
        return endpoint

    yield opened
    for endpoint in endpoints:
        endpoint.close()


def answer_of(endpoint: Endpoint) -> object:
    """What an endpoint says of a tile."""
    (answer,) = endpoint.ask([endpoint.prepare(tile())])
    assert isinstance(answer, JsonText)
    return decode(answer)


def failure(endpoint: Endpoint) -> Exception:
    """What an endpoint raises for a tile."""
    try:
        answer_of(endpoint)
    except (EndpointError, AnswerError) as error:
        return error
    pytest.fail("it answered")


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        ("/reset", UnreachableError, "end of file before message length reached"),
        ("/hang-up", UnreachableError, "connection closed before message completed"),
        ("/not-http", UnreachableError, "invalid HTTP version"),
        ("/500", TransientError, "HTTP 500: \ufffd\ufffd out of memory x"),
        ("/502", UnreachableError, "HTTP 502: bad gateway"),
        ("/503", ThrottledError, "HTTP 503: warming up"),
        ("/429", ThrottledError, "HTTP 429: slow down"),
        ("/404", PermanentError, "HTTP 404: no model"),
        ("/413", PermanentError, "HTTP 413: "),
        ("/204", PermanentError, "HTTP 204: No Content"),
        ("/307", PermanentError, "HTTP 307: name http://127.0.0.1:9/there instead"),
        ("/empty", AnswerError, "not JSON"),
        ("/junk", AnswerError, "not JSON"),
        ("/html", AnswerError, ": Welcome"),
        ("/picture", AnswerError, "The answer is image/jpeg, neither JSON nor a raster"),
        ("/badly-packed", AnswerError, "Invalid gzip header"),
    ],
)
def test_each_failure_raises_its_error_with_the_address_and_the_reason(
    server: str, opened: Open, path: str, kind: type[Exception], told: str
) -> None:
    error = failure(opened(server + path))
    assert type(error) is kind
    assert str(error).startswith(server + path)
    assert told in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize(("path", "seconds"), [("/503", 7), ("/503_plain", None), ("/429", 0)])
def test_retry_after_is_read_in_seconds(
    server: str, opened: Open, path: str, seconds: float | None
) -> None:
    error = failure(opened(server + path))
    assert isinstance(error, ThrottledError)
    assert error.retry_after == seconds


@pytest.mark.parametrize("path", ["/slow", "/trickle", "/drip"])
def test_a_late_answer_times_out(server: str, opened: Open, path: str) -> None:
    began = time.monotonic()
    error = failure(opened(server + path, timeout=0.4))
    assert 0.3 < time.monotonic() - began < 5
    assert type(error) is EndpointTimeoutError
    assert str(error) == f"{server}{path}: no complete answer within 0.4 s"


def test_closing_ends_calls_in_flight(server: str, opened: Open) -> None:
    endpoint = opened(server + "/slow")
    began = time.monotonic()
    Timer(0.3, endpoint.close).start()
    assert type(failure(endpoint)) is UnreachableError
    assert time.monotonic() - began < 5


def test_a_refused_connection_may_succeed_later(opened: Open) -> None:
    error = failure(opened("http://127.0.0.1:9/"))
    assert type(error) is UnreachableError
    assert str(error).startswith("http://127.0.0.1:9/: Connection refused")


def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    server: str, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.inference.transport.MAX_ANSWER_BYTES", 1000)
    error = failure(opened(server + "/flood"))
    assert type(error) is AnswerError
    assert str(error).startswith(server + "/flood: the answer has ")
    assert "more than 1000" in str(error)


def test_an_answer_that_is_not_a_feature_collection_fails_only_its_tile(
    server: str, opened: Open
) -> None:
    endpoint = opened(server + "/list")
    assert answer_of(endpoint) == [1, 2, 3]
    found = infer_tiles([tile(0), tile(1)], endpoint, attempts=3)
    assert found.ledger["state"].to_pylist() == ["failed"] * 2
    assert found.ledger["attempts"].to_pylist() == [1, 1]
    assert found.ledger["reason"][0].as_py().endswith("not a GeoJSON FeatureCollection: [1, 2, 3]")


@pytest.mark.parametrize("path", ["/badly-packed", "/404", "/reset", "/empty"])
def test_each_tile_has_a_row_in_the_ledger_whatever_the_server_answers(
    server: str, opened: Open, path: str
) -> None:
    found = infer_tiles([tile(0), tile(1)], opened(server + path), attempts=1, retry_seconds=1.0)
    assert coverage.count(found.ledger)["failed"] == 2
    assert all(server in line and "\n" not in line for line in found.ledger["reason"].to_pylist())


def test_connections_are_reused(server: str, opened: Open) -> None:
    endpoint = opened(server + "/good")
    for _ in range(20):
        assert answer_of(endpoint) == json.loads(EMPTY)
    assert len(Misbehaving.connections) < 10  # a call may come before the last one is idle again


def test_a_connection_is_reused_after_an_error_status(server: str, opened: Open) -> None:
    endpoint = opened(server + "/500")
    for _ in range(20):
        assert isinstance(failure(endpoint), TransientError)
    assert len(Misbehaving.connections) < 10


def test_a_compressed_answer_is_decompressed(server: str, opened: Open) -> None:
    assert answer_of(opened(server + "/packed")) == json.loads(EMPTY)


def test_json_is_read_whatever_its_content_type(server: str, opened: Open) -> None:
    assert answer_of(opened(server + "/called-html")) == json.loads(EMPTY)


def test_a_feature_with_nan_is_rejected_alone(server: str, opened: Open) -> None:
    found = infer_tiles([tile()], opened(server + "/not-a-number"))
    assert found.ledger["state"].to_pylist() == ["inferred"]
    assert found.ledger["rejected"].to_pylist() == [1]


def test_long_integers_are_published_as_the_model_answers_them(
    server: str, opened: Open, tmp_path: Path
) -> None:
    found = infer_tiles([tile()], opened(server + "/long-integer"))
    of = replace(results(0), read_detections=lambda: [found.detections])
    formats = (FeatureFormat.GEOJSON, FeatureFormat.GEOJSONL, FeatureFormat.PARQUET)
    output = FileOutput(type="File", path=str(tmp_path), formats=formats)
    files = publish([output], of, "x", [tmp_path]).uris
    (feature,) = json.loads(Path(files["geojson"]).read_text())["features"]
    (text,) = pq.read_table(files["parquet"])["properties"].to_pylist()
    assert repr({name: feature["properties"][name] for name in PROPERTIES}) == repr(PROPERTIES)
    assert json.loads(Path(files["geojsonl"]).read_text()) == feature
    assert repr(json.loads(text)) == repr(PROPERTIES)


def test_parameters_are_sent_as_headers(server: str, opened: Open) -> None:
    endpoint = opened(
        server + "/good", CustomAttributes="a=1", count=5, threshold=0.25, note=" été "
    )
    answer_of(endpoint)
    (seen,) = Misbehaving.headers_seen
    assert seen["content-type"] == "application/x-npy"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "a=1"
    assert (seen["count"], seen["threshold"]) == ("5", "0.25")
    assert seen["note"].encode("latin-1").decode() == "été"


def ask(url: str, **fields: Any) -> Request:
    whole = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": url, "type": "HTTP_ENDPOINT"},
    }
    return Request.model_validate(whole | fields)


@pytest.mark.parametrize("form", ["NITF", "GTIFF", "PNG", "NPY"])
def test_a_model_behind_http_answers_as_it_does_in_process(
    models: str, image: Image, form: str
) -> None:
    request = ask(
        f"{models}/flood/invocations",
        imageProcessorTileFormat=form,
        imageProcessorParameters={"count": 9},
    )
    batch = [tile(index, (index, 50, 60)) for index in range(5)]
    with closing(open_endpoint(request, image, 30.0)) as endpoint:
        over_http = infer_tiles(batch, endpoint, attempts=1)
    in_process = infer_tiles(batch, BuiltinEndpoint("flood", {"count": 9}), attempts=1)
    assert over_http.ledger.equals(in_process.ledger)
    assert over_http.detections.equals(in_process.detections)
    assert len(detections.boxes(over_http.detections)) == 45


def test_a_failing_tile_does_not_fail_its_neighbours(
    models: str, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.inference.retry._THROTTLED_FACTOR", 0)
    request = ask(f"{models}/failure/invocations", imageProcessorParameters={"patience": 1})
    colours = [(255, 0, 0), (9, 90, 9), (255, 255, 0), (255, 0, 255), (0, 255, 255), (9, 90, 9)]
    batch = [tile(index, colour) for index, colour in enumerate(colours)]
    with closing(open_endpoint(request, image, 30.0)) as endpoint:
        found = infer_tiles(batch, endpoint, attempts=2)
    lines = found.ledger.to_pylist()
    failed, inferred = "failed", "inferred"
    assert [line["state"] for line in lines] == [failed, inferred, failed, failed, failed, inferred]
    assert [line["attempts"] for line in lines] == [2, 1, 2, 1, 1, 1]
    for line, why in zip(lines, ["500", "", "503", "not JSON", "[1, 2, 3]", ""], strict=True):
        assert why in line["reason"]
    assert found.detections["tile"].to_pylist() == [1, 5]
    assert lines[2]["failed_calls"][0].startswith("ThrottledError after 0.")


def test_an_unknown_model_is_a_permanent_error(models: str, image: Image) -> None:
    with closing(open_endpoint(ask(f"{models}/yolo/invocations"), image, 30.0)) as endpoint:
        error = failure(endpoint)
    assert type(error) is PermanentError
    assert "HTTP 404" in str(error)
    assert "bright-targets, brightness-classes, brightness-scenes, centerpoint" in str(error)


def test_the_timeout_applies_to_each_call(models: str, image: Image) -> None:
    request = ask(f"{models}/failure/invocations", imageProcessorParameters={"seconds": 1})
    with closing(open_endpoint(request, image, 0.3)) as endpoint:
        found = infer_tiles([tile(0, (0, 0, 255)), tile(1)], endpoint, attempts=1)
    assert found.ledger["state"].to_pylist() == ["failed", "inferred"]
    assert "no complete answer within 0.3 s" in found.ledger["reason"][0].as_py()
