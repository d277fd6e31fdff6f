"""S3's notifications of new objects in their three forms, and which objects are images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rasterio.drivers import raster_driver_extensions

from tasks.errors import PublishError, RequestError
from tasks.imagery.opening.allowed_inputs import SIGNATURES
from tasks.publish import FILE_ENDINGS
from tasks.queue import Arrival, read_arrivals, request_for
from tasks.request.field_types import JobId
from tasks.request.locations import IMAGE_SUFFIXES
from tests.range_server import RangeServer

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def record(key: str = "incoming/a.tif", **fields: Any) -> dict[str, Any]:
    """A record as the user guide of S3 shows it; `key` is encoded already."""
    told = {"key": key, "size": 1024, "eTag": "d41d8cd98f00b204e9800998ecf8427e"}
    told |= {"sequencer": "0055AED6DCD90281E5"} | fields.pop("object", {})
    return {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": "us-west-2",
        "eventTime": "2026-11-22T10:17:48.000Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": "C3D13FE58DE4C810", "x-amz-id-2": "FMyUVURIY8"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "incoming",
            "bucket": {
                "name": "images",
                "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                "arn": "arn:aws:s3:::images",
            },
            "object": told,
        },
    } | fields


def notification(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": records})


def event(key: str = "incoming/a.tif", **fields: Any) -> str:
    """An event of EventBridge as the user guide shows it; `key` is not encoded."""
    told = {"key": key, "size": 1024, "etag": "d41d8cd98f00b204e9800998ecf8427e"}
    told |= {"sequencer": "0055AED6DCD90281E5"} | fields.pop("object", {})
    whole = {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-11-22T10:17:48Z",
        "region": "ca-central-1",
        "resources": ["arn:aws:s3:::images"],
        "detail": {
            "version": "0",
            "bucket": {"name": "images"},
            "object": told,
            "request-id": "N4N7GDK58NMKJ12R",
            "requester": "123456789012",
            "source-ip-address": "1.2.3.4",
            "reason": "PutObject",
        },
    }
    return json.dumps(whole | fields)


def through_sns(body: str) -> str:
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:arrivals",
            "Subject": "Amazon S3 Notification",
            "Message": body,
            "Timestamp": "2026-11-22T10:17:48.000Z",
            "SignatureVersion": "1",
        }
    )


def arrivals(body: str) -> list[Arrival]:
    found = read_arrivals(body)
    assert found is not None
    return found


def only(body: str) -> Arrival:
    (arrival,) = arrivals(body)
    return arrival


def plain(name: str = "a.tif", **fields: Any) -> Arrival:
    values: dict[str, Any] = {"event": "ObjectCreated:Put", "created": True, "bucket": "images"}
    return Arrival(**(values | {"key": name, "size": 1, "version": "1"} | fields))


@given(KEYS, st.sampled_from(["", "/"]), st.booleans())
@example("a+b c/é 🛰%2F&=?#.tif", "/", False)
@example("a\n\x00 .tif", "", True)
def test_a_key_arrives_as_it_is(key: str, safe: str, wrapped: bool) -> None:
    for body in (
        notification(record(quote_plus(key, safe=safe))),
        notification(record(quote(key, safe=safe))),  # %20 for a space is as good
        event(key),
    ):
        arrival = only(through_sns(body) if wrapped else body)
        assert arrival.key == key
        assert arrival.url == f"s3://images/{key}"


def test_every_form_has_the_same_object() -> None:
    object_in_sqs = only(notification(record()))
    assert object_in_sqs.created
    assert object_in_sqs.size == 1024
    in_bridge = only(event())
    assert in_bridge.created
    assert (in_bridge.url, in_bridge.size, in_bridge.version, in_bridge.job_id()) == (
        object_in_sqs.url,
        object_in_sqs.size,
        object_in_sqs.version,
        object_in_sqs.job_id(),
    )
    assert only(through_sns(event())) == in_bridge
    assert only(through_sns(notification(record()))) == object_in_sqs


def test_a_notification_of_several_records_has_an_object_for_each() -> None:
    found = arrivals(notification(record("a.tif"), record("b/c.ntf")))
    assert [arrival.key for arrival in found] == ["a.tif", "b/c.ntf"]


@pytest.mark.parametrize("wrap", [str, through_sns])
def test_the_test_event_of_s3_has_no_object(wrap: Any) -> None:
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "images", "HostId": "8cLeGA"}
    assert read_arrivals(wrap(json.dumps(body))) == []


def test_an_event_of_cloudtrail_is_no_arrival() -> None:
    call: dict[str, Any] = {"detail-type": "AWS API Call via CloudTrail", "detail": {}}
    assert read_arrivals(event(**call)) == []


@pytest.mark.parametrize(
    "body",
    [
        '{"jobId": "a", "imageUrls": ["s3://images/a.tif"]}',
        "not json",
        "[]",
        '{"Type": "Notification", "Message": 5}',
        through_sns('{"jobId": "a", "imageUrls": []}'),
        '{"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": {}}',
    ],
)
def test_any_other_message_is_not_from_s3(body: str) -> None:
    assert read_arrivals(body) is None


@given(st.text() | st.recursive(st.text() | st.none() | st.integers(), st.lists).map(json.dumps))
def test_any_text_is_read_or_refused(body: str) -> None:
    assert read_arrivals(body) is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"Records": 5}', "Records: 5 is not a list"),
        (notification(record(eventSource="aws:ses")), "Records[0].eventSource: 'aws:ses' is not"),
        (notification(record("a%FF.tif")), "Records[0].s3.object.key: 'a%FF.tif' is not a URL-enc"),
        (notification(record(), record(s3={})), "Records[1].s3.bucket: missing"),
        (event(detail={"object": {"key": "a"}}), "detail.bucket: missing"),
        (event(object={"key": 5}), "detail.object.key: 5 is not text"),
    ],
)
def test_a_notification_that_cannot_be_read_is_refused_by_field(body: str, told: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_arrivals(body)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    "name", ["a.tif", "A.TIFF", "x/y.NTF", "b.nitf", "c.jp2", "d.jpeg", "e.png", "f.img", "a.b.tif"]
)
def test_an_image_starts_a_run(name: str) -> None:
    assert plain(name).ignored == ""
    assert plain(name, size=None).ignored == ""


def test_every_suffix_that_gdal_has_for_the_formats_that_are_read_is_an_images() -> None:
    known = raster_driver_extensions()
    endings = {f".{end}" for end, driver in known.items() if driver in SIGNATURES.values()}
    assert endings
    assert endings <= IMAGE_SUFFIXES


@pytest.mark.parametrize(
    "name",
    [
        *("request.json", "a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "a.geojson", "a.parquet"),
        *("readme.txt", "tif", ".tif", "a.tif.part", "d41d8cd98f00b204e9800998ecf8427e", "a.tif "),
    ],
)
def test_files_beside_an_image_are_ignored(name: str) -> None:
    assert "its name ends in none of .gtiff, .img, " in plain(f"incoming/{name}").ignored


def test_nothing_that_swath_publishes_starts_a_run() -> None:
    assert FILE_ENDINGS
    for ending in FILE_ENDINGS.values():
        for image in sorted(IMAGE_SUFFIXES):
            assert plain(f"a{image}.{ending}").ignored
            assert plain(f"a{image}.job-1.{ending}").ignored


def test_folders_empty_objects_and_other_events_are_ignored() -> None:
    assert plain("incoming/").ignored == "it is a folder marker"
    assert plain("incoming/a.tif/").ignored == "it is a folder marker"
    assert plain("a.tif", size=0).ignored == "it is empty"
    for name in ("ObjectRemoved:Delete", "ObjectRestore:Completed", "LifecycleExpiration:Delete"):
        gone = record(eventName=name)
        del gone["s3"]["object"]["size"], gone["s3"]["object"]["eTag"]
        assert only(notification(gone)).ignored == f"{name} creates no object"
    deleted = only(event(**{"detail-type": "Object Deleted"}))
    assert deleted.ignored == "Object Deleted creates no object"


@pytest.mark.parametrize("name", ["Put", "Post", "Copy", "CompleteMultipartUpload"])
def test_an_object_is_new_however_it_was_created(name: str) -> None:
    assert only(notification(record(eventName=f"ObjectCreated:{name}"))).ignored == ""


def test_an_event_that_is_delivered_twice_is_one_job_and_an_upload_again_another() -> None:
    def job_id(**told: Any) -> str:
        return only(notification(record(object=told))).job_id()

    assert job_id() == job_id()
    again = {"sequencer": "0055AED6DCD90281E6"}
    assert job_id() != job_id(**again)  # the same bytes, sent again
    assert job_id() != job_id(eTag="0" * 32)
    assert job_id(versionId="abc") != job_id(versionId="abd")
    assert job_id(versionId="abc") == job_id(versionId="abc", **again)
    assert job_id(versionId="null") != job_id(versionId="null", **again)  # as good as none


@given(KEYS, st.text("abc-é ", max_size=200).map(str.strip), st.text(min_size=1))
@example("a" * 1024, "p" * 200, "1")
@example("//\ud7ff/..", "", "1")
def test_every_object_makes_a_job_id(key: str, prefix: str, version: str) -> None:
    job_id = plain(key, version=version).job_id(prefix)
    assert TypeAdapter(JobId).validate_python(job_id) == job_id
    assert job_id.startswith(prefix[:180])
    assert plain(f"x/{key}", version=version).job_id(prefix) != job_id


def test_a_job_id_can_be_read() -> None:
    arrival = plain("incoming/Harbour of Örebro (2).tif")
    assert arrival.job_id().startswith("Harbour-of-Örebro-2-.tif-")
    assert arrival.job_id("ships").startswith("ships-Harbour-of-Örebro-2-.tif-")


def test_an_object_is_not_refused_while_s3_does_not_return_the_template(s3: RangeServer) -> None:
    s3.objects["/images/request.json"] = b"{}"  # further up than the one that may not be read
    s3.refusals["/images/incoming/request.json"] = 403, "AccessDenied"
    with pytest.raises(PublishError) as failed:
        request_for(plain("incoming/a.tif"))
    told = str(failed.value)
    assert told.startswith(
        "Cannot read s3://images/incoming/request.json (AccessDenied). Grant the"
    )
    assert "s3:ListBucket" in told


def test_the_page_lists_the_suffixes_of_images() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    listed = page.partition("Only names that end in")[2].partition("are images")[0]
    assert set(re.findall(r"`(\.\w+)`", listed)) == IMAGE_SUFFIXES
