"""Publications that are killed, overtaken or out of space leave nothing that is taken for whole."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.aws.clients import client
from tasks.grid.tiles import Region
from tasks.job import work_image
from tasks.job.observer import SilentObserver
from tasks.planning.plan import Plan
from tasks.settings import ForeignResults, settings
from tasks.storage import objects
from tests.counting_model import counting_models
from tests.emulated_aws import emulated_aws
from tests.faulty_proxy import Call, FaultyProxy, closed, faulty_proxy, lost
from tests.job_scene import paint, request
from tests.polling import until
from tests.publications import STEM, assert_whole, manifest, output_to, published, publishing

ALL = [f"{STEM}.{ending}" for ending in ("coverage.parquet", "geojson", "parquet", "swath.json")]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyProxy]:
    """A proxy before an emulated AWS, which this process's clients use directly."""
    with emulated_aws(tmp_path_factory.mktemp("aws")) as url, faulty_proxy(url) as proxy:
        yield proxy


@pytest.fixture
def folder(proxy: FaultyProxy) -> str:
    bucket = f"killed-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}/folder"


def parquet_to(folder: str) -> dict[str, Any]:
    """The output without GeoJSON."""
    return output_to(folder) | {"formats": ["parquet"]}


def through(proxy: FaultyProxy) -> dict[str, str]:
    """Variables of a process behind the proxy, which a connection that is slow does not end."""
    return {"AWS_ENDPOINT_URL": proxy.url, "SWATH_STORAGE_PATIENCE": "60"}


def call(method: str, ending: str) -> Callable[[Call], bool]:
    """Matches calls for an image's file."""
    return lambda each: (
        each.method == method and each.path.split("?")[0].endswith(f"{STEM}.{ending}")
    )


def final_manifest(each: Call) -> bool:
    """Matches the call that completes the manifest."""
    return call("PUT", "swath.json")(each) and b'"complete"' in each.body


def test_29_killed_between_two_files_the_manifest_says_so_and_the_next_makes_it_whole(
    proxy: FaultyProxy, folder: str
) -> None:
    with (
        proxy.holding(call("PUT", "parquet")) as held,
        publishing(output_to(folder), 3, AWS_ENDPOINT_URL=proxy.url) as process,
    ):
        until(lambda: held.calls)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert objects.list_names(folder) == [f"{STEM}.geojson", f"{STEM}.swath.json"]
        assert manifest(folder)["state"] == "publishing"
        assert manifest(folder)["job"] == "job-1"
        published(parquet_to(folder), 5)
    assert objects.list_names(folder) == [name for name in ALL if not name.endswith("geojson")]
    assert assert_whole(folder)["features"] == 5


@pytest.mark.parametrize(
    ("moment", "job"),
    [
        (call("PUT", "geojson"), "job-1"),
        (call("PUT", "parquet"), "job-2"),
        (call("PUT", "coverage.parquet"), "job-1"),
        (final_manifest, "job-1"),
    ],
    ids=["features", "table", "ledger", "manifest"],
)
def test_a_process_thought_dead_does_not_finish_over_its_successor(
    proxy: FaultyProxy, folder: str, moment: Callable[[Call], bool], job: str
) -> None:
    with publishing(output_to(folder), 3, **through(proxy)) as process:
        with proxy.holding(moment) as held:
            until(lambda: held.calls)
            published(output_to(folder), 5, job, ForeignResults.REPLACE)
            whole = assert_whole(folder)
        told, _ = process.communicate(timeout=300)
    assert "was taken over" in told
    assert f"it belongs to job {job} now" in told
    assert assert_whole(folder) == whole
    assert whole["features"] == 5


def test_a_process_that_was_stopped_does_not_remove_the_files_of_its_successor(
    proxy: FaultyProxy, folder: str
) -> None:
    published(output_to(folder), 3)
    with publishing(parquet_to(folder), 4, **through(proxy)) as process:
        with proxy.holding(call("DELETE", "geojson")) as held:
            until(lambda: held.calls)
            published(output_to(folder), 5)
        told, _ = process.communicate(timeout=300)
    assert "was taken over" in told
    assert assert_whole(folder)["features"] == 5
    assert objects.list_names(folder) == ALL


@pytest.mark.parametrize("fault", [closed, lost], ids=["before the call", "after it"])
def test_a_connection_that_breaks_at_any_write_does_no_harm(
    proxy: FaultyProxy, folder: str, fault: Callable[..., None]
) -> None:
    seen: set[str] = set()

    def first(each: Call) -> bool:
        """Whether it is the first write of a body to a key."""
        key = f"{each.method} {each.path} {b'complete' in each.body}"
        new = each.method in {"PUT", "DELETE"} and key not in seen
        seen.add(key)
        return new

    published(output_to(folder), 3)
    with (
        proxy.failing(first, fault),
        publishing(
            parquet_to(folder), 4, AWS_ENDPOINT_URL=proxy.url, SWATH_STORAGE_PATIENCE="60"
        ) as process,
    ):
        told, _ = process.communicate(timeout=300)
    assert json.loads(told).keys() == {"parquet", "coverage"}
    assert len([key for key in seen if key.startswith(("PUT", "DELETE"))]) == 5
    assert assert_whole(folder)["features"] == 4
    assert objects.list_names(folder) == [name for name in ALL if not name.endswith("geojson")]


def test_a_bucket_that_is_removed_midway_is_named_and_another_time_all_is_whole(
    proxy: FaultyProxy, folder: str
) -> None:
    bucket = folder.split("/")[2]
    with publishing(output_to(folder), 3, AWS_ENDPOINT_URL=proxy.url) as process:
        with proxy.holding(call("PUT", "parquet")) as held:
            until(lambda: held.calls)
            objects.remove(folder)
            client("s3").delete_bucket(Bucket=bucket)
        told, _ = process.communicate(timeout=120)
    assert (
        f"PublishError: outputs[0]: Cannot read {folder}/{STEM}.swath.json (NoSuchBucket)" in told
    )
    assert "Create the bucket" in told
    assert "Nothing is published" in told
    client("s3").create_bucket(Bucket=bucket)
    published(output_to(folder), 3)
    assert objects.list_names(folder) == ALL
    assert_whole(folder)


def test_an_interrupted_publication_leaves_nothing(proxy: FaultyProxy, folder: str) -> None:
    with (
        proxy.holding(call("PUT", "parquet")) as held,
        publishing(output_to(folder), 3, AWS_ENDPOINT_URL=proxy.url) as process,
    ):
        until(lambda: held.calls)
        process.send_signal(signal.SIGINT)
        process.wait(120)
        assert objects.list_names(folder) == []


PART = """
import sys, time
from pathlib import Path
from tasks.storage.parts import part_file
with part_file(Path(sys.argv[1])) as (path, sink):
    print(path, flush=True)
    time.sleep(600)
"""


def test_the_next_publication_removes_what_a_killed_process_left_half_written(
    tmp_path: Path,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PART, tmp_path], stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        part = Path(killed.stdout.readline().strip())
        published(output_to(str(tmp_path)), 3)
        assert part.exists()
        killed.kill()
    published(output_to(str(tmp_path)), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ALL


@dataclass
class RemovesBucket(SilentObserver):
    """Removes the bucket of an output once it was checked, before any tile is sent."""

    bucket: str

    def planned(self, plan: Plan, regions: Sequence[Region]) -> None:  # noqa: ARG002
        client("s3").delete_bucket(Bucket=self.bucket)


def test_29_of_two_outputs_one_fails_and_publishing_again_calls_no_model(
    proxy: FaultyProxy,
    folder: str,
    tmp_path: Path,
) -> None:
    bucket, other = folder.split("/")[2], tmp_path / "out"
    with (
        counting_models() as models,
        settings.override(
            work_uri=str(tmp_path / "work"), local_roots=[tmp_path], storage_patience=0
        ),
    ):
        model = models.model()
        asked = request(
            paint(tmp_path / STEM),
            other,
            outputs=[output_to(folder), output_to(str(other))],
            imageProcessor={"name": model.url, "type": "HTTP_ENDPOINT"},
            imageProcessorTileFormat="PNG",
        )
        partly = work_image(asked, asked.image_urls[0], RemovesBucket(bucket))
        assert partly.status == "PARTIAL"
        assert f"outputs[0] is not published: Cannot read {folder}/{STEM}.swath" in partly.message
        assert partly.outputs["geojson"] == f"{other}/{STEM}.geojson"
        assert_whole(str(other))
        calls = model.figures().total
        client("s3").create_bucket(Bucket=bucket)
        summary = work_image(asked, asked.image_urls[0])
        assert model.figures().total == calls > 0
    assert len(summary.outputs) == 6
    assert assert_whole(folder)["features"] == assert_whole(str(other))["features"] > 0
