"""The course of a soak: sends the jobs, lets the faults happen, and waits for the end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain

import httpx

from tasks.queue.sqs import send
from tasks.results.coverage import TileState
from tests.chain import Chain
from tests.soak.audit import ENDS
from tests.soak.calls import Calls
from tests.soak.drawing import Soak
from tests.soak.faults import Faults
from tests.soak.runs import unfinished_runs
from tests.soak.work import Work

_POLL = 0.5  # seconds between two looks
_LONGEST_STANDSTILL = 900.0  # seconds without an answer, a status or a fault; only if a test fails


class Course:
    """One soak on a running chain.

    Attributes:
        faults: The faults, also those that happened.
    """

    def __init__(self, soak: Soak, chain: Chain, calls: Calls, works: Sequence[Work]) -> None:
        """Send nothing yet.

        Args:
            soak: What was drawn.
            chain: The chain.
            calls: The calls of its models.
            works: Every image of the jobs.
        """
        self.faults = Faults(chain, calls, works)
        self._soak, self._chain, self._calls, self._works = soak, chain, calls, works
        self._tiles = sum(len(work.fault_free.tiles(TileState.INFERRED)) for work in works)
        self._told: dict[str, list[str]] = {}

    def run(self) -> None:
        """Send everything, and wait until everything has ended."""
        self._send_all()
        faults, moved, seen = deque(self._soak.faults), time.monotonic(), (0, 0, 0)
        while self.faults.under_way or not self._over() or self._redriven():
            due = faults and self._calls.answered >= faults[0].at * self._tiles
            if due and self.faults.happen(faults[0]):
                faults.popleft()
            told, hits = sum(map(len, self._told.values())), len(self.faults.hits)
            now = self._calls.answered, told, hits
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

    def _send_all(self) -> None:
        poison = list(self._soak.poison)
        for job in self._soak.jobs:
            for _ in range(job.copies):
                self.faults.send(job.id)
            if poison:
                send(self._chain.resources.queue_url, poison.pop())

    def _over(self) -> bool:
        """Whether every job has ended, and every message was handled."""
        told = self.told()
        if not all(told.get(work.id, [""])[-1] in ENDS for work in self._works):
            return False
        if len(told.get("", [])) < len(self._soak.poison):
            return False
        with suppress(httpx.HTTPError):
            return self._chain.queue_is_empty() and not unfinished_runs()
        return False

    def _redriven(self) -> bool:
        """Redrive, as an operator does, the jobs that failed because of a fault; False if none."""
        failed = {
            work.job.id
            for work in self._works
            if self._told[work.id][-1] == "FAILED" != work.fault_free.status
        }
        for job in sorted(failed):
            print(f"redriven: {job}", flush=True)
            self.faults.redrive(job)
        return bool(failed)

    def _unfinished(self) -> str:
        told = self.told()
        left = {work.id: told.get(work.id) for work in self._works}
        return f"nothing moves: {left}, {[(r.name, r.state_name) for r in unfinished_runs()]}"
