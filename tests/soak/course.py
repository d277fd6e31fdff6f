"""The course of a soak: sends the jobs, lets the faults happen, and waits for the end."""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TypeVar

import httpx
import psutil
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from deployments.local.lost_runs import settle_lost_runs
from deployments.sensor import start_sensor
from flows.cancel import UNFINISHED
from flows.run_records import read_pages
from tasks.queue.sqs import send
from tasks.results.coverage import TileState
from tests.chain import Chain, kill, processes_of
from tests.faulty_proxy import Call as AnyCall
from tests.faulty_proxy import status
from tests.polling import until
from tests.soak.audit import ENDS, Hit
from tests.soak.calls import Calls
from tests.soak.drawing import AT_ONCE, Fault, FaultKind, Soak
from tests.soak.work import Work

_POLL = 0.2  # seconds between two looks
_LONGEST_STANDSTILL = 900.0  # seconds without an answer, a status or a fault; only if a test fails
_MODEL_TROUBLE = {
    FaultKind.THROTTLED: 429,
    FaultKind.UNAVAILABLE: 503,
    FaultKind.BROKEN: 500,
}
_KILLS_WORKERS = {FaultKind.WORKER_KILLED, FaultKind.STACK_WORKER_KILLED}
_KILLS_IMAGES = {FaultKind.IMAGE_KILLED, *_KILLS_WORKERS}
_ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]

T = TypeVar("T")


class Course:
    """One soak on a running chain.

    Attributes:
        hits: The faults that happened.
        sent: How often each job's message was sent.
    """

    def __init__(self, soak: Soak, chain: Chain, calls: Calls, works: Sequence[Work]) -> None:
        """Send nothing yet.

        Args:
            soak: What was drawn.
            chain: The chain.
            calls: The calls of its models.
            works: Every image of the jobs.
        """
        self.hits: list[Hit] = []
        self.sent = Counter[str]()
        self._soak, self._chain, self._calls = soak, chain, calls
        self._images = [work.id for work in works]
        self._messages = {work.job.id: json.dumps(work.message) for work in works}
        self._tiles = sum(len(work.fault_free.tiles(TileState.INFERRED)) for work in works)
        self._told: dict[str, list[str]] = {}

    def run(self) -> None:
        """Send everything, and wait until everything has ended."""
        self._send_all()
        faults, moved, seen = deque(self._soak.faults), time.monotonic(), (0, 0, 0)
        with ThreadPoolExecutor(1) as lasting:
            under_way: Future[None] | None = None
            while not (self._over() and (under_way is None or under_way.done())):
                if faults and self._calls.answered >= faults[0].at * self._tiles:
                    fault = faults[0]
                    if fault.kind not in AT_ONCE:
                        under_way = lasting.submit(self._last, faults.popleft())
                    elif self._happen(fault):
                        faults.popleft()
                now = self._calls.answered, sum(map(len, self._told.values())), len(self.hits)
                moved, seen = (moved, seen) if now == seen else (time.monotonic(), now)
                assert time.monotonic() < moved + _LONGEST_STANDSTILL, self._unfinished()
                time.sleep(_POLL)
        for fault in faults:
            print(f"too late: {fault}", flush=True)

    def told(self) -> dict[str, list[str]]:
        """The statuses of each image so far, by its id; of refused messages under an empty id."""
        with suppress(Exception):  # while AWS does not answer
            self._chain.statuses("")
        self._told = {}
        for each in chain.from_iterable(self._chain._statuses.values()):
            self._told.setdefault(each.get("image_id", ""), []).append(each["status"])
        return self._told

    def unfinished_runs(self) -> list[FlowRun]:
        """The runs of images and regions that have not ended."""
        wanted = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))
        )
        with get_client(sync_client=True) as prefect:
            runs = list(read_pages(partial(prefect.read_flow_runs, flow_run_filter=wanted)))
        return [run for run in runs if _is_work(run)]

    def ended_regions(self) -> list[Hit]:
        """The runs of regions that were ended because their image's run was killed."""
        wanted = FlowRunFilter(
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(any_=[StateType.CANCELLED, StateType.CRASHED])
            )
        )
        killed = [hit for hit in self.hits if hit.kind in _KILLS_IMAGES]
        with get_client(sync_client=True) as prefect:
            runs = list(read_pages(partial(prefect.read_flow_runs, flow_run_filter=wanted)))
        return [
            Hit(hit.kind, run.name, hit.began, run.end_time.timestamp(), _jobs_of([run]))
            for run in runs
            for hit in killed
            if _is_region(run) and run.end_time and _jobs_of([run]) <= hit.jobs
        ]

    def processes(self) -> list[str]:
        """The processes of runs of images and regions."""
        return [run.name for run, _ in self._processes(_is_work, [*UNFINISHED, *_ENDED])]

    def _send_all(self) -> None:
        poison = list(self._soak.poison)
        for job in self._soak.jobs:
            for _ in range(job.copies):
                self._send(job.id)
            if poison:
                send(self._chain.resources.queue_url, poison.pop())

    def _send(self, job: str) -> None:
        self.sent[job] += 1
        send(self._chain.resources.queue_url, self._messages[job])

    def _over(self) -> bool:
        """Whether every job has ended, and every message was handled."""
        told = self.told()
        if not all(told.get(image, [""])[-1] in ENDS for image in self._images):
            return False
        if len(told.get("", [])) < len(self._soak.poison):
            return False
        with suppress(httpx.HTTPError):
            return self._chain.queue_is_empty() and not self.unfinished_runs()
        return False

    def _unfinished(self) -> str:
        told = self.told()
        left = {image: told.get(image) for image in self._images}
        return f"nothing moves: {left}, {[(r.name, r.state_name) for r in self.unfinished_runs()]}"

    def _happen(self, fault: Fault) -> bool:
        """Let a fault happen that does not last; False if nothing is there that it can hit."""
        with suppress(httpx.HTTPError):
            if fault.kind is FaultKind.SENT_AGAIN:
                job = _chosen(self._soak.jobs, fault).id
                self._send(job)
                self._record(fault, job, time.time())
                return True
            return self._kill(fault)
        return False

    def _kill(self, fault: Fault) -> bool:
        if not self._targets(fault.kind):
            return False
        time.sleep(fault.delay)
        if not (targets := self._targets(fault.kind)):
            return False
        if fault.kind in _KILLS_WORKERS:
            text, jobs = "all runs", _jobs_of([run for run, _ in self._processes(_is_work)])
            began = time.time()
            self._replace_worker(as_stack=fault.kind is FaultKind.STACK_WORKER_KILLED)
        else:
            run, processes = _chosen(targets, fault)
            text, jobs, began = run.name, _jobs_of([run]), time.time()
            kill(processes)
        self._record(fault, text, began, jobs)
        return True

    def _replace_worker(self, *, as_stack: bool) -> None:
        self._chain.kill_worker()
        ended = datetime.now(UTC)
        self._chain.start_worker()
        if as_stack:
            until(partial(self._settled, ended))

    def _settled(self, ended: datetime) -> bool:
        """Do what `swath up` does after the worker has ended; False if Prefect does not answer."""
        api_url = self._chain.server.api_url
        with suppress(httpx.HTTPError):
            settle_lost_runs(api_url, ended, stopped=False)
            start_sensor("sensor/sensor-local", api_url)
            return True
        return False

    def _targets(self, kind: FaultKind) -> list[tuple[FlowRun, list[psutil.Process]]]:
        """The runs that a fault may kill, with their processes."""
        return self._processes(
            {
                FaultKind.REGION_KILLED: _is_region,
                FaultKind.IMAGE_KILLED: lambda run: _is_work(run) and not _is_region(run),
                FaultKind.SENSOR_KILLED: lambda run: not _is_work(run),
                FaultKind.WORKER_KILLED: _is_work,
                FaultKind.STACK_WORKER_KILLED: _is_work,
            }[kind]
        )

    def _processes(
        self, wanted: Callable[[FlowRun], bool], states: Sequence[StateType] = (StateType.RUNNING,)
    ) -> list[tuple[FlowRun, list[psutil.Process]]]:
        """The runs in some states that have processes on this machine, by name."""
        running = FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states)))
        )
        with get_client(sync_client=True) as prefect:
            runs = list(read_pages(partial(prefect.read_flow_runs, flow_run_filter=running)))
        found: dict[str, list[psutil.Process]] = defaultdict(list)
        for process in processes_of(runs):
            with suppress(psutil.Error):
                found[process.environ()["PREFECT__FLOW_RUN_ID"]].append(process)
        named = sorted((run for run in runs if wanted(run)), key=lambda run: run.name)
        return [(run, found[str(run.id)]) for run in named if str(run.id) in found]

    def _last(self, fault: Fault) -> None:
        """Let a fault happen that lasts."""
        time.sleep(fault.delay)
        began = time.time()
        if fault.kind in _MODEL_TROUBLE:
            self._calls.trouble(_MODEL_TROUBLE[fault.kind], fault.seconds)
            time.sleep(fault.seconds)
        elif fault.kind is FaultKind.PREFECT_STOPPED:
            stopped = psutil.Process(self._chain.server.process.pid).children(recursive=True)
            for process in stopped:
                process.suspend()
            time.sleep(fault.seconds)
            for process in stopped:
                process.resume()
        else:
            aws = self._chain.aws
            with {
                FaultKind.AWS_STOPPED: aws.holding(lambda _: True),
                FaultKind.S3_FAILING: aws.failing(_is_s3, status(503)),
                FaultKind.SNS_REFUSING: aws.failing(_is_sns, status(403, "AuthorizationError")),
            }[fault.kind]:
                time.sleep(fault.seconds)
        self._record(fault, "", began)

    def _record(
        self, fault: Fault, text: str, began: float, jobs: frozenset[str] = frozenset()
    ) -> None:
        self.hits.append(Hit(fault.kind, text, began, time.time(), jobs))
        print(f"{time.strftime('%X')} {fault}: {text} {' '.join(sorted(jobs))}", flush=True)


def _is_work(run: FlowRun) -> bool:
    """Whether a run is that of an image or of a region, not a sensor."""
    return "request" in run.parameters


def _is_region(run: FlowRun) -> bool:
    return "region" in run.parameters


def _jobs_of(runs: Sequence[FlowRun]) -> frozenset[str]:
    return frozenset(run.parameters["request"]["jobId"] for run in runs if _is_work(run))


def _chosen(items: Sequence[T], fault: Fault) -> T:
    return items[int(fault.choice * len(items))]


def _is_sns(call: AnyCall) -> bool:
    return b"Action=Publish" in call.body


def _is_s3(call: AnyCall) -> bool:
    """Whether a call is of S3: of SQS the header names an action, of SNS the body."""
    return not call.action and not _is_sns(call)
