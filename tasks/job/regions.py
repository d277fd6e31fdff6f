"""The regions of an image in one process: in turn, with as many attempts as the operator allows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from tasks.errors import ImageChangedError, ImageUnreachableError, SwathError
from tasks.grid.tiles import Region
from tasks.inference import OpenEndpoint
from tasks.job.asking import Asking
from tasks.job.kept import Kept
from tasks.job.observer import Observer, OneCallAtATime
from tasks.job.region import RegionOutcome, work_region
from tasks.job.shared_client import SharedClient
from tasks.job.turns import MAX_AT_A_TIME, work_in_turn
from tasks.planning.plan import Plan
from tasks.settings import settings
from tasks.telemetry.fields import working_on

logger = logging.getLogger(__name__)


def work_regions(
    plan: Plan,
    regions: Sequence[Region],
    kept: Kept,
    observer: Observer,
    open_endpoint: OpenEndpoint,
    *,
    done: Callable[[int], None],
) -> dict[int, str]:
    """Work the regions in turn; returns the index of each lost one, with the reason.

    Regions that are complete, because an earlier run worked them, are not worked again. `done` is
    called with the index of each region that has ended.
    """
    waiting = kept.unfinished(plan.request, regions)
    for region in regions:
        if region not in waiting:
            observer.tiles_kept(region, len(region))
            observer.region_ended(region, "")
            done(region.index)
    with (
        ThreadPoolExecutor(MAX_AT_A_TIME, thread_name_prefix="regions") as threads,
        closing(SharedClient(open_endpoint=open_endpoint)) as shared,
    ):
        observer = OneCallAtATime(observer)

        def work(region: Region, next_may_begin: Callable[[], None]) -> RegionOutcome:
            asking = Asking(observer, shared, next_may_begin=next_may_begin)
            with working_on(region=region.name):
                return work_region(plan, region, kept, asking)

        attempts = _Attempts(work, observer, done)
        work_in_turn(waiting, attempts.attempt, threads)
    return attempts.lost


Work = Callable[[Region, Callable[[], None]], RegionOutcome]
"""Works a region, and calls its second argument once the next one may begin."""


class _Attempts:
    """The attempts at the regions of an image.

    After the endpoint was given up, the limit of the job was reached, the image was replaced, or
    nothing of it could be fetched in all attempts at a region, no further region begins.

    Attributes:
        lost: Index of each region that stored no results, with the reason.
    """

    def __init__(self, work: Work, observer: Observer, done: Callable[[int], None]) -> None:
        self.lost: dict[int, str] = {}
        self._work, self._observer, self._done = work, observer, done
        self._stop = ""
        self._attempts: Counter[int] = Counter()

    def attempt(self, region: Region, next_may_begin: Callable[[], None]) -> bool:
        """Work a region once; returns whether it must be tried again."""
        if self._stop:
            self.lost[region.index] = self._stop
            return False
        self._attempts[region.index] += 1
        self._observer.region_began(region)
        reason = ""
        try:
            self._stop = self._work(region, next_may_begin).stop_reason or self._stop
        except ImageChangedError as error:
            reason = self._stop = str(error)
        except SwathError as error:
            reason = str(error)
            if self._attempts[region.index] < settings().region_attempts and not self._stop:
                logger.warning("%s is tried again: %s", region.name, error)
                return True
            if isinstance(error, ImageUnreachableError) and not error.partly:
                self._stop = reason
        if reason:
            self.lost[region.index] = reason
        self._observer.region_ended(region, reason)
        self._done(region.index)
        return False
