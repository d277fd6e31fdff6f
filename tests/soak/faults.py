"""The faults of a soak, as they happen: signals to processes, answers of a proxy, commands."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
from prefect.client.schemas.objects import FlowRun

from deployments.local.lost_runs import settle_lost_runs
from deployments.local.resources import RESULT_BUCKET, WORK_BUCKET
from deployments.sensor import start_sensor
from tasks.queue.sqs import send
from tasks.settings import settings
from tests.chain import Chain, kill
from tests.faulty_proxy import Call as AnyCall
from tests.faulty_proxy import status
from tests.polling import until
from tests.soak import short_waits
from tests.soak.audit import Hit
from tests.soak.calls import Calls
from tests.soak.drawing import KILLS_WORKERS, OUTAGES, Fault, FaultKind
from tests.soak.runs import is_region, is_work, jobs_of, processes, unfinished_runs
from tests.soak.work import Work

T = TypeVar("T")

_MODEL_TROUBLE = {
    FaultKind.THROTTLED: 429,
    FaultKind.UNAVAILABLE: 503,
    FaultKind.BROKEN: 500,
    FaultKind.SLOW: None,
}
_WANTED: dict[FaultKind, Callable[[FlowRun], bool]] = {
    FaultKind.REGION_KILLED: is_region,
    FaultKind.IMAGE_KILLED: lambda run: is_work(run) and not is_region(run),
    FaultKind.SENSOR_KILLED: lambda run: not is_work(run),
    FaultKind.WORKER_KILLED: is_work,
    FaultKind.STACK_WORKER_KILLED: is_work,
    FaultKind.TERMINATED: lambda _: True,
    FaultKind.REGION_FROZEN: is_region,
    FaultKind.IMAGE_FROZEN: lambda run: is_work(run) and not is_region(run),
    FaultKind.CANCELLED: is_work,
}
"""The runs that a fault may hit."""


class Faults:
    """Lets faults happen on a running chain.

    Attributes:
        hits: The faults that happened.
        sent: How often each job's message was sent.
    """

    def __init__(self, chain: Chain, calls: Calls, works: Sequence[Work]) -> None:
        """Let none happen yet.

        Args:
            chain: The chain.
            calls: The calls of its models.
            works: Every image of the jobs.
        """
        self.hits: list[Hit] = []
        self.sent = Counter[str]()
        self._chain, self._calls = chain, calls
        self._messages: Mapping[str, str] = {w.job.id: json.dumps(w.message) for w in works}
        self._outages = ThreadPoolExecutor(1)  # one after the other: each ends what it began
        self._others = ThreadPoolExecutor()
        self._under_way: list[Future[None]] = []

    def send(self, job: str) -> None:
        """Send a job's message."""
        self.sent[job] += 1
        send(self._chain.resources.queue_url, self._messages[job])

    def redrive(self, job: str) -> None:
        """`swath redrive` of a job that has ended, as soon as Prefect and the store answer."""
        self.sent[job] += 1
        until(lambda: not self._swath("redrive", job), interval=1.0)

    def happen(self, fault: Fault) -> bool:
        """Let a fault happen, or begin; False if nothing is there that it can hit."""
        if fault.kind in OUTAGES:
            self._under_way.append(self._outages.submit(self._last, fault))
            return True
        with suppress(httpx.HTTPError):
            if fault.kind is FaultKind.SENT_AGAIN:
                job = _chosen(sorted(self._messages), fault)
                self.send(job)
                self._record(fault, job, time.time())
                return True
            return self._hit(fault)
        return False

    @property
    def under_way(self) -> bool:
        """Whether a fault has not ended; raises what went wrong with one."""
        for future in [each for each in self._under_way if each.done()]:
            self._under_way.remove(future)
            future.result()
        return bool(self._under_way)

    def _hit(self, fault: Fault) -> bool:
        """Hit one run, or all; False if there is none."""
        if not processes(_WANTED[fault.kind]):
            return False
        time.sleep(fault.delay)
        if not (targets := processes(_WANTED[fault.kind])):
            return False
        if fault.kind in KILLS_WORKERS:
            jobs, began = jobs_of([run for run, _ in targets]), time.time()
            self._replace_worker(as_stack=fault.kind is FaultKind.STACK_WORKER_KILLED)
            self._record(fault, "all runs", began, jobs)
            return True
        run, found = _chosen(targets, fault)
        jobs, began = jobs_of([run]), time.time()
        if fault.kind is FaultKind.CANCELLED:
            self._aside(partial(self._cancel, fault, *jobs))
        elif fault.kind in {FaultKind.REGION_FROZEN, FaultKind.IMAGE_FROZEN}:
            self._aside(partial(self._freeze, fault, run, found))
        else:
            if fault.kind is FaultKind.TERMINATED:
                _each(found, psutil.Process.terminate)
                psutil.wait_procs(found, timeout=60)
            kill(found)
            self._record(fault, run.name, began, jobs)
        return True

    def _aside(self, action: Callable[[], None]) -> None:
        """Do what takes a while, beside other faults."""
        # with the context of this thread, so that it uses the same Prefect server
        self._under_way.append(self._others.submit(copy_context().run, action))

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

    def _freeze(self, fault: Fault, run: FlowRun, frozen: Sequence[psutil.Process]) -> None:
        """Stop a run's process for about as long as it takes until it counts as dead, or longer."""
        began = time.time()
        _each(frozen, psutil.Process.suspend)
        time.sleep(short_waits.SILENCE + fault.seconds)
        _each(frozen, psutil.Process.resume)
        self._record(fault, run.name, began, jobs_of([run]))

    def _cancel(self, fault: Fault, job: str) -> None:
        """Cancel a job, and redrive it once it has ended."""
        began = time.time()
        until(lambda: not self._swath("cancel", job), interval=1.0)
        until(partial(self._ended, job), interval=1.0)
        self._record(fault, job, began, frozenset({job}))
        self.redrive(job)

    def _ended(self, job: str) -> bool:
        with suppress(httpx.HTTPError):
            return job not in jobs_of(unfinished_runs())
        return False

    def _swath(self, *words: str) -> int:
        """The exit status of a command of `swath`."""
        with (self._chain.folder / "logs" / "commands.log").open("ab") as log:
            return subprocess.run(
                [Path(sys.executable).with_name("swath"), *words],
                env=self._chain.environment(proxied=False),
                stdout=log,
                stderr=log,
                check=False,
            ).returncode

    def _last(self, fault: Fault) -> None:
        """Let a fault happen that lasts."""
        time.sleep(fault.delay)
        began = time.time()
        if fault.kind in _MODEL_TROUBLE:
            self._calls.trouble(_MODEL_TROUBLE[fault.kind], fault.seconds)
            time.sleep(fault.seconds)
        elif fault.kind is FaultKind.PREFECT_STOPPED:
            stopped = psutil.Process(self._chain.server.process.pid).children(recursive=True)
            _each(stopped, psutil.Process.suspend)
            time.sleep(fault.seconds)
            _each(stopped, psutil.Process.resume)
        else:
            aws, seconds = self._chain.aws, fault.seconds
            if fault.kind is FaultKind.BUCKET_MISSING:  # longer than a run waits for it
                seconds += settings().storage_patience
            with {
                FaultKind.AWS_STOPPED: aws.holding(lambda _: True),
                FaultKind.S3_FAILING: aws.failing(_is_s3, status(503)),
                FaultKind.SNS_REFUSING: aws.failing(_is_sns, status(403, "AuthorizationError")),
                FaultKind.STORAGE_DENIED: aws.failing(
                    _is_of(WORK_BUCKET, RESULT_BUCKET), status(403, "AccessDenied")
                ),
                FaultKind.BUCKET_MISSING: aws.failing(
                    _is_of(RESULT_BUCKET), status(404, "NoSuchBucket")
                ),
            }[fault.kind]:
                time.sleep(seconds)
        self._record(fault, "", began)

    def _record(
        self, fault: Fault, text: str, began: float, jobs: frozenset[str] = frozenset()
    ) -> None:
        self.hits.append(Hit(fault.kind, text, began, time.time(), jobs))
        print(f"{time.strftime('%X')} {fault}: {text} {' '.join(sorted(jobs))}", flush=True)


def _chosen(items: Sequence[T], fault: Fault) -> T:
    return items[int(fault.choice * len(items))]


def _each(found: Sequence[psutil.Process], action: Callable[[psutil.Process], object]) -> None:
    """Do something to processes, some of which may have ended."""
    for process in found:
        with suppress(psutil.NoSuchProcess):
            action(process)


def _is_sns(call: AnyCall) -> bool:
    return b"Action=Publish" in call.body


def _is_s3(call: AnyCall) -> bool:
    """Whether a call is of S3: of SQS the header names an action, of SNS the body."""
    return not call.action and not _is_sns(call)


def _is_of(*buckets: str) -> Callable[[AnyCall], bool]:
    """Whether a call is of one of some buckets."""
    return lambda call: call.path.split("?")[0].split("/")[1] in buckets
