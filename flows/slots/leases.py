"""Slots of a concurrency limit, leased from Prefect in bulk: a crash frees them in a minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.exceptions import PrefectHTTPStatusError

DURATION = 60.0  # seconds, the shortest that Prefect grants
_RENEWED = 20.0  # seconds after which a lease is renewed
_MOST = 4  # leases at a time: each is renewed by itself


@dataclass
class _Lease:
    id: UUID
    slots: int
    renewed: float


class Leases:
    """The slots that a region holds of one limit.

    The methods raise `httpx.HTTPError` where Prefect cannot be asked.
    """

    def __init__(self, client: SyncPrefectClient, limit: str, region: UUID) -> None:
        """Hold nothing yet."""
        self._client, self._limit = client, limit
        self._holder = ConcurrencyLeaseHolder(type="flow_run", id=region)
        self._leases: list[_Lease] = []

    @property
    def held(self) -> int:
        """Slots."""
        return sum(lease.slots for lease in self._leases)

    @property
    def sure(self) -> int:
        """Slots that nobody else can have been given, also while Prefect cannot be asked."""
        now = time.monotonic()
        return sum(lease.slots for lease in self._leases if now - lease.renewed < DURATION)

    def change(self, slots: int, free: int) -> None:
        """Come to hold a number of slots, or as near to it as what is free allows.

        Args:
            slots: To hold.
            free: Slots that nobody holds.
        """
        crowded = slots > self.held and len(self._leases) == _MOST
        while self.held > slots or (crowded and len(self._leases) == _MOST):
            free += self._leases[-1].slots
            self._release(self._leases[-1])
        wanting = min(slots - self.held, free)
        if wanting > 0:
            self._lease(wanting)

    def renew(self) -> None:
        """Keep what is held; a lease that is gone is forgotten."""
        for lease in list(self._leases):
            if time.monotonic() - lease.renewed >= _RENEWED:
                self._renew(lease)

    def release(self) -> None:
        """Give back all."""
        while self._leases:
            self._release(self._leases[-1])

    def _lease(self, slots: int) -> None:
        now = time.monotonic()
        response = self._ask(
            self._client.increment_concurrency_slots_with_lease,
            [self._limit],
            slots,
            "concurrency",
            DURATION,
            self._holder,
        )
        if response is not None:
            self._leases.append(_Lease(UUID(response.json()["lease_id"]), slots, now))

    def _release(self, lease: _Lease) -> None:
        if self._renew(lease):  # Prefect says nothing where it does not know the lease
            self._client.release_concurrency_slots_with_lease(lease.id)
            self._leases.remove(lease)

    def _renew(self, lease: _Lease) -> bool:
        """Whether Prefect still knows a lease."""
        now = time.monotonic()
        if self._ask(self._client.renew_concurrency_lease, lease.id, DURATION) is not None:
            lease.renewed = now
            return True
        self._leases.remove(lease)
        if now - lease.renewed < DURATION:
            # too early to have ended: a server that starts anew forgets leases, but no slots
            self._client.release_concurrency_slots([self._limit], lease.slots, 1.0)
        return False

    @staticmethod
    def _ask(call: Callable[..., httpx.Response], *arguments: Any) -> httpx.Response | None:  # noqa: ANN401
        """The response; None where Prefect refuses: others were faster, or a lease has ended."""
        try:
            return call(*arguments)
        except PrefectHTTPStatusError as error:
            refused = {
                httpx.codes.LOCKED,
                httpx.codes.UNPROCESSABLE_ENTITY,
                httpx.codes.NOT_FOUND,
                httpx.codes.GONE,
            }
            if error.response.status_code in refused:
                return None
            raise
