"""Many jobs through the whole chain with faults drawn from a seed: nothing paid for is lost.

`make soak SEED=7 JOBS=50` draws and prints the same jobs and faults each time.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect import get_client

from deployments.local.resources import RESULT_BUCKET
from deployments.sensor import start_sensor
from tasks.errors import PublishError
from tasks.request import Request
from tasks.results.coverage import TileState
from tasks.storage import objects
from tests.chain import Chain, running_chain
from tests.faulty_proxy import faulty_proxy
from tests.polling import until
from tests.soak import audit, runs, short_waits
from tests.soak.calls import Calls
from tests.soak.course import Course
from tests.soak.drawing import Soak, draw
from tests.soak.expected import Result, expected, read_result
from tests.soak.work import Work, prepare

SEED = int(os.environ.get("SOAK_SEED", "1"))
JOBS = int(os.environ.get("SOAK_JOBS", "6"))
FAULTS = int(os.environ.get("SOAK_FAULTS", str(JOBS)))

STORING_INTERVAL = 1.0  # seconds after which an answer is stored, if the store answers
CALL_SECONDS = 0.5  # that a model takes
SETTINGS = {
    "SWATH_REGION_SIZE": "500",
    "SWATH_ENDPOINT_CONCURRENCY": "4",
    "SWATH_SENSORS_PER_QUEUE": "1",
    "SWATH_START_TIMEOUT": "120",
    "PREFECT_WORKER_PREFETCH_SECONDS": "4",  # so that a run that stands by starts only if needed
}


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
        soak: What was drawn.
        chain: The chain, which still runs.
        works: Every image.
        calls: The calls of the models.
        course: The course.
        folder: An empty folder.
    """

    soak: Soak
    chain: Chain
    works: Sequence[Work]
    calls: Calls
    course: Course
    folder: Path


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    """A soak that is over."""
    soak = draw(SEED, JOBS, FAULTS)
    print(f"\nmake soak SEED={SEED} JOBS={JOBS} FAULTS={FAULTS}", *soak.jobs, sep="\n")
    print(*soak.faults, sep="\n", flush=True)
    folder = tmp_path_factory.mktemp("soak")
    with (
        running_chain(folder, forks=False, **SETTINGS) as chain,
        chain.adopted(),
        faulty_proxy(chain.models.address) as proxy,
    ):
        short_waits.deploy()
        start_sensor("sensor/sensor-local", chain.server.api_url)
        works = _prepare_all(soak, chain, proxy.url, folder)
        refused = {w.fault_free.digests[w.refused] for w in works if w.refused is not None}
        proxy.fault = calls = Calls(CALL_SECONDS, refused)
        course = Course(soak, chain, calls, works)
        print(f"{time.strftime('%X')} the chain runs, the fault-free results are there", flush=True)
        course.run()
        answers = sum(call.paid for call in calls.all())
        print(f"{answers} answers for {calls.answered} tiles, {len(course.faults.hits)} faults")
        yield Outcome(soak, chain, works, calls, course, folder)


def _prepare_all(soak: Soak, chain: Chain, models: str, folder: Path) -> list[Work]:
    """Every image of the jobs, some jobs at a time."""
    with ThreadPoolExecutor() as threads:
        prepared = threads.map(
            lambda job: list(prepare(job, chain, models, folder / job.id)), soak.jobs
        )
        return [work for works in prepared for work in works]


def _published(work: Work, status: str) -> Result:
    stem = Request.parse(json.dumps(work.message)).file_names()[work.url]
    prefix = f"s3://{RESULT_BUCKET}/{work.job.id}/{stem}"
    return read_result(status, _object(f"{prefix}.geojson"), _object(f"{prefix}.coverage.parquet"))


def _object(uri: str) -> bytes | None:
    try:
        return objects.get(uri)
    except PublishError:
        return None


def test_every_image_has_one_status_that_ends_it_and_it_is_the_last(outcome: Outcome) -> None:
    told, sent = outcome.course.told(), outcome.course.faults.sent
    wrong = [
        problem
        for work in outcome.works
        for problem in audit.statuses(work.id, told.get(work.id, []), sent[work.job.id])
    ]
    assert not wrong


def test_an_image_fails_only_because_of_a_fault(outcome: Outcome) -> None:
    told, hits = outcome.course.told(), outcome.course.faults.hits
    wrong = [
        problem
        for work in outcome.works
        for problem in audit.failures(
            work.id, work.job.id, told.get(work.id, []), work.fault_free, hits
        )
    ]
    assert not wrong


def test_a_message_that_is_no_request_is_refused_once_and_set_aside(outcome: Outcome) -> None:
    told = outcome.course.told().get("", [])
    assert told == ["FAILED"] * len(outcome.soak.poison)
    aside = [letter["body"] for letter in outcome.chain.dead_letters(len(outcome.soak.poison))]
    assert sorted(aside) == sorted(outcome.soak.poison)


def test_every_result_is_the_fault_free_one_or_lists_what_is_missing(outcome: Outcome) -> None:
    told = outcome.course.told()
    wrong: list[str] = []
    for work in outcome.works:
        found = _published(work, told[work.id][-1])
        lost = found.tiles(TileState.FAILED) - work.fault_free.tiles(TileState.FAILED)
        without = None
        if lost:
            failed = found.tiles(TileState.FAILED)
            folder = outcome.folder / "without" / work.picture.name
            folder.mkdir(parents=True)
            quiet = outcome.chain.models.model().url
            without = expected(work.message, work.url, quiet, folder, failed)
        wrong += audit.result(work.id, found, work.fault_free, without)
    assert not wrong


def test_no_answer_is_asked_for_again_but_what_a_kill_lost(outcome: Outcome) -> None:
    job_of = {
        digest: work.job.id for work in outcome.works for digest in work.fault_free.digests.values()
    }
    hits = outcome.course.faults.hits
    hits = [*hits, *runs.ended_regions(hits)]
    assert not list(audit.repeated_calls(outcome.calls.all(), job_of, hits, STORING_INTERVAL))


def test_no_run_and_no_slot_is_left(outcome: Outcome) -> None:
    del outcome
    until(lambda: not runs.unfinished_runs(), lambda: [r.name for r in runs.unfinished_runs()])
    until(lambda: not _held(), _held, interval=1.0)
    until(lambda: not runs.working_processes(), runs.working_processes)


def _held() -> list[str]:
    """The concurrency limits, other than the sensors', of which slots are held."""
    with get_client(sync_client=True) as prefect:
        limits = prefect.read_global_concurrency_limits(limit=200)
        sensor = prefect.read_deployment_by_name("sensor/sensor-local").id
    return [
        limit.name
        for limit in limits
        if limit.active_slots and not limit.name.startswith(("sensor:", f"deployment:{sensor}"))
    ]
