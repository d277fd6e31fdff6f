"""Files that arrive in a bucket: its notification on the queue, the sensor, the image's run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rasterio.transform import from_origin

from flows.image import image
from tasks.aws import clients
from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.queue import Arrival, request_for
from tasks.queue.sqs import send
from tasks.reporting.status import JobStatus
from tasks.request import FileOutput, Request, S3Output
from tasks.storage import objects
from tests.inbox import Inbox, arn, open_inbox, received

EMPTY = b"not read before a run begins"
SEGMENTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1)


def template(bucket: str, **fields: Any) -> dict[str, Any]:
    return {
        "jobId": "ships",
        "outputs": [{"type": "S3", "bucket": bucket, "prefix": "incoming/results"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
        "imageProcessorTileSize": 128,
        "imageProcessorTileOverlap": 32,
    } | fields


def put(bucket: str, key: str, body: bytes | dict[str, Any]) -> None:
    text = json.dumps(body).encode() if isinstance(body, dict) else body
    client("s3").put_object(Bucket=bucket, Key=key, Body=text)


def arrival(bucket: str, key: str, **fields: Any) -> Arrival:
    values: dict[str, Any] = {"event": "ObjectCreated:Put", "created": True, "size": 1}
    return Arrival(**(values | {"bucket": bucket, "key": key, "version": "1"} | fields))


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"images-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return name


# The request of an object


@pytest.mark.parametrize(
    ("key", "nearest", "prefix"),
    [
        ("incoming/ships/2026/a.tif", "incoming/ships/2026/", "out"),
        ("incoming/ships/2026/a.tif", "incoming/ships/", "out/2026"),
        ("incoming/ships/2026/a.tif", "incoming/", "out/ships/2026"),
        ("incoming/ships/2026/a.tif", "", "out/incoming/ships/2026"),
        ("a.tif", "", "out"),
        ("in//x/a.tif", "in//", "out/x"),
        ("/a.tif", "/", "out"),
    ],
)
def test_the_nearest_template_counts_and_results_go_below_its_prefix(
    bucket: str, key: str, nearest: str, prefix: str
) -> None:
    parts = key.split("/")[:-1]
    folders = ["".join(f"{part}/" for part in parts[:n]) for n in range(len(parts) + 1)]
    for folder in folders[: folders.index(nearest) + 1]:  # and all those above it
        name = "nearest" if folder == nearest else "above"
        outputs = [{"type": "S3", "bucket": "results", "prefix": "out"}]
        put(bucket, f"{folder}request.json", template(bucket, jobName=name, outputs=outputs))
    put(bucket, "incoming/ships/elsewhere/request.json", template(bucket, jobName="beside"))
    request = request_for(arrival(bucket, key))
    assert request.job_name == "nearest"
    assert request.image_urls == (f"s3://{bucket}/{key}",)
    assert request.outputs == (S3Output(type="S3", bucket="results", prefix=prefix),)
    assert request.job_id.startswith("ships-a.tif-")


def test_every_kind_of_output_goes_below_but_a_stream(bucket: str) -> None:
    outputs = [
        {"type": "File", "path": "/data/"},
        {"type": "Kinesis", "stream": "features"},
        {"type": "S3", "bucket": "results"},
    ]
    put(bucket, "request.json", template(bucket, outputs=outputs))
    request = request_for(arrival(bucket, "x/y/a.tif"))
    file, stream, s3 = request.outputs
    assert file == FileOutput(type="File", path="/data/x/y")
    assert stream.model_dump(mode="json") == {**outputs[1], "batchSize": 500}
    assert s3 == S3Output(type="S3", bucket="results", prefix="x/y")


def test_older_outputs_and_a_template_without_a_job_id_do(bucket: str) -> None:
    asked = template(bucket, outputBucket="results", outputPrefix="out/", imageUrls=[])
    del asked["outputs"], asked["jobId"]
    put(bucket, "request.json", asked)
    request = request_for(arrival(bucket, "x/a.tif"))
    assert request.outputs == (S3Output(type="S3", bucket="results", prefix="out/x"),)
    assert request.job_id.startswith("a.tif-")


@given(st.lists(SEGMENTS, min_size=1, max_size=4, unique=True))
@examples(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_images_of_one_name_in_different_folders_keep_apart(
    bucket: str, folders: list[str]
) -> None:
    put(bucket, "in/request.json", template(bucket))
    folders = [folder for folder in folders if folder not in {".", ".."} and "/" not in folder]
    requests = [request_for(arrival(bucket, f"in/{folder}/a.tif")) for folder in folders]
    outputs = {request.outputs for request in requests}
    assert len(outputs) == len({request.job_id for request in requests}) == len(folders)
    for request in requests:
        assert Request.parse(json.dumps(request.model_dump(mode="json"))) == request


def test_a_missing_template_is_reported_with_the_keys_that_were_tried(bucket: str) -> None:
    with pytest.raises(RequestError) as refused:
        request_for(arrival(bucket, "incoming/ships/a.tif"))
    told = str(refused.value)
    assert told.startswith(f"s3://{bucket}/incoming/ships/a.tif arrived, and there is no template")
    for folder in ("incoming/ships/", "incoming/", ""):
        assert f"s3://{bucket}/{folder}request.json" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"{jobId", "not JSON, "),
        (b"[]", "b'[]' is not a JSON object"),
        (b"\xff{}", "not UTF-8"),
        ({"imageUrls": ["s3://images/b.tif"]}, "imageUrls: the image is the object that arrives"),
        ({"imageProcessorTileSiez": 5}, "imageProcessorTileSiez: unknown field; did you mean"),
        ({"jobId": "a/b"}, "jobId: 'a/b' cannot be a part of a path"),
        ({"jobId": 5}, "jobId: 5 is not text"),
        ({"outputs": []}, "outputs: a list is empty"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "has 1048585 bytes, more than the 1048576"),
    ],
)
def test_a_template_that_is_no_request_is_refused_by_its_name_and_field(
    bucket: str, text: bytes | dict[str, Any], told: str
) -> None:
    put(bucket, "in/request.json", template(bucket, **text) if isinstance(text, dict) else text)
    with pytest.raises(RequestError) as refused:
        request_for(arrival(bucket, "in/x/a.tif"))
    assert str(refused.value).startswith(f"s3://{bucket}/in/request.json: {told}")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("in/../../other/a.tif", "holds a . or .. as a segment"),
        ("in/a\n.tif", "holds the control character U+000A"),
        (f"in/{'é' * 150}.tif", "takes 304 bytes, and at most 200 are allowed"),
    ],
)
def test_an_object_that_no_request_can_name_leads_nowhere(bucket: str, key: str, told: str) -> None:
    put(bucket, "request.json", template(bucket))
    with pytest.raises(RequestError) as refused:
        request_for(arrival(bucket, key))
    assert told in str(refused.value)
    assert repr(f"s3://{bucket}/{key}")[:40] in str(refused.value)


def test_a_folder_too_deep_for_the_outputs_is_reported_with_both_paths(bucket: str) -> None:
    put(bucket, "request.json", template(bucket))
    with pytest.raises(RequestError) as refused:
        request_for(arrival(bucket, "/".join(["x" * 99] * 8) + "/a.tif"))
    told = str(refused.value)
    assert told.startswith(f"s3://{bucket}/xxx")
    assert f", by s3://{bucket}/request.json: outputs[0].prefix: " in told


# From the bucket to the run


def notify(bucket: str, **configuration: Any) -> None:
    client("s3").put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration=configuration
    )


@pytest.fixture
def inbox(bucket: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    monkeypatch.setenv("SWATH_WORK_URI", f"s3://{bucket}/incoming/work")
    with open_inbox(bucket) as inbox:
        yield inbox


@pytest.fixture
def watched(inbox: Inbox) -> Inbox:
    """One whose bucket tells SQS of all that is created under `incoming/`."""
    rule = {"Name": "prefix", "Value": "incoming/"}
    queue = {
        "QueueArn": arn(inbox.queue_url),
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [rule]}},
    }
    notify(inbox.bucket, QueueConfigurations=[queue])
    return inbox


def scene(path: Path) -> bytes:
    pixels = np.full((1, 200, 260), 30, np.uint8)
    pixels += np.random.default_rng(1).integers(0, 9, pixels.shape, dtype=np.uint8)
    pixels[:, 90:98, 60:80] = 230
    profile = {"count": 1, "dtype": "uint8", "crs": "EPSG:32633", "width": 260, "height": 200}
    place = from_origin(500_000, 5_400_000, 0.5, 0.5)
    with rasterio.open(path, "w", driver="GTiff", transform=place, **profile) as sink:
        sink.write(pixels)
    return path.read_bytes()


def test_a_file_that_arrives_becomes_features_and_its_results_start_nothing(
    watched: Inbox, tmp_path: Path
) -> None:
    bucket, key = watched.bucket, "incoming/2026/Örebro + hamn & 100%.tif"
    put(bucket, "incoming/request.json", template(bucket))
    put(bucket, key, scene(tmp_path / "a.tif"))
    assert watched.drain(2) == 1
    (run,) = watched.runs()
    request = Request.model_validate(run.parameters["request"])
    url = f"s3://{bucket}/{key}"
    assert run.parameters["image_url"] == url
    assert run.name == f"Örebro + hamn & 100%.tif - {request.job_id}"
    end = image(request, url, return_state=True)  # as a worker would, and with its work files here
    assert end.name == "Completed"
    results = f"incoming/results/2026/{key.rpartition('/')[2]}"
    features = json.loads(objects.get(f"s3://{bucket}/{results}.geojson"))["features"]
    assert len(features) == 1
    assert features[0]["properties"]["inferenceMetadata"]["jobId"] == request.job_id
    received(watched.status_url)
    assert watched.drain(5) == 0  # three results and the work files: S3 notified of each
    assert watched.left() == 0
    assert len(watched.runs()) == 1
    assert received(watched.status_url) == received(watched.dead_letter_url) == []


def test_an_event_delivered_twice_is_one_run_and_an_upload_again_another(watched: Inbox) -> None:
    put(watched.bucket, "incoming/request.json", template(watched.bucket))
    put(watched.bucket, "incoming/a.tif", EMPTY)
    watched.await_messages(2)
    body = next(m["body"] for m in received(watched.queue_url) if "a.tif" in m["body"])
    send(watched.queue_url, body)
    send(watched.queue_url, body)
    assert watched.drain(2) == 2
    assert len(watched.runs()) == 1
    put(watched.bucket, "incoming/a.tif", EMPTY)  # the same bytes
    assert watched.drain() == 1
    assert len({run.parameters["request"]["jobId"] for run in watched.runs()}) == 2


def test_a_notification_of_several_records_is_a_run_for_each_image(inbox: Inbox) -> None:
    put(inbox.bucket, "request.json", template(inbox.bucket))

    def record(key: str, name: str = "ObjectCreated:Put", size: int = 5) -> dict[str, Any]:
        told = {"key": key, "size": size, "eTag": "a", "sequencer": "1"}
        place = {"bucket": {"name": inbox.bucket}, "object": told}
        return {"eventSource": "aws:s3", "eventName": name, "s3": place}

    records = [
        record("x/a.tif"),
        record("request.json"),
        record("y/a.tif"),
        record("gone.tif", "ObjectRemoved:Delete"),
        record("x/"),
        record("empty.tif", size=0),
    ]
    send(inbox.queue_url, json.dumps({"Records": records}))
    assert inbox.drain() == 2
    asked = [Request.model_validate(run.parameters["request"]) for run in inbox.runs()]
    assert {r.outputs[0].prefix for r in asked if isinstance(r.outputs[0], S3Output)} == {
        "incoming/results/x",
        "incoming/results/y",
    }
    assert inbox.left() == 0


@pytest.mark.parametrize("form", ["sns", "bridge"])
def test_events_through_sns_or_eventbridge_start_runs_too(inbox: Inbox, form: str) -> None:
    bucket, key = inbox.bucket, "incoming/a + b é.tif"
    if form == "sns":
        topic = client("sns").create_topic(Name=f"{inbox.deployment}-s3")["TopicArn"]
        client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(inbox.queue_url))
        sends = {
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sns:Publish",
            "Resource": topic,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [sends]})
        client("sns").set_topic_attributes(
            TopicArn=topic, AttributeName="Policy", AttributeValue=policy
        )
        notify(bucket, TopicConfigurations=[{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}])
    else:
        events = client("events")
        pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
        events.put_rule(Name=bucket, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": arn(inbox.queue_url)}])
        notify(bucket, EventBridgeConfiguration={})
    put(bucket, "request.json", template(bucket))
    put(bucket, key, EMPTY)
    client("s3").delete_object(Bucket=bucket, Key="incoming/gone.tif")
    assert inbox.drain(2) == 1
    (run,) = inbox.runs()
    assert run.parameters["image_url"] == f"s3://{bucket}/{key}"
    assert inbox.left() == 0
    assert received(inbox.dead_letter_url) == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (None, "arrived, and there is no template for it: looked for s3://"),
        ({"jobIdd": "x"}, "incoming/request.json: jobIdd: unknown field; did you mean jobId?"),
    ],
)
def test_a_template_that_cannot_be_used_is_dead_lettered_and_announced(
    watched: Inbox, asked: dict[str, Any] | None, told: str
) -> None:
    if asked:
        put(watched.bucket, "incoming/request.json", template(watched.bucket, **asked))
    put(watched.bucket, "incoming/x/a.tif", EMPTY)
    assert watched.drain(2 if asked else 1) == 0
    (aside,) = received(watched.dead_letter_url)
    assert json.loads(aside["body"])["Records"][0]["s3"]["object"]["key"] == "incoming/x/a.tif"
    assert told in aside["reason"]
    (status,) = received(watched.status_url)
    assert status["status"] == JobStatus.FAILED
    assert aside["reason"] in status["body"]
    assert watched.left() == 0
    put(watched.bucket, "incoming/request.json", template(watched.bucket))
    send(watched.queue_url, aside["body"])  # as one moves it back, once the template is right
    assert watched.drain(2) == 1


def test_a_message_stays_on_the_queue_while_s3_does_not_return_the_template(
    watched: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(watched.bucket, "incoming/request.json", template(watched.bucket))
    watched.drain()
    put(watched.bucket, "incoming/a.tif", EMPTY)
    watched.await_messages(1)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        clients.renew_credentials()
        assert watched.sense_until(watched.received_once) == 0
    clients.renew_credentials()
    assert watched.left() == 1
    assert received(watched.status_url) == received(watched.dead_letter_url) == []
