"""SageMaker endpoints: real model servers behind an emulated runtime, and their failures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

from tasks.aws import clients
from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    RequestError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.answer import decode
from tasks.inference.builtin import create_model
from tasks.inference.endpoint import Endpoint, JsonText
from tasks.inference.sagemaker import open_sagemaker, resolve_variant
from tasks.request import Request
from tests.polling import until
from tests.sagemaker_runtime import Fault, Hosted, Refusal, SageMaker, sagemaker

SIDE = 64
ROLE = "arn:aws:iam::123456789012:role/invoke"
SECRET = "swath"  # of the emulated AWS


@pytest.fixture
def server(aws: str, models: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMaker]:
    """An emulated SageMaker with the endpoint `ships`, before a container that floods."""
    with sagemaker(SECRET) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", server.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", server.url)
        clients.renew_credentials()
        told = {"ProductionVariants": [instances("AllTraffic", 3)]}
        server.endpoints["ships"] = Hosted(f"{models}/flood", told)
        yield server
    clients.renew_credentials()


@pytest.fixture
def queue(server: SageMaker, models: str) -> Iterator[str]:
    """The bucket of the asynchronous endpoint `slow`, which must be empty in the end."""
    s3, bucket = boto3.client("s3"), f"slow-{uuid4().hex[:8]}"
    s3.create_bucket(Bucket=bucket)
    places = {"S3OutputPath": f"s3://{bucket}/out", "S3FailurePath": f"s3://{bucket}/failed"}
    told = {
        "ProductionVariants": [instances("only", 2)],
        "AsyncInferenceConfig": {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
            "OutputConfig": places,
        },
    }
    server.endpoints["slow"] = Hosted(f"{models}/failure", told)
    yield bucket
    assert objects(bucket) == []
    s3.close()


def objects(bucket: str) -> list[str]:
    s3 = boto3.client("s3")
    try:
        return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    finally:
        s3.close()


def instances(name: str, count: int, weight: float = 1.0) -> dict[str, Any]:
    return {"VariantName": name, "CurrentWeight": weight, "CurrentInstanceCount": count}


def serverless(name: str, most: int, weight: float = 1.0) -> dict[str, Any]:
    config = {"MemorySizeInMB": 2048, "MaxConcurrency": most}
    return {"VariantName": name, "CurrentWeight": weight, "CurrentServerlessConfig": config}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    file = tmp_path_factory.mktemp("image") / "a.tif"
    shape = {"width": 4096, "height": 4096, "count": 3, "dtype": "uint8", "compress": "deflate"}
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 57e5, 1, 1)}
    with rasterio.open(file, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.ones((3, 8, 8), np.uint8), window=Window(0, 0, 8, 8))
    return open_image(str(file), roots=[file.parent])


def tile(index: int = 0, colour: tuple[int, int, int] = (90, 90, 90)) -> TilePixels:
    pixels = np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, SIDE, SIDE))
    return TilePixels(Tile(index, Window(index * SIDE, 0, SIDE, SIDE)), pixels, None)


def ask(name: str, role: str | None = None, **fields: Any) -> Request:
    processor = {"name": name, "type": "SM_ENDPOINT"} | ({"assumedRole": role} if role else {})
    whole = {
        "jobId": "job-1",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": processor,
        "imageProcessorTileFormat": "NPY",
        "imageProcessorTileSize": SIDE,
        "imageProcessorTileOverlap": 0,
    }
    return Request.model_validate(whole | fields)


Open = Callable[..., Endpoint]


@pytest.fixture
def opened(server: SageMaker, image: Image) -> Iterator[Open]:
    """Opens endpoints, and closes them in the end."""
    endpoints: list[Endpoint] = []

    def opened(
        name: str = "ships",
        *,
        timeout: float = 10.0,
        role: str | None = None,
        options: dict[str, Any] | None = None,
        fields: dict[str, Any] | None = None,
        **parameters: Any,
    ) -> Endpoint:
        request = ask(name, role, imageProcessorParameters=parameters, **(fields or {}))
        endpoints.append(open_sagemaker(request, image, timeout, **(options or {})))
        return endpoints[-1]

    yield opened
    for endpoint in endpoints:
        endpoint.close()


def answer(endpoint: Endpoint, one: TilePixels | None = None) -> Any:
    (only,) = endpoint.ask([endpoint.prepare(one or tile())])
    assert isinstance(only, JsonText)
    return decode(only)


def failure(endpoint: Endpoint, one: TilePixels | None = None) -> Exception:
    """What an endpoint raises for a tile."""
    try:
        answer(endpoint, one)
    except (EndpointError, AnswerError) as error:
        return error
    pytest.fail("it answered")


# --- real-time endpoints


@pytest.mark.parametrize("form", ["NITF", "GTIFF", "PNG", "NPY"])
def test_a_model_behind_sagemaker_answers_as_it_does_in_process(opened: Open, form: str) -> None:
    endpoint = opened(fields={"imageProcessorTileFormat": form})
    for index in range(3):
        one = tile(index, (index, 50, 60))
        assert answer(endpoint, one) == create_model("flood", {})(one.pixels)


def test_every_parameter_arrives_as_its_header(server: SageMaker, opened: Open) -> None:
    given = {
        "Accept": "application/geo+json",
        "ContentType": "application/x-mine",
        "CustomAttributes": "a=1;b=two words",
        "EnableExplanations": "`true`",
        "InferenceId": "id-1",
        "PrefixAwareId": "prefix-1",
        "SessionId": "NEW_SESSION",
        "TargetContainerHostname": "second",
        "TargetModel": "ships-2.tar.gz",
        "TargetVariant": "AllTraffic",
    }
    answer(opened(**given))
    seen = server.calls[0].headers
    for name in set(given) - {"Accept", "ContentType"}:
        header = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
        assert seen[f"x-amzn-sagemaker{header}"] == given[name]
    assert (seen["accept"], seen["content-type"]) == (given["Accept"], given["ContentType"])
    assert server.calls[0].path == "/endpoints/ships/invocations"


def test_the_content_type_is_the_tiles_own_and_the_body_the_tile(
    server: SageMaker, opened: Open
) -> None:
    endpoint = opened()
    answer(endpoint)
    assert server.calls[0].headers["content-type"] == "application/x-npy"
    assert server.calls[0].body == endpoint.prepare(tile())


def test_an_inference_component_is_named_in_its_header(server: SageMaker, opened: Open) -> None:
    server.components["part"] = {"EndpointName": "ships", "RuntimeConfig": {"CurrentCopyCount": 3}}
    endpoint = opened(InferenceComponentName="part", options={"instance_concurrency": 2})
    answer(endpoint)
    assert server.calls[0].headers["x-amzn-sagemaker-inference-component"] == "part"
    assert endpoint.capacity == 6


def test_a_compressed_answer_is_decompressed(server: SageMaker, opened: Open) -> None:
    server.endpoints["ships"].fault = "gzip"
    assert answer(opened()) == create_model("flood", {})(tile().pixels)


def test_calls_as_an_assumed_role_are_signed_with_its_credentials(
    server: SageMaker, opened: Open
) -> None:
    credentials = clients.session(ROLE).get_credentials()
    assert credentials is not None
    server.secret = str(credentials.get_frozen_credentials().secret_key)  # as STS made it up
    answer(opened(role=ROLE))
    key = clients.access_key(ROLE)
    assert key != clients.access_key()
    assert server.calls[0].key == key
    assert "x-amz-security-token" in server.calls[0].headers


def json_error(status: int, kind: str, said: str, **headers: str) -> Refusal:
    return Refusal(status, kind, {"Message": said}, headers)


def model_error(original: int, said: str) -> Refusal:
    fields = {"Message": "Received error", "OriginalStatusCode": original, "OriginalMessage": said}
    return Refusal(424, "ModelError", {**fields, "LogStreamArn": "arn:log"})


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        (json_error(400, "ThrottlingException", "Rate exceeded"), ThrottledError, "Rate exceeded"),
        (json_error(429, "ModelNotReadyException", "loading"), ThrottledError, "loading"),
        (json_error(429, "TooManyRequestsException", "slow"), ThrottledError, "slow"),
        (json_error(503, "ServiceUnavailable", "later"), ThrottledError, "ServiceUnavailable"),
        (
            json_error(500, "InternalFailure", "oops"),
            TransientError,
            "InternalFailure (HTTP 500): oops",
        ),
        (json_error(530, "InternalDependencyException", "S3"), TransientError, "HTTP 530"),
        (json_error(400, "ValidationError", "bad header"), PermanentError, "bad header"),
        (
            json_error(403, "AccessDeniedException", "no"),
            PermanentError,
            "sagemaker:InvokeEndpoint",
        ),
        (json_error(413, "", "too long"), PermanentError, "smaller imageProcessorTileSize"),
        (model_error(500, "CUDA out of memory"), TransientError, "HTTP 500: CUDA out of memory"),
        (model_error(503, "busy"), ThrottledError, "HTTP 503: busy (log: arn:log)"),
        (model_error(429, "busy"), ThrottledError, "HTTP 429: busy"),
        (model_error(400, "no image"), PermanentError, "HTTP 400: no image"),
        (
            model_error(0, "Your invocation timed out while waiting"),
            EndpointTimeoutError,
            "timed out",
        ),
        (
            model_error(0, "container died"),
            TransientError,
            "did not answer SageMaker: container died",
        ),
        (Refusal(502, "", b"<html>bad \xff way</html>"), UnreachableError, "bad \ufffd way"),
        (Refusal(504, "", b"[1,2]"), UnreachableError, "[1,2]"),
        (Refusal(404, "", b""), PermanentError, "HTTP 404"),
        (Refusal(307, "", b"", {"Location": "http://127.0.0.1:9/"}), PermanentError, "HTTP 307"),
        ("short", UnreachableError, "127.0.0.1"),
        ("reset", UnreachableError, "127.0.0.1"),
    ],
)
def test_each_failure_raises_its_error_with_the_reason_after_one_call(
    server: SageMaker, opened: Open, fault: Fault, kind: type[Exception], told: str
) -> None:
    endpoint = opened()
    server.endpoints["ships"].fault = fault
    error = failure(endpoint)
    assert type(error) is kind
    assert told in str(error)
    assert fault in ("short", "reset") or str(error).startswith("SageMaker endpoint ships: ")
    assert len(server.calls) == 1


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None)])
def test_retry_after_is_read_in_seconds(
    server: SageMaker, opened: Open, header: str, seconds: float | None
) -> None:
    endpoint = opened()
    late = {"Retry-After": header}
    server.endpoints["ships"].fault = json_error(503, "ServiceUnavailable", "later", **late)
    error = failure(endpoint)
    assert isinstance(error, ThrottledError)
    assert error.retry_after == seconds


@pytest.fixture
def failing(server: SageMaker, opened: Open, models: str) -> Endpoint:
    """An endpoint before a container that fails as a tile's colour asks."""
    server.endpoints["ships"].container = f"{models}/failure"
    return opened()


@pytest.mark.parametrize(
    ("colour", "kind", "told"),
    [
        ((255, 0, 0), TransientError, "the model answered HTTP 500"),
        ((255, 255, 0), ThrottledError, "the model answered HTTP 503"),
        ((255, 0, 255), AnswerError, "not JSON"),
    ],
)
def test_an_error_of_the_container_is_distinguished_from_one_of_sagemaker(
    failing: Endpoint, colour: tuple[int, int, int], kind: type[Exception], told: str
) -> None:
    error = failure(failing, tile(0, colour))
    assert type(error) is kind
    assert told in str(error)
    assert str(error).startswith("SageMaker endpoint ships: ")


def test_an_unknown_model_is_a_permanent_error(
    server: SageMaker, opened: Open, models: str
) -> None:
    server.endpoints["ships"].container = f"{models}/nothing"
    error = failure(opened())
    assert type(error) is PermanentError
    assert "HTTP 404" in str(error)


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_late_answer_times_out(server: SageMaker, opened: Open, fault: str) -> None:
    endpoint = opened(timeout=0.5)
    server.endpoints["ships"].fault = fault
    assert (
        type(failure(endpoint)) is EndpointTimeoutError
    )  # not the end that the server makes of it


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_closing_ends_the_calls_of_other_threads(
    server: SageMaker, opened: Open, fault: str
) -> None:
    endpoint = opened(timeout=60)
    server.endpoints["ships"].fault = fault
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(failure, endpoint) for _ in range(4)]
        until(lambda: len(server.calls) == 4)
        endpoint.close()
        assert {type(call.result(10)) for call in calls} == {UnreachableError}
    assert type(failure(endpoint)) is UnreachableError


# --- credentials


@pytest.fixture
def keys(
    server: SageMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Writes an access key to the file that the process's credentials are read from."""
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        file.write_text(f"[default]\naws_access_key_id={key}\naws_secret_access_key={SECRET}\n")

    write("OLD")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    clients.renew_credentials()
    return write


def test_expired_credentials_are_renewed_once_for_all_threads(
    server: SageMaker, opened: Open, keys: Callable[[str], None]
) -> None:
    endpoint = opened()
    answer(endpoint)
    server.expired.add("OLD")
    keys("NEW")
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: answer(endpoint), range(32)))
    assert len(answers) == 32
    assert {call.key for call in server.calls[1:]} == {"NEW"}
    opened()  # the control plane is asked with them, too


def test_credentials_that_stay_expired_are_permanent(
    server: SageMaker, opened: Open, keys: Callable[[str], None]
) -> None:
    endpoint = opened()
    server.expired.add("OLD")
    error = failure(endpoint)
    assert type(error) is PermanentError
    assert "renew them" in str(error)


def test_the_control_plane_is_called_with_renewed_credentials_too(
    server: SageMaker, opened: Open, keys: Callable[[str], None]
) -> None:
    opened()
    server.expired.add("OLD")
    keys("NEW")
    answer(opened())


# --- what is refused before any tile


@pytest.mark.parametrize("status", ["Creating", "OutOfService", "Failed", "Deleting"])
def test_an_endpoint_out_of_service_is_refused(
    server: SageMaker, opened: Open, status: str
) -> None:
    server.endpoints["ships"].told |= {"EndpointStatus": status, "FailureReason": "no room"}
    with pytest.raises(RequestError, match=rf"ships is {status}, not InService \(no room\)"):
        opened()
    with pytest.raises(RequestError, match=status):
        resolve_variant(ask("ships"), "s3://images/a.tif")


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating"])
def test_an_endpoint_that_is_being_updated_answers(
    server: SageMaker, opened: Open, status: str
) -> None:
    server.endpoints["ships"].told |= {"EndpointStatus": status}
    answer(opened())


def test_an_endpoint_that_does_not_exist_is_refused(opened: Open) -> None:
    with pytest.raises(RequestError, match=r"imageProcessor.name: boats: .*Could not find"):
        opened("boats")


@pytest.mark.parametrize("name", ["EndpointName", "Targetvariant", "RequestTTLSeconds"])
def test_unknown_parameters_are_refused(server: SageMaker, opened: Open, name: str) -> None:
    with pytest.raises(RequestError, match=f"imageProcessorParameters.{name}: .*TargetVariant"):
        opened(**{name: "x"})
    assert server.calls == []


def test_an_unknown_variant_is_refused_with_the_known_ones(opened: Open) -> None:
    with pytest.raises(RequestError, match=r"TargetVariant: blue .* name one of AllTraffic"):
        opened(TargetVariant="blue")


def test_a_component_of_another_endpoint_is_refused(server: SageMaker, opened: Open) -> None:
    server.components["part"] = {"EndpointName": "boats"}
    with pytest.raises(RequestError, match="part belongs to the endpoint boats"):
        opened(InferenceComponentName="part")
    with pytest.raises(RequestError, match=r"InferenceComponentName: other: .*Could not find"):
        opened(InferenceComponentName="other")
    server.components["part"] = {
        "EndpointName": "ships",
        "InferenceComponentStatus": "Creating",
    }
    with pytest.raises(RequestError, match="part is Creating"):
        opened(InferenceComponentName="part")


def test_an_error_of_describe_endpoint_is_reported(server: SageMaker, opened: Open) -> None:
    server.refused["DescribeEndpoint"] = json_error(400, "OptInRequired", "not subscribed")
    with pytest.raises(
        PermanentError, match=r"DescribeEndpoint answered OptInRequired.*not subscribed"
    ):
        opened()


def test_a_network_with_a_route_only_to_the_runtime_is_enough(
    server: SageMaker,
    opened: Open,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", "http://127.0.0.1:9")
    clients.renew_credentials()
    with caplog.at_level(logging.WARNING):
        answer(opened())
    assert "The run continues without" in caplog.text


# --- payload


@pytest.mark.parametrize(
    ("side", "variant", "most"),
    [(4096, instances("a", 1), 25 * 2**20), (2048, serverless("a", 5), 4 * 2**20)],
)
def test_a_request_whose_tiles_are_all_too_large_is_refused(
    server: SageMaker, opened: Open, side: int, variant: dict[str, Any], most: int
) -> None:
    server.endpoints["ships"].told["ProductionVariants"] = [variant]
    fields: dict[str, Any] = {"imageProcessorTileSize": side}
    with pytest.raises(RequestError, match=f"imageProcessorTileSize: {side} pixels .* {most}"):
        opened(fields=fields)
    opened(fields=fields | {"imageProcessorTileFormat": "PNG"})  # only each tile tells
    assert server.calls == []


def test_only_a_tile_that_is_too_large_fails_and_it_is_not_sent(
    server: SageMaker, opened: Open
) -> None:
    server.endpoints["ships"].told["ProductionVariants"] = [serverless("a", 5)]
    noise = np.random.default_rng(0).integers(0, 255, (3, 1536, 1536), np.uint8)
    large = TilePixels(Tile(0, Window(0, 0, 1536, 1536)), noise, None)
    endpoint = opened(fields={"imageProcessorTileFormat": "PNG", "imageProcessorTileSize": 1536})
    error = failure(endpoint, large)
    assert type(error) is PermanentError
    assert "serverless endpoint of SageMaker takes 4194304" in str(error)
    assert "asynchronous endpoint" in str(error)
    assert server.calls == []
    answer(endpoint)


# --- variants


def test_images_are_distributed_by_weight_and_each_always_has_the_same_variant(
    server: SageMaker,
) -> None:
    server.endpoints["ships"].told["ProductionVariants"] = [
        instances("green", 1, 3.0),
        instances("blue", 1, 1.0),
        instances("none", 1, 0.0),
    ]
    urls = [f"s3://images/{number}.tif" for number in range(100)]
    request = ask("ships", imageUrls=urls)
    chosen = [resolve_variant(request, url) for url in urls]
    shares = Counter(one.image_processor_parameters["TargetVariant"] for one in chosen)
    assert set(shares) == {"green", "blue"}
    assert 60 <= shares["green"] <= 90
    assert [resolve_variant(request, url) for url in urls[:9]] == chosen[:9]
    assert [resolve_variant(one, "s3://images/1.tif") for one in chosen[:9]] == chosen[:9]


@pytest.mark.parametrize("name", ["TargetVariant", "InferenceComponentName"])
def test_a_request_that_names_a_variant_or_component_is_left_as_it_is(
    server: SageMaker, name: str
) -> None:
    request = ask("ships", imageProcessorParameters={name: "mine"})
    assert resolve_variant(request, "s3://images/a.tif") is request
    assert server.asked == []


def test_no_variant_is_named_if_there_is_no_choice(server: SageMaker) -> None:
    request = ask("ships")
    assert resolve_variant(request, "s3://images/a.tif") is request
    http = {"type": "HTTP_ENDPOINT", "name": "http://127.0.0.1/"}
    other = ask("ships", imageProcessor=http)
    assert resolve_variant(other, "s3://images/a.tif") is other


def test_without_permission_to_describe_the_run_continues_with_a_warning(
    server: SageMaker, opened: Open, caplog: pytest.LogCaptureFixture
) -> None:
    server.refused["DescribeEndpoint"] = json_error(400, "AccessDeniedException", "not you")
    request = ask("ships")
    with caplog.at_level(logging.WARNING):
        assert resolve_variant(request, "s3://images/a.tif") is request
    assert "sagemaker:DescribeEndpoint" in caplog.text
    assert "ships: SageMaker chooses a variant for each call" in caplog.text
    endpoint = opened(options={"instance_concurrency": 4})
    assert endpoint.capacity is None
    answer(endpoint)


# --- capacity


TAG = "osml:instance-concurrency"


@pytest.mark.parametrize(
    ("variants", "tag", "each", "calls"),
    [
        ([instances("a", 3)], None, None, None),
        ([instances("a", 3)], None, 2, 6),
        ([instances("a", 3)], "5", 2, 15),
        ([instances("a", 3)], "many", 2, 6),
        ([instances("a", 3), instances("b", 1)], None, 4, 16),
        ([instances("a", 0)], None, 4, 4),
        ([serverless("a", 20)], None, None, 20),
        ([serverless("a", 20), instances("b", 1)], None, None, None),
    ],
)
def test_the_capacity_is_that_of_all_variants(
    hosting: Callable[..., Open],
    variants: list[dict[str, Any]],
    tag: str | None,
    each: int | None,
    calls: int | None,
) -> None:
    open_it = hosting(variants, {TAG: tag} if tag else {})
    assert open_it(options={"instance_concurrency": each}).capacity == calls


@pytest.mark.parametrize(("named", "calls"), [("a", 20), ("b", 8)])
def test_the_capacity_is_that_of_the_variant_that_is_named(
    hosting: Callable[..., Open], named: str, calls: int
) -> None:
    open_it = hosting([serverless("a", 20), instances("b", 2)], {TAG: "4"})
    assert open_it(TargetVariant=named).capacity == calls


@pytest.fixture
def hosting(server: SageMaker, opened: Open) -> Callable[..., Open]:
    """Gives `ships` its variants and tags."""

    def hosting(variants: list[dict[str, Any]], tags: dict[str, str]) -> Open:
        server.endpoints["ships"].told["ProductionVariants"] = variants
        server.endpoints["ships"].tags = tags
        return opened

    return hosting


def test_without_permission_to_list_tags_the_operators_default_applies(
    server: SageMaker, opened: Open
) -> None:
    server.refused["ListTags"] = json_error(400, "AccessDeniedException", "not you")
    assert opened(options={"instance_concurrency": 2}).capacity == 6


# --- asynchronous endpoints


def options(bucket: str, timeout: float = 30.0) -> dict[str, Any]:
    return {"async_uri": f"s3://{bucket}/in", "async_timeout": timeout}


def test_an_asynchronous_endpoint_answers_through_s3_and_leaves_no_object(
    server: SageMaker, opened: Open, queue: str, models: str
) -> None:
    server.endpoints["slow"].container = f"{models}/flood"
    endpoint = opened("slow", options=options(queue), CustomAttributes="a=1", RequestTTLSeconds=99)
    assert endpoint.capacity == 8
    tiles = [tile(index, (index, 50, 60)) for index in range(12)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda one: answer(endpoint, one), tiles))
    assert answers == [create_model("flood", {})(one.pixels) for one in tiles]
    seen = server.calls[0].headers
    assert server.calls[0].path == "/endpoints/slow/async-invocations"
    assert seen["x-amzn-sagemaker-content-type"] == "application/x-npy"
    assert seen["x-amzn-sagemaker-custom-attributes"] == "a=1"
    assert seen["x-amzn-sagemaker-requestttlseconds"] == "99"
    assert seen["x-amzn-sagemaker-invocationtimeoutseconds"] == "30"
    assert seen["x-amzn-sagemaker-inputlocation"].startswith(f"s3://{queue}/in/")
    assert len({call.headers["x-amzn-sagemaker-filename"] for call in server.calls}) == 12
    assert objects(queue) == []


@pytest.mark.parametrize(
    ("colour", "kind", "told"),
    [
        ((255, 0, 0), TransientError, "Received server error (500) from primary"),
        ((255, 255, 0), ThrottledError, "Received server error (503) from primary"),
        ((255, 0, 255), AnswerError, "not JSON"),
    ],
)
def test_an_asynchronous_failure_raises_its_error_and_leaves_no_object(
    opened: Open, queue: str, colour: tuple[int, int, int], kind: type[Exception], told: str
) -> None:
    error = failure(opened("slow", options=options(queue)), tile(0, colour))
    assert type(error) is kind
    assert told in str(error)
    assert objects(queue) == []


def test_a_refused_asynchronous_call_leaves_no_object(
    server: SageMaker, opened: Open, queue: str
) -> None:
    endpoint = opened("slow", options=options(queue))
    server.endpoints["slow"].fault = json_error(400, "ThrottlingException", "Rate exceeded")
    assert type(failure(endpoint)) is ThrottledError
    assert objects(queue) == []


def test_a_missing_asynchronous_answer_times_out_and_is_removed_on_closing(
    server: SageMaker, opened: Open, queue: str
) -> None:
    server.go.clear()
    endpoint = opened("slow", options=options(queue, 1.0))
    error = failure(endpoint)
    assert type(error) is EndpointTimeoutError
    assert "1 s, SWATH_ASYNC_TIMEOUT" in str(error)
    assert objects(queue) == []  # the tile is gone: nobody works on it any more
    server.go.set()
    until(lambda: objects(queue) != [])
    endpoint.close()
    assert objects(queue) == []


def test_closing_ends_the_wait_for_asynchronous_answers_and_leaves_no_tile(
    server: SageMaker, opened: Open, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.inference.sagemaker.s3_exchange import S3Exchange

    waiting: list[Any] = []
    first = S3Exchange.first_object

    def noticed(exchange: S3Exchange, places: Sequence[str], deadline: float) -> Any:
        waiting.append(places)
        return first(exchange, places, deadline)

    monkeypatch.setattr(S3Exchange, "first_object", noticed)
    server.go.clear()
    endpoint = opened("slow", options=options(queue, 60.0))
    with ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(failure, endpoint) for _ in range(4)]
        until(lambda: len(waiting) == 4)  # a call on its way would end otherwise
        endpoint.close()
        assert {type(call.result(30)) for call in calls} == {TransientError}
    assert objects(queue) == []
    failures = server.endpoints["slow"].told["AsyncInferenceConfig"]["OutputConfig"]
    del failures["S3FailurePath"]  # what SageMaker writes later is none of ours


def test_one_listing_serves_all_waiting_threads(
    server: SageMaker, opened: Open, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.inference.sagemaker.aws_client import AwsClient

    asked: Counter[str] = Counter()
    call = AwsClient.call

    def counted(aws: AwsClient, service: str, operation: str, where: str, **arguments: Any) -> Any:
        asked[operation] += 1
        return call(aws, service, operation, where, **arguments)

    monkeypatch.setattr(AwsClient, "call", counted)
    server.go.clear()
    endpoint = opened("slow", options=options(queue))
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(answer, endpoint) for _ in range(16)]
        until(lambda: asked["list_objects_v2"] >= 8)
        listed = asked["list_objects_v2"]
        server.go.set()
        assert all(call.result(30) for call in calls)
    assert listed < 16 * 2 * 4  # each alone would have listed both places as often
    assert asked["put_object"] == asked["get_object"] == 16


def test_asynchronous_tiles_need_a_folder_in_s3(opened: Open, queue: str) -> None:
    with pytest.raises(RequestError, match=r"slow is an asynchronous endpoint.*SWATH_ASYNC_URI"):
        opened("slow", options={"async_uri": "/tmp/swath"})


def test_without_permission_to_describe_the_parameters_show_an_asynchronous_endpoint(
    server: SageMaker, opened: Open, queue: str
) -> None:
    server.refused["DescribeEndpoint"] = json_error(400, "AccessDeniedException", "not you")
    answer(opened("slow", options=options(queue), RequestTTLSeconds=60))
    assert server.calls[0].path == "/endpoints/slow/async-invocations"


def test_an_asynchronous_endpoint_without_a_failure_path_logs_a_warning(
    server: SageMaker, opened: Open, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = server.endpoints["slow"].told["AsyncInferenceConfig"]
    del config["OutputConfig"]["S3FailurePath"]
    with caplog.at_level(logging.WARNING):
        answer(opened("slow", options=options(queue)))
    assert "slow has no S3FailurePath" in caplog.text
