"""The slots of an endpoint that a region holds while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Event, Thread
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run

from flows.endpoint_limit import limit_name
from flows.run_records import client_without_retries
from flows.slots.claims import Claims
from flows.slots.leases import DURATION, Leases
from tasks.inference.endpoint import Endpoint
from tasks.inference.limiter import Limiter
from tasks.request import Request
from tasks.settings import settings
from tasks.sharing.shares import fair_shares
from tasks.sharing.slots import wanted_slots

_INTERVAL = 2.0  # seconds between two updates
_GROWTH_INTERVAL = 0.5  # seconds, while a region got all that it wanted and may want more
_UPDATES = 8  # per second by all regions: with more than 16 of them, each updates less often
_UPDATES_WITHOUT_SLOT = 3  # in a row, after which the reason is logged
_RETRY = 0.1  # seconds after an update that failed; SQLite is often busy for a moment
_FAILURES = 5  # updates that failed in a row, after which that is logged
_LONGEST_INTERVAL = 15.0  # seconds, as claims and leases expire without updates
_UNLIMITED = 10_000  # calls at a time, if an operator made the limit inactive


@contextmanager
def endpoint_slots(
    request: Request, endpoint: Endpoint, limiter: Limiter, *, default_limit: int
) -> Iterator[None]:
    """Keep `limiter.max_in_flight` at the number of an endpoint's slots that this region holds.

    The concurrency limit is created at its first use, with the endpoint's capacity. From then on
    operators change it, in Prefect's UI or by `prefect gcl update`, also during a run. If the
    regions want more slots than it has, each holds its fair share (`fair_shares`), and all of an
    owner no more than the owner's quota, unless the limit is made inactive. While Prefect
    does not answer, a region goes on with the slots whose leases cannot have expired, and with at
    least one call at a time. An endpoint in this process needs no slots.

    Args:
        request: Names the endpoint.
        endpoint: The limit is created with its capacity.
        limiter: Limits the region's calls; it admits none until the first slots are held.
        default_limit: The limit to create if the endpoint's capacity is not known.
    """
    if endpoint.local:
        yield
        return
    region = UUID(flow_run.id)
    image = UUID(flow_run.parent_flow_run_id or flow_run.id)
    limiter.max_in_flight = 0
    slots, ended = _RegionSlots(request, endpoint.capacity, default_limit, limiter), Event()
    # in the context of this run, so that it uses the run's Prefect server and log
    thread = Thread(target=copy_context().run, args=(slots.keep, region, image, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        limiter.max_in_flight = 0  # no call begins while its slot is released
        ended.set()
        thread.join()


class _RegionSlots:
    """The slots of a limit that a region holds, updated at intervals in a thread."""

    def __init__(
        self, request: Request, capacity: int | None, default_limit: int, limiter: Limiter
    ) -> None:
        self._request, self._limiter = request, limiter
        self._name = limit_name(request)
        self._has_quota = _calls(request.owner) is not None
        self._capacity = capacity  # None once it was compared with the limit
        self._initial = capacity or default_limit
        self._wanted = 0
        self._regions = 1
        self._without_slot = 0  # updates in a row
        self._paused = False
        self._failures, self._failing_since = 0, 0.0  # updates that failed in a row

    def keep(self, region: UUID, image: UUID, ended: Event) -> None:
        """Update until the region has ended; then release all slots."""
        with client_without_retries() as client:
            self._log = get_run_logger()
            self._client = client
            self._leases = Leases(client, self._name, region)
            self._claims = Claims(client, self._name, region, image, self._request)
            self._region = region
            pause = 0.0
            while not ended.wait(pause):
                pause = self._try_update()
            for release in (self._leases.release, self._claims.withdraw):
                _try_repeatedly(release)

    def _try_update(self) -> float:
        """Update, or go on without Prefect; returns the seconds to the next update."""
        try:
            pause = self._update()
        except Exception as error:
            self._failures += 1
            self._failing_since = self._failing_since or time.monotonic()
            if self._failures == _FAILURES:
                self._log.warning(
                    "The slots of %r cannot be updated: Prefect does not answer (%r). Calls go on, "
                    "with the slots whose leases have not expired, and at least one at a time.",
                    self._name,
                    error,
                )
            self._continue_without_prefect(time.monotonic() - self._failing_since)
            return min(_INTERVAL, _RETRY * 2.0 ** min(9, self._failures - 1))
        if self._failures >= _FAILURES:
            self._log.info("The slots of %r are updated again.", self._name)
        self._failures, self._failing_since = 0, 0.0
        return pause

    def _continue_without_prefect(self, failing: float) -> None:
        """Set the number of calls that may go on while Prefect does not answer.

        Args:
            failing: Seconds for which updates have failed.
        """
        if self._leases.held:
            self._limiter.max_in_flight = max(
                1, min(self._limiter.max_in_flight, self._leases.unexpired)
            )
        elif failing > DURATION and not self._paused:
            self._limiter.max_in_flight = 1

    def _update(self) -> float:
        self._leases.renew()
        limit = self._limit()
        self._paused = limit.limit == 0
        if not limit.active:
            self._limiter.max_in_flight = _UNLIMITED
            return _INTERVAL
        self._update_wanted(limit)
        before = self._leases.held
        self._claims.write(self._wanted, before)
        if self._paused:  # Prefect cannot release slots then: it would divide by the limit
            self._limiter.max_in_flight = 0
            self._log_wait(limit)
            return _INTERVAL
        target = self._target(limit)
        # lowered before slots are released, so that no call begins without one
        self._limiter.max_in_flight = min(self._limiter.max_in_flight, target)
        in_use = min(before, self._limiter.in_flight)
        self._leases.change(max(target, in_use), limit.limit - limit.active_slots)
        self._limiter.max_in_flight = min(self._leases.held, target)
        self._log_wait(limit)
        if before < self._leases.held == self._wanted:
            return _GROWTH_INTERVAL
        return min(_LONGEST_INTERVAL, max(_INTERVAL, self._regions / _UPDATES))

    def _limit(self) -> GlobalConcurrencyLimitResponse:
        """The limit, created if it does not exist."""
        try:
            limit = self._client.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # created by another region meanwhile
                self._client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(
                        name=self._name, limit=self._initial, slot_decay_per_second=0.0
                    )
                )
            limit = self._client.read_global_concurrency_limit_by_name(self._name)
        if self._capacity not in {None, limit.limit}:
            self._log.info(
                "%r takes %d calls at a time; its limit of %d applies. To change it: "
                "prefect gcl update %r --limit %d",
                *(self._name, self._capacity, limit.limit, self._name, self._capacity),
            )
        self._capacity = None
        return limit

    def _update_wanted(self, limit: GlobalConcurrencyLimitResponse) -> None:
        """Raise the wanted number at once, but lower it only if demand has fallen by a quarter.

        An owner's quota may be used up while most of the limit is free: then its other regions lack
        the slots that a region keeps, and it wants no more than its demand.
        """
        wanted = self._limiter.demand
        if not self._has_quota:
            wanted = wanted_slots(wanted, self._wanted, limit.active_slots, limit.limit)
        if not 0.75 * self._wanted <= wanted <= self._wanted:
            self._wanted = wanted

    def _target(self, limit: GlobalConcurrencyLimitResponse) -> int:
        """Slots to hold.

        The claims of other regions count only if the limit, or the owner's quota, may be too low.
        """
        enough = self._leases.held >= self._wanted and limit.active_slots < limit.limit
        if enough and not self._has_quota:
            return self._wanted
        claims = self._claims.read()
        self._regions = len(claims)
        return fair_shares(limit.limit, claims, _calls).get(self._region, 0)

    def _log_wait(self, limit: GlobalConcurrencyLimitResponse) -> None:
        """Log once why the region makes no call, after a few updates without a slot."""
        waiting = self._wanted > 0 and self._limiter.max_in_flight == 0
        self._without_slot = self._without_slot + 1 if waiting else 0
        if self._without_slot == _UPDATES_WITHOUT_SLOT:
            self._log.info(
                "Waits for slots to call %r: its limit is %d, %d slots are taken, and %d "
                "regions want some%s. To raise it: prefect gcl update %r --limit N",
                *(self._name, limit.limit, limit.active_slots, self._regions),
                f"; {self._request.owner!r} has a quota of calls" if self._has_quota else "",
                self._name,
            )


def _calls(owner: str) -> int | None:
    """The calls to a model that the jobs of an owner may make at a time."""
    return settings().quota(owner).calls


def _try_repeatedly(release: Callable[[], object]) -> None:
    """Call a function that releases slots or claims, up to five times; else they expire."""
    for attempt in range(_FAILURES):
        with suppress(httpx.HTTPError, ObjectNotFound):
            release()
            return
        time.sleep(_RETRY * 2.0**attempt)
