"""What is published under one name belongs together: one job's, whole, and named by a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.publish import publish
from tasks.request import Output
from tasks.settings import ForeignResults
from tasks.storage import objects
from tests.publications import STEM, assert_whole, output_to, published, publishing, results

ENDINGS = ["coverage.parquet", "geojson", "parquet", "swath.json"]


@pytest.fixture(params=["S3", "disk"])
def folder(request: pytest.FixtureRequest, aws: str, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "folder")
    name = f"publications-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/folder"


def names(folder: str) -> list[str]:
    return sorted(objects.list_names(folder))


def of(stem: str, *endings: str) -> list[str]:
    return sorted(f"{stem}.{ending}" for ending in endings or ENDINGS)


def vouched(folder: str, stem: str = STEM) -> list[dict[str, Any]]:
    """What each file says of its origin, by itself."""
    collection = json.loads(objects.get(f"{folder}/{stem}.geojson"))
    tables = [
        pq.read_metadata(pa.BufferReader(objects.get(f"{folder}/{stem}.{ending}"))).metadata
        for ending in ("parquet", "coverage.parquet")
    ]
    assert next(iter(collection)) == "swath"
    return [collection["swath"], *(json.loads(table[b"swath"]) for table in tables)]


def test_each_file_alone_tells_partial_from_success(folder: str) -> None:
    tiles = {"inferred": 1, "blank": 0, "outside": 0, "failed": 1}
    partial: dict[str, Any] = {"status": "PARTIAL", "covered": 0.5, "tiles": tiles}
    published(output_to(folder), 3, **partial)
    whole = assert_whole(folder)
    for told in vouched(folder):
        assert told | partial == told
        assert {name: whole[name] for name in told} == told
    published(output_to(folder), 3)
    assert [told["status"] for told in vouched(folder)] == ["SUCCESS"] * 3


def test_a_manifest_names_the_job_the_image_and_every_file(folder: str) -> None:
    uris = published(output_to(folder), 30)
    assert uris.keys() == {"geojson", "parquet", "coverage"}
    told = assert_whole(folder)
    assert [(file["kind"], f"{folder}/{file['name']}") for file in told["files"]] == [*uris.items()]
    assert (told["job"], told["image"], told["etag"]) == ("job-1", "s3://images/x.tif", "e1")
    assert (told["features"], told["classes"]) == (30, {"ship": 30})
    assert names(folder) == of(STEM)


def test_a_publication_again_gives_the_same_bytes(folder: str) -> None:
    uris = published(output_to(folder), 30)
    first = {uri: objects.get(uri) for uri in uris.values()}
    before = assert_whole(folder)
    assert published(output_to(folder), 30) == uris
    assert {uri: objects.get(uri) for uri in uris.values()} == first
    after = assert_whole(folder)
    assert before.pop("publication") != after.pop("publication")
    assert before == after


def test_the_results_of_another_job_stay_and_ones_own_are_named_after_the_job(folder: str) -> None:
    first = published(output_to(folder), 3, "job-1")
    second = published(output_to(folder), 5, "job-2")
    assert set(first.values()).isdisjoint(second.values())
    assert published(output_to(folder), 6, "job-2") == second
    assert names(folder) == sorted([*of(STEM), *of(f"{STEM}.job-2")])
    assert (assert_whole(folder)["job"], assert_whole(folder)["features"]) == ("job-1", 3)
    other = assert_whole(folder, f"{STEM}.job-2")
    assert (other["job"], other["features"]) == ("job-2", 6)


def test_a_name_too_long_with_its_job_has_a_digest_of_the_job(folder: str) -> None:
    published(output_to(folder), 3, "job-1")
    uris = published(output_to(folder), 5, "ö" * 200)
    assert published(output_to(folder), 5, "ö" * 200) == uris
    assert len(names(folder)) == 2 * len(ENDINGS)


def test_the_results_of_another_job_are_replaced_if_the_operator_says_so(folder: str) -> None:
    published(output_to(folder), 3, "job-1")
    uris = published(output_to(folder), 5, "job-2", ForeignResults.REPLACE)
    assert list(uris.values()) == [
        f"{folder}/{STEM}.{ending}" for ending in ("geojson", "parquet", "coverage.parquet")
    ]
    assert names(folder) == of(STEM)
    assert assert_whole(folder)["job"] == "job-2"


def test_files_without_a_manifest_are_replaced(folder: str) -> None:
    for ending in ENDINGS:
        objects.put(f"{folder}/{STEM}.{ending}", b"of an older version of Swath")
    published(output_to(folder) | {"formats": ["parquet"]}, 3)
    assert names(folder) == of(STEM, "coverage.parquet", "parquet", "swath.json")
    assert_whole(folder)


def test_only_the_formats_that_an_output_names_are_published(folder: str) -> None:
    published(output_to(folder), 3)
    uris = published(output_to(folder) | {"formats": ["parquet", "parquet"]}, 3)
    assert uris.keys() == {"parquet", "coverage"}
    assert names(folder) == of(STEM, "coverage.parquet", "parquet", "swath.json")
    assert [file["kind"] for file in assert_whole(folder)["files"]] == ["parquet", "coverage"]


def test_a_run_that_failed_leaves_no_features_of_an_earlier_one(folder: str) -> None:
    published(output_to(folder), 3)
    assert published(output_to(folder), None).keys() == {"coverage"}
    assert names(folder) == of(STEM, "coverage.parquet", "swath.json")
    assert assert_whole(folder)["status"] == "FAILED"


def test_jobs_that_publish_at_once_each_name_their_own_files(folder: str) -> None:
    jobs = [f"job-{number}" for number in range(6)]
    with ThreadPoolExecutor(len(jobs)) as threads:
        found = list(
            threads.map(
                lambda number: published(output_to(folder), 100 + number, jobs[number]),
                range(len(jobs)),
            )
        )
    for number, (job, uris) in enumerate(zip(jobs, found, strict=True)):
        stem = Path(uris["geojson"]).name.removesuffix(".geojson")
        assert stem in {STEM, f"{STEM}.{job}"}
        whole = assert_whole(folder, stem)
        assert (whole["job"], whole["features"]) == (job, 100 + number)
        assert [f"{folder}/{file['name']}" for file in whole["files"]] == list(uris.values())
        assert {told["job"] for told in vouched(folder, stem)} == {job}
    assert len(names(folder)) == len(jobs) * len(ENDINGS)


def test_jobs_of_two_processes_that_publish_at_once_each_name_their_own_files(folder: str) -> None:
    jobs = {"job-1": 2000, "job-2": 3000}
    output = output_to(folder)
    with publishing(output, 2000, "job-1") as one, publishing(output, 3000, "job-2") as two:
        told = {"job-1": one.communicate(timeout=120)[0], "job-2": two.communicate(timeout=120)[0]}
    for job, features in jobs.items():
        stem = Path(json.loads(told[job])["geojson"]).name.removesuffix(".geojson")
        whole = assert_whole(folder, stem)
        assert (whole["job"], whole["features"]) == (job, features)


def test_publications_that_replace_each_other_at_once_leave_one_of_them_whole(folder: str) -> None:
    def publish(number: int) -> str:
        """What went wrong."""
        try:
            published(output_to(folder), 100 + number, f"job-{number}", ForeignResults.REPLACE)
        except PublishError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as threads:
        errors = list(threads.map(publish, range(4)))
    assert all("was taken over" in error for error in errors if error)
    assert names(folder) == of(STEM)
    whole = assert_whole(folder)
    assert not errors[whole["features"] - 100]
    assert {told["job"] for told in vouched(folder)} == {whole["job"]}


class KilledError(BaseException):
    """Ends a publication where a process that is killed would end."""


def with_raster(
    folder: str, pieces: Callable[[], Iterator[bytes]], features: int | None = 3
) -> None:
    """Publish a raster of these bytes, and features."""
    found = replace(results(features), rasters={"raster": pieces})
    outputs: list[Output] = TypeAdapter(list[Output]).validate_python([output_to(folder)])
    publish(outputs, found, STEM, [Path("/")])


def ended_by(error: type[BaseException]) -> Callable[[], Iterator[bytes]]:
    """The bytes of a raster that a signal or the system ends in the middle."""

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise error

    return pieces


@pytest.mark.parametrize("error", [KeyboardInterrupt, KilledError])
def test_a_file_that_nobody_published_outlives_publications_that_are_ended(
    folder: str, error: type[BaseException]
) -> None:
    raster = f"{folder}/{STEM}.tif"
    objects.put(raster, b"an image of somebody else")
    for _ in range(2):
        with pytest.raises(error):
            with_raster(folder, ended_by(error))
        assert objects.get(raster) == b"an image of somebody else"
    published(output_to(folder), None)  # every tile failed, so that there is no raster
    assert objects.get(raster) == b"an image of somebody else"
    assert names(folder) == sorted([f"{STEM}.tif", *of(STEM, "coverage.parquet", "swath.json")])


def test_an_interrupted_publication_leaves_the_earlier_one_whole(folder: str) -> None:
    with_raster(folder, lambda: iter([b"first"]))
    before = {name: objects.get(f"{folder}/{name}") for name in names(folder)}
    with pytest.raises(KeyboardInterrupt):
        with_raster(folder, ended_by(KeyboardInterrupt))
    assert {name: objects.get(f"{folder}/{name}") for name in names(folder)} == before
    assert assert_whole(folder)["state"] == "complete"
    with pytest.raises(KeyboardInterrupt):  # the features are gone then
        with_raster(folder, ended_by(KeyboardInterrupt), features=None)
    assert names(folder) == []


def test_a_killed_publication_says_that_its_files_are_not_whole(folder: str) -> None:
    with_raster(folder, lambda: iter([b"first"]))
    with pytest.raises(KilledError):
        with_raster(folder, ended_by(KilledError))
    assert json.loads(objects.get(f"{folder}/{STEM}.swath.json"))["state"] == "publishing"
    assert objects.get(f"{folder}/{STEM}.tif") == b"first"
    published(output_to(folder), 3)
    assert_whole(folder)
    assert names(folder) == of(STEM)
