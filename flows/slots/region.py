"""A region's part of an endpoint's slots, while it is at work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from threading import Event, Thread
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.runtime import flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.slots.claims import Claims
from flows.slots.leases import DURATION, Leases
from flows.slots.limit import fair_shares, limit_name
from tasks.inference.endpoint import Endpoint
from tasks.inference.limiter import Limiter
from tasks.request import Request

_EVERY = 2.0  # seconds between looks
_GROWING = 0.5  # the same, while a region gets all that it asks for, and asks for more
_LOOKS = 8  # of all regions, in a second: with more than 16 of them, each looks less often
_PUZZLING = 3  # looks without a slot, after which people ask why nothing moves
_AGAIN = 0.1  # seconds after a look that failed; SQLite is often busy for a moment
_SERIOUS = 5  # looks that failed in a row are worth a warning
_SELDOM = 15.0  # seconds between looks at most: claims and leases end without
_TIMEOUT = 10.0  # seconds that an answer of Prefect's may take
_UNBOUND = 10_000  # calls, where an operator switched the limit off


@contextmanager
def endpoint_slots(
    request: Request, endpoint: Endpoint, limiter: Limiter, *, unknown: int
) -> Iterator[None]:
    """While it is open, `limiter.max_in_flight` is what this region holds of an endpoint's slots.

    The limit is made when first used, with the endpoint's capacity; from then on it is the
    operator's, who changes it in the UI or by `prefect gcl update`, also in the middle of a run.
    Where there is not enough, `fair_shares` says who has how much. Where Prefect cannot be asked,
    work goes on with what is surely held, and one call at a time at least. An endpoint in this
    process takes no slots.

    Args:
        request: Names the endpoint.
        endpoint: Its capacity is what the limit is made with.
        limiter: Of the region's calls; until the first slots are held, it lets nobody in.
        unknown: What the limit is made with where the endpoint does not know its capacity.
    """
    if endpoint.local:
        yield
        return
    region = UUID(flow_run.id)
    image = UUID(flow_run.parent_flow_run_id or flow_run.id)
    limiter.max_in_flight = 0
    part, ended = _Part(limit_name(request), endpoint.capacity, unknown, limiter), Event()
    # in this run's context, so on its server, and in its log
    thread = Thread(target=copy_context().run, args=(part.keep, region, image, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        limiter.max_in_flight = 0  # no call begins while its slot is given back
        ended.set()
        thread.join()


class _Part:
    """What a region holds of a limit, brought up to date look by look."""

    def __init__(self, name: str, capacity: int | None, unknown: int, limiter: Limiter) -> None:
        self._name, self._limiter = name, limiter
        self._capacity = capacity  # until it was compared with the limit
        self._initial = capacity or unknown
        self._wanted = 0
        self._regions = 1
        self._idle = 0  # looks on end that left it without a slot
        self._paused = False
        self._failures, self._trouble = 0, 0.0  # looks that failed in a row, and since when

    def keep(self, region: UUID, image: UUID, ended: Event) -> None:
        """Look until told to end; then give back all."""
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),  # it would wait for seconds
            get_client(httpx_settings={"timeout": _TIMEOUT}, sync_client=True) as client,
        ):
            self._log = get_run_logger()
            self._client = client
            self._leases = Leases(client, self._name, region)
            self._claims = Claims(client, self._name, region, image)
            self._region = region
            pause = 0.0
            while not ended.wait(pause):
                pause = self._try_to_look()
            for give_back in (self._leases.release, self._claims.withdraw):
                _insist(give_back)

    def _try_to_look(self) -> float:
        """Look, or go on without; returns the seconds to the next look."""
        try:
            pause = self._look()
        except Exception as error:
            self._failures += 1
            self._trouble = self._trouble or time.monotonic()
            if self._failures == _SERIOUS:
                self._log.warning(
                    "The slots of %r cannot be looked after: Prefect does not answer (%r). Calls "
                    "go on, as many as are surely held, and at least one.",
                    self._name,
                    error,
                )
            self._go_on(time.monotonic() - self._trouble)
            return min(_EVERY, _AGAIN * 2.0 ** min(9, self._failures - 1))
        if self._failures >= _SERIOUS:
            self._log.info("The slots of %r are looked after again.", self._name)
        self._failures, self._trouble = 0, 0.0
        return pause

    def _go_on(self, trouble: float) -> None:
        """Call as is safe without Prefect, after so many seconds of trouble."""
        if self._leases.held:
            self._limiter.max_in_flight = max(
                1, min(self._limiter.max_in_flight, self._leases.sure)
            )
        elif trouble > DURATION and not self._paused:
            self._limiter.max_in_flight = 1

    def _look(self) -> float:
        self._leases.renew()
        limit = self._limit()
        self._paused = limit.limit == 0
        if not limit.active:
            self._limiter.max_in_flight = _UNBOUND
            return _EVERY
        self._want()
        before = self._leases.held
        self._claims.show(self._wanted, before)
        if self._paused:  # Prefect cannot take slots back then: it would divide by the limit
            self._limiter.max_in_flight = 0
            self._tell(limit)
            return _EVERY
        target = self._target(limit)
        self._limiter.max_in_flight = min(
            self._limiter.max_in_flight, target
        )  # before it is given back
        in_use = min(before, self._limiter.in_flight)
        self._leases.change(max(target, in_use), limit.limit - limit.active_slots)
        self._limiter.max_in_flight = min(self._leases.held, target)
        self._tell(limit)
        if before < self._leases.held == self._wanted:
            return _GROWING
        return min(_SELDOM, max(_EVERY, self._regions / _LOOKS))

    def _limit(self) -> GlobalConcurrencyLimitResponse:
        """The limit, made where there is none."""
        try:
            limit = self._client.read_global_concurrency_limit_by_name(self._name)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):  # another region was faster
                self._client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(
                        name=self._name, limit=self._initial, slot_decay_per_second=0.0
                    )
                )
            limit = self._client.read_global_concurrency_limit_by_name(self._name)
        if self._capacity not in {None, limit.limit}:
            self._log.info(
                "%r takes %d calls at a time, and its limit is %d, which counts. To change it: "
                "prefect gcl update %r --limit %d",
                *(self._name, self._capacity, limit.limit, self._name, self._capacity),
            )
        self._capacity = None
        return limit

    def _want(self) -> None:
        """Ask for more at once, and for less only when it is much less."""
        wanted = self._limiter.demand
        if not 0.75 * self._wanted <= wanted <= self._wanted:
            self._wanted = wanted

    def _target(self, limit: GlobalConcurrencyLimitResponse) -> int:
        """Slots to hold; what others want matters only where there is not enough."""
        if self._leases.held >= self._wanted and limit.active_slots < limit.limit:
            return self._wanted
        claims = self._claims.read()
        self._regions = len(claims)
        return fair_shares(limit.limit, claims).get(self._region, 0)

    def _tell(self, limit: GlobalConcurrencyLimitResponse) -> None:
        """Say once why nothing moves, when it has not for a few looks."""
        waiting = self._wanted > 0 and self._limiter.max_in_flight == 0
        self._idle = self._idle + 1 if waiting else 0
        if self._idle == _PUZZLING:
            self._log.info(
                "Waits for its turn to call %r: its limit is %d, %d slots are taken, and %d "
                "regions want some. To have more: prefect gcl update %r --limit N",
                *(self._name, limit.limit, limit.active_slots, self._regions, self._name),
            )


def _insist(give_back: Callable[[], object]) -> None:
    """Give back what is held, in spite of a few failures; what is left ends by itself."""
    for attempt in range(_SERIOUS):
        with suppress(httpx.HTTPError, ObjectNotFound):
            give_back()
            return
        time.sleep(_AGAIN * 2.0**attempt)
