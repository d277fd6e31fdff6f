"""The whole system: requests on the queue, runs on the work pool, results in S3, statuses on SNS.

All jobs are sent at once, and each test asks about its own.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled, Cancelling, Scheduled
from rich.console import Console

from deployments.up import StackWithModels, stack_with_models
from flows.cancel import UNFINISHED
from tasks.aws import clients
from tasks.aws.clients import client
from tasks.queue.sqs import send
from tasks.settings import settings
from tasks.storage import objects

LIMIT = 2  # concurrent image runs in prefect.yaml
TIMEOUT = 1200.0  # seconds for all jobs, on a machine that is busy with others
ENDS = {"SUCCESS", "PARTIAL", "FAILED"}


@dataclass
class Outcome:
    """The observed outcome of the jobs.

    Attributes:
        statuses: Of each job id, the statuses in the order they were published.
        messages: Of each job id, the body of its last status.
        runs: The image runs of each job id.
        most_at_once: Image runs that had started and not ended at the same time, at the most.
    """

    statuses: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    messages: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[FlowRun]] = field(default_factory=dict)
    most_at_once: int = 0


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackWithModels]:
    folder = tmp_path_factory.mktemp("system")
    before = dict(os.environ)
    os.environ |= {"SWATH_STATE_DIR": str(folder / "state"), "SWATH_REGION_SIZE": "400"}
    forget()
    try:
        with stack_with_models(folder, Console(stderr=True)) as up:
            forget()
            with temporary_settings({PREFECT_API_URL: up.stack.record.api_url}):
                yield up
    finally:
        os.environ.clear()
        os.environ.update(before)
        forget()


def forget() -> None:
    """Clear cached settings and clients of another environment."""
    settings.cache_clear()
    clients.renew_credentials()


def paint(path: Path, *, colour: tuple[int, int, int] | None = None) -> None:
    random = np.random.default_rng(5)
    pixels = random.integers(40, 60, (3, 700, 900), dtype=np.uint8)
    for x, y in random.integers(40, (850, 650), (30, 2)):
        pixels[:, y : y + 8, x : x + 20] = 230
    if colour:  # selects the failure of the failure model on the last tile
        pixels[:, 444:, 644:] = np.array(colour, np.uint8)[:, None, None]
    profile = {"width": 900, "height": 700, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    transform = Affine(0.5, 0, 500_000, 0, -0.5, 5_400_000)
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile) as sink:
        sink.write(pixels)


def message(here: StackWithModels, job_id: str, *images: str, model: str = "bright-targets") -> str:
    record = here.stack.record
    return json.dumps(
        {
            "jobId": job_id,
            "imageUrls": [f"s3://{record.image_bucket}/{name}" for name in images],
            "outputs": [{"type": "S3", "bucket": record.result_bucket, "prefix": job_id}],
            "imageProcessor": {"name": here.model_url(model), "type": "HTTP_ENDPOINT"},
            "imageProcessorTileSize": 256,
            "imageProcessorTileOverlap": 64,
            "imageProcessorTileFormat": "GTIFF",
        }
    )


@pytest.fixture(scope="module")
def outcome(here: StackWithModels, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of all jobs."""
    folder = tmp_path_factory.mktemp("images")
    bucket = f"s3://{here.stack.record.image_bucket}"
    paint(folder / "a.tif")
    paint(folder / "red.tif", colour=(255, 0, 0))  # HTTP 500
    for name, key in [("a.tif", "one/a.tif"), ("a.tif", "two/a.tif"), ("red.tif", "red.tif")]:
        objects.put(f"{bucket}/{key}", folder / name)
    good = message(here, "good", "one/a.tif")
    bodies = [
        good,
        message(here, "typo", "one/a.tif").replace("imageProcessorTileSize", "tileSize"),
        "not json at all",
        message(here, "both", "one/a.tif", "two/a.tif"),
        good,  # sent twice
        message(here, "partial", "red.tif", model="failure"),
        message(here, "absent", "nowhere.tif"),
    ]
    entries = [{"Id": str(i), "MessageBody": body} for i, body in enumerate(bodies)]
    client("sqs").send_message_batch(QueueUrl=here.stack.record.queue_url, Entries=entries)
    send(here.stack.record.queue_url, "[" * 100_000 + "]" * 100_000)
    huge = json.loads(message(here, "huge", "one/a.tif"))
    huge["featureProperties"] = [{"a": "é" * 250_000}]  # more than Prefect accepts
    send(here.stack.record.queue_url, json.dumps(huge, ensure_ascii=False))
    ends = {"good": 1, "typo": 1, "": 2, "both": 2, "partial": 1, "absent": 1, "huge": 1}
    return follow(here, ends)


def follow(here: StackWithModels, expected: dict[str, int]) -> Outcome:
    """Watch until every job has its expected terminal statuses, and the queue is empty."""
    seen, deadline = Outcome(), time.monotonic() + TIMEOUT
    with get_client(sync_client=True) as prefect:
        while True:
            for status in receive(here.stack.record.status_queue_url):
                job_id = status["attributes"].get("job_id", "")
                seen.statuses[job_id].append(status["attributes"]["status"])
                seen.messages[job_id] = status["body"]
            runs = [r for r in prefect.read_flow_runs() if r.parameters.get("image_url")]
            images = [run for run in runs if "region" not in run.parameters]
            unfinished = [r for r in images if r.state is None or r.state.type in UNFINISHED]
            begun = {StateType.PENDING, StateType.RUNNING, StateType.CANCELLING}
            started = [r for r in unfinished if r.state and r.state.type in begun]
            seen.most_at_once = max(seen.most_at_once, len(started))
            ends = {
                job_id: sum(status in ENDS for status in seen.statuses[job_id])
                for job_id in expected
            }
            if ends == expected and not unfinished and queue_is_empty(here):
                break
            assert time.monotonic() < deadline, (ends, [(run.name, run.state) for run in runs])
            here.stack.watch(0.3)
    for run in images:
        seen.runs.setdefault(run.parameters["request"]["jobId"], []).append(run)
    return seen


def receive(queue_url: str) -> list[dict[str, Any]]:
    sqs = client("sqs")
    answer = sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    )
    found = []
    for each in answer.get("Messages", []):
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=each["ReceiptHandle"])
        attributes = {k: v["StringValue"] for k, v in each.get("MessageAttributes", {}).items()}
        found.append({"body": each["Body"], "attributes": attributes})
    return found


def queue_is_empty(here: StackWithModels) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = client("sqs").get_queue_attributes(
        QueueUrl=here.stack.record.queue_url, AttributeNames=names
    )
    return all(answer["Attributes"][name] == "0" for name in names)


def published(here: StackWithModels, job_id: str) -> list[str]:
    answer = client("s3").list_objects_v2(
        Bucket=here.stack.record.result_bucket, Prefix=f"{job_id}/"
    )
    return [found["Key"] for found in answer.get("Contents", [])]


def collection(here: StackWithModels, key: str) -> list[dict[str, Any]]:
    body = objects.get(f"s3://{here.stack.record.result_bucket}/{key}")
    found: list[dict[str, Any]] = json.loads(body)["features"]
    return found


def test_a_request_becomes_features(here: StackWithModels, outcome: Outcome) -> None:
    assert outcome.statuses["good"] == ["STARTED", "IN_PROGRESS", "SUCCESS"]
    endings = ["coverage.parquet", "geojson", "parquet", "swath.json"]
    assert published(here, "good") == [f"good/a.tif.{ending}" for ending in endings]
    features = collection(here, "good/a.tif.geojson")
    assert len(features) >= 20
    assert all(feature["geometry"] for feature in features)
    told = f"{len(features)} features; 100 % of the area covered"
    assert told in outcome.messages["good"]


def test_regions_are_separate_runs_on_the_work_pool(
    here: StackWithModels, outcome: Outcome
) -> None:
    (run,) = outcome.runs["good"]
    assert run.name == "a.tif - good"
    assert {"job:good", "swath"} <= set(run.tags)
    with get_client(sync_client=True) as prefect:
        children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
        regions = prefect.read_flow_runs(flow_run_filter=children)
    assert sorted(region.name for region in regions) == [
        "a.tif region 1 of 2, rows 0-403",
        "a.tif region 2 of 2, rows 296-699",
    ]
    assert {region.work_pool_name for region in regions} == {"swath"}


def test_a_message_that_does_not_parse_is_dead_lettered_and_announced(
    here: StackWithModels, outcome: Outcome
) -> None:
    aside = {
        m["body"]: m["attributes"]["reason"] for m in receive(here.stack.record.dead_letter_url)
    }
    typo = next(body for body in aside if "tileSize" in body)
    assert "imageProcessorTileSize" in aside[typo]
    assert "not JSON" in aside["not json at all"]
    assert outcome.statuses["typo"] == ["FAILED"]
    assert "tileSize" in outcome.messages["typo"]
    assert outcome.statuses[""] == ["FAILED", "FAILED"]
    assert len(aside) == 4


def test_a_message_that_prefect_refuses_is_announced(outcome: Outcome) -> None:
    assert outcome.statuses["huge"] == ["FAILED"]
    assert "Prefect refuses it" in outcome.messages["huge"]


def test_a_message_sent_twice_is_one_run(outcome: Outcome) -> None:
    assert len(outcome.runs["good"]) == 1


def test_every_image_of_a_message_is_published_under_its_own_name(
    here: StackWithModels, outcome: Outcome
) -> None:
    assert sorted(outcome.statuses["both"]).count("SUCCESS") == 2
    assert len(outcome.runs["both"]) == 2
    keys = published(here, "both")
    assert [key for key in keys if key.endswith(".geojson")] == [
        "both/a-2.tif.geojson",
        "both/a.tif.geojson",
    ]


def test_a_tile_that_fails_makes_the_result_partial(
    here: StackWithModels, outcome: Outcome
) -> None:
    assert outcome.statuses["partial"] == ["STARTED", "IN_PROGRESS", "PARTIAL"]
    assert "HTTP 500" in outcome.messages["partial"]
    assert "1 failed" in outcome.messages["partial"]
    assert len(collection(here, "partial/red.tif.geojson")) == 19


def test_a_missing_image_fails_with_the_reason(here: StackWithModels, outcome: Outcome) -> None:
    assert outcome.statuses["absent"] == ["STARTED", "FAILED"]
    assert "nowhere.tif" in outcome.messages["absent"]
    assert published(here, "absent") == []


def test_the_concurrency_limit_of_image_runs_is_kept(outcome: Outcome) -> None:
    assert 1 <= outcome.most_at_once <= LIMIT


def test_a_job_that_failed_may_be_sent_again(
    here: StackWithModels, outcome: Outcome, tmp_path: Path
) -> None:
    paint(tmp_path / "a.tif")
    objects.put(f"s3://{here.stack.record.image_bucket}/nowhere.tif", tmp_path / "a.tif")
    send(here.stack.record.queue_url, message(here, "absent", "nowhere.tif"))
    again = follow(here, {"absent": 1})
    assert again.statuses["absent"] == ["STARTED", "IN_PROGRESS", "SUCCESS"]
    assert len(again.runs["absent"]) == 2


def test_a_run_cancelled_before_it_began_is_announced_once(
    here: StackWithModels, outcome: Outcome
) -> None:
    parameters = {
        "request": json.loads(message(here, "early", "one/a.tif")),
        "image_url": f"s3://{here.stack.record.image_bucket}/one/a.tif",
    }
    later: State[None] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    with get_client(sync_client=True) as prefect:
        deployment = prefect.read_deployment_by_name("image/image-local")
        run = prefect.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, state=later
        )
        prefect.set_flow_run_state(run.id, Cancelled())
    assert follow(here, {"early": 1}).statuses["early"] == ["FAILED"]
    here.stack.watch(3)
    assert receive(here.stack.record.status_queue_url) == []


def test_cancelling_an_image_ends_its_regions_even_if_the_model_hangs(
    here: StackWithModels, outcome: Outcome, tmp_path: Path
) -> None:
    paint(tmp_path / "blue.tif", colour=(0, 0, 255))
    objects.put(f"s3://{here.stack.record.image_bucket}/blue.tif", tmp_path / "blue.tif")
    hanging = json.loads(message(here, "stopped", "blue.tif", model="failure"))
    hanging["imageProcessorParameters"] = {"seconds": 600}
    send(here.stack.record.queue_url, json.dumps(hanging))
    with get_client(sync_client=True) as prefect:
        while True:
            regions = [
                run
                for run in prefect.read_flow_runs()
                if "job:stopped" in run.tags and "region" in run.parameters
            ]
            if any(run.state and run.state.is_running() for run in regions):
                break
            here.stack.watch(0.3)
        (parent,) = [
            run
            for run in prefect.read_flow_runs()
            if "job:stopped" in run.tags and "region" not in run.parameters
        ]
        prefect.set_flow_run_state(parent.id, Cancelling())
        ended = follow(here, {"stopped": 1})
        assert ended.statuses["stopped"][-1] == "FAILED"
        deadline = time.monotonic() + 45  # a call may take 60 s
        while time.monotonic() < deadline:
            states = [prefect.read_flow_run(region.id).state for region in regions]
            if all(state and state.is_final() for state in states):
                break
            here.stack.watch(0.5)
        assert all(state and state.is_final() for state in states)
    assert published(here, "stopped") == []
