"""Results are written to S3 and Kinesis completely; unusable outputs are found before the work."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import geopandas
import numpy as np
import pyarrow as pa
import pystac
import pytest
from botocore.exceptions import ClientError

from tasks.aws import clients
from tasks.aws.clients import client
from tasks.errors import PublishError, RequestError
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.publish import FeatureMetadata, ImageResults, check_outputs, publish
from tasks.publish.feature_batches import FeatureBatch, feature_batches
from tasks.publish.kinesis import write_kinesis
from tasks.publish.stac_catalog import write_catalog
from tasks.request.outputs import FileOutput, KinesisOutput, Output, S3Output
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.settings import settings
from tasks.storage import objects
from tests.faulty_proxy import FaultyProxy, faulty_proxy, status
from tests.provenance import provenance
from tests.publications import DEGREES, detections
from tests.streams import make_stream, records

METADATA = FeatureMetadata(provenance())


def some_features(count: int, **properties: Any) -> Iterator[FeatureBatch]:
    return feature_batches([detections(count, **properties)], DEGREES, METADATA)


def results(*tables: pa.Table) -> ImageResults:
    grid = Grid(200, 100, 100, 0)
    found = [TileRecord(grid.tile(0, column), TileState.INFERRED) for column in (0, 1)]
    ledger = measure(coverage.ledger(found), Cells.of(grid, None))
    return ImageResults((lambda: tables) if tables else None, METADATA, ledger, DEGREES)


@pytest.fixture
def bucket(aws: str) -> str:
    name = f"results-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def stream(aws: str) -> str:
    return make_stream()


@pytest.fixture
def proxy(aws: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(aws) as proxy:
        yield proxy


@pytest.mark.parametrize("size", [0, 1000, 20 * 1024 * 1024])
def test_an_object_is_read_as_it_was_stored(bucket: str, tmp_path: Path, size: int) -> None:
    body = np.random.default_rng(0).bytes(size)
    (tmp_path / "body").write_bytes(body)
    for what in (body, tmp_path / "body"):
        uri = objects.join(f"s3://{bucket}", "some/prefix/", uuid4().hex)
        assert not objects.exists(uri)
        objects.put(uri, what)
        assert objects.exists(uri)
        assert objects.get(uri) == body


def test_only_the_objects_below_a_prefix_are_removed(bucket: str) -> None:
    for key in ("job-1/a", "job-1/deep/b", "job-10/a"):
        objects.put(f"s3://{bucket}/{key}", b"")
    objects.remove(f"s3://{bucket}/job-1")
    objects.remove(f"s3://{bucket}/job-1")
    left = client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert [found["Key"] for found in left] == ["job-10/a"]


def test_errors_name_the_object_and_a_remedy(bucket: str) -> None:
    with pytest.raises(PublishError, match=f"s3://{bucket}/absent .*There is no such object"):
        objects.get(f"s3://{bucket}/absent")
    for body in (b"x", b"x" * (9 << 20)):  # at once, and in parts
        with pytest.raises(PublishError, match="write s3://no-such-bucket/x"):
            objects.put("s3://no-such-bucket/x", body)


def test_every_output_gets_the_same_features(bucket: str, stream: str, tmp_path: Path) -> None:
    outputs: list[Output] = [
        S3Output(type="S3", bucket=bucket, prefix="job-1/"),
        KinesisOutput(type="Kinesis", stream=stream),
        FileOutput(type="File", path=str(tmp_path / "out")),
        S3Output(type="S3", bucket=bucket, prefix=""),
    ]
    check_outputs(outputs, [tmp_path])
    both = results(detections(7), detections(30).slice(7))
    done = publish(outputs, both, "x.tif", [tmp_path]).uris
    assert done == {
        "geojson": f"s3://{bucket}/job-1/x.tif.geojson",
        "parquet": f"s3://{bucket}/job-1/x.tif.parquet",
        "coverage": f"s3://{bucket}/job-1/x.tif.coverage.parquet",
        "kinesis": f"kinesis://{stream}",
        "geojson-3": str(tmp_path / "out" / "x.tif.geojson"),
        "parquet-3": str(tmp_path / "out" / "x.tif.parquet"),
        "coverage-3": str(tmp_path / "out" / "x.tif.coverage.parquet"),
        "geojson-4": f"s3://{bucket}/x.tif.geojson",
        "parquet-4": f"s3://{bucket}/x.tif.parquet",
        "coverage-4": f"s3://{bucket}/x.tif.coverage.parquet",
    }
    features = json.loads(objects.get(done["geojson"]))["features"]
    assert len(features) == 30
    assert objects.get(done["geojson-4"]) == Path(done["geojson-3"]).read_bytes()
    (tmp_path / "x.parquet").write_bytes(objects.get(done["parquet"]))
    stored = geopandas.read_parquet(tmp_path / "x.parquet")
    assert set(stored["id"]) == {feature["id"] for feature in features}
    assert objects.get(done["coverage"]) == Path(done["coverage-3"]).read_bytes()
    assert geopandas.read_parquet(done["coverage-3"])["state"].tolist() == ["inferred"] * 2
    sent = records(stream)
    assert {record["PartitionKey"] for record in sent} == {"job-1"}
    assert [json.loads(record["Data"]) for record in sent] == [
        {"type": "FeatureCollection", "features": [feature]} for feature in features
    ]


def test_the_catalog_of_a_prefix_is_walked_by_relative_links(bucket: str) -> None:
    for job in ("job-1", "job-2"):
        output = S3Output(type="S3", bucket=bucket, prefix=f"ships/{job}", formats=["stac"])
        metadata = FeatureMetadata(provenance(job=job))
        publish([output], replace(results(detections(3)), metadata=metadata), "x y.tif")
    done = write_catalog(f"s3://{bucket}/ships/")
    assert (done.uri, done.items) == (f"s3://{bucket}/ships/catalog.json", 2)
    found = pystac.Catalog.from_file(done.uri, stac_io=FromS3())
    assert [child.id for child in found.get_children()] == ["job-1", "job-2"]
    assert [item.properties["swath:job"] for item in found.get_items(recursive=True)] == [
        "job-1",
        "job-2",
    ]


class FromS3(pystac.StacIO):
    """Reads the objects of the emulated S3, whose keys are escaped in links."""

    def read_text(self, source: Any, *_: Any, **__: Any) -> str:
        return objects.get(unquote(str(getattr(source, "href", source)))).decode()

    def write_text(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError


def test_one_output_that_fails_does_not_prevent_the_others(bucket: str) -> None:
    outputs: list[Output] = [
        S3Output(type="S3", bucket="no-such-bucket", prefix=""),
        KinesisOutput(type="Kinesis", stream="no-such-stream"),
        S3Output(type="S3", bucket=bucket, prefix="a"),
    ]
    done = publish(outputs, results(detections(3)), "x.tif")
    assert [(each.output, each.format) for each in done.failed] == [(0, None), (1, None)]
    first, second = (each.reason for each in done.failed)
    assert first.startswith("Cannot read s3://no-such-bucket/x.tif.swath.json")
    assert "Create the bucket" in first
    assert second.startswith("Cannot write to Kinesis stream no-such-stream")
    assert done.uris["geojson"] == f"s3://{bucket}/a/x.tif.geojson"
    assert objects.exists(f"s3://{bucket}/a/x.tif.parquet")
    assert objects.exists(f"s3://{bucket}/a/x.tif.coverage.parquet")


def test_a_run_that_fails_leaves_no_features_of_an_earlier_run(bucket: str) -> None:
    outputs: list[Output] = [S3Output(type="S3", bucket=bucket, prefix="a")]
    publish(outputs, results(detections(3)), "x.tif")
    for key in ("a/x.tif.geojson.txt", "a/y.tif.parquet", "x.tif.geojson"):
        objects.put(f"s3://{bucket}/{key}", b"kept")
    publish(outputs, results(), "x.tif")
    left = client("s3").list_objects_v2(Bucket=bucket)["Contents"]
    assert [found["Key"] for found in left] == [
        "a/x.tif.coverage.parquet",
        "a/x.tif.geojson.txt",
        "a/x.tif.swath.json",
        "a/y.tif.parquet",
        "x.tif.geojson",
    ]


def test_features_that_may_not_be_removed_are_named_in_the_error(bucket: str) -> None:
    outputs: list[Output] = [S3Output(type="S3", bucket=bucket, prefix="a")]
    publish(outputs, results(detections(3)), "x.tif")
    ledger = objects.get(f"s3://{bucket}/a/x.tif.coverage.parquet")

    def deny(**_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied"}}, "DeleteObject")

    events, name = client("s3", None).meta.events, "before-call.s3.DeleteObject"
    events.register(name, deny)
    try:
        with (
            settings.override(storage_patience=0),
            pytest.raises(PublishError, match=r"Cannot remove s3.*AccessDenied.*s3:DeleteObject"),
        ):
            publish(outputs, results(), "x.tif")
    finally:
        events.unregister(name, deny)
    assert objects.get(f"s3://{bucket}/a/x.tif.coverage.parquet") == ledger


def test_a_stream_gets_no_ledger(stream: str) -> None:
    outputs: list[Output] = [KinesisOutput(type="Kinesis", stream=stream)]
    assert publish(outputs, results(), "x.tif").uris == {}
    done = publish(outputs, results(detections(2)), "x.tif").uris
    assert done == {"kinesis": f"kinesis://{stream}"}
    assert len(records(stream)) == 2


@pytest.mark.parametrize(
    ("output", "match"),
    [
        (S3Output(type="S3", bucket="no-such-bucket"), r"outputs\[0\]: bucket 'no-such-bucket'"),
        (KinesisOutput(type="Kinesis", stream="no-such"), r"outputs\[0\]: stream 'no-such'"),
    ],
)
def test_an_output_that_is_not_there_is_refused(aws: str, output: Output, match: str) -> None:
    with pytest.raises(RequestError, match=f"{match}.*create it"):
        check_outputs([output], [])


def test_calls_stay_within_the_limits_of_kinesis(stream: str) -> None:
    write_kinesis(stream, some_features(1203), METADATA)
    write_kinesis(stream, some_features(7, outline="x" * 900_000), METADATA)
    assert len(records(stream)) == 1210


def test_a_feature_too_long_for_a_record_is_named(stream: str) -> None:
    with pytest.raises(PublishError, match="too long for a record of 1048576 bytes"):
        write_kinesis(stream, some_features(1, outline="x" * (1 << 20)), METADATA)


class Throttling(ThreadingHTTPServer):
    """A stream that refuses every other record of a call until `refusals` calls are over."""

    def __init__(self, refusals: int, first: int, kibibytes: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusals, self.first, self.kibibytes = refusals, first, kibibytes
        self.kept: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Throttling

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        call = json.loads(self.rfile.read(length))
        if "Records" not in call:
            told = {"MaxRecordSizeInKiB": self.server.kibibytes}
            return self._answer({"StreamDescriptionSummary": told})
        asked = call["Records"]
        results: list[dict[str, str]] = []
        for number, record in enumerate(asked):
            if self.server.refusals > 0 and number % 2 == self.server.first:
                results.append({"ErrorCode": "ProvisionedThroughputExceededException"})
            else:
                self.server.kept.append(record["Data"])
                results.append({"SequenceNumber": "1", "ShardId": "shardId-0"})
        self.server.refusals -= 1
        failed = sum("ErrorCode" in result for result in results)
        return self._answer({"FailedRecordCount": failed, "Records": results})

    def _answer(self, content: Mapping[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keep the test's output to itself."""


@contextmanager
def throttling(
    monkeypatch: pytest.MonkeyPatch, refusals: int, first: int = 0, kibibytes: int = 1 << 10
) -> Iterator[Throttling]:
    with Throttling(refusals, first, kibibytes) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", url)
        clients.renew_credentials()
        try:
            yield server
        finally:
            clients.client("kinesis").close()
            clients.renew_credentials()
            server.shutdown()


def test_a_refused_record_is_put_again_with_those_after_it(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with throttling(monkeypatch, refusals=0) as server:
        write_kinesis("any", some_features(9), METADATA)
    once = server.kept
    with throttling(monkeypatch, refusals=3, first=1) as server:
        write_kinesis("any", some_features(9), METADATA, batch_size=4)
    assert len(server.kept) > len(once)
    last = {data: place for place, data in enumerate(server.kept)}
    assert sorted(last, key=lambda data: last[data]) == once


def test_a_call_that_fails_is_made_again(
    stream: str, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", proxy.url)
    clients.renew_credentials()
    with proxy.failing(lambda call: call.action.endswith("PutRecords"), status(400), times=2):
        write_kinesis(stream, some_features(30), METADATA)
    clients.renew_credentials()
    sent = [json.loads(record["Data"])["features"][0]["id"] for record in records(stream)]
    assert sent == METADATA.ids_of(detections(30))


def test_a_record_may_be_as_long_as_the_stream_says(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = some_features(3, outline="x" * (2 << 20))
    with throttling(monkeypatch, refusals=0, kibibytes=3 << 10) as server:
        write_kinesis("any", features, METADATA)
    assert [len(data) > 2 << 20 for data in server.kept] == [True] * 3


def test_records_refused_for_good_fail_the_output(
    aws: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        settings.override(storage_patience=0.2),
        throttling(monkeypatch, refusals=100),
        pytest.raises(PublishError, match=r"refused 2 .* 0.2 s \(Provisioned.*shards"),
    ):
        write_kinesis("any", some_features(2), METADATA)
